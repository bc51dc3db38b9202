"""Which tensors of which models meet at one name, and what happens to them there.

A `Wish` says it without tensors, so that two of them compare quickly; `Models` turns it into tensors and kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PrismError
from . import ldm_keys, modes
from .blocks import VAE, Layout
from .kernels import Scratch, Step, tiles
from .recipe import LOADED, MODES, Recipe, Term
from .sources import Source, identity_of, open_source

FIRST = ldm_keys.UNET + "input_blocks.0.0.weight"  # inpainting models take more channels here
V_PREDICTION = ("v_pred", "edm_vpred.sigma_max")
Shape = tuple[int, ...]
ALL = slice(None)


class Part(NamedTuple):
    """One term at one tensor; `term` is its place in the recipe."""

    model: str
    minus: str
    weight: float
    options: tuple[tuple[str, float], ...]
    term: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The models it takes."""
        return (self.model, self.minus) if self.minus else (self.model,)


class Group(NamedTuple):
    """One part, or several of a mode that are computed together."""

    mode: str
    parts: tuple[Part, ...]


class Wish(NamedTuple):
    """What a tensor should be: one of `base`, with `groups` done to it; as it was without any."""

    base: str = LOADED
    groups: tuple[Group, ...] = ()

    def uses(self, labels: Iterable[str]) -> bool:
        """Whether one of these models has a part in it."""
        return not {self.base, *self.labels}.isdisjoint(labels)

    @property
    def labels(self) -> Iterator[str]:
        """The models that are merged into the base."""
        return (label for group in self.groups for part in group.parts for label in part.labels)


PRISTINE = Wish()


@dataclass(frozen=True)
class Wishes:
    """What a recipe asks of every tensor: by block, and by name for those that differ from their block."""

    by_block: Mapping[str, Wish]
    by_name: Mapping[str, Wish]

    @classmethod
    def of(cls, recipe: Recipe, layout: Layout) -> Wishes:
        """Raises PrismError for blocks that the model lacks, and for terms that hold for some steps only."""
        if any(term.when is not None for term in recipe.terms):
            raise PrismError(f'"{recipe}" changes during the run; give one of the recipes that recipe.run(steps) makes')
        levels = [term.levels(layout) for term in recipe.terms]
        exceptions = [term.exceptions(layout) for term in recipe.terms]

        def wish(block: str, weights: Sequence[float | None]) -> Wish:
            return Wish(recipe.base, tuple(_groups(recipe.terms, weights, block)))

        by_block = {block: wish(block, [level[block] for level in levels]) for block in layout.blocks}
        by_name = {}
        for name in dict.fromkeys(name for found in exceptions for name in found):
            block = layout.homes[name]
            by_name[name] = wish(block, [found.get(name, level[block]) for found, level in zip(exceptions, levels)])
        return cls(by_block, by_name)

    def at(self, name: str, block: str) -> Wish:
        """The wish for a tensor of a block."""
        return self.by_name.get(name) or self.by_block.get(block, PRISTINE)


def _groups(terms: Sequence[Term], weights: Sequence[float | None], block: str) -> Iterator[Group]:
    """The terms that do something at these weights; neighbours are joined where the mode works on several models."""
    held: Group | None = None
    for i, (term, w) in enumerate(zip(terms, weights)):
        if w is None or _idle(term, w, block):
            continue
        options = tuple((name, term.option(name)) for name in MODES[term.mode].options)
        part = Part(term.model, term.minus, w, options, i)
        if held is not None and held.mode == term.mode and term.mode in modes.JOINED:
            held = Group(term.mode, (*held.parts, part))
            continue
        if held is not None:
            yield held
        held = Group(term.mode, (part,))
    if held is not None:
        yield held


def _idle(term: Term, w: float, block: str) -> bool:
    if block == VAE and term.mode.startswith("cosine"):
        return True
    kept_none = "keep" in MODES[term.mode].options and term.option("keep") == 0
    return term.mode in modes.RESTS_AT_ZERO and (w == 0 or kept_none)


class Piece(NamedTuple):
    """Columns of a tensor (the second axis; mostly all), what to start from, and the steps."""

    columns: slice
    base: Tensor
    steps: list[Step]

    def of(self, out: Tensor) -> Tensor:
        """The columns of a target."""
        return out if self.columns == ALL else out[:, self.columns]


class Model:
    """A source read by LDM names."""

    def __init__(self, source: Source, label: str) -> None:
        self.source, self.label = source, label
        try:
            self.layout = Layout.of({name: entry.shape for name, entry in source.entries.items()})
        except PrismError as error:
            raise PrismError(f'"{label}" ({source.label}) cannot be merged: {error}') from error

    def __contains__(self, name: str) -> bool:
        return name in self.layout.homes

    def shape(self, name: str) -> Shape:
        """Of the tensor as it is stored."""
        return self.source.entries[self.layout.names[name]].shape

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """In a shape that `fits`; a view."""
        found = self.source.tensor(self.layout.names[name])
        if found.shape == shape:
            return found
        return found[:, : shape[1]] if name == FIRST else found.view(shape)

    @cached_property
    def predicts_v(self) -> bool:
        """Whether the file is marked as a v-prediction model."""
        return any(name in self.source.entries for name in V_PREDICTION)


def fits(name: str, theirs: Shape, ours: Shape) -> bool:
    """Whether a tensor may be merged: equal, 1x1 convolution against linear, or other channels of the first layer."""
    if name == FIRST and len(theirs) == len(ours) == 4:
        return theirs[0] == ours[0] and theirs[2:] == ours[2:]
    return theirs == ours or _bare(theirs) == _bare(ours)


def _bare(shape: Shape) -> Shape:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


class Models:
    """The models of a recipe, opened once, and what was learned about their tensors.

    `known` keeps statistics over whole tensors: small ones, one entry per tensor, mode and pair of models.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[tuple[object, ...], Model]] = {}
        self.known: dict[tuple[object, ...], Any] = {}
        self.scratch = Scratch()

    def take(self, given: Mapping[str, Any], labels: Iterable[str]) -> dict[str, tuple[object, ...]]:
        """Open what is not open yet, and again what was replaced; returns the identity of each model.

        Raises PrismError for a model that is missing, cannot be read, or is of another family than the first.
        """
        identities = {}
        for label in labels:
            if label not in given:
                named = ", ".join(f'"{name}"' for name in given) or "none"
                raise PrismError(
                    f'There is no model "{label}" among the sources ({named}); add it, or correct the recipe'
                )
            found = identities[label] = identity_of(given[label])
            if label not in self._open or self._open[label][0] != found:
                self._open[label] = found, Model(open_source(given[label], f"the tensors of {label}"), label)
        first = self[next(iter(identities))]
        for label in identities:
            if (theirs := self[label].layout).family != first.layout.family:
                raise PrismError(
                    f'"{label}" is {theirs.title}, but "{first.label}" is {first.layout.title}; '
                    "only models of one architecture can be merged"
                )
        return identities

    def __getitem__(self, label: str) -> Model:
        return self._open[label][1]

    def release(self) -> None:
        """Let go of the files, which Windows keeps from being deleted while they are mapped."""
        for _, model in self._open.values():
            if callable(release := getattr(model.source, "release", None)):
                release()

    def notes(self, labels: Iterable[str]) -> tuple[str, ...]:
        """What a user should know of models that can be merged, but differ."""
        first, *others = [self[label] for label in labels]
        notes = []
        for other in others:
            lacking = [name for name in first.layout.homes if name not in other]
            if lacking:
                notes.append(f'"{other.label}" lacks {len(lacking)} tensors, {lacking[0]} first; they stay as they are')
            if other.predicts_v != first.predicts_v:
                kinds = {True: "predicts v", False: "has no mark of v-prediction"}
                notes.append(f'"{other.label}" {kinds[other.predicts_v]}, "{first.label}" {kinds[first.predicts_v]}')
        return tuple(notes)

    def mismatches(self, name: str, wish: Wish, shape: Shape) -> Iterator[str]:
        """What does not fit at this tensor, as texts."""
        for label in dict.fromkeys((LOADED, wish.base, *wish.labels)):
            if label not in self._open or name not in self[label]:
                continue
            theirs = self[label].shape(name)
            if not fits(name, theirs, shape) or (label == LOADED and name == FIRST and theirs != shape):
                sizes = (" x ".join(map(str, one)) for one in (theirs, shape))
                yield f'{name} is {next(sizes)} in "{label}", {next(sizes)} in the model'

    def pieces(self, name: str, wish: Wish, shape: Shape) -> list[Piece]:
        """What makes up a tensor of this shape, whose wish has no mismatches.

        What the terms of a model that has no such tensor would change, stays as it is.
        """
        base = self[wish.base] if name in self[wish.base] else self[LOADED]
        groups = [Group(mode, tuple(part for part in parts if self._has(part, name))) for mode, parts in wish.groups]
        groups = [group for group in groups if group.parts]
        used = [base, *(self[label] for _, parts in groups for part in parts for label in part.labels)]
        if name == FIRST and (width := min(model.shape(name)[1] for model in used)) < shape[1]:
            rest = self[LOADED] if base.shape(name)[1] < shape[1] else base
            common, others = slice(0, width), slice(width, None)
            extra = Piece(others, rest.tensor(name, shape)[:, others], [])
            return [self._piece(common, name, base, groups, (shape[0], width, *shape[2:])), extra]
        return [self._piece(ALL, name, base, groups, shape)]

    def _has(self, part: Part, name: str) -> bool:
        return all(name in self[label] for label in part.labels)

    def _piece(self, columns: slice, name: str, base: Model, groups: Sequence[Group], shape: Shape) -> Piece:
        """A weight of 1 that leaves nothing of A starts from B."""
        steps: list[Step] = []
        start = base
        for group in groups:
            if group.mode in modes.IS_B_AT_ONE and [part.weight for part in group.parts] == [1]:
                start, steps = self[group.parts[0].model], []
            else:
                steps.append(self._step(name, base, start, steps, group, shape))
        return Piece(columns, start.tensor(name, shape), steps)

    def _step(self, name: str, base: Model, start: Model, before: Sequence[Step], group: Group, shape: Shape) -> Step:
        (mode, parts), part = group, group.parts[0]
        others = [self[part.model].tensor(name, shape) for part in parts]
        if MODES[mode].minus != "no":
            minus = [self[part.minus] if part.minus else base for part in parts]
            others = [one for b, model in zip(others, minus) for one in (b, model.tensor(name, shape))]
        options: dict[str, Any] = dict(part.options)
        stat: Any = None
        if mode == "dare":
            options["key"] = modes.dare_key(options["seed"], part.term, name)
        elif mode == "ties":
            stat = tuple(self._threshold(name, base, one, *others[2 * i : 2 * i + 2]) for i, one in enumerate(parts))
        elif mode == "slerp":
            stat = self._products(name, start, before, part.model, shape)
        elif mode.startswith("cosine"):
            found = self._similarity(mode, base, self[part.model]).of(name)
            stat = found[: shape[1]] if name == FIRST else found.view(shape[1:])
        w = tuple(part.weight for part in parts)
        chain = modes.chain(w) if mode == "sum" else ()
        return Step(modes.KERNELS[mode], w, tuple(others), stat, options, chain)

    def _remember(self, key: tuple[object, ...], labels: Sequence[str], compute: Callable[[], Any]) -> Any:
        key = (*key, *(self._open[label][0] for label in labels))
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def _threshold(self, name: str, base: Model, part: Part, b: Tensor, c: Tensor) -> float:
        keep = dict(part.options)["keep"]
        key = ("ties", name, keep, tuple(b.shape))
        return self._remember(key, (part.model, part.minus or base.label), lambda: modes.threshold(b, c, keep))

    def _products(self, name: str, start: Model, before: Sequence[Step], label: str, shape: Shape) -> Any:
        """For slerp; remembered where it starts from a model, computed anew where terms stand before it."""
        a, b = (model.tensor(name, shape or (1,)) for model in (start, self[label]))

        def compute() -> tuple[float, float, float]:
            running = tiles(a, before, 0, len(a), torch.float32, self.scratch)
            return modes.products((tile.x, b[tile.start : tile.stop]) for tile in running)

        return compute() if before else self._remember(("slerp", name, shape), (start.label, label), compute)

    def _similarity(self, mode: str, a: Model, b: Model) -> modes.Similarity:
        def pairs() -> Iterator[tuple[str, Tensor, Tensor]]:
            for name, block in a.layout.homes.items():
                if block != VAE and name in b and fits(name, b.shape(name), a.shape(name)):
                    shape = a.shape(name)
                    if name == FIRST:
                        shape = (shape[0], min(shape[1], b.shape(name)[1]), *shape[2:])
                    yield name, a.tensor(name, shape), b.tensor(name, shape)

        unit = mode == "cosine_a"
        return self._remember((mode,), (a.label, b.label), lambda: modes.Similarity(pairs(), unit=unit))
