"""Files of Stable Cascade in the host's checkpoint menu: told apart by their headers, read in a format that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from modules import devices, script_callbacks, sd_hijack, sd_models, sd_models_config, shared
from torch import nn

from ..cascade import formats
from ..errors import PrismError
from . import cascade_lora, cascade_previews
from .cascade_decoding import decoding
from .undo import around, undo

CONFIG = str(Path(__file__).with_name("cascade.yaml"))
FILE = "prism.cascade.file"  # among the host's tensors: where they came from
ENCODER, PREVIEWER = "effnet_encoder.safetensors", "previewer.safetensors"  # the official names
BESIDE = {"effnet": ENCODER, "previewer": PREVIEWER}
LONE = {
    "decoder": "the decoder of Stable Cascade (stage B)",
    "stage_b": "the decoder of Stable Cascade (stage B)",
    "stage_a": "stage A of Stable Cascade",
    "effnet": "the picture encoder of Stable Cascade",
    "previewer": "the previewer of Stable Cascade",
    "controlnet": "a ControlNet of Stable Cascade",
}
PLACES = {
    "stage_b": "; the panel Prism Cascade offers it as decoder",
    "stage_a": "; it belongs into the folder models/VAE, and is chosen in the menu of VAEs",
    "effnet": f"; it works when it lies beside the main file as {ENCODER}",
    "previewer": f"; it works when it lies beside the main file as {PREVIEWER}",
}
STAGE_A = ("vquantizer.codebook.weight", "vquantizer.embedding.weight")
SPARE = 2 * 2**30  # bytes that sampling needs beside the weights


def register() -> None:
    """From the script's file, at every load."""
    undo.enter("cascade model", wrapped())
    script_callbacks.on_before_ui(_ui_begins)
    script_callbacks.on_model_loaded(_loaded)


def wrapped() -> ExitStack:
    stack = cascade_previews.wrapped()
    stack.enter_context(around(sd_models_config, "guess_model_config_from_state_dict", _config))
    return stack


def _ui_begins() -> None:
    """The LoRA extension may have been read after us."""
    undo.enter("cascade lora", cascade_lora.wrapped())


def _loaded(model: Any) -> None:
    """Another model needs no decoder."""
    if not cascade_previews.is_cascade(model):
        decoding.release()


# --- which file it is


def _config(original: Any, state_dict: dict[str, Any], filename: str) -> str:
    """The host asks which class of model its tensors are of."""
    file = _inspected(filename)
    if file is None:
        return str(original(state_dict, filename))
    try:
        _check(file)
    except PrismError:
        _give_back()
        raise
    state_dict[FILE] = file
    return CONFIG


def _inspected(filename: str) -> formats.CascadeFile | None:
    """What a file holds of Stable Cascade; None for any other file."""
    try:
        file = formats.inspect(Path(filename))
    except PrismError:
        return None
    return file if file.parts else None


def _check(file: formats.CascadeFile) -> None:
    """Raises PrismError for a file that is no checkpoint by itself, and where Cascade cannot run."""
    name = Path(file.path).name
    if "stage_c" not in file.parts:
        part = next((part for part in LONE if part in file.parts), "")
        raise PrismError(
            f"{name} is {LONE.get(part, 'a part of Stable Cascade')}; choose its main file (stage C) as checkpoint"
            f"{PLACES.get(part, '')}"
        )
    for part in ("stage_c", "text"):
        if part not in file.parts:
            raise PrismError(f"{name} has no text encoder, and none lies beside it as NAME_text_encoder.safetensors")
        missing = file.parts[part].missing
        if missing:
            raise PrismError(f"{name} lacks {len(missing)} tensors of its {part}, such as {sorted(missing)[0]}")
    if shared.cmd_opts.lowvram:
        raise PrismError("Stable Cascade cannot run with --lowvram; start the webui with --medvram")


def _give_back() -> None:
    """The host has taken its hooks off the loaded model already, and would leave it so."""
    model = sd_models.model_data.sd_model
    if model is not None and sd_hijack.model_hijack.clip is None:
        sd_hijack.model_hijack.hijack(model)
        sd_models.send_model_to_device(model)
        sd_models.model_data.set_sd_model(model)


def is_stage_a(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a stage A, in one of its layouts."""
    return any(name.removeprefix("vae.") in STAGE_A for name in names)


# --- reading


def file_in(state_dict: Mapping[str, Any]) -> formats.CascadeFile:
    """The file that the host's tensors are from."""
    return state_dict[FILE]


def parts(file: formats.CascadeFile) -> dict[str, nn.Module]:
    """The nets of a main file, and those that lie beside it, on the CPU; stages B and A are the decoder's."""
    found = {part: _read(Path(file.path), part, file) for part in ("stage_c", "text")}
    for part, name in BESIDE.items():
        beside = Path(file.path).with_name(name)
        if part in file.parts:
            found[part] = _read(Path(file.path), part, file)
        elif beside.is_file():
            found[part] = _read(beside, part, formats.inspect(beside))
    return found


def _read(path: Path, part: str, file: formats.CascadeFile) -> nn.Module:
    module = formats.load(path, part, dtype=weight_dtype(file.parts[part]))
    return module.eval().requires_grad_(False)


def weight_dtype(part: formats.Part) -> torch.dtype:
    """The format to compute in: the file's own where the machine has it.

    Nothing passes through fp16 that was not stored in it, for small weights would be lost. The small stage C is sound
    in fp16, the large one only where its file says so.
    """
    if shared.cmd_opts.no_half or devices.device.type == "cpu":
        return torch.float32
    if part.dtype == torch.float16 or (part.name, part.variant) == ("stage_c", "lite"):
        return torch.float16
    return wide_dtype()


def wide_dtype() -> torch.dtype:
    """The smallest format with the range of float32 that the device computes in."""
    has_bf16 = devices.device.type != "cuda" or torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


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
