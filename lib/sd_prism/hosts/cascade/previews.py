"""Live previews of a Cascade job. They are made in the thread that asks, so none of them runs stage B."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from modules import sd_samplers_common, sd_vae_approx, shared
from torch import Tensor

from ..undo import around
from ..webui import loaded_model

try:
    from modules import sd_vae_taesd
except ImportError:  # a host without these small networks
    sd_vae_taesd = None


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
