"""The parts of a webui's loaded model, wherever the webui keeps them.

AUTOMATIC1111's model is one torch module in LDM's layout, and the studio's has the same attributes. Forge's has its
parts in patchers, under `forge_objects`; reForge's too, and is such a module around them besides.
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
    if hasattr(model, "alphas_cumprod"):
        own: Tensor = model.alphas_cumprod
        return own
    sigmas: Tensor = patchers(model).unet.model.predictor.sigmas
    return 1 / (sigmas**2 + 1)
