"""One job at a time, in the order of arrival."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from modules import fifo_lock

queue_lock = fifo_lock.FIFOLock()


def wrap_queued_call(func: Callable) -> Callable:
    """`func`, called when it is its turn."""

    @functools.wraps(func)
    def queued(*args: Any, **kwargs: Any) -> Any:
        with queue_lock:
            return func(*args, **kwargs)

    return queued
