"""Files of decoders: which of the webui's checkpoints they are, and which of them a job gets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modules import sd_models

from ... import header
from ...cascade import formats
from ...errors import PrismError, UnknownName
from ...merge.sources import identity
from ...settings import Value
from ...settings.cascade import AUTO, FIXED, LARGEST_SEED, RANDOM
from .. import checkpoints
from ..merge import models
from ..webui import loaded_model

_known: dict[str, tuple[object, bool]] = {}


def is_decoder(path: str) -> bool:
    """Whether a file holds stage B, by its header; remembered while the file stays the same."""
    if not path.lower().endswith(".safetensors") or not Path(path).is_file():
        return False
    now = identity(Path(path))
    if _known.get(path, (None,))[0] != now:
        try:
            found = formats.role_of(header.read(Path(path)).places) == "decoder"
        except PrismError:
            found = False
        _known[path] = now, found
    return _known[path][1]


def decoders() -> list[Any]:
    """The host's checkpoints that are decoders."""
    return [info for info in checkpoints.listed() if is_decoder(str(info.filename))]


def names() -> list[str]:
    """The names of all decoders."""
    return [models.name_of(info) for info in decoders()]


def find(chosen: str, checkpoint: Any) -> Any:
    """The host's entry of the decoder that is chosen by name, or in a menu of the host, or belongs to a checkpoint's.

    Raises:
        PrismError: there is none, or the file that is named is no decoder.
    """
    known, menu = decoders(), getattr(loaded_model(), "decoder_file", "")
    if chosen in ("", AUTO) and menu:
        return sd_models.CheckpointInfo(menu)
    if chosen not in ("", AUTO):
        try:
            info = models.find(chosen)
        except UnknownName:
            raise UnknownName("decoder", chosen, [models.name_of(one) for one in known]) from None
        if not is_decoder(str(info.filename)):
            raise PrismError(f"{models.name_of(info)} holds no stage B; choose a decoder: {_listed(known)}")
        return info
    by_path = {str(info.filename): info for info in known}
    paired = formats.pair(str(checkpoint.filename), list(by_path)) if checkpoint else None
    if paired is None:
        raise PrismError(
            f"No decoder belongs to {models.name_of(checkpoint) if checkpoint else 'these latents'}: put its file of "
            f"stage B beside it, or choose one in the panel. Known: {_listed(known)}"
        )
    return by_path[str(paired)]


def named(values: Mapping[str, Value], checkpoint: Any) -> dict[str, Value]:
    """With the decoder's title for its name, and a seed for random noise; no decoder is told when one is needed."""
    values = dict(values)
    if values["seed_mode"] == RANDOM:
        values |= {"seed_mode": FIXED, "seed": random.randint(0, LARGEST_SEED)}
    with suppress(PrismError):
        values["decoder"] = models.title(models.name_of(find(str(values["decoder"]), checkpoint)))
    return values


def _listed(known: Sequence[Any]) -> str:
    return ", ".join(models.name_of(one) for one in known) or "none"


def checkpoint_of(name: str) -> Any:
    """The host's entry of a checkpoint; None if it has none of this name."""
    try:
        return models.find(name)
    except UnknownName:
        return None
