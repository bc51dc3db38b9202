"""Checkpoints that are loaded into a class of an extension, built and filled in the host's order."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import nn

from modules import devices

OF_THE_ENGINE = ("ldm.", "sgm.")  # the classes whose configs the engine reads itself
FLAGS = ("is_sd1", "is_sd2", "is_sdxl", "is_ssd", "is_sd3", "is_sdxl_inpaint")


class StateDict(MutableMapping[str, Any]):
    """The tensors of a .safetensors file by name, each read from it when it is asked for; of anything else none.

    A damaged file is told about by whoever loads it.
    """

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self._tensors: dict[str, Any] | None = None

    @property
    def _known(self) -> dict[str, Any]:
        from safetensors import SafetensorError, safe_open

        if self._tensors is None:
            self._tensors = {}
            if self.filename.endswith(".safetensors") and os.path.isfile(self.filename):
                with contextlib.suppress(SafetensorError):
                    file = safe_open(self.filename, framework="pt")
                    self._tensors = {name: _Unread(file, name) for name in file.keys()}  # noqa: SIM118
        return self._tensors

    def __getitem__(self, name: str) -> Any:
        value = self._known[name]
        return value.read() if isinstance(value, _Unread) else value

    def __setitem__(self, name: str, value: Any) -> None:
        self._known[name] = value

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Let go of all, and read none of them for it."""
        self._known.clear()


class _Unread:
    """A tensor of an open file."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name = file, name

    def read(self) -> torch.Tensor:
        return self.file.get_tensor(self.name)


def model_section(config: str | None) -> dict[str, Any] | None:
    """What a config (yaml) says of the model's class; None for what the engine reads itself."""
    if config is None:
        return None
    import yaml

    try:
        with open(config, encoding="utf8") as file:
            section = yaml.safe_load(file)["model"]
        target = str(section["target"])
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError):
        return None  # the engine tells what is wrong with it
    return None if target.startswith(OF_THE_ENGINE) else section


def instantiate_from_config(config: Mapping[str, Any], state_dict: Any = None) -> Any:
    """The object of a config's class; a parameter `state_dict` of None becomes the file's tensors."""
    params = {"use_ema": False, **(config.get("params") or {})}
    if "state_dict" in params and params["state_dict"] is None:
        params["state_dict"] = state_dict
    return get_obj_from_str(config["target"])(**params)


def get_obj_from_str(string: str, reload: bool = False) -> Any:
    """What a dotted name means."""
    module_name, _, name = string.rpartition(".")
    module = importlib.import_module(module_name)
    return getattr(importlib.reload(module) if reload else module, name)


def filled(model: nn.Module, state_dict: MutableMapping[str, Any], config: str | None) -> nn.Module:
    """The model with its weights, as the host gives them under --no-half."""
    fields: Any = model
    for flag in FLAGS:
        setattr(model, flag, False)
    fields.latent_channels = getattr(model, "latent_channels", 4)
    if hasattr(model, "before_load_weights"):
        fields.before_load_weights(state_dict)
    model.load_state_dict(state_dict, strict=False)
    if hasattr(model, "after_load_weights"):
        fields.after_load_weights(state_dict)
    model.float()
    fields.alphas_cumprod_original = fields.alphas_cumprod
    fields.first_stage_model.to(devices.dtype_vae)
    fields.used_config, fields.lowvram = config, False
    return model.eval()


def named(model: Any, info: Any) -> Any:
    """The model with the facts of its file that scripts look at."""
    model.sd_checkpoint_info = info
    model.sd_model_checkpoint, model.sd_model_hash = info.filename, info.shorthash
    model.filename = info.filename
    return model
