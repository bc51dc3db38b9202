"""Everything done to a host, with the way back: contexts held by name, closed in reverse order on unload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
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


@contextmanager
def around(module: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """A host's function with ours around it; ours steps aside afterwards, whoever may hold it by then."""
    original = getattr(module, name)
    on = True

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs) if on else original(*args, **kwargs)

    setattr(module, name, replacement)
    try:
        yield
    finally:
        on = False
        if getattr(module, name) is replacement:
            setattr(module, name, original)
