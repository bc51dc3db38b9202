"""Where a merge reads from: .safetensors files, mapped and untouched until a tensor is asked for, or dicts of tensors.

A mapped file costs address space, no memory of the process: what is read stays in the system's cache of the file. The
file must not be cut off or written over while it is mapped; replacing it by renaming another one to its name is fine.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..errors import PrismError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 100_000_000  # the format's own limit
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class Entry(NamedTuple):
    """What is known of a tensor before it is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Source(Protocol):
    """Pristine weights by name.

    Attributes:
        label: what errors call it.
        identity: equal for equal weights; another one as soon as a file is replaced.
        entries: every tensor's dtype and shape.
        metadata: the file's own texts.
    """

    label: str

    @property
    def identity(self) -> tuple[object, ...]: ...

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def tensor(self, name: str) -> Tensor:
        """The weights; never to be written to."""


class File:
    """A .safetensors file.

    Args:
        path: the file.
        hold: read it whole into memory, for network disks and for files that others rewrite in place.

    Raises:
        PrismError: the file is missing, cut off, damaged, a pickle, or of another format.
    """

    def __init__(self, path: str | os.PathLike[str], *, hold: bool = False) -> None:
        self.path = Path(path)
        self.label = self.path.name
        self.hold = hold
        self.identity = identity(self.path)
        raw, self._start, self._size = _raw_header(self.path)
        try:
            described = json.loads(raw)
            self.metadata = {str(k): str(v) for k, v in (described.pop("__metadata__", None) or {}).items()}
            self._places = {name: _place(entry) for name, entry in described.items()}
        except DAMAGED as error:
            raise PrismError(f"{self.path} has a damaged header ({error}); download it again") from error
        self.entries = {name: Entry(place.dtype, place.shape) for name, place in self._places.items()}
        expected = self._start + max((place.stop for place in self._places.values()), default=0)
        if self._size != expected:
            raise PrismError(
                f"{self.path} has {self._size} bytes, its header announces {expected}; it is cut off or damaged, "
                "download it again"
            )
        self._bytes: torch.UntypedStorage | None = None
        self._views: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """A view of the file; a copy where the file's bytes are not aligned to the element size."""
        found = self._views.get(name)
        if found is not None:
            return found
        place = self._places[name]
        start = self._start + place.start
        view = torch.empty(0, dtype=place.dtype)
        if start % view.element_size():
            size = place.stop - place.start
            raw = torch.empty(0, dtype=torch.uint8).set_(self._mapped(), start, (size,))  # type: ignore[call-overload]
            return raw.clone().view(place.dtype).view(place.shape)
        view.set_(self._mapped(), start // view.element_size(), place.shape)  # type: ignore[call-overload]
        self._views[name] = view
        return view

    @property
    def mapped(self) -> bool:
        """Whether the file is held open, so that even its deletion takes nothing away."""
        return self._bytes is not None

    def release(self) -> None:
        """Let the file go, so that Windows can delete it; the next tensor maps it again."""
        self._views.clear()
        self._bytes = None

    def _mapped(self) -> torch.UntypedStorage:
        if self._bytes is None:
            if identity(self.path) != self.identity:
                raise PrismError(f"{self.path} has changed since its header was read; start the merge again")
            self._bytes = _read(self.path, self._size) if self.hold else _map(self.path, self._size)
        return self._bytes


class Tensors:
    """A dict of tensors, or a module's; they must stay as they are."""

    metadata: Mapping[str, str] = {}

    def __init__(self, tensors: Mapping[str, Tensor] | nn.Module, label: str = "a dict of tensors") -> None:
        self.label = label
        self.tensors = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
        self.identity = ("tensors", _Same(tensors))
        self.entries = {name: Entry(value.dtype, tuple(value.shape)) for name, value in self.tensors.items()}

    def tensor(self, name: str) -> Tensor:
        """The tensor itself, without a gradient's history."""
        return self.tensors[name].detach()


class _Same:
    """Equal for one object only, which stays alive so that no other gets its id."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


Given = str | os.PathLike[str] | Mapping[str, Tensor] | nn.Module | Source


def open_source(given: Any, label: str = "") -> Source:
    """A source of what the caller has: a path, a dict of tensors, a module, or a source already."""
    if isinstance(given, (str, os.PathLike)):
        return File(given)
    if isinstance(given, (Mapping, nn.Module)):
        return Tensors(given, label or "a dict of tensors")
    return given


def identity_of(given: Any) -> tuple[object, ...]:
    """The `identity` that `open_source(given)` would have, without reading anything."""
    if isinstance(given, (str, os.PathLike)):
        return identity(Path(given))
    if isinstance(given, (Mapping, nn.Module)):
        return ("tensors", _Same(given))
    return given.identity


def identity(path: Path) -> tuple[object, ...]:
    """What tells a file from the one that may replace it: path, size, time, and its place on the disk."""
    try:
        told = os.stat(path)
    except (OSError, ValueError):
        raise PrismError(f"{path} does not exist; check the path, or refresh the list of checkpoints") from None
    return str(path), told.st_size, told.st_mtime_ns, told.st_ino


class _Place(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def _place(entry: Mapping[str, Any]) -> _Place:
    """Where a tensor's bytes lie; raises one of `DAMAGED` for an entry that is none."""
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"dtype {entry['dtype']} is unknown here")
    dtype, shape, (start, stop) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if (
        any(not isinstance(n, int) or n < 0 for n in (*shape, start))
        or stop - start != math.prod(shape) * dtype.itemsize
    ):
        raise ValueError(f"an entry reads {str(entry)[:80]}")
    return _Place(dtype, shape, start, stop)


def _raw_header(path: Path) -> tuple[bytes, int, int]:
    """The header's text, where the tensors begin, and the size of the whole file."""
    if path.is_dir():
        raise PrismError(f"{path} is a folder; name the .safetensors file inside it")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            if first.startswith(PICKLES):
                raise PrismError(
                    f"{path} is a pickle, which can run any code when it is opened; convert it to .safetensors first"
                )
            length = int.from_bytes(first, "little")
            if size < 10 or length > min(MAX_HEADER, size - 8):
                raise PrismError(f"{path} ({size} bytes) is no .safetensors file, or is cut off; download it again")
            return file.read(length), 8 + length, size
    except OSError as error:
        raise PrismError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk") from error


def _map(path: Path, size: int) -> torch.UntypedStorage:
    """Private pages: were a view ever written to, the file would keep its content."""
    return torch.UntypedStorage.from_file(str(path), False, size)  # type: ignore[return-value]


def _read(path: Path, size: int) -> torch.UntypedStorage:
    held = torch.empty(size, dtype=torch.uint8)
    with path.open("rb") as file:
        if file.readinto(held.numpy()) != size:  # type: ignore[arg-type]
            raise PrismError(f"{path} was cut off while it was read; start the merge again")
    return held.untyped_storage()
