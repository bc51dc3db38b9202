"""Which panel a webui gets: the one that draws, or where another sampler than ours draws, one that says so."""

from __future__ import annotations

from .. import pipelines

if pipelines.used():
    from . import elsewhere as panel
else:
    from . import panel  # type: ignore[no-redef]

__all__ = ["panel"]
