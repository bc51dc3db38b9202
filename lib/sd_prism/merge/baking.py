"""A merge as a checkpoint: streamed to a .safetensors file, tile by tile, in the arithmetic of the live merge."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import PrismError, UnknownName
from .kernels import STAGE, as_rows, evaluate, per_tile, spans
from .pairing import ALL, Model, Models, Piece, Wishes
from .plan import refusal
from .recipe import LOADED, Recipe
from .sources import NAMES, File

FORMATS = {"": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
LEFT_OUT = "model_ema."  # averages of the base's training, which say nothing of the merge
NOT_LOADED: Mapping[str, torch.dtype] = MappingProxyType({})
Progress = Callable[[int, int], object]


def bake(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    sources: Mapping[str, Any] | None = None,
    dtype: str = "",
    live: Mapping[str, torch.dtype] = NOT_LOADED,
    hashes: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write what `merge_into` would make of a whole checkpoint; `out` is the old file or the new one, never a part.

    A .yaml beside the base, in which hosts read what a model predicts, is copied if the new file has none.

    Args:
        recipe, out, sources, dtype, live: see `prepared`.
        hashes: name -> SHA-256 of the file, where known; the others are computed.
        progress: called with the bytes written and their total; what it raises ends the bake.

    Raises PrismError for what cannot be merged, see `prepared`, and for a full disk; nothing was written.
    """
    return prepared(recipe, out, sources=sources, dtype=dtype, live=live).write(hashes, progress)


def prepared(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    sources: Mapping[str, Any] | None = None,
    dtype: str = "",
    live: Mapping[str, torch.dtype] = NOT_LOADED,
) -> Baked:
    """A merge that can be written; only the files' headers are read for it.

    Args:
        recipe: terms that hold for some steps only are not allowed.
        out: the .safetensors file to write.
        sources: name -> path, dict of tensors or `Source`, as for `merge_into`. Without it the recipe's names are
            paths, the base's among them.
        dtype: "fp16", "bf16" or "fp32" for every tensor that may be merged; empty: what is merged has that of `live`,
            anything else, and all without `live`, the base's.
        live: block -> dtype in which a host holds the model and so merges; a file in it gives the host's own picture.

    Raises PrismError for a model that is missing, damaged, or does not fit, or where `out` is one of the models.
    """
    if dtype not in FORMATS:
        raise UnknownName("format", dtype, [name for name in FORMATS if name])
    if sources is None and recipe.base == LOADED:
        raise PrismError(f'"{recipe}" does not say what it is merged into; write the base first: BASE + {recipe}')
    if any(term.when is not None for term in recipe.terms):
        raise PrismError("A bake has no steps; leave step= away")
    given = {name: name for name in _paths(recipe)} if sources is None else sources
    recipe = _resolved(recipe, given) if sources is None else recipe.resolve(given)
    labels = tuple(dict.fromkeys((recipe.base, *recipe.models)))
    models = Models()
    models.take(given, labels)
    path = _place(out, [models[label] for label in labels])
    with torch.inference_mode():
        return Baked(recipe, models, path, FORMATS[dtype], live)


def _resolved(recipe: Recipe, paths: Mapping[str, str]) -> Recipe:
    try:
        return recipe.resolve(paths)
    except UnknownName as error:
        raise PrismError(f'"{error.given}" is no file; a model\'s name is the path of its .safetensors file') from None


def _copy_yaml(base: Model, path: Path) -> None:
    """What a .yaml beside the base says of the model, its prediction type for example, holds for the merge too."""
    beside = base.source.path.with_suffix(".yaml") if isinstance(base.source, File) else None
    if beside is not None and beside.is_file() and not path.with_suffix(".yaml").exists():
        shutil.copyfile(beside, path.with_suffix(".yaml"))


class Baked:
    """A file to be: its tensors, in the order of the base's. Raises PrismError for tensors that do not fit.

    Attributes:
        blocks: those that are merged.
        notes: what a user should know, such as tensors that a model lacks.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Models,
        path: Path,
        dtype: torch.dtype | None,
        live: Mapping[str, torch.dtype] = NOT_LOADED,
    ) -> None:
        self.recipe, self.models, self.path = recipe, models, path
        base = self.base = models[recipe.base]
        layout = base.layout
        wishes = Wishes.of(recipe, layout)
        self.names = [name for name in base.source.entries if not name.startswith(LEFT_OUT)]
        self._merged = {layout.names[name]: (name, wishes.at(name, block)) for name, block in layout.homes.items()}
        self.blocks = frozenset(layout.homes[name] for name, wish in self._merged.values() if wish.groups)
        self.notes = models.notes(tuple(dict.fromkeys((recipe.base, *recipe.models))))
        self._dtypes = {name: self._wanted(name, dtype, live) for name in self.names}
        wrong = [
            problem
            for given, (name, wish) in self._merged.items()
            for problem in models.meet(name, wish, base.source.entries[given].shape).problems
        ]
        if wrong:
            raise refusal(wrong)

    def write(self, hashes: Mapping[str, str] | None = None, progress: Progress | None = None) -> Path:
        """See `bake`."""
        with torch.inference_mode():
            metadata = {**self.base.source.metadata, **_merge_metadata(self.recipe, self.models, hashes or {})}
            _write_whole(self, metadata, progress or (lambda done, total: None))
        _copy_yaml(self.base, self.path)
        return self.path

    def _wanted(self, name: str, dtype: torch.dtype | None, live: Mapping[str, torch.dtype]) -> torch.dtype:
        """Markers and whole numbers stay as they are, and so does by itself what is not merged."""
        own = self.base.source.entries[name].dtype
        if name not in self._merged or not own.is_floating_point:
            return own
        merged, wish = self._merged[name]
        return dtype or (live.get(self.base.layout.homes[merged], own) if wish.groups else own)

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor in the new file."""
        return self._dtypes[name]

    @property
    def formats(self) -> str:
        """Those of the tensors that may be merged, in words."""
        kinds = {self.dtype(name) for name in self._merged}
        known = [word for word, one in FORMATS.items() if one in kinds]
        return " and ".join(known or sorted(str(one).removeprefix("torch.") for one in kinds))

    def size(self, name: str) -> int:
        """Bytes of a tensor in the new file."""
        return torch.Size(self.base.source.entries[name].shape).numel() * self.dtype(name).itemsize

    def parts(self, name: str) -> Iterator[Tensor]:
        """The tensor's values from first to last; each part is valid until the next one is asked for."""
        own, dtype = self.base.source.entries[name], self.dtype(name)
        if name not in self._merged or (dtype == own.dtype and not self._merged[name][1].groups):
            yield self.base.source.tensor(name)
            return
        merged, wish = self._merged[name]
        pieces = self.models.pieces(merged, wish, self.models.meet(merged, wish, own.shape))
        if not own.shape:
            pieces = [Piece(ALL, *as_rows(piece.base, piece.steps)) for piece in pieces]
        rows = own.shape or (1,)
        for start, stop in spans(rows, per_tile(rows, STAGE)):
            stage = self.models.scratch.take("stage", (stop - start, *rows[1:]), dtype)
            for piece in pieces:
                evaluate(piece.of(stage), piece.base, piece.steps, start, self.models.scratch)
            yield stage


def _write_whole(baked: Baked, metadata: Mapping[str, str], progress: Progress) -> None:
    """Under another name first, which then replaces the file."""
    path, header = baked.path, _header(baked, metadata)
    total, done = len(header) + sum(map(baked.size, baked.names)), len(header)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        free = shutil.disk_usage(path.parent).free
        if free < total:
            raise PrismError(f"{path.parent} has {free:,} bytes free, {path.name} needs {total:,}; make room first")
        with draft.open("wb", buffering=0) as file:
            _write(file, memoryview(header))
            for name in baked.names:
                for part in baked.parts(name):
                    done += _write(file, memoryview(part.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
                    progress(done, total)
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise PrismError(f"{path} cannot be written ({error.strerror}); nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _write(file: BinaryIO, data: memoryview) -> int:
    """All of it: the system takes at most 2 GB at a time."""
    left = data
    while left:
        left = left[file.write(left) :]
    return len(data)


def _header(baked: Baked, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name in baked.names:
        stop = start + baked.size(name)
        shape = list(baked.base.source.entries[name].shape)
        entries[name] = {"dtype": NAMES[baked.dtype(name)], "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors are aligned
    return len(text).to_bytes(8, "little") + text


def _paths(recipe: Recipe) -> Iterator[str]:
    """The files that a recipe names, also those on the two sides of a "-"."""
    for name in recipe.models:
        sides = (side for dash in re.finditer("-", name) for side in (name[: dash.start()], name[dash.end() :]))
        yield from filter(os.path.isfile, (name, *map(str.strip, sides)))


def _place(out: str | os.PathLike[str], models: list[Model]) -> Path:
    """Where to write; raises PrismError for what is no place, or one of the models."""
    path = Path(os.path.realpath(out))
    if path.suffix != ".safetensors":
        raise PrismError(f"{out} does not end in .safetensors; a merge is written in that format alone")
    if not path.parent.is_dir():
        raise PrismError(f"The folder {path.parent} does not exist; make it first")
    if any(isinstance(one.source, File) and path == Path(os.path.realpath(one.source.path)) for one in models):
        raise PrismError(f"{path} is one of the models that are merged; choose another name")
    return path


# --- what the file says of itself ---------------------------------------------------------------------------------


def _merge_metadata(recipe: Recipe, models: Models, hashes: Mapping[str, str]) -> dict[str, str]:
    """As A1111's merger writes it: the recipe, and for each model, by hash, its name and its own recipe."""
    told: dict[str, Any] = {}
    for label in dict.fromkeys((recipe.base, *recipe.models)):
        source = models[label].source
        if not isinstance(source, File):
            continue
        sha256 = hashes.get(label) or _sha256(source.path)
        told[sha256] = {
            "name": source.path.name,
            "legacy_hash": _legacy_hash(source.path),
            "sd_merge_recipe": _json(source.metadata.get("sd_merge_recipe")),
        }
        told |= _json(source.metadata.get("sd_merge_models")) or {}
    made = {"type": "sd-webui-prism", "text": str(recipe), **recipe.to_json()}
    return {"format": "pt", "sd_merge_recipe": json.dumps(made), "sd_merge_models": json.dumps(told)}


def _json(text: str | None) -> Any:
    """What another program wrote there; None for no JSON object."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _legacy_hash(path: Path) -> str:
    """A1111's old short hash, of 64 KB at 1 MB."""
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
