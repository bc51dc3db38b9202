"""The header of a .safetensors file, checked against the file's size; no tensor is read, and no torch is needed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import PrismError

MAX_HEADER = 100_000_000  # the format's own limit
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")
PICKLE_ENDINGS = (".ckpt", ".pt", ".pth", ".bin")
# What a damaged header may raise.
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2} | dict.fromkeys(
    ("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1
)


class Place(NamedTuple):
    """A tensor of a file: its type in the format's words, and its bytes, counted from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        places: every tensor.
        metadata: the file's own texts.
        start: where the tensors begin.
        size: bytes of the whole file.
    """

    places: dict[str, Place]
    metadata: dict[str, str]
    start: int
    size: int


def read(path: Path) -> Header:
    """The header of a file.

    Raises:
        PrismError: the file is missing, cut off, damaged, a pickle, or of another format.
    """
    raw, size = _raw(path)
    try:
        described = json.loads(raw)
        metadata = {str(key): str(value) for key, value in (described.pop("__metadata__", None) or {}).items()}
        places = {name: _place(entry) for name, entry in described.items()}
    except DAMAGED as error:
        raise PrismError(f"{path} has a damaged header ({error}); download it again") from error
    start = 8 + len(raw)
    expected = start + max((place.stop for place in places.values()), default=0)
    if size != expected:
        raise PrismError(
            f"{path} has {size} bytes, its header announces {expected}; it is cut off or damaged, download it again"
        )
    return Header(places, metadata, start, size)


def dtype_of(places: Iterable[Place]) -> str:
    """The type of most bytes, in torch's words ("float16"); "unknown" where there is none."""
    counts: Counter[str] = Counter()
    for place in places:
        counts[place.dtype] += place.size
    most = counts.most_common(1)[0][0] if counts else "unknown"
    return TORCH_NAMES.get(most, most.lower())


def _raw(path: Path) -> tuple[bytes, int]:
    """The header's text, and the size of the whole file."""
    if os.path.isdir(path):  # pathlib's own raises for impossible paths
        raise PrismError(f"{path} is a folder; name the .safetensors file inside it")
    if not os.path.isfile(path):
        raise PrismError(f"{path} does not exist; check the path, or refresh the list of checkpoints")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            if path.suffix.lower() in PICKLE_ENDINGS or first.startswith(PICKLES):
                raise PrismError(
                    f"{path} is a pickle, which can run any code when it is opened; convert it to .safetensors first"
                )
            length = int.from_bytes(first, "little")
            if size < 10 or length > min(MAX_HEADER, size - 8):
                raise PrismError(f"{path} ({size} bytes) is no .safetensors file, or is cut off; download it again")
            return file.read(length), size
    except OSError as error:
        raise PrismError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk") from error


def _place(entry: Mapping[str, Any]) -> Place:
    """A tensor's entry; raises one of `DAMAGED` for one that is none."""
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    sound = isinstance(dtype, str) and all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop))
    if not sound or stop < start or (dtype in BYTES and stop - start != math.prod(shape) * BYTES[dtype]):
        raise ValueError(f"an entry reads {str(entry)[:80]}")
    return Place(dtype, shape, start, stop)
