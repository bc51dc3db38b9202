"""Stable Cascade as Forge has a model: parts in patchers, which Forge moves and puts networks on like any other's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from backend import memory_management
from backend.diffusion_engine.base import ForgeDiffusionEngine, ForgeObjects
from backend.modules.k_prediction import AbstractPrediction
from backend.nn.base import ModuleDict
from backend.patcher.base import ModelPatcher
from backend.patcher.clip import CLIP
from backend.patcher.unet import UnetPatcher
from huggingface_guess.model_list import Stable_Cascade_C
from torch import Tensor

from ...cascade.formats import CascadeFile
from ...cascade.schedule import Schedule
from . import guiding
from .checking import role
from .embeddings import KEY
from .engine_text import CascadeTextEngine, tokenizer
from .parts import CHANNELS, Cascade
from .patched import IMAGES, Levels, PatchedBackbone, PatchedVae, apart


class Prediction(Levels, AbstractPrediction):  # type: ignore[misc]
    """What Forge knows of stage C's noise."""

    def __init__(self, schedule: Schedule) -> None:
        AbstractPrediction.__init__(self, sigma_data=1.0, prediction_type="epsilon")
        Levels.__init__(self, schedule)


prediction = lru_cache(2)(Prediction)


class EngineBackbone(PatchedBackbone):
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


class CascadeEngine(Cascade, ForgeDiffusionEngine):  # type: ignore[misc]
    """Has what Forge asks of an engine.

    Attributes:
        modules: the files that are chosen beside the checkpoint in the menu "VAE / Text Encoder".
    """

    backbone = EngineBackbone
    images_key = IMAGES

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
        vae = ModelPatcher(
            self.first_stage_model,
            load_device=memory_management.vae_device(),
            offload_device=memory_management.vae_offload_device(),
        )
        self.forge_objects = ForgeObjects(unet, clip, PatchedVae(self.first_stage_model, vae), None)
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

    def _module(self, wanted: str) -> str:
        return next((path for path in self.modules if role(path) == wanted), "")

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
