"""The user's own presets and cards in this webui: one store, for every panel and route."""

from __future__ import annotations

from ..cards import Store, live
from . import data

_store: Store | None = None


def store() -> Store:
    """The presets of this webui; another store once the settings name another folder."""
    global _store
    folder = data.folder() / "presets"
    if _store is None or _store.folder != folder:
        _store = Store(folder)
    return _store


def refresh() -> None:
    """Has all panels know the presets that lie in the folder now; cheap where no file has changed."""
    live.refresh(store())
