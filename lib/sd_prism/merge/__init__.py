"""Merging checkpoints block by block into live weights: a recipe says what, a plan says which tensors.

Names load on first use, so that the values cost no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baking import bake
    from .blocks import Layout
    from .plan import Plan, merge_into, restore
    from .presets import PRESETS, Preset
    from .recipe import MODES, Recipe, Steps, Term
    from .select import Selector
    from .sources import File, Source
    from .split import Split

HOMES = {
    "Layout": "blocks",
    "PRESETS": "presets",
    "Preset": "presets",
    "MODES": "recipe",
    "Recipe": "recipe",
    "Steps": "recipe",
    "Term": "recipe",
    "Selector": "select",
    "Split": "split",
    "File": "sources",
    "Source": "sources",
    "Plan": "plan",
    "merge_into": "plan",
    "restore": "plan",
    "bake": "baking",
}
__all__ = [
    "MODES",
    "PRESETS",
    "File",
    "Layout",
    "Plan",
    "Preset",
    "Recipe",
    "Selector",
    "Source",
    "Split",
    "Steps",
    "Term",
    "bake",
    "merge_into",
    "restore",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
