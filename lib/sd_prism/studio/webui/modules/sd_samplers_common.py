"""What samplers have in common."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import torch
from PIL import Image

from modules import shared

SamplerDataTuple = namedtuple("SamplerDataTuple", ["name", "constructor", "aliases", "options"])


class SamplerData(SamplerDataTuple):
    """One entry of the Sampling method menu."""

    def total_steps(self, steps: int) -> int:
        """Model calls for `steps`."""
        return steps * 2 if self.options.get("second_order", False) else steps


class InterruptedException(BaseException):
    """The user wants the job to end. A BaseException, so that no hook swallows it."""


def store_latent(decoded: torch.Tensor) -> None:
    """Remember the latest latent for previews."""
    shared.state.current_latent = decoded


def sample_to_image(samples: torch.Tensor, index: int = 0, approximation: int | None = None) -> Image.Image:
    """Decode one latent of a batch to a picture."""
    decoded = shared.sd_model.decode_first_stage(samples[index : index + 1])[0]
    pixels = 255.0 * torch.clamp((decoded + 1.0) / 2.0, 0.0, 1.0)
    return Image.fromarray(np.moveaxis(pixels.float().cpu().numpy(), 0, 2).astype(np.uint8))


def is_sampler_using_eta_noise_seed_delta(p: Any) -> bool:
    """Whether ENSD changes the picture."""
    from modules import sd_samplers

    config = sd_samplers.find_sampler_config(p.sampler_name)
    return bool(config and config.options.get("uses_noise"))
