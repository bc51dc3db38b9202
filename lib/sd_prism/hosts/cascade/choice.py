"""Which panel a webui gets: that of a pipeline of its own, the one that draws all itself, or one that says why not."""

from __future__ import annotations

import sys

from .. import pipelines

KINDS, CASCADE = "huggingface_guess.model_list", "Stable_Cascade_C"


def able() -> bool:
    """Whether the webui takes our models: not one whose kinds of models have lost Cascade."""
    kinds = sys.modules.get(KINDS)
    return kinds is None or hasattr(kinds, CASCADE)


if pipelines.used():
    from . import native as panel
elif able():
    from . import panel  # type: ignore[no-redef]
else:
    from . import elsewhere as panel  # type: ignore[no-redef]

__all__ = ["panel"]
