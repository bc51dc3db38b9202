"""Noise that depends on each picture's seed alone, so that a batch draws the same pictures as single runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

PARALLEL = 0.9995  # above this mean cosine slerp would divide by almost zero


class PhiloxGenerator:
    """The noise that torch draws on NVIDIA cards, computed on the CPU (Philox 4x32-10, Salmon et al. 2011)."""

    MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
    INCREMENTS = (0x9E3779B9, 0xBB67AE85)
    UNIT = np.float32(2.3283064e-10)  # 2**-32
    TURN = np.float32(2.3283064e-10 * 6.2831855)

    def __init__(self, seed: int) -> None:
        self.seed, self.offset = int(seed), 0

    def randn(self, shape: Sequence[int]) -> Tensor:
        """Standard normal noise; every call continues where the one before ended."""
        count = int(np.prod(shape))
        counter = [np.full(count, self.offset, np.uint32), *(np.zeros(count, np.uint32) for _ in range(3))]
        counter[2] = np.arange(count, dtype=np.uint32)
        self.offset += 1
        low, high = self.seed & 0xFFFFFFFF, self.seed >> 32 & 0xFFFFFFFF
        for _ in range(10):
            counter = self._round(counter, low, high)
            low, high = (low + self.INCREMENTS[0]) & 0xFFFFFFFF, (high + self.INCREMENTS[1]) & 0xFFFFFFFF
        # The first of the two numbers of a Box-Muller transform.
        u = counter[0] * self.UNIT + self.UNIT / 2
        v = counter[1] * self.TURN + self.TURN / 2
        drawn = np.sqrt(-2.0 * np.log(u)) * np.sin(v)
        return torch.from_numpy(drawn.astype(np.float32).reshape(tuple(shape)))

    def _round(self, counter: list[np.ndarray], low: int, high: int) -> list[np.ndarray]:
        products = [counter[2 * i].astype(np.uint64) * np.uint64(m) for i, m in enumerate(self.MULTIPLIERS)]
        (low_0, high_0), (low_1, high_1) = (
            (p.astype(np.uint32), (p >> np.uint64(32)).astype(np.uint32)) for p in products
        )
        return [high_1 ^ counter[1] ^ np.uint32(low), low_1, high_0 ^ counter[3] ^ np.uint32(high), low_0]


Source = torch.Generator | PhiloxGenerator


def generator(seed: int) -> Source:
    """A CPU generator that starts at `seed`."""
    return torch.Generator("cpu").manual_seed(int(seed))


def randn(shape: Sequence[int], source: Source) -> Tensor:
    """Standard normal noise on the CPU."""
    if isinstance(source, PhiloxGenerator):
        return source.randn(shape)
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
        source: from a seed to its generator: `generator`, or `PhiloxGenerator` for the noise of NVIDIA cards.
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
        source: Callable[[int], Source] = generator,
    ) -> None:
        self.shape = tuple(map(int, shape))
        self.seeds = list(seeds)
        self.subseeds = subseeds
        self.subseed_strength = subseed_strength
        self.seed_resize_from_h = seed_resize_from_h
        self.seed_resize_from_w = seed_resize_from_w
        self.eta_noise_seed_delta = eta_noise_seed_delta
        self.source = source
        self.generators = [source(seed) for seed in self.seeds]
        self.is_first = True

    def first(self) -> Tensor:
        """The (N,C,H,W) noise that a run starts from."""
        noise = torch.stack([self._first_of(i) for i in range(len(self.seeds))])
        if self.eta_noise_seed_delta:
            self.generators = [self.source(seed + self.eta_noise_seed_delta) for seed in self.seeds]
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
        noise = randn(drawn, self.source(self.seeds[i]) if resized else self.generators[i])
        if self.subseeds is not None and self.subseed_strength != 0:
            subseed = self.subseeds[i] if i < len(self.subseeds) else 0
            noise = slerp(self.subseed_strength, noise, randn(drawn, self.source(subseed)))
        return pasted(randn(self.shape, self.generators[i]), noise) if resized else noise

    def _drawn_shape(self) -> tuple[int, ...]:
        if self.seed_resize_from_h <= 0 or self.seed_resize_from_w <= 0:
            return self.shape
        return self.shape[0], int(self.seed_resize_from_h) // 8, int(self.seed_resize_from_w) // 8
