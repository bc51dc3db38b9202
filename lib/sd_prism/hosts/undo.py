"""Everything done to a host, with the way back: contexts held by name, closed in reverse order on unload."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any


class UndoStack:
    """Open contexts by name. Opening a name again closes the old one first, so doing a thing twice does it once."""

    def __init__(self) -> None:
        self._open: dict[str, AbstractContextManager[Any]] = {}

    def enter(self, name: str, context: AbstractContextManager[Any]) -> Any:
        self.close(name)
        result = context.__enter__()
        self._open[name] = context
        return result

    def close(self, name: str) -> None:
        context = self._open.pop(name, None)
        if context is not None:
            context.__exit__(None, None, None)

    def close_all(self) -> None:
        """In reverse order. The last error is raised once all are closed."""
        with ExitStack() as closing:
            for name in self._open:
                closing.callback(self.close, name)

    def __contains__(self, name: str) -> bool:
        return name in self._open


undo = UndoStack()
