"""Tells scripts about every component of the page while it is being built."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gradio.blocks import BlockContext
from gradio.components import Component

from modules import script_callbacks, scripts


def _telling(original: Callable) -> Callable:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = (getattr(self, "_constructor_args", None) or [kwargs])[0]
        runner = scripts.scripts_current
        if runner is not None:
            runner.before_component(self, **given)
        script_callbacks.before_component_callback(self, **given)
        original(self, *args, **kwargs)
        script_callbacks.after_component_callback(self, **given)
        if runner is not None:
            runner.after_component(self, **given)

    return init


@contextlib.contextmanager
def component_hooks(runner: Any) -> Iterator[None]:
    """Call before_component and after_component for what is created inside the block."""
    kept = Component.__init__, BlockContext.__init__
    scripts.scripts_current = runner
    Component.__init__ = _telling(kept[0])  # type: ignore[method-assign]
    BlockContext.__init__ = _telling(kept[1])  # type: ignore[method-assign]
    try:
        yield
    finally:
        Component.__init__, BlockContext.__init__ = kept  # type: ignore[method-assign]
        scripts.scripts_current = None
