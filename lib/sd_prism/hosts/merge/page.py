"""What the panel of "Prism Block Merge" asks of the webui, see `panels.merge.Host`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from ...errors import PrismError
from .. import checkpoints
from . import http, models

PAUSE = 0.2  # seconds between two looks at a file that is being written

names = models.names
refresh = checkpoints.refresh


def baked(given: Mapping[str, object]) -> Iterator[tuple[str, int, int]]:
    """Write a file, and tell how far it is; it is finished also where nobody listens any more."""
    http.begin(given)
    baking = http.baking
    path = "; ".join((f"{http.folder() / baking.name} ({baking.dtype})", *baking.notes))
    while baking.running:
        total = max(baking.total, 1)
        yield path, min(baking.done, total - 1), total
        time.sleep(PAUSE)
    if baking.error:
        raise PrismError(baking.error)
    yield path, baking.total, baking.total
