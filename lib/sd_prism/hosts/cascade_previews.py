"""Live previews of a Cascade job. They are made in the thread that asks, so none of them runs stage B."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from modules import sd_samplers_common, sd_vae_approx, shared
from torch import Tensor

from .undo import around
from .webui import loaded_model

try:
    from modules import sd_vae_taesd
except ImportError:  # a host without these small networks
    sd_vae_taesd = None

SIDE = 8  # pixels of a preview for each place of a latent, as the previewer makes them
CONTRAST = 4  # standard deviations from black to white


def colours(latent: Tensor) -> Tensor:
    """Latents (N,16,h,w) as pictures (N,3,8h,8w) in [0,1] without any network.

    The directions in which these latents vary most become light, red against green, and blue against yellow.
    """
    count, channels, height, width = latent.shape
    rows = latent.detach().double().cpu().nan_to_num().transpose(0, 1).reshape(channels, -1)
    rows = rows - rows.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    vectors = vectors[:, -3:].flip(1)
    vectors = vectors * vectors.sum(0).sign()  # else neighbouring steps may be each other's negatives
    light, red, blue = vectors.T @ rows / (CONTRAST * (vectors[:, 0] @ rows).std().clamp_min(1e-6)) + 0.0
    picture = torch.stack([light + red - blue / 2, light - red - blue / 2, light + blue]) + 0.5
    small = picture.view(3, count, height, width).transpose(0, 1).float().clamp(0, 1).to(latent.device)
    return F.interpolate(small, scale_factor=SIDE, mode="bilinear", align_corners=False)


def wrapped() -> ExitStack:
    """Until it is closed: where a Cascade model is loaded, the host's approximations are made by that model."""
    stack = ExitStack()
    stack.enter_context(around(sd_samplers_common, "samples_to_images_tensor", _decode))
    stack.enter_context(around(sd_vae_approx, "model", _approximation))
    if sd_vae_taesd is not None:
        stack.enter_context(around(sd_vae_taesd, "encoder_model", _encoder))
    return stack


def is_cascade(model: Any) -> bool:
    return bool(getattr(model, "is_cascade", False))


def _decode(original: Callable[..., Tensor], sample: Tensor, approximation: Any = None, model: Any = None) -> Tensor:
    """Previews name no model; a finished latent comes with its own."""
    if not is_cascade(model or loaded_model()):
        return original(sample, approximation, model)
    hasty = shared.state.interrupted and shared.opts.live_preview_fast_interrupt
    if model is None or hasty:
        return (model or loaded_model()).preview(sample)
    return original(sample, 0, model)


def _approximation(original: Callable[[], Any]) -> Any:
    """The host's small decoder, of which it makes sure before it samples."""
    model = loaded_model()
    return model.preview if is_cascade(model) else original()


def _encoder(original: Callable[[], Any]) -> Any:
    """The host's small encoder: takes pictures in [0,1]."""
    model = loaded_model()
    return (lambda image: model.encode_first_stage(image * 2 - 1)) if is_cascade(model) else original()
