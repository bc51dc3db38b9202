"""The user's presets in the panels, as the files are now."""

from __future__ import annotations

import threading

from ..settings import PANELS
from .preset import FEATURES, USER
from .store import Store

_lock = threading.Lock()
_last: tuple[object, ...] = ()


def refresh(store: Store) -> bool:
    """Gives every panel the user's presets of a store; whether any file has changed since the last time."""
    global _last
    with _lock:
        state = (store.folder, *store.state())
        if state == _last:
            return False
        for panel in PANELS:
            if panel.name in FEATURES:
                mine = [one for one in store.list(panel.name) if one.origin == USER]
                panel.set_saved({one.name: one.complete() for one in mine})
        _last = state
        return True
