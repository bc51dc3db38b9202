"""The queue of jobs: fair, and never stuck."""

from __future__ import annotations

import threading
import time

import pytest


@pytest.fixture()
def lock(open_host):
    open_host()
    from modules.fifo_lock import FIFOLock

    return FIFOLock()


def start(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def waiting(lock, number):
    """Wait until so many stand in line."""
    deadline = time.monotonic() + 5
    while len(lock._waiting) != number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_those_who_wait_get_the_lock_in_the_order_of_their_arrival(lock):
    order, threads = [], []
    lock.acquire()
    for number in range(20):

        def take(number=number):
            with lock:
                order.append(number)

        threads.append(start(take))
        waiting(lock, number + 1)
    lock.release()
    for thread in threads:
        thread.join(5)
    assert order == list(range(20))


def test_one_who_gives_up_does_not_hold_up_the_next(lock):
    lock.acquire()
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01)
    got = start(lock.acquire)
    waiting(lock, 1)
    lock.release()
    got.join(5)
    assert not got.is_alive() and not lock.acquire(blocking=False)
    lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
