"""LoRA files of Stable Cascade in the host's own LoRA extension, which knows no names of such layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from modules import sd_models
from torch import nn

from ...cascade.direct import tolerate
from ...cascade.lora import DOTTED as UNET
from ...cascade.lora import file_names, translated
from ..undo import around
from ..webui import loaded_model
from .embeddings import KEY
from .previews import is_cascade

EXTENSION = "networks"  # the extension's module
PATCHED = "ldm_patched.modules.lora"  # what reForge's extension has its patchers put networks on with
LAYERS = nn.Linear, nn.Conv2d
ASKED = {"model_lora_keys_unet": ("stage_c", UNET), "model_lora_keys_clip": ("text", f"{KEY}.transformer.")}
"""What a host asks for the weights that names stand for: of which part, and how weights begin."""


def wrapped() -> ExitStack:
    """Until it is closed, where the extension is there: its files are read in its own names for a Cascade model."""
    stack = ExitStack()
    extension = sys.modules.get(EXTENSION)
    asked = next((one for one in (extension, sys.modules.get(PATCHED)) if _asks(one)), None)
    if asked is not None:
        for name, (part, start) in ASKED.items():
            stack.enter_context(around(asked, name, partial(_weights, part, start)))
    elif hasattr(extension, "load_network"):
        stack.enter_context(around(extension, "load_network", _load))
        for kind in LAYERS:  # it has put its own forward into these classes
            if getattr(kind.forward, "__module__", "") == EXTENSION:
                tolerate(kind.forward, _is_idle)
    return stack


def _asks(module: Any) -> bool:
    return all(hasattr(module, name) for name in ASKED)


def _is_idle(layer: nn.Module) -> bool:
    """Whether a call of the layer is the class's own; the extension is made to take back what it did to its weights."""
    extension: Any = sys.modules.get(EXTENSION)
    if extension is None or extension.loaded_networks:
        return False
    if getattr(layer, "network_current_names", ()):
        extension.network_apply_weights(layer)
    return True


def _load(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    model = loaded_model()
    if not is_cascade(model):
        return original(*args, **kwargs)
    names = layer_names(model)

    def read(original: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {translated(key, names): tensor for key, tensor in original(*args, **kwargs).items()}

    with around(sd_models, "read_state_dict", read):
        return original(*args, **kwargs)


def _weights(part: str, start: str, original: Callable[..., Any], network: nn.Module, *known: dict[str, str]) -> Any:
    """Names of layers in files -> those of their weights in a network that the host patches as a whole.

    Args:
        known: those of other parts, which some hosts want in the answer.
    """
    if not is_cascade(loaded_model()):
        return original(network, *known)
    paths = [path for path, module in network.named_modules() if isinstance(module, LAYERS)]
    own = {name: f"{path}.weight" for path in paths for name in file_names(part, path.removeprefix(start))}
    return dict(*known) | own


def layer_names(model: Any) -> dict[str, str]:
    """Names of layers in files -> those under which the extension finds the layers of the live model."""
    parts = {"stage_c": model.model.diffusion_model, "text": model.cond_stage_model.transformer}
    return {
        name: module.network_layer_name
        for part, root in parts.items()
        for path, module in root.named_modules()
        if hasattr(module, "network_layer_name")
        for name in file_names(part, path)
    }
