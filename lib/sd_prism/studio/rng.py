"""Noise that depends on each picture's seed alone, so that a batch draws the same pictures as single runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PARALLEL = 0.9995  # above this mean cosine slerp would divide by almost zero


def generator(seed: int) -> torch.Generator:
    """A CPU generator that starts at `seed`."""
    return torch.Generator("cpu").manual_seed(int(seed))


def randn(shape: Sequence[int], source: torch.Generator) -> Tensor:
    """Standard normal noise on the CPU."""
    return torch.randn(tuple(shape), generator=source, device="cpu")


def slerp(amount: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation along dimension 1, as A1111 mixes variation seeds; (C,H,W) tensors."""
    dot = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    if dot.mean() > PARALLEL:
        return low * amount + high * (1 - amount)
    omega = torch.acos(dot)
    so = torch.sin(omega)
    from_low, from_high = torch.sin((1.0 - amount) * omega) / so, torch.sin(amount * omega) / so
    return from_low.unsqueeze(1) * low + from_high.unsqueeze(1) * high


def pasted(canvas: Tensor, noise: Tensor) -> Tensor:
    """`canvas` (C,H,W) with the centre of `noise` (C,h,w) written over its centre."""
    dy, dx = ((c - s) // 2 for c, s in zip(canvas.shape[1:], noise.shape[1:]))
    h = noise.shape[1] + min(2 * dy, 0)
    w = noise.shape[2] + min(2 * dx, 0)
    top, left = max(dy, 0), max(dx, 0)
    cut_y, cut_x = max(-dy, 0), max(-dx, 0)
    canvas[:, top : top + h, left : left + w] = noise[:, cut_y : cut_y + h, cut_x : cut_x + w]
    return canvas


class ImageRNG:
    """One noise stream per picture, equal to A1111's on the CPU.

    Args:
        shape: (C,H,W) of one latent.
        seeds: one per picture.
        subseeds: variation seeds; missing ones count as 0.
        subseed_strength: 0 keeps the seed's noise, 1 takes the variation's.
        seed_resize_from_h, seed_resize_from_w: in pixels; draw the noise of that size and centre it.
        eta_noise_seed_delta: added to the seeds for everything after the first noise (A1111's ENSD).
    """

    def __init__(
        self,
        shape: Sequence[int],
        seeds: Sequence[int],
        subseeds: Sequence[int] | None = None,
        subseed_strength: float = 0.0,
        seed_resize_from_h: int = 0,
        seed_resize_from_w: int = 0,
        *,
        eta_noise_seed_delta: int = 0,
    ) -> None:
        self.shape = tuple(map(int, shape))
        self.seeds = list(seeds)
        self.subseeds = subseeds
        self.subseed_strength = subseed_strength
        self.seed_resize_from_h = seed_resize_from_h
        self.seed_resize_from_w = seed_resize_from_w
        self.eta_noise_seed_delta = eta_noise_seed_delta
        self.generators = [generator(seed) for seed in self.seeds]
        self.is_first = True

    def first(self) -> Tensor:
        """The (N,C,H,W) noise that a run starts from."""
        noise = torch.stack([self._first_of(i) for i in range(len(self.seeds))])
        if self.eta_noise_seed_delta:
            self.generators = [generator(seed + self.eta_noise_seed_delta) for seed in self.seeds]
        return noise

    def next(self) -> Tensor:
        """The next (N,C,H,W) noise; the first call gives `first()`."""
        if self.is_first:
            self.is_first = False
            return self.first()
        return torch.stack([randn(self.shape, source) for source in self.generators])

    def _first_of(self, i: int) -> Tensor:
        drawn = self._drawn_shape()
        resized = drawn != self.shape
        noise = randn(drawn, generator(self.seeds[i]) if resized else self.generators[i])
        if self.subseeds is not None and self.subseed_strength != 0:
            subseed = self.subseeds[i] if i < len(self.subseeds) else 0
            noise = slerp(self.subseed_strength, noise, randn(drawn, generator(subseed)))
        return pasted(randn(self.shape, self.generators[i]), noise) if resized else noise

    def _drawn_shape(self) -> tuple[int, ...]:
        if self.seed_resize_from_h <= 0 or self.seed_resize_from_w <= 0:
            return self.shape
        return self.shape[0], int(self.seed_resize_from_h) // 8, int(self.seed_resize_from_w) // 8
