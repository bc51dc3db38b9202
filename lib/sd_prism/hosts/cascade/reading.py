"""The nets of a main file of Stable Cascade: read in a format that fits, and on the device while they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from modules import devices, shared
from torch import Tensor, nn

from ...cascade import formats
from ...cascade.weights import chosen
from .checking import NEEDED
from .pictures import pictures

FILE = "prism.cascade.file"  # among the host's tensors: where they came from
ENCODER = "effnet_encoder.safetensors"  # the official name of the picture encoder's file
VISION = "image_encoder/model.safetensors"
OFFERED = "effnet", "previewer"
SPARE = 2 * 2**30  # bytes that sampling needs beside the weights


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
