"""What stage C made for one picture, with all that its decoding needs: kept in memory, or in a file beside the picture.

The file is a safetensors file with the tensors "latent", "pooled" and "negative"; its metadata says the rest.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ... import header
from ...errors import PrismError

FORMAT = "prism.cascade.latents"
CHANNELS = 16
TENSORS = {"latent": 3, "pooled": 1, "negative": 1}
NUMBERS = ("seed", "subseed", "subseed_strength", "resized_from_width", "resized_from_height")
LARGEST_SIDE = 16384  # pixels


@dataclass(frozen=True)
class Picture:
    """One picture before stage B.

    Attributes:
        latent: (16, h, w) of stage C, on the CPU.
        size: of the picture, width and height in pixels, multiples of 8.
        pooled: (P,) of its prompt, for stage B.
        negative: (P,) of its negative prompt.
        seed: and the four after it: the host's, by which the decoder draws its noise.
        checkpoint: the name of stage C's file.
        settings: of the panel, when it was made.
        infotext: the picture's, "" until it is known.
    """

    latent: Tensor
    size: tuple[int, int]
    pooled: Tensor
    negative: Tensor
    seed: int
    subseed: int = 0
    subseed_strength: float = 0.0
    resized_from_width: int = 0
    resized_from_height: int = 0
    checkpoint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    infotext: str = ""

    def told(self, infotext: str) -> Picture:
        """The same with its infotext."""
        return replace(self, infotext=infotext)

    def save(self, path: Path) -> None:
        """Write the file."""
        told = {name: getattr(self, name) for name in ("size", *NUMBERS, "checkpoint", "settings", "infotext")}
        tensors = {name: getattr(self, name).contiguous() for name in TENSORS}
        save_file(tensors, path, metadata={"format": FORMAT, FORMAT: json.dumps(told)})


def read(content: bytes, name: str) -> Picture:
    """The picture of a file's content; raises PrismError with the file's name for any other file."""
    try:
        length = int.from_bytes(content[:8], "little")
        told = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][FORMAT])
        tensors = load(content)
        width, height = map(int, told.pop("size"))
        picture = Picture(tensors["latent"].float(), (width, height), tensors["pooled"], tensors["negative"], **told)
    except (SafetensorError, *header.DAMAGED) as error:
        raise PrismError(f"{name} holds no latents of {FORMAT}; choose a file that Prism Cascade has saved") from error
    _check(picture, name)
    return picture


def _check(picture: Picture, name: str) -> None:
    for one, dimensions in TENSORS.items():
        tensor = getattr(picture, one)
        if tensor.ndim != dimensions or not tensor.numel() or not bool(torch.isfinite(tensor).all()):
            raise PrismError(f"{name} is damaged: {one} is no finite tensor of {dimensions} dimensions")
    if len(picture.latent) != CHANNELS:
        raise PrismError(f"{name} has latents of {len(picture.latent)} channels; stage C makes {CHANNELS}")
    numbers = [getattr(picture, one) for one in NUMBERS]
    texts = picture.checkpoint, picture.infotext
    sane = all(isinstance(one, (int, float)) and math.isfinite(one) for one in numbers)
    if not (sane and all(isinstance(one, str) for one in texts) and isinstance(picture.settings, dict)):
        raise PrismError(f"{name} is damaged: what it says of its picture cannot be read")
    if not all(0 < side <= LARGEST_SIDE and side % 8 == 0 for side in picture.size):
        raise PrismError(f"{name} is for a picture of {picture.size} pixels; sides are multiples of 8")
