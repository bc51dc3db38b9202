"""Files of Stable Cascade in the host's checkpoint menu: told apart by their headers, read in a format that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import devices, script_callbacks, sd_hijack, sd_models, sd_models_config, sd_vae, shared
from torch import Tensor, nn

from ...cascade import formats
from ...cascade.weights import chosen
from ...errors import PrismError
from ..undo import around, undo
from ..webui import loaded_model
from . import lora, previews
from .checking import NEEDED, checked, role
from .decoding import decoding
from .pictures import pictures

CONFIG = str(Path(__file__).with_name("cascade.yaml"))
FILE = "prism.cascade.file"  # among the host's tensors: where they came from
ENCODER = "effnet_encoder.safetensors"  # the official name of the picture encoder's file
VISION = "image_encoder/model.safetensors"
HINTS = {
    "stage_a": "this file belongs into the folder models/VAE, and is chosen in the menu of VAEs",
    "effnet": f"this file is read when it lies beside the main file as {ENCODER}",
    "previewer": "this file is read when it lies beside the main file as previewer.safetensors",
}
ASKED, LOADER, SHELL = "guess_model_config_from_state_dict", "forge_loader", "load_model_for_a1111"
OFFERED = "effnet", "previewer"
SPARE = 2 * 2**30  # bytes that sampling needs beside the weights


def register() -> None:
    """From the script's file, at every load."""
    undo.enter("cascade model", wrapped())
    script_callbacks.on_before_ui(_ui_begins)
    script_callbacks.on_model_loaded(_loaded)


def able() -> bool:
    """Whether the host has a function that makes a model of a file, or asks which class of model a file is of."""
    return hasattr(sd_models, LOADER) or hasattr(sd_models_config, ASKED)


def wrapped() -> ExitStack:
    """Until it is closed: the host makes models of Cascade's files.

    In Forge a function makes a model of a file; in reForge one of a module does, of its tensors; A1111 builds the class
    that a configuration names.
    """
    stack, maker = previews.wrapped(), getattr(sd_models, LOADER, None)
    if callable(maker):
        stack.enter_context(around(sd_models, LOADER, _made))
        return stack
    if maker is not None:
        stack.enter_context(around(sd_models, "load_model", _to_load))
        stack.enter_context(around(maker, SHELL, _shelled))
    elif hasattr(sd_models_config, ASKED):
        stack.enter_context(around(sd_models_config, ASKED, _config))
    if able():
        stack.enter_context(around(sd_vae, "load_vae", _load_vae))
    return stack


def _ui_begins() -> None:
    """The LoRA extension may have been read after us."""
    undo.enter("cascade lora", lora.wrapped())


def _loaded(model: Any) -> None:
    """Another model needs no decoder."""
    if not previews.is_cascade(model):
        decoding.release()


# --- which file it is


def _config(original: Any, state_dict: dict[str, Any], filename: str) -> Any:
    """The host asks which class of model its tensors are of."""
    if not _is_cascade(state_dict, filename):
        return original(state_dict, filename)
    try:
        state_dict[FILE] = _checked(Path(filename))
    except PrismError:
        _give_back()
        raise
    return CONFIG


def _made(original: Any, path: Any, additional_state_dicts: Any = None) -> Any:
    """The host has a model made of a file, with others that are chosen beside it."""
    if not _is_cascade({}, str(path)):
        return original(path, additional_state_dicts=additional_state_dicts)
    from .engine import CascadeEngine

    try:
        with torch.inference_mode(False):  # what is made of weights can be kept only where their changes are counted
            return CascadeEngine(_checked(Path(path)), additional_state_dicts or ())
    except Exception:
        sd_models.model_data.forge_hash = ""  # that of the model which has left already, and which it would not load
        raise


def _to_load(original: Any, checkpoint_info: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The host gives the loaded model away before it reads the next one's file, and keeps embeddings by its width."""
    info, before = checkpoint_info or sd_models.select_checkpoint(), loaded_model()
    if _is_cascade({}, str(info.filename)):
        _checked(Path(info.filename))
    was_cascade = previews.is_cascade(before)
    model = original(info, *args, **kwargs)
    if model is not before and (previews.is_cascade(model) or was_cascade):
        sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    return model


def _shelled(original: Any, timer: Any, checkpoint_info: Any = None, state_dict: Any = None) -> Any:
    """The host has a model made of tensors, with an entry of its list of checkpoints."""
    file = str(checkpoint_info.filename)
    if not _is_cascade(state_dict, file):
        return original(timer=timer, checkpoint_info=checkpoint_info, state_dict=state_dict)
    from .shell import CascadeShell

    with torch.inference_mode(False):  # see _made
        return CascadeShell(_checked(Path(file)), checkpoint_info)


def _is_cascade(state_dict: dict[str, Any], filename: str) -> bool:
    """Whether a checkpoint is of Stable Cascade; a folder, which some hosts take, has no tensors of its own."""
    if state_dict or not filename:
        return bool(formats.role_of(state_dict))
    return bool(role(filename))


def _checked(path: Path) -> formats.CascadeFile:
    """See `checked`; refused as well where Cascade cannot run."""
    file = checked(path, HINTS)
    if shared.cmd_opts.lowvram:
        raise PrismError("Stable Cascade cannot run with --lowvram; start the webui with --medvram")
    return file


def _give_back() -> None:
    """The host has taken its hooks off the loaded model already, and would leave it so."""
    model = sd_models.model_data.sd_model
    if model is not None and sd_hijack.model_hijack.clip is None:
        sd_hijack.model_hijack.hijack(model)
        sd_models.send_model_to_device(model)
        sd_models.model_data.set_sd_model(model)


# --- the menu of VAEs


def _load_vae(original: Any, model: Any, vae_file: Any = None, *args: Any, **kwargs: Any) -> Any:
    """A stage A fits Cascade, and nothing else does; what does not fit is left out, where the host would fail."""
    return original(model, vae_file if vae_file and fits(vae_file, model) else None, *args, **kwargs)


def fits(vae_file: Any, model: Any) -> bool:
    """Whether a file of the menu of VAEs is of the model's kind."""
    try:
        is_stage_a = "stage_a" in formats.inspect(Path(vae_file)).parts
    except PrismError:
        is_stage_a = False
    return is_stage_a == previews.is_cascade(model)


# --- reading


def file_in(state_dict: Mapping[str, Any]) -> formats.CascadeFile:
    """The file that the host's tensors are from."""
    return state_dict[FILE]


def parts(file: formats.CascadeFile) -> dict[str, Any]:
    """The nets of a main file, and those that lie beside it, on the CPU; stages B and A are the decoder's."""
    names = [*NEEDED, *(part for part in OFFERED if part in file.parts)]
    return {name: formats.load(file, name, dtype=weight_dtype(file.parts[name])) for name in names}


def seen(file: formats.CascadeFile, names: Sequence[str]) -> Tensor:
    """Vectors (n,width) of pictures by their hashes, on the CPU."""
    part = file.part("vision")
    encoder: Any = formats.load(file, "vision", dtype=weight_dtype(part), device=devices.device)
    cut = np.stack([np.asarray(pictures.cut(name, encoder.config.side)) for name in names])
    pixels = torch.from_numpy(cut).permute(0, 3, 1, 2).to(devices.device) / 255
    with devices.without_autocast(), torch.no_grad():
        return encoder(pixels.to(weight_dtype(part))).float().cpu()


def weight_dtype(part: formats.Part) -> torch.dtype:
    """The format that the host computes a part in."""
    return formats.dtype_for(part, "fp32" if shared.cmd_opts.no_half else None, devices.device)


def wide_dtype() -> torch.dtype:
    """The smallest format with the range of float32 that the device computes in."""
    return chosen("bfloat16", True, None, devices.device)


@contextmanager
def resident(encoder: nn.Module, model: Any) -> Iterator[None]:
    """A text encoder on the host's device while it is needed; moved out afterwards where memory is short."""
    if getattr(model, "lowvram", False):  # the host moves it
        yield
        return
    encoder.to(devices.device)
    yield
    if devices.device.type == "cuda" and torch.cuda.mem_get_info(devices.device)[0] < SPARE:
        encoder.to(devices.cpu)
        devices.torch_gc()
