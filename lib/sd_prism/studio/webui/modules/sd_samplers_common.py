"""What samplers have in common."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import torch
from PIL import Image

from modules import devices, images, sd_vae_approx, shared

approximation_indexes = {"Full": 0, "Approx NN": 1, "Approx cheap": 2, "TAESD": 3}

SamplerDataTuple = namedtuple("SamplerDataTuple", ["name", "constructor", "aliases", "options"])


class SamplerData(SamplerDataTuple):
    """One entry of the Sampling method menu."""

    def total_steps(self, steps: int) -> int:
        """Model calls for `steps`."""
        return steps * 2 if self.options.get("second_order", False) else steps


class InterruptedException(BaseException):
    """The user wants the job to end. A BaseException, so that no hook swallows it."""


def setup_img2img_steps(p: Any, steps: int | None = None) -> tuple[int, int]:
    """(length of the whole schedule, number of its last steps to make, less one).

    `steps` is given by the hires pass, which makes exactly that many.
    """
    if shared.opts.img2img_fix_steps or steps is not None:
        requested = steps or p.steps
        strength = p.denoising_strength
        return int(requested / min(strength, 0.999)) if strength > 0 else 0, requested - 1
    return p.steps, int(min(p.denoising_strength, 0.999) * p.steps)


def samples_to_images_tensor(sample: torch.Tensor, approximation: int | None = None, model: Any = None) -> torch.Tensor:
    """Latents (N,C,h,w) as pictures (N,3,H,W) in -1..1; `approximation` None is the preview method of the settings."""
    hasty = shared.state.interrupted and shared.opts.live_preview_fast_interrupt
    if approximation is None or hasty:
        approximation = approximation_indexes.get(shared.opts.show_progress_type, 0)
    if approximation:
        return sd_vae_approx.model()(sample)
    with torch.no_grad():
        return (model or shared.sd_model).decode_first_stage(sample)


def decode_first_stage(model: Any, x: torch.Tensor) -> torch.Tensor:
    """As `samples_to_images_tensor`, by the VAE."""
    return samples_to_images_tensor(x, 0, model)


def images_tensor_to_samples(image: torch.Tensor, approximation: int | None = None, model: Any = None) -> torch.Tensor:
    """Pictures (N,3,H,W) in 0..1 as latents (N,C,h,w), encoded one at a time."""
    model = model or shared.sd_model
    pictures = image.to(devices.device) * 2 - 1
    encoded = [model.get_first_stage_encoding(model.encode_first_stage(picture[None])) for picture in pictures]
    return torch.cat(encoded)


def single_sample_to_image(sample: torch.Tensor, approximation: int | None = None) -> Image.Image:
    """One latent (C,h,w) as a picture."""
    decoded = samples_to_images_tensor(sample.unsqueeze(0), approximation)[0] * 0.5 + 0.5
    pixels = 255.0 * torch.clamp(decoded, 0.0, 1.0)
    return Image.fromarray(np.moveaxis(pixels.float().cpu().numpy(), 0, 2).astype(np.uint8))


def sample_to_image(samples: torch.Tensor, index: int = 0, approximation: int | None = None) -> Image.Image:
    """One latent of a batch as a picture."""
    return single_sample_to_image(samples[index], approximation)


def samples_to_image_grid(samples: torch.Tensor, approximation: int | None = None) -> Image.Image:
    """A batch of latents as one picture."""
    return images.image_grid([single_sample_to_image(sample, approximation) for sample in samples])


def store_latent(decoded: torch.Tensor) -> None:
    """Remember the latest latent for previews."""
    shared.state.current_latent = decoded


def is_sampler_using_eta_noise_seed_delta(p: Any) -> bool:
    """Whether ENSD changes the picture."""
    from modules import sd_samplers

    eta = p.eta if p.eta is not None or p.sampler is None else p.sampler.eta
    config = sd_samplers.find_sampler_config(p.sampler_name)
    return eta != 0 and bool(config and config.options.get("uses_ensd"))
