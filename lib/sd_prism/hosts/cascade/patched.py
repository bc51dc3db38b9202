"""What Stable Cascade has in every host that keeps a model's parts in patchers, and asks those for what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...cascade.denoise import Denoiser
from ...cascade.schedule import LEVELS, Schedule
from ...cascade.unet import StageC
from .denoiser import alphas_cumprod, level
from .parts import CHANNELS, Backbone, FirstStage

IMAGES = "guidance"  # the name under which `PatchedBackbone` takes the pictures of prompts
LAST = LEVELS - 1
COPIES = 8  # of the widest activation that a step has at a time


class Levels:
    """Stage C's noise: levels in a table, and times as places in it."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.sigmas = schedule.table(LEVELS).float()

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        """Places of noise levels, which need not be whole."""
        return self.schedule.r(sigma) * LAST

    def sigma(self, timestep: Tensor) -> Tensor:
        """Noise levels at places, the inverse of `timestep` at shift 1 only; whole numbers are places of a thousand."""
        if timestep.is_floating_point():
            return level(self.schedule, timestep / LAST)
        alphas = alphas_cumprod(self.schedule)[timestep.cpu()].to(timestep.device)
        return ((1 - alphas) / alphas).sqrt()

    def set_sigmas(self, sigmas: object) -> None:
        """Not the host's options for Stable Diffusion's."""

    def percent_to_sigma(self, percent: float) -> float:
        """The level when that share of the steps is done."""
        return float(self.sigma(torch.tensor((1.0 - percent) * LAST)))


class PatchedBackbone(Backbone):
    """As the host's samplers call a network."""

    def apply_model(
        self, x: Tensor, t: Tensor, *, c_crossattn: Tensor, y: Tensor, guidance: Tensor | None = None, **others: Any
    ) -> Tensor:
        """x (N,16,h,w) at noise levels t (N,) without its noise.

        Args:
            c_crossattn: (N,77k,width), states of the prompts.
            y: (N,projection), their pooled text.
            guidance: (N,n,width), vectors of pictures.
            others: what is for other networks.
        """
        cond = {"crossattn": c_crossattn, "vector": y} | ({} if guidance is None else {"images": guidance})
        found: Tensor = Denoiser(self.predict, self.schedule)(x, t, cond=cond)
        return found

    def memory_required(self, input_shape: Sequence[int], **others: object) -> float:
        """Bytes that a step needs beside the weights."""
        count, _, height, width = input_shape
        stage: StageC = self.diffusion_model
        return COPIES * 4 * max(stage.config.hidden) * count * height * width * self.dtype.itemsize


def apart(network: Any, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, *others: Any) -> tuple[Any, ...]:
    """Prompts of other lengths are asked about in calls of their own.

    The host repeats the states of the shorter ones, which would count for more beside the pixels that attention has
    too; what it keeps pooled texts in is never repeated.
    """
    for one in (*cond, *(uncond or ())):
        told = one["model_conds"]
        told["c_crossattn"] = type(told["y"])(told["c_crossattn"].cond)
    return network, x, sigma, uncond, cond, *others


class PatchedVae:
    """As the host asks for a VAE; stage B and A are the decoder's."""

    latent_channels = CHANNELS

    def __init__(self, first_stage: FirstStage, patcher: Any) -> None:
        self.first_stage_model = first_stage
        self.patcher = patcher
