"""Guidance by two predictions of noise: with the prompt, and without it (Ho and Salimans 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import OutOfRange

TINY = 1e-9  # keeps a prediction without contrast from a division by zero


@dataclass(frozen=True)
class Guidance:
    """How far a prediction goes beyond the one without the prompt.

    Args:
        cfg: 1 takes the prediction with the prompt alone.
        rescale: share of the contrast added by `cfg` that is taken back, 0 to 1.
        start, stop: shares of the run between which it guides; outside, `cfg` counts as 1.
    """

    cfg: float = 1.0
    rescale: float = 0.0
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("rescale", self.rescale), ("start", self.start), ("stop", self.stop)):
            if not 0 <= value <= 1:
                raise OutOfRange(name, value, 0, 1, "guidance")

    def at(self, position: float) -> bool:
        """Whether the prediction without the prompt is needed; `position` runs from 0 to 1."""
        return self.cfg != 1 and self.start <= position <= self.stop

    def __call__(self, position: float, cond: Callable[[], Tensor], uncond: Callable[[], Tensor]) -> Tensor:
        """The guided noise (N,C,H,W) from two functions that predict it; `uncond` is called where it is needed."""
        with_prompt = cond()
        return self.mix(with_prompt, uncond()) if self.at(position) else with_prompt

    def mix(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """Two predictions (N,C,H,W) in one, each picture for itself."""
        mixed = uncond + self.cfg * (cond - uncond)
        return mixed * contrast(cond, mixed, self.rescale) if self.rescale else mixed


def contrast(cond: Tensor, mixed: Tensor, share: float) -> Tensor:
    """Factors (N,1,1,1) by which guided noise (N,C,H,W) gives back a share of the contrast that `cond` did not have."""
    ratio = cond.std((1, 2, 3), keepdim=True) / (mixed.std((1, 2, 3), keepdim=True) + TINY)
    return share * ratio + 1 - share
