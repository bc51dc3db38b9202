"""The webui's list of checkpoints. Who reads it waits while Prism has it made anew: the webui empties it first."""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from typing import Any

from modules import sd_models

_making = RLock()


def refresh() -> None:
    """Have the webui look for checkpoints anew."""
    with _making:
        sd_models.list_models()


def listed() -> list[Any]:
    """Every checkpoint of the webui."""
    with _making:
        return list(sd_models.checkpoints_list.values())


def aliases() -> Mapping[str, Any]:
    """Every checkpoint by each of its names and hashes."""
    with _making:
        return dict(sd_models.checkpoint_aliases)
