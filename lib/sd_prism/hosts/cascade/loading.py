"""Files of Stable Cascade in the host's checkpoint menu: told apart by their headers, each made a model its way."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from modules import script_callbacks, sd_hijack, sd_models, sd_models_config, sd_vae, shared

from ...cascade import formats
from ...errors import PrismError
from ..undo import around, undo
from ..webui import loaded_model
from . import lora, previews
from .checking import checked, role
from .decoding import decoding
from .reading import ENCODER, FILE

CONFIG = str(Path(__file__).with_name("cascade.yaml"))
HINTS = {
    "stage_a": "this file belongs into the folder models/VAE, and is chosen in the menu of VAEs",
    "effnet": f"this file is read when it lies beside the main file as {ENCODER}",
    "previewer": "this file is read when it lies beside the main file as previewer.safetensors",
}
ASKED, LOADER, SHELL = "guess_model_config_from_state_dict", "forge_loader", "load_model_for_a1111"


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
