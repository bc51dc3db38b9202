"""Draws with a Stable Cascade from its two files, without a webui: for the judge, the sheets and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cascade import formats
from ..cascade.decode import Decoder, SeededNoise
from ..cascade.denoise import Denoiser
from ..cascade.guidance import Guidance
from ..cascade.sampling import sample
from ..cascade.schedule import SHIFT_C, Schedule, sigmas
from ..cascade.text import mask_of
from . import MINI_CASCADE, MINI_CASCADE_DECODER, world
from .train import tokenize

PARTS = ("stage_c", "text", "effnet", "previewer")
STEPS, CFG = 20, 5.0


@dataclass(frozen=True)
class Cascade:
    """All networks of a Stable Cascade, in fp32; they have no types where they come from files."""

    stage_c: Any
    text: Any
    effnet: Any
    previewer: Any
    decoder: Decoder

    @classmethod
    def of(cls, main: Path = MINI_CASCADE, decoder: Path = MINI_CASCADE_DECODER) -> Cascade:
        parts: Any = {part: formats.load(main, part, dtype=torch.float32) for part in PARTS}
        stages: list[Any] = [formats.load(decoder, part, dtype=torch.float32) for part in ("stage_b", "stage_a")]
        return cls(**parts, decoder=Decoder(*stages))

    def told(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States and pooled vectors of prompts of up to 75 tokens."""
        ids = tokenize(list(prompts))
        return self.text(ids, mask_of(ids))

    @torch.inference_mode()
    def latents(
        self,
        prompts: Sequence[str],
        *,
        negative: str = "",
        steps: int = STEPS,
        cfg: float = CFG,
        seed: int = 0,
        compression: int = 32,
    ) -> Tensor:
        """Stage C's latents (N,16,h,w) by DDPM on an SGM-uniform schedule; a picture's seed is `seed` + its place."""
        cond = self.stage_c.condition(*self.told(prompts))
        uncond = self.stage_c.condition(*self.told([negative])).expand_as(cond)
        guidance, schedule = Guidance(cfg), Schedule(SHIFT_C)

        def net(x: Tensor, r: Tensor) -> Tensor:
            return guidance(0, lambda: self.stage_c(x, r, cond), lambda: self.stage_c(x, r, uncond))

        denoiser, levels = Denoiser(net, schedule), sigmas("SGM Uniform", steps, schedule).tolist()
        side = world.SIZE // compression
        noise = SeededNoise(range(seed, seed + len(prompts)), (16, side, side))
        model = lambda x, sigma: denoiser(x, torch.tensor(sigma))  # noqa: E731
        return sample("DDPM", model, noise(0) * levels[0], levels, noise)

    @torch.inference_mode()
    def decoded(self, latents: Tensor, prompts: Sequence[str], *, seed: int = 0) -> Tensor:
        """Pictures (N,3,128,128) in [0,1] by the decoder's own defaults."""
        size, seeds = (world.SIZE, world.SIZE), range(seed, seed + len(latents))
        return self.decoder.decode(latents, size, self.told(prompts)[1], seeds=seeds)

    @torch.inference_mode()
    def drawn(self, prompts: Sequence[str], *, negative: str = "", seed: int = 0, compression: int = 32) -> Tensor:
        """Pictures (N,3,128,128) in [-1,1], 16 at a time."""
        out = []
        for start in range(0, len(prompts), 16):
            part = prompts[start : start + 16]
            latents = self.latents(part, negative=negative, seed=seed + start, compression=compression)
            out.append(self.decoded(latents, part, seed=seed + start))
        return torch.cat(out) * 2 - 1
