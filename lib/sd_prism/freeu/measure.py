"""What FreeU did to a run: the skips' mean spectrum before and after, and version 2's map, for each stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from .backbone import backbone_gain

WAVES = 12  # frequencies kept, in waves per picture
SIDE = 16  # the map's longest side


@dataclass(frozen=True)
class Measured:
    """One stage at one step.

    Attributes:
        before, after: mean amplitude of the skip's waves at 0, 1, 2 .. waves per picture.
        gain: the backbone's gain by row and column, at most 16 x 16; version 1 has a single number.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    gain: tuple[tuple[float, ...], ...]


def measured(skip: Tensor, filtered: Tensor, h: Tensor, b: float, version: int) -> Measured:
    """From the first sample of the skip before and after, and of the backbone before, all (N,C,H,W)."""
    gain: tuple[tuple[float, ...], ...] = ((b,),)
    if version == 2:
        full = backbone_gain(h[:1].float(), b)[0]
        height, width = (min(SIDE, n) for n in full.shape[1:])
        gain = tuple(map(tuple, adaptive_avg_pool2d(full, (height, width))[0].tolist()))
    return Measured(spectrum(skip[0]), spectrum(filtered[0]), gain)


def spectrum(planes: Tensor) -> tuple[float, ...]:
    """The mean amplitude of (C,H,W) over all waves of about 0, 1, 2 .. per picture."""
    amplitude = torch.fft.fft2(planes.float().cpu()).abs().mean(0) / planes[0].numel()
    rows, cols = (torch.fft.fftfreq(n) * n for n in amplitude.shape)
    distance = (rows[:, None] ** 2 + cols**2).sqrt().round().long()
    kept = range(min(WAVES, int(distance.max())) + 1)
    return tuple(float(amplitude[distance == waves].mean()) for waves in kept)
