"""FreeU (Si et al. 2023, arXiv 2309.11497): stronger backbone, calmer skips, in the decoder of a diffusion UNet.

`filter` and `backbone` are the paper's maths, `hook` applies them to a UNet, `value` and `presets` are what users say.
Names load on first use, so that the values cost no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone import backbone_
    from .filter import skip_filter, skip_filter_
    from .hook import Attached, attach
    from .presets import PRESETS, Preset
    from .value import FreeU

HOMES = {
    "skip_filter": "filter",
    "skip_filter_": "filter",
    "backbone_": "backbone",
    "attach": "hook",
    "Attached": "hook",
    "FreeU": "value",
    "PRESETS": "presets",
    "Preset": "presets",
}
__all__ = ["PRESETS", "Attached", "FreeU", "Preset", "attach", "backbone_", "skip_filter", "skip_filter_"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
