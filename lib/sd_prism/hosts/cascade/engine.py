"""Stable Cascade as Forge has a model: parts in patchers, which Forge moves and puts networks on like any other's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from backend import memory_management
from backend.diffusion_engine.base import ForgeDiffusionEngine, ForgeObjects
from backend.modules.k_prediction import AbstractPrediction
from backend.nn.base import ModuleDict
from backend.patcher.base import ModelPatcher
from backend.patcher.clip import CLIP
from backend.patcher.unet import UnetPatcher
from backend.sampling.condition import Condition
from huggingface_guess.model_list import Stable_Cascade_C
from torch import Tensor

from ...cascade.denoise import Denoiser
from ...cascade.formats import CascadeFile
from ...cascade.schedule import LEVELS, Schedule
from ...cascade.unet import StageC
from . import guiding, loading
from .denoiser import alphas_cumprod, level
from .embeddings import KEY
from .engine_text import CascadeTextEngine, tokenizer
from .parts import CHANNELS, Backbone, Cascade, FirstStage

LAST = LEVELS - 1
COPIES = 8  # of the widest activation that a step has at a time


class Prediction(AbstractPrediction):  # type: ignore[misc]
    """What Forge knows of stage C's noise: levels in a table, and times as places in it."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(sigma_data=1.0, prediction_type="epsilon")
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
        """Not Forge's options for Stable Diffusion's."""

    def percent_to_sigma(self, percent: float) -> float:
        """The level when that share of the steps is done."""
        return float(self.sigma(torch.tensor((1.0 - percent) * LAST)))


prediction = lru_cache(2)(Prediction)


class PatchedBackbone(Backbone):
    """As Forge's samplers call a network."""

    config = None  # Forge's description of a network that it has built itself

    @property
    def predictor(self) -> Prediction:
        return prediction(self.schedule)

    @property
    def storage_dtype(self) -> torch.dtype:
        return self.dtype

    @property
    def computation_dtype(self) -> torch.dtype:
        return self.dtype

    def apply_model(
        self, x: Tensor, t: Tensor, *, c_crossattn: Tensor, y: Tensor, guidance: Tensor | None = None, **others: Any
    ) -> Tensor:
        """x (N,16,h,w) at noise levels t (N,) without its noise.

        Args:
            c_crossattn: (N,77k,width), states of the prompts.
            y: (N,projection), their pooled text.
            guidance: (N,n,width), vectors of pictures; Forge hands a tensor of this name on with each prompt.
            others: what is for other networks.
        """
        cond = {"crossattn": c_crossattn, "vector": y} | ({} if guidance is None else {"images": guidance})
        found: Tensor = Denoiser(self.predict, self.schedule)(x, t, cond=cond)
        return found

    def memory_required(self, input_shape: Sequence[int]) -> float:
        """Bytes that a step needs beside the weights."""
        count, _, height, width = input_shape
        stage: StageC = self.diffusion_model
        return COPIES * 4 * max(stage.config.hidden) * count * height * width * self.dtype.itemsize


def apart(network: Any, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, *others: Any) -> tuple[Any, ...]:
    """Prompts of other lengths are asked about in calls of their own.

    Forge repeats the states of the shorter ones, which would count for more beside the pixels that attention has too.
    """
    for one in (*cond, *(uncond or ())):
        told = one["model_conds"]
        told["c_crossattn"] = Condition(told["c_crossattn"].cond)
    return network, x, sigma, uncond, cond, *others


class PatchedVae:
    """As Forge asks for a VAE; stage B and A are the decoder's."""

    latent_channels = CHANNELS

    def __init__(self, first_stage: FirstStage) -> None:
        self.first_stage_model = first_stage
        self.patcher = ModelPatcher(
            first_stage,
            load_device=memory_management.vae_device(),
            offload_device=memory_management.vae_offload_device(),
        )


class CascadeEngine(Cascade, ForgeDiffusionEngine):  # type: ignore[misc]
    """Has what Forge asks of an engine.

    Attributes:
        modules: the files that are chosen beside the checkpoint in the menu "VAE / Text Encoder".
    """

    backbone = PatchedBackbone
    images_key = "guidance"

    def __init__(self, file: CascadeFile, modules: Sequence[str]) -> None:
        ForgeDiffusionEngine.__init__(self, Stable_Cascade_C({"in_channels": CHANNELS}), {})
        self.is_inpaint = False  # Forge takes every network of more than four channels for one
        self.modules = tuple(modules)
        encoder = self._assemble(file)
        words = tokenizer()
        clip = CLIP({KEY: ModuleDict({"transformer": encoder})}, {KEY: words})
        self.text_engine = CascadeTextEngine(clip.cond_stage_model.clip_g, words)
        unet = UnetPatcher(
            self.model,
            load_device=memory_management.get_torch_device(),
            offload_device=memory_management.unet_offload_device(),
        )
        unet.add_conditioning_modifier(apart)
        unet.set_model_sampler_post_cfg_function(guiding.after_guidance)
        self.forge_objects = ForgeObjects(unet, clip, PatchedVae(self.first_stage_model), None)
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()

    @property
    def stage_a_file(self) -> str:
        """The stage A that is chosen there; "" for the decoder's own."""
        return self._module("stage_a")

    @property
    def decoder_file(self) -> str:
        """The decoder that is chosen there, or ""."""
        return self._module("decoder")

    def _module(self, role: str) -> str:
        return next((path for path in self.modules if loading.role(path) == role), "")

    # --- prompts

    def set_clip_skip(self, clip_skip: int) -> None:
        self.text_engine.clip_skip = clip_skip

    @torch.inference_mode()
    def get_learned_conditioning(self, prompt: Sequence[str]) -> dict[str, Tensor]:
        memory_management.load_model_gpu(self.forge_objects.clip.patcher)
        states, pooled = self.text_engine(prompt)
        return {"crossattn": states, "vector": pooled}

    def get_prompt_lengths_on_ui(self, prompt: str) -> tuple[int, int]:
        _, count = self.text_engine.process_texts([prompt])
        return count, self.text_engine.get_target_prompt_token_count(count)

    # --- pictures

    @torch.inference_mode()
    def encode_first_stage(self, image: Tensor) -> Tensor:
        memory_management.load_model_gpu(self.forge_objects.vae.patcher)
        return super().encode_first_stage(image)

    def to(self, device: torch.device) -> None:
        """Out of the device where that is asked for; Forge brings each part back when it uses it."""
        if device != self.device:
            memory_management.unload_all_models()
