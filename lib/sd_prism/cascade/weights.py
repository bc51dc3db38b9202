"""Reading weights into networks, and the format that they should have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import PrismError, UnknownName
from .layouts import TOKEN_IDS, VOCABULARY, Source

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def read(
    sources: Mapping[str, Source], dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """The weights that lie there, each file opened once and each tensor read once.

    Raises:
        PrismError: a file cannot be read.
    """
    state: dict[str, Tensor] = {}
    by_file = sorted(sources.items(), key=lambda item: item[1])
    for path, own in groupby(by_file, key=lambda item: item[1].file):
        try:
            with safe_open(path, "pt") as file:
                for name, value in _made(file, own, path):
                    state[name] = value.to(device, dtype if value.is_floating_point() else None)
        except (OSError, SafetensorError) as error:
            raise PrismError(f"{path} cannot be read ({error}); check the disk, or download it again") from error
    return {name: state[name] for name in sources}


def _made(file: Any, own: Any, path: Path) -> Iterator[tuple[str, Tensor]]:
    for tensor, weights in groupby(own, key=lambda item: item[1].tensor):
        value = file.get_tensor(tensor)
        for name, source in weights:
            if source.form == "rows":
                yield name, _table(value, file.get_tensor(TOKEN_IDS).long(), path)
            elif source.form == "T":
                yield name, value.T.contiguous()
            else:
                yield name, value.chunk(3)[int(source.form)] if source.form else value


def _table(rows: Tensor, ids: Tensor, path: Path) -> Tensor:
    """The whole token table of one that has only some rows."""
    if len(ids) != len(rows) or int(ids.min()) < 0 or int(ids.max()) >= VOCABULARY:
        raise PrismError(
            f"{path.name}: {TOKEN_IDS} has {len(ids)} ids for {len(rows)} rows; expected one each, "
            f"from 0 to {VOCABULARY - 1}"
        )
    return rows.new_zeros(VOCABULARY, rows.shape[1]).index_copy_(0, ids, rows)


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights in place of its own, for inference.

    They are put there one by one: while webuis load a checkpoint they replace `load_state_dict` and `to`.
    """
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        owner = network.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[leaf] = value
    network.eval()
    return network


def chosen(stored: str, delicate: bool, wanted: str | torch.dtype | None, device: str | torch.device) -> torch.dtype:
    """See `formats.dtype_for`; `delicate` is a part that fp16 breaks unless its file has it."""
    if isinstance(wanted, torch.dtype):
        return wanted
    if wanted and wanted != "Automatic":
        if wanted not in DTYPES:
            raise UnknownName("precision", wanted, ["Automatic", *DTYPES])
        return DTYPES[wanted]
    device = torch.device(device)
    if device.type == "cpu":
        return torch.float32
    wide = torch.bfloat16 if _computes_bf16(device) else torch.float32
    narrow = {"float16": torch.float16, "bfloat16": wide}
    return narrow.get(stored, wide if delicate else torch.float16)


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        torch.ones(1, dtype=torch.bfloat16, device=device) * 2
    except (TypeError, RuntimeError):  # MPS before macOS 14
        return False
    return True
