"""A loaded model's text encoders as `namespaces.binding` wants them, and what a host notes while they encode.

Forge has text engines instead. They speak as A1111's encoders do, but are called themselves, not their `forward`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ...namespaces import binding

ENGINES = "backend.text_processing.classic_engine"
ARGS, NOTED = "backend.args", "last_extra_generation_params"
SURFACE = ("tokenize_line", "encode_with_transformers", "clip_skip")


@contextmanager
def embedders_of(model: Any) -> Iterator[Sequence[Any]]:
    """Those that can be bound, for the time of the block; none where the text part is of another make."""
    engines = {name: one for name, one in vars(model).items() if all(hasattr(one, part) for part in SURFACE)}
    with ExitStack() as stack:
        for name, engine in engines.items():
            stack.enter_context(binding.replaced(engine, "forward", engine.__call__))
            stack.enter_context(binding.replaced(model, name, Called(engine)))
        yield list(engines.values()) or binding.embedders_of(model)


class Called:
    """In an engine's place on the model: a call is one of its `forward`, all else is the engine's own."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, texts: Sequence[str]) -> Any:
        return self._engine.forward(texts)


@contextmanager
def aside() -> Iterator[None]:
    """What the host notes for the infotext when it encodes is noted once for the prompt itself."""
    noted = _noted()
    before = dict(noted)
    try:
        yield
    finally:
        noted.clear()
        noted.update(before)


def _noted() -> Any:
    """Where that is: Forge has it beside its text engines, Forge Neo among its arguments."""
    arguments = getattr(sys.modules.get(ARGS), "dynamic_args", None)
    for holder in (arguments, sys.modules.get(ENGINES)):
        if hasattr(holder, NOTED):
            return getattr(holder, NOTED)
    from modules import sd_hijack  # which a host with engines may lack

    return sd_hijack.model_hijack.extra_generation_params
