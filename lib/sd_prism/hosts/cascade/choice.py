"""Which panel a webui gets: the one that draws, or where it cannot, one that says why."""

from __future__ import annotations

import sys

from .. import pipelines

KINDS, CASCADE = "huggingface_guess.model_list", "Stable_Cascade_C"


def able() -> bool:
    """Whether the webui takes our models: not one of pipelines, nor one whose kinds of models have lost Cascade."""
    kinds = sys.modules.get(KINDS)
    return not pipelines.used() and (kinds is None or hasattr(kinds, CASCADE))


if able():
    from . import panel
else:
    from . import elsewhere as panel  # type: ignore[no-redef]

__all__ = ["panel"]
