"""Noise by seed, as the settings ask; the studio's engine makes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sd_prism.studio import rng as engine

from modules import devices, shared

slerp = engine.slerp


def create_generator(seed: int) -> engine.Source:
    """A generator as the setting randn_source asks: "CPU", or "NV" for the noise of NVIDIA cards."""
    return engine.PhiloxGenerator(seed) if shared.opts.randn_source == "NV" else engine.generator(seed)


class ImageRNG(engine.ImageRNG):
    """One noise stream per picture; ENSD comes from the settings."""

    def __init__(
        self,
        shape: Sequence[int],
        seeds: Sequence[int],
        subseeds: Sequence[int] | None = None,
        subseed_strength: float = 0.0,
        seed_resize_from_h: int = 0,
        seed_resize_from_w: int = 0,
    ) -> None:
        super().__init__(
            shape,
            seeds,
            subseeds,
            subseed_strength,
            seed_resize_from_h,
            seed_resize_from_w,
            eta_noise_seed_delta=int(shared.opts.eta_noise_seed_delta or 0),
            source=create_generator,
        )

    def next(self) -> torch.Tensor:
        """The next (N,C,H,W) noise, on the host's device."""
        return super().next().to(devices.device)
