"""The parts of a webui's loaded model, wherever the webui keeps them.

AUTOMATIC1111's model is one torch module in LDM's layout, and the studio's has the same attributes. Forge's has its
parts in patchers, under `forge_objects`; reForge's too, and is such a module around them besides. SD.Next's is a
pipeline of diffusers.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

PARTS = "_prism_parts"
TEXTS = ("text_encoder", "text_encoder_2")
SD2_WIDTH = 1024  # of its text encoder's states
NETWORKS = ("unet", "transformer", "prior_prior", "prior")  # what pipelines call the network that samples


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


class Parts:
    """A pipeline's networks, which stay while the webui makes other pipelines of them, for img2img and hires.

    Kept on the network that samples, and forgotten with it.
    """

    def __init__(self) -> None:
        self.sd_checkpoint_info: Any = None
        self._parts: dict[str, weakref.ref[nn.Module]] = {}

    def follow(self, pipe: Any) -> None:
        """Takes the networks that the pipeline has now."""
        self.sd_checkpoint_info = pipe.sd_checkpoint_info
        held = {"unet": unet(pipe), **{name: getattr(pipe, name, None) for name in ("vae", *TEXTS)}}
        self._parts = {name: weakref.ref(part) for name, part in held.items() if isinstance(part, nn.Module)}

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """By the names that diffusers gives them; the one that samples is "unet"."""
        for name, reference in self._parts.items():
            part = reference()
            if part is not None:
                yield name, part


def lasting(model: Any) -> Any:
    """A loaded model as long as it is the same one: a pipeline's `Parts`, and any other model itself."""
    pipe = pipeline(model)
    if pipe is None:
        return model
    network = unet(pipe)
    parts = getattr(network, PARTS, None)
    if not isinstance(parts, Parts):  # there is none yet, or it is of modules that a reload has forgotten
        parts = Parts()
        setattr(network, PARTS, parts)
    parts.follow(pipe)
    return parts


def unet(model: Any) -> nn.Module:
    if isinstance(model, Parts):
        return dict(model.items())["unet"]
    pipe = pipeline(model)
    if pipe is not None:
        pipes = pipe, getattr(pipe, "prior_pipe", None)
        parts = (getattr(one, name, None) for one in pipes for name in NETWORKS)
        # a part that was taken out is still in the configuration, as the two names of its class
        network: nn.Module = next(one for one in parts if one is not None and not isinstance(one, (list, tuple)))
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
