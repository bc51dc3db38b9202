"""Which recipe is merged into which loaded model: a webui may hold several, and loads weights whenever it likes.

What is written is told from what the host has loaded since by the weights themselves, not by callbacks alone: a few
samples of what was written are compared at every call.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from modules import sd_vae
from torch import Tensor, nn

from ...errors import PrismError, UnknownName
from ...merge import others
from ...merge.blocks import Layout
from ...merge.plan import Plan, merge_into
from ...merge.recipe import LOADED, Names, Recipe, unknown_model
from ...merge.sources import Entry, File, Source, identity
from ...merge.split import Split
from .. import checkpoints, data
from ..model import lasting, patchers
from .fused import forget
from .weights import STORAGE, Weights, computed

log = logging.getLogger("prism")

TOKEN_IDS = "prism.token_ids"  # in files of Prism's miniatures: which rows of the token table they hold
TOKENS = "token_embedding.weight"
VOCABULARY = 49408
SAMPLES, CANDIDATES = 8, 64  # tensors that are compared with what was written; those to choose from
OPEN = 8  # headers that are kept


# --- checkpoints -------------------------------------------------------------------------------------------------


def name_of(info: Any) -> str:
    """A checkpoint's name, as prompts call it."""
    return str(getattr(info, "name_for_extra", None) or info.name)


def find(text: str) -> Any:
    """The host's checkpoint of a name in any case, a hash, or "name [hash]", where the hash serves last.

    Raises UnknownName with the nearest names.
    """
    known = checkpoints.aliases()
    name, _, digest = text.partition(" [")
    written = Names(known)
    for one in (text, name, digest.rstrip("]")):
        if (found := written.find(one)) is not None:
            return known[found]
    raise unknown_model(text, names())


def names() -> list[str]:
    """Every checkpoint's name, as prompts call it."""
    return [name_of(info) for info in checkpoints.listed()]


def title(text: str) -> str:
    """A checkpoint's name with the short hash of its file; raises UnknownName."""
    info = find(text)
    info.calculate_shorthash()
    return str(getattr(info, "short_title", None) or info.title)


def titled(recipe: Recipe) -> Recipe:
    """The recipe with each model under its title, a pair "B-C" read as two; raises UnknownName for a missing one."""
    known = [*names(), *checkpoints.aliases()]
    for label in recipe.models:
        with contextlib.suppress(UnknownName):
            find(label)
            known.append(label)

    def name(label: str) -> str:
        return title(label) if label else ""

    try:
        found = recipe.resolve(known)
    except UnknownName as error:
        raise unknown_model(str(error.given), names()) from None
    terms = tuple(replace(term, model=name(term.model), minus=name(term.minus)) for term in found.terms)
    return replace(found, terms=terms, base=found.base if found.base == LOADED else title(found.base))


def own_presets(model: Any) -> dict[str, tuple[float, ...]]:
    """The user's presets for a loaded model, from the files of other tools in prism/merge of the data folder."""
    files = sorted((data.folder() / "merge").glob("*.*"))
    if not files:
        return {}
    listed: list[others.Listed] = []
    for file in files:
        try:
            listed += others.presets_of(file.read_text(encoding="utf-8-sig"))
        except (PrismError, OSError, UnicodeError) as error:
            log.warning("Presets of %s are left out: %s", file, error)
    source = opened(str(model.sd_checkpoint_info.filename), split=False)
    return others.fitting(listed, Layout.of({name: entry.shape for name, entry in source.entries.items()}))


_opened: dict[tuple[str, bool], tuple[tuple[object, ...], Source]] = {}


def opened(path: str, split: bool) -> Source:
    """A checkpoint's file in the names of this host's models; headers are kept while the file stays the same."""
    now = identity(Path(path))
    found = _opened.get((path, split))
    if found is None or found[0] != now:
        source: Source = FullTable(File(path))
        source = Split(source) if split else source
        while len(_opened) >= OPEN:
            del _opened[next(iter(_opened))]
        found = _opened[path, split] = now, source
    return found[1]


class FullTable:
    """A file of a Prism miniature with all rows of its token table, of which it holds some; any other file as it is."""

    def __init__(self, file: File) -> None:
        self.file, self.label, self.identity, self.metadata = file, file.label, file.identity, file.metadata
        self._short = [name for name in file.entries if name.endswith(TOKENS) and TOKEN_IDS in file.entries]
        self.entries: Mapping[str, Entry] = {
            name: entry._replace(shape=(VOCABULARY, *entry.shape[1:])) if name in self._short else entry
            for name, entry in file.entries.items()
        }
        self._tables: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """The file's; a token table is made once."""
        found = self.file.tensor(name)
        if name not in self._short:
            return found
        if name not in self._tables:
            table = found.new_zeros(VOCABULARY, *found.shape[1:])
            self._tables[name] = table.index_copy_(0, self.file.tensor(TOKEN_IDS).long(), found)
        return self._tables[name]

    def release(self) -> None:
        """Let the file go."""
        self._tables.clear()
        self.file.release()


def dtypes(model: Any) -> dict[str, torch.dtype]:
    """Block -> the widest type in which a loaded model holds its weights; for fp8, the one from which that is made."""
    tensors = dict(Weights(model).items())
    layout = Layout.of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    found: dict[str, torch.dtype] = {}
    for name, block in layout.homes.items():
        kind = tensors[layout.names[name]].dtype
        kind = computed(model) if kind in STORAGE else kind
        if kind.is_floating_point:
            found[block] = torch.promote_types(found.get(block, kind), kind)
    return found


class Pristine:
    """A loaded model as the host has loaded it: its checkpoint's file, and from memory what differs from that.

    Without a file that can be read (a pickle, a folder) everything that is written to is kept in memory.
    """

    def __init__(self, source: Source | None, weights: Weights) -> None:
        self.source, self.weights, self.kept = source, weights, dict[str, Tensor]()
        self.label = source.label if source else "the loaded model"
        self.metadata: Mapping[str, str] = source.metadata if source else {}
        self.entries: Mapping[str, Entry] = (
            source.entries if source else {n: Entry(t.dtype, tuple(t.shape)) for n, t in weights.items()}
        )
        live = Layout.of({name: tuple(tensor.shape) for name, tensor in weights.items()}).names
        theirs = Layout.of({name: entry.shape for name, entry in self.entries.items()}).names
        self.names = {live[name]: theirs[name] for name in live if name in theirs}

    @property
    def identity(self) -> tuple[object, ...]:
        """Another one as soon as the host has another VAE in it."""
        return (self.source.identity if self.source else id(self.weights), sd_vae.loaded_vae_file)

    def tensor(self, name: str) -> Tensor:
        """By the file's names; in memory where the host holds other values."""
        if name in self.kept:
            return self.kept[name]
        return self.source.tensor(name) if self.source else self.weights.base(name).clone()

    def keep(self, name: str) -> None:
        """Called with the host's name of a tensor before it changes."""
        theirs, held = self.names[name], self.weights.base(name)
        if self.source is None or not _alike(held, self.source.tensor(theirs), self.weights.computed):
            self.kept[theirs] = held.to("cpu", copy=True)

    def release(self) -> None:
        """Let the file go."""
        if self.source is not None and callable(release := getattr(self.source, "release", None)):
            release()


def _alike(live: Tensor, stored: Tensor, computed: torch.dtype) -> bool:
    """Whether a live tensor holds what a file says, by its first and last row alone; fp8 is made of type `computed`.

    That tells what hosts do: they load a tensor whole, or cast it. It assumes that nobody edits a few rows in the
    midst of one and leaves both ends; such an edit is lost when the file's values are written back.
    """
    if live.numel() != stored.numel():
        return True  # the merge refuses it
    types = (computed, live.dtype) if live.dtype in STORAGE else (live.dtype,)
    return torch.equal(_sample(live), _sample(stored.view(live.shape), *types))


def _sample(tensor: Tensor, *types: torch.dtype) -> Tensor:
    """The first and the last row, as a host keeps them that brings them to these types one after the other."""
    rows = tensor.detach().reshape(1, -1) if tensor.dim() < 2 else tensor.detach()
    ends = [end.flatten().to("cpu", copy=True) for end in (rows[:1], rows[-1:])]
    for dtype in types:
        ends = [end.to(dtype) for end in ends]
    return torch.cat([end.float() for end in ends])


@dataclass
class Count:
    """Tensors written since the start."""

    written: int = 0


count = Count()


# --- loaded models -----------------------------------------------------------------------------------------------


class Merged:
    """What is merged into one loaded model.

    Attributes:
        plan: what it holds now.
    """

    def __init__(self, model: Any) -> None:
        model = lasting(model)
        self.file = str(model.sd_checkpoint_info.filename)
        self.split = patchers(model) is not None or not isinstance(model, nn.Module)
        self.weights = Weights(model)
        self.pristine = Pristine(self._source(), self.weights)
        self.plan = merge_into(self.weights, Recipe(), {LOADED: self.pristine})
        self._touched: set[str] = set()
        self._samples: dict[str, Tensor] = {}

    @property
    def touched(self) -> bool:
        """Whether the model is, or may be, other than it was loaded."""
        return bool(self._touched)

    def current(self, model: Any) -> bool:
        """Whether this is still about what the model holds: the host may have loaded weights since, or dropped them.

        Then none of what was written is left.
        """
        if str(model.sd_checkpoint_info.filename) != self.file:
            return False
        if not self._samples:
            return self.touched or self._source() is self.pristine.source
        try:
            bases = [(self.weights.base(name), held) for name, held in self._samples.items()]
        except AttributeError:  # A1111 takes its own modules out of a model that it drops
            return False
        return any(not base.is_meta and torch.equal(_sample(base), held) for base, held in bases)

    def _source(self) -> Source | None:
        return opened(self.file, self.split) if _readable(self.file) else None

    @torch.inference_mode()  # a host may have loaded its weights in it
    def merge(self, recipe: Recipe) -> Plan:
        """Write a recipe, whose models are titles; raises PrismError for what cannot be merged, nothing written."""
        sources = {label: opened(str(find(label).filename), self.split) for label in recipe.models}
        plan = self.plan
        try:
            self.plan = merge_into(
                self.weights, recipe, {LOADED: self.pristine, **sources}, previous=plan, prepare=self._before_write
            )
        finally:
            self.weights.store()
        if self.plan is not plan:
            count.written += len(self.plan.changed)
            self._samples = self._sampled()
        return self.plan

    def restore(self) -> None:
        """Write back what the host has loaded, bit by bit."""
        self.merge(Recipe())
        self.plan.release()
        self._touched.clear()
        self._samples.clear()
        self.pristine.kept.clear()

    def _before_write(self, names: Iterable[str]) -> None:
        for name in names:
            self.weights.prepare(name)
            if name not in self._touched:
                self.pristine.keep(name)
                self._touched.add(name)

    def _sampled(self) -> dict[str, Tensor]:
        """Samples of tensors all over the model that are not as in the file."""
        names = sorted(self._touched)
        found: dict[str, Tensor] = {}
        for name in names[:: max(len(names) // CANDIDATES, 1)]:
            if len(found) == SAMPLES:
                break
            base, stored = self.weights.base(name), self.pristine.tensor(self.pristine.names[name])
            if not _alike(base, stored, self.weights.computed):
                found[name] = _sample(base)
        return found


def _readable(file: str) -> bool:
    """Whether a checkpoint is a file of the format that can be mapped."""
    return file.lower().endswith(".safetensors") and Path(file).is_file()


_merged: WeakKeyDictionary[Any, Merged] = WeakKeyDictionary()


def of(model: Any) -> Merged | None:
    """What is merged into a loaded model; None for one as it was loaded."""
    model = lasting(model)
    merged = None if model is None else _merged.get(model)
    if merged is not None and not merged.current(model):
        del _merged[model]
        return None
    return merged


def merge(model: Any, recipe: Recipe) -> Plan:
    """Have a recipe merged into a loaded model, and nothing else; raises PrismError, nothing written."""
    merged = of(model)
    if merged is None:
        merged = _merged[lasting(model)] = Merged(model)
    return merged.merge(recipe)


def restore(model: Any) -> None:
    """Have a loaded model as it was loaded, and let go of all files."""
    merged = of(model)
    if merged is None or (merged.plan.recipe == Recipe() and not merged.touched):
        return
    forget()
    try:
        merged.restore()
    except (PrismError, AttributeError) as error:  # a host may have given the weights away, or modules of its own
        del _merged[lasting(model)]
        log.warning("A merged model could not be restored: %s", error)


def restore_all(keep: Any = None) -> None:
    """Have every loaded model as it was loaded, but `keep`; an error is logged, and the next model follows."""
    kept = lasting(keep)
    for model in list(_merged):
        if model is not kept:
            try:
                restore(model)
            except Exception:
                log.exception("A merged model could not be restored")


def touches(model: Any, block: str) -> bool:
    """Whether a block (BASE, VAE) of a loaded model is other than it was loaded."""
    merged = of(model)
    if merged is None:
        return False
    wishes, homes = merged.plan.wishes, merged.plan.models[LOADED].layout.homes
    named = any(wish.groups and homes[name] == block for name, wish in wishes.by_name.items())
    wish = wishes.by_block.get(block)
    return named or (wish is not None and (bool(wish.groups) or wish.base != LOADED))


def identities(model: Any) -> tuple[object, ...]:
    """What tells the merged weights from others of the same recipe: the files that took part."""
    merged = of(model)
    return tuple(merged.plan.identities.values()) if merged else ()
