"""The parts of a webui's loaded model, wherever the webui keeps them.

AUTOMATIC1111's model is one torch module in LDM's layout, and the studio's has the same attributes. Forge's has its
parts in patchers, under `forge_objects`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def patchers(model: Any) -> Any:
    """What holds the patchers of UNet, text encoders and VAE; None where a model has none."""
    return getattr(model, "forge_objects", None)


def unet(model: Any) -> nn.Module:
    held = patchers(model)
    found: nn.Module = held.unet.model.diffusion_model if held else model.model.diffusion_model
    return found


def alphas_cumprod(model: Any) -> Tensor:
    """How much of the picture is left at each of the model's time steps."""
    held = patchers(model)
    found: Tensor = 1 / (held.unet.model.predictor.sigmas**2 + 1) if held else model.alphas_cumprod
    return found
