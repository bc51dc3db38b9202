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
from .kernels import Scratch, Step, as_rows, tiles
from .recipe import LOADED, MODES, Recipe, Term
from .sources import Source, identity_of, open_source

FIRST = ldm_keys.UNET + "input_blocks.0.0.weight"  # inpainting models take more channels here
V_PREDICTION = ("v_pred", "edm_vpred.sigma_max")
Shape = tuple[int, ...]
ALL = slice(None)
KEPT = 8  # models that stay open, and kins of wishes whose tensors are remembered


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


@dataclass(frozen=True)
class Wish:
    """What a tensor should be: one of `base`, with `groups` done to it; as it was without any."""

    base: str = LOADED
    groups: tuple[Group, ...] = ()

    @cached_property
    def kin(self) -> tuple[object, ...]:
        """Equal for wishes that differ in their numbers alone."""
        return self.base, tuple((group.mode, tuple(part.labels for part in group.parts)) for group in self.groups)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The models that take part, the base first."""
        merged = (label for group in self.groups for part in group.parts for label in part.labels)
        return tuple(dict.fromkeys((self.base, *merged)))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps as far as they are the same at all tensors."""
        return tuple(_step(group) for group in self.groups)


PRISTINE = Wish()
NOTHING = Step(modes.weighted_sum, (), ())


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

        made: dict[tuple[object, ...], Wish] = {}

        def wish(block: str, weights: Sequence[float | None]) -> Wish:
            key = (block == VAE, *weights)
            if key not in made:
                made[key] = Wish(recipe.base, tuple(_groups(recipe.terms, weights, block)))
            return made[key]

        by_block = {block: wish(block, [level[block] for level in levels]) for block in layout.blocks}
        by_name = {}
        for name in dict.fromkeys(name for found in exceptions for name in found):
            block = layout.homes[name]
            by_name[name] = wish(block, [found.get(name, level[block]) for found, level in zip(exceptions, levels)])
        return cls(by_block, by_name)

    def __bool__(self) -> bool:
        """Whether any tensor shall be other than that of the loaded model."""
        return any(wish.groups or wish.base != LOADED for wish in (*self.by_block.values(), *self.by_name.values()))

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


def _step(group: Group) -> Step:
    w = tuple(part.weight for part in group.parts)
    chain = modes.chain(w) if group.mode == "sum" else ()
    return Step(modes.KERNELS[group.mode], w, (), None, dict(group.parts[0].options), chain)


class Piece(NamedTuple):
    """Columns of a tensor (the second axis; mostly all), what to start from, and the steps."""

    columns: slice
    base: Tensor
    steps: list[Step]

    def of(self, out: Tensor) -> Tensor:
        """The columns of a target."""
        return out if self.columns is ALL else out[:, self.columns]


class Meeting(NamedTuple):
    """The tensors that meet at one name, for all wishes of one kin.

    Attributes:
        shape: of the target.
        problems: what does not fit, as texts; with any, the rest is empty.
        base: the model to start from.
        columns: those that all models have; `rest` is for the others.
        whole: whether each group's models all have such a tensor.
        present: for each group, the places of the parts whose models have it.
        others: for each group, the tensors of those parts in a shape that fits.
    """

    shape: Shape
    problems: list[str]
    base: Model
    columns: slice = ALL
    rest: Piece | None = None
    whole: bool = True
    present: Sequence[Sequence[int]] = ()
    others: Sequence[tuple[Tensor, ...]] = ()


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
        self._meetings: dict[tuple[object, ...], dict[str, Meeting]] = {}
        self.known: dict[tuple[object, ...], Any] = {}
        self.scratch = Scratch()

    def take(self, given: Mapping[str, Any], labels: Sequence[str]) -> dict[str, tuple[object, ...]]:
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
            identities[label] = self._identity(label, given[label])
        for label, found in identities.items():
            if label in self._open and self._open[label][0] != found:
                self._forget(label)
            if label not in self._open:
                self._open[label] = found, Model(open_source(given[label], f"the tensors of {label}"), label)
        for label in [label for label in self._open if label not in identities][: max(len(self._open) - KEPT, 0)]:
            self._forget(label)
        self._of_one_family(labels)
        return identities

    def _identity(self, label: str, given: Any) -> tuple[object, ...]:
        """That of what is given; a file that was deleted while it is mapped can still be read."""
        try:
            return identity_of(given)
        except PrismError:
            held = self._open.get(label)
            if held is None or held[0][0] != str(given) or not getattr(held[1].source, "mapped", False):
                raise
            return held[0]

    def _forget(self, label: str) -> None:
        identity, _ = self._open.pop(label)
        self._meetings.clear()
        self.known = {key: value for key, value in self.known.items() if identity not in key}

    def _of_one_family(self, labels: Sequence[str]) -> None:
        first = self[labels[0]]
        for label in labels:
            if (theirs := self[label].layout).family != first.layout.family:
                raise PrismError(
                    f'"{label}" is {theirs.title}, but "{first.label}" is {first.layout.title}; '
                    "only models of one architecture can be merged"
                )

    def __getitem__(self, label: str) -> Model:
        return self._open[label][1]

    def release(self) -> None:
        """Let go of the files, which Windows keeps from being deleted while they are mapped."""
        self._meetings.clear()
        for _, model in self._open.values():
            if callable(release := getattr(model.source, "release", None)):
                release()

    def notes(self, labels: Sequence[str]) -> tuple[str, ...]:
        """What a user should know of models that can be merged, but differ."""
        return tuple(note for label in labels[1:] for note in self._notes(labels[0], label))

    def _notes(self, ours: str, theirs: str) -> list[str]:
        def compute() -> list[str]:
            one, other, notes = self[ours], self[theirs], []
            lacking = [name for name in one.layout.homes if name not in other]
            if lacking:
                notes.append(f'"{theirs}" lacks {len(lacking)} tensors, {lacking[0]} first; they stay as they are')
            if other.predicts_v != one.predicts_v:
                kinds = {True: "is marked as predicting v", False: "is not"}
                notes.append(f'"{theirs}" {kinds[other.predicts_v]}, "{ours}" {kinds[one.predicts_v]}')
            return notes

        return self._remember(("notes",), (ours, theirs), compute)

    def meet(self, name: str, wish: Wish, shape: Shape) -> Meeting:
        """The tensors that a wish for a target of this shape needs."""
        kin = self._meetings.get(wish.kin)
        if kin is None:
            if len(self._meetings) >= KEPT:
                self._meetings.clear()
            kin = self._meetings[wish.kin] = {}
        found = kin.get(name)
        if found is None or found.shape != shape:
            found = kin[name] = self._meet(name, wish, shape)
        return found

    def _meet(self, name: str, wish: Wish, shape: Shape) -> Meeting:
        base = self[wish.base] if name in self[wish.base] else self[LOADED]
        present = [
            [i for i, part in enumerate(group.parts) if all(name in self[label] for label in part.labels)]
            for group in wish.groups
        ]
        parts = [[group.parts[i] for i in places] for group, places in zip(wish.groups, present)]
        used = [base, *(self[label] for some in parts for part in some for label in part.labels)]
        if problems := self._problems(name, shape, used):
            return Meeting(shape, problems, base)
        columns, rest, common = ALL, None, shape
        if name == FIRST and (width := min(model.shape(name)[1] for model in used)) < shape[1]:
            columns, common = slice(0, width), (shape[0], width, *shape[2:])
            wide = base if base.shape(name) == shape else self[LOADED]
            rest = Piece(slice(width, None), wide.tensor(name, shape)[:, width:], [])
        others = [self._others(name, group.mode, base, some, common) for group, some in zip(wish.groups, parts)]
        whole = all(len(places) == len(group.parts) for places, group in zip(present, wish.groups))
        return Meeting(shape, [], base, columns, rest, whole, present, others)

    def _problems(self, name: str, shape: Shape, used: Iterable[Model]) -> list[str]:
        """What does not fit; the first layer of the loaded model must be the live one's, the others' may be wider."""
        loaded = [self[LOADED]] if LOADED in self._open and name in self[LOADED] else []
        wrong = []
        for model in dict.fromkeys((*loaded, *used)):
            theirs = model.shape(name)
            if not fits(name, theirs, shape) or (model in loaded and name == FIRST and theirs != shape):
                sizes = [" x ".join(map(str, one)) for one in (theirs, shape)]
                wrong.append(f'{name} is {sizes[0]} in "{model.label}", {sizes[1]} in the model')
        return wrong

    def _others(self, name: str, mode: str, base: Model, parts: Iterable[Part], shape: Shape) -> tuple[Tensor, ...]:
        """B of each part, followed by its C in the modes that take a difference."""
        models: list[Model] = []
        for part in parts:
            models.append(self[part.model])
            if MODES[mode].minus != "no":
                models.append(self[part.minus] if part.minus else base)
        return tuple(model.tensor(name, shape) for model in models)

    def pieces(self, name: str, wish: Wish, met: Meeting) -> list[Piece]:
        """What makes up a tensor; what the terms of a model without such a tensor would change, stays as it is."""
        groups, made = (wish.groups, wish.steps) if met.whole else self._present(wish, met)
        start = met.base
        steps: list[Step] = []
        for group, step, others in zip(groups, made, met.others):
            if step.w == (1.0,) and group.mode in modes.IS_B_AT_ONE:
                start, steps = self[group.parts[0].model], []
            elif step.w:
                kernel, w, _, _, options, chain = step
                stat = None
                if group.mode in modes.PER_TENSOR:
                    stat, options = self._stat(name, met.base, start, steps, group, others)
                steps.append(Step(kernel, w, others, stat, options, chain))
        if met.rest is None:
            return [Piece(ALL, start.tensor(name, met.shape), steps)]
        width = (met.shape[0], met.columns.stop, *met.shape[2:])
        return [Piece(met.columns, start.tensor(name, width), steps), met.rest]

    def _present(self, wish: Wish, met: Meeting) -> tuple[list[Group], list[Step]]:
        """The groups without the parts that have no such tensor; empty ones have no weights."""
        groups = [Group(mode, tuple(parts[i] for i in at)) for (mode, parts), at in zip(wish.groups, met.present)]
        return groups, [_step(group) if group.parts else NOTHING for group in groups]

    def _stat(
        self, name: str, base: Model, start: Model, before: list[Step], group: Group, others: tuple[Tensor, ...]
    ) -> tuple[Any, dict[str, Any]]:
        """What a mode must know of this tensor, and its options."""
        (mode, parts), part = group, group.parts[0]
        options: dict[str, Any] = dict(part.options)
        if mode == "dare":
            return None, {**options, "key": modes.dare_key(options["seed"], part.term, name)}
        if mode == "ties":
            pairs = zip(parts, others[::2], others[1::2])
            return tuple(self._threshold(name, base, one, b, c) for one, b, c in pairs), options
        if mode == "slerp":
            return self._products(name, start, before, part.model, others[0]), options
        found, shape = self._similarity(mode, base, self[part.model]).of(name), others[0].shape[1:]
        return found[: shape[0]] if name == FIRST else found.view(shape), options

    def _remember(self, key: tuple[object, ...], labels: Sequence[str], compute: Callable[[], Any]) -> Any:
        key = (*key, *(self._open[label][0] for label in labels))
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def _threshold(self, name: str, base: Model, part: Part, b: Tensor, c: Tensor) -> float:
        keep = dict(part.options)["keep"]
        key = ("ties", name, keep, tuple(b.shape))
        return self._remember(key, (part.model, part.minus or base.label), lambda: modes.threshold(b, c, keep))

    def _products(self, name: str, start: Model, before: Sequence[Step], label: str, b: Tensor) -> Any:
        """For slerp; remembered where it starts from a model, computed anew where terms stand before it."""
        a = start.tensor(name, tuple(b.shape))

        def compute() -> tuple[float, float, float]:
            whole, steps = (a, before) if b.dim() else as_rows(a, before)
            running = tiles(whole, steps, 0, len(whole), torch.float32, self.scratch)
            return modes.products((tile.x, b[tile.start : tile.stop] if b.dim() else b) for tile in running)

        return compute() if before else self._remember(("slerp", name, tuple(b.shape)), (start.label, label), compute)

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
