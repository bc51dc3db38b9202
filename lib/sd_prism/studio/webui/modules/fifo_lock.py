"""A lock that is fair."""

from __future__ import annotations

import collections
import threading
from typing import Any


class FIFOLock:
    """A lock that goes to those who wait in the order of their arrival."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._held = False
        self._waiting: collections.deque[threading.Event] = collections.deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`; `timeout` in seconds, -1 for none."""
        with self._inner:
            if not self._held:
                self._held = True
                return True
            if not blocking:
                return False
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(None if timeout < 0 else timeout):
            return True
        with self._inner:
            if not turn.is_set():
                self._waiting.remove(turn)
            return turn.is_set()

    def release(self) -> None:
        """Hand the lock to the next in line."""
        with self._inner:
            if not self._held:
                raise RuntimeError("the lock is not held")
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: Any) -> None:
        self.release()
