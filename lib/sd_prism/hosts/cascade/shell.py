"""Stable Cascade as reForge has a model: A1111's class, with its parts in patchers besides, which do all the work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from ldm_patched.modules import model_management
from ldm_patched.modules.model_patcher import ModelPatcher
from ldm_patched.modules.sd import CLIP
from modules import devices
from modules_forge.forge_loader import ForgeSD
from modules_forge.unet_patcher import UnetPatcher
from torch import Tensor, nn

from ...cascade.formats import CascadeFile
from . import guiding, reading
from .denoiser import CascadeDenoiser
from .embeddings import KEY
from .model import CascadeModel
from .patched import IMAGES, Levels, PatchedBackbone, PatchedVae, apart

levels = lru_cache(2)(Levels)


class ShellBackbone(PatchedBackbone):
    """As reForge's samplers call a network."""

    @property
    def model_sampling(self) -> Levels:
        return levels(self.schedule)


class ShellDenoiser(CascadeDenoiser):
    """Some of reForge's samplers ask the patcher of the model that they draw with."""

    def __init__(self, model: CascadeShell) -> None:
        super().__init__(model)
        self.model_patcher = model.forge_objects.unet


def pictured(network: Any, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, *others: Any) -> tuple[Any, ...]:
    """The pictures of an image prompt, which reForge does not hand on, go with every prompt."""
    for parts, is_negative in ((cond, False), (uncond or (), True)):
        for one in parts:
            told = one["model_conds"]
            pooled = told["y"]
            vectors = guiding.pictures(pooled.cond, is_negative)
            if vectors is not None:
                told[IMAGES] = type(pooled)(vectors)
    return network, x, sigma, uncond, cond, *others


class CascadeShell(CascadeModel):
    """Has what reForge asks of a model beside what A1111 asks."""

    backbone = ShellBackbone
    images_key = IMAGES
    is_sd1 = is_sd2 = is_sd3 = is_sdxl = is_sdxl_inpaint = is_ssd = ztsnr = tiling_enabled = False
    _separate_te_loaded = True  # reForge reads no text encoder of its own list

    def __init__(self, file: CascadeFile, info: Any) -> None:
        """`info` is the host's entry of the checkpoint."""
        super().__init__({reading.FILE: file})
        self.sd_checkpoint_info, self.sd_model_checkpoint = info, info.filename
        self.sd_model_hash = info.calculate_shorthash()
        device = model_management.get_torch_device()
        unet = UnetPatcher(self.model, device, model_management.unet_offload_device())
        unet.add_conditioning_modifier(pictured)
        unet.add_conditioning_modifier(apart)
        unet.set_model_sampler_post_cfg_function(guiding.after_guidance)
        encoder = nn.ModuleDict({KEY: nn.ModuleDict({"transformer": self.cond_stage_model.transformer})})
        clip = _clip(ModelPatcher(encoder, device, model_management.text_encoder_offload_device()))
        vae = ModelPatcher(self.first_stage_model, device, model_management.vae_offload_device())
        self.forge_objects = ForgeSD(unet, clip, PatchedVae(self.first_stage_model, vae), None)
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()
        self.current_lora_hash = "[]"

    @property
    def clip(self) -> nn.Module:
        return self.cond_stage_model

    def create_denoiser(self) -> CascadeDenoiser:
        return ShellDenoiser(self)

    @torch.inference_mode()
    def get_learned_conditioning(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """As in A1111, with networks on the text encoder."""
        model_management.load_model_gpu(self.forge_objects.clip.patcher)
        with devices.without_autocast():
            states, pooled = self.cond_stage_model(texts)
        return {"crossattn": states, "vector": pooled}

    @torch.inference_mode()
    def encode_first_stage(self, image: Tensor) -> Tensor:
        model_management.load_model_gpu(self.forge_objects.vae.patcher)
        return super().encode_first_stage(image)

    def to(self, device: Any) -> CascadeShell:  # type: ignore[override]
        """Out of the device where that is asked for; reForge brings each part back when it uses it."""
        if torch.device(device) != self.device:
            model_management.unload_all_models()
        return self


def _clip(patcher: ModelPatcher) -> CLIP:
    """As reForge has a text encoder, which it puts networks on."""
    clip = CLIP(no_init=True)
    clip.patcher, clip.cond_stage_model = patcher, patcher.model
    clip.tokenizer, clip.tokenizer_options = None, {}
    clip.layer_idx, clip.use_clip_schedule, clip.apply_hooks_to_conds = None, False, None
    return clip
