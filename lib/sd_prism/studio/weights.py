"""Weights of one loaded model moved into the modules of another of the same build, so that the modules stay."""

from __future__ import annotations

from typing import Any

from torch import nn

FACTS = ("prediction_type", "alphas_cumprod", "native_size", "path")


def parts(model: Any) -> list[nn.Module]:
    """UNet, VAE and text encoders of a `checkpoint.Model`."""
    return [model.unet, model.vae, *(encoder.model for encoder in getattr(model.text, "encoders", ()))]


def same_build(one: Any, other: Any) -> bool:
    """Whether the weights of each fit the other: one family, the same shapes, heads and activations."""
    return one.family == other.family and [_build(m) for m in parts(one)] == [_build(m) for m in parts(other)]


def _build(module: nn.Module) -> tuple:
    config = getattr(module, "config", None)
    told = [str(getattr(config, name, None)) for name in ("attention_head_dim", "num_attention_heads", "hidden_act")]
    return type(module), told, {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}


def take(model: Any, other: Any) -> None:
    """Give `model` the weights and facts of `other`, which has the same build."""
    for mine, theirs in zip(parts(model), parts(other)):
        mine.load_state_dict(theirs.state_dict())
    for name in FACTS:
        if hasattr(other, name):
            setattr(model, name, getattr(other, name))
    model.__dict__.pop("sha256", None)  # computed for the file before
