"""The parts of a webui's loaded model, wherever the webui keeps them.

AUTOMATIC1111's model is one torch module in LDM's layout, and the studio's has the same attributes. Forge's has its
parts in patchers, under `forge_objects`; reForge's too, and is such a module around them besides. SD.Next's is a
pipeline of diffusers.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

SD2_WIDTH = 1024  # of its text encoder's states
NETWORKS = ("unet", "transformer", "prior_prior")  # what pipelines call the network that samples


def patchers(model: Any) -> Any:
    """What holds the patchers of UNet, text encoders and VAE; None where a model has none."""
    return getattr(model, "forge_objects", None)


def pipeline(model: Any) -> Any:
    """The pipeline of diffusers that a model is, or has around its parts; None where it is none."""
    inner = getattr(model, "pipe", model)
    return inner if hasattr(inner, "components") and hasattr(inner, "scheduler") else None


def pipeline_family(pipe: Any) -> str:
    """A pipeline's family, as presets and dialects name it; "" for another one."""
    kind, width = type(pipe).__name__, getattr(getattr(pipe, "unet", None), "config", {}).get("cross_attention_dim")
    if width is None or "StableDiffusion" not in kind:
        return ""
    return "sdxl" if "XL" in kind else "sd2" if width == SD2_WIDTH else "sd1"


def unet(model: Any) -> nn.Module:
    pipe = pipeline(model)
    if pipe is not None:
        network: nn.Module = next(one for name in NETWORKS if (one := getattr(pipe, name, None)) is not None)
        return network
    held = patchers(model)
    found: nn.Module = held.unet.model.diffusion_model if held else model.model.diffusion_model
    return found


def alphas_cumprod(model: Any) -> Tensor:
    """How much of the picture is left at each of the model's time steps."""
    model = getattr(pipeline(model), "scheduler", model)
    if hasattr(model, "alphas_cumprod"):
        own: Tensor = model.alphas_cumprod
        return own
    sigmas: Tensor = patchers(model).unet.model.predictor.sigmas
    return 1 / (sigmas**2 + 1)
