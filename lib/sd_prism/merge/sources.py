"""Where a merge reads from: .safetensors files, mapped and untouched until a tensor is asked for, or dicts of tensors.

A mapped file costs address space, no memory of the process: what is read stays in the system's cache of the file. The
file must not be cut off or written over while it is mapped; replacing it by renaming another one to its name is fine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .. import header
from ..errors import PrismError

DTYPES = {name: getattr(torch, told) for name, told in header.TORCH_NAMES.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


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
        told = header.read(self.path)
        self._start, self._size, self._places, self.metadata = told.start, told.size, told.places, told.metadata
        unknown = sorted({place.dtype for place in told.places.values()} - DTYPES.keys())
        if unknown:
            raise PrismError(
                f"{self.path} has a damaged header (dtype {unknown[0]} is unknown here); download it again"
            )
        self.entries = {name: Entry(DTYPES[place.dtype], place.shape) for name, place in told.places.items()}
        self._bytes: torch.UntypedStorage | None = None
        self._views: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """A view of the file; a copy where the file's bytes are not aligned to the element size."""
        found = self._views.get(name)
        if found is not None:
            return found
        place = self._places[name]
        start = self._start + place.start
        view = torch.empty(0, dtype=DTYPES[place.dtype])
        if start % view.element_size():
            raw = torch.empty(0, dtype=torch.uint8)
            raw.set_(self._mapped(), start, (place.size,))  # type: ignore[call-overload]
            return raw.clone().view(view.dtype).view(place.shape)
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


def _map(path: Path, size: int) -> torch.UntypedStorage:
    """Private pages: were a view ever written to, the file would keep its content."""
    return torch.UntypedStorage.from_file(str(path), False, size)  # type: ignore[return-value]


def _read(path: Path, size: int) -> torch.UntypedStorage:
    held = torch.empty(size, dtype=torch.uint8)
    with path.open("rb") as file:
        if file.readinto(held.numpy()) != size:  # type: ignore[arg-type]
            raise PrismError(f"{path} was cut off while it was read; start the merge again")
    return held.untyped_storage()
