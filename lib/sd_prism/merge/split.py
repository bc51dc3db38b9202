"""Single files beside a live model of diffusers' make, where no renaming makes the two meet; views do.

open_clip's text encoders and Stable Cascade's first files keep q, k and v of an attention in one tensor, and open_clip
has text_projection the other way round. All other tensors meet by their names, see `Layout`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from .ldm_keys import OPEN_CLIP, open_clip_to_transformers
from .sources import Entry, Source

FIRST, SECOND = "text_encoder.", "text_encoder_2."
CASCADE = re.compile(r"(.*\.attention\.attn\.)in_proj_(weight|bias)")


class Place(NamedTuple):
    """Where a tensor stands in the file: under which name, which third of it, and whether turned."""

    name: str
    third: int | None = None
    turned: bool = False


class Split:
    """A source with the text encoders of SD 2, SDXL and its refiner in transformers' names and shapes; no copies.

    Stable Cascade's attentions get a name for each of q, k and v, as diffusers has it.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.label = source, source.label
        self._places: dict[str, Place] = {}
        for name in source.entries:
            self._places.update(_places(name))
        self.entries = {name: self._entry(place) for name, place in self._places.items()}

    @property
    def identity(self) -> tuple[object, ...]:
        """That of the file, read in this way."""
        return (*self.source.identity, "split")

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's own texts."""
        return self.source.metadata

    def tensor(self, name: str) -> Tensor:
        """A view of the file's tensor."""
        place = self._places[name]
        found = self.source.tensor(place.name)
        if place.third is not None:
            found = found.chunk(3)[place.third]
        return found.T if place.turned else found

    def release(self) -> None:
        """Let the file go."""
        if callable(release := getattr(self.source, "release", None)):
            release()

    def _entry(self, place: Place) -> Entry:
        entry = self.source.entries[place.name]
        first, *rest = entry.shape or (1,)
        if place.third is not None:
            return entry._replace(shape=(first // 3, *rest))
        return entry._replace(shape=entry.shape[::-1]) if place.turned else entry


def _places(name: str) -> dict[str, Place]:
    """Transformers' names of a file's tensor; none for what transformers does not keep."""
    prefix = next((one for one in OPEN_CLIP if name.startswith(one)), None)
    if prefix is None:
        fused = CASCADE.fullmatch(name)
        theirs = [f"{fused[1]}to_{x}.{fused[2]}" for x in "qkv"] if fused else [name]
        return _thirds(theirs, name)
    inner = name[len(prefix) :]
    if inner in ("logit_scale", "attn_mask"):
        return {}
    encoder = FIRST if prefix == OPEN_CLIP[0] else SECOND
    if inner == "text_projection":
        return {f"{encoder}text_projection.weight": Place(name, turned=True)}
    return _thirds([f"{encoder}text_model.{one}" for one in open_clip_to_transformers(inner)], name)


def _thirds(theirs: list[str], name: str) -> dict[str, Place]:
    """One name for the whole tensor, or one for each third of it."""
    return {one: Place(name, third if len(theirs) > 1 else None) for third, one in enumerate(theirs)}
