"""The webui's list of checkpoints. Who reads it waits while Prism has it made anew: the webui empties it first."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

from modules import sd_models

from .. import header
from ..errors import PrismError
from ..merge.sources import identity

_making = RLock()


def _store() -> Any:
    """The host's module with its checkpoints."""
    if hasattr(sd_models, "checkpoint_aliases"):
        return sd_models
    return importlib.import_module("modules.sd_checkpoint")  # SD.Next


def refresh() -> None:
    """Have the webui look for checkpoints anew."""
    with _making:
        _store().list_models()


def listed() -> list[Any]:
    """Every checkpoint of the webui."""
    with _making:
        return list(_store().checkpoints_list.values())


def aliases() -> Mapping[str, Any]:
    """Every checkpoint by each of its names and hashes."""
    with _making:
        return dict(_store().checkpoint_aliases)


def chosen() -> Any:
    """The checkpoint that the webui has loaded, or will load with the next job; None where there is none."""
    try:
        return sd_models.select_checkpoint()
    except (PrismError, OSError):
        return None


def texts(info: Any) -> Mapping[str, Any]:
    """A checkpoint's own texts; of its file where the webui has none, for reForge forgets them with each load."""
    if info.metadata:
        known: Mapping[str, Any] = info.metadata
        return known
    with suppress(PrismError):
        return _of_file(identity(Path(info.filename)))
    return {}


@lru_cache(64)
def _of_file(told: tuple[object, ...]) -> Mapping[str, str]:
    return header.read(Path(str(told[0]))).metadata
