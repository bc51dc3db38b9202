"""What to merge, as a value: a base and ordered terms. It prints as one line, which reads back. No torch here.

    neon.safetensors:0.5                              half of neon in every block
    neon:GRAD_V:IN04=0.3,M00=1                        a preset, and two blocks of their own
    neon:0.5:BASE=0,/attn2=1,IN00-IN05/norm=0:step=5-20
    "a+b":0.3 + "anime"-"base":0.6:add                more terms; a difference of two models
    flat.safetensors + neon.safetensors:0.5           a base of its own, instead of the loaded model

A term is MODEL:WEIGHT[:BLOCK=w,BLOCK=w][:option=value]...; see `Recipe.parse` for quoting.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ..errors import OutOfRange, PrismError, UnknownName
from ..schedule import Curve
from . import presets
from .blocks import BASE, VAE, Layout
from .select import Selector

LOADED = "A"  # the base where a recipe names none: the model that the host has loaded
LIMIT = 10.0
FEWEST = 3  # weights of a list; two are rather a number with a decimal comma
NEAREST = 5  # models that an error names
DIGITS = 9  # of a weight that is computed, so that 0.1 * 3 is 0.3
CLASSIC = tuple([f"IN{i:02d}" for i in range(12)] + ["M00"] + [f"OUT{i:02d}" for i in range(12)])
Weight = float | str | tuple[float, ...]


@dataclass(frozen=True)
class Mode:
    """How a term changes the weights.

    Attributes:
        minus: whether the term needs a third model, "no", "yes" or "may".
        options: name -> default, lowest, highest.
    """

    name: str
    title: str
    minus: str = "no"
    options: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


SEED = {"seed": (0.0, 0.0, 2.0**53)}
BETA = (0.0, 0.0, 1.0)
MODES: Mapping[str, Mode] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            Mode("sum", "Weighted sum", aliases=("weighted_sum", "weight_sum", "normal")),
            Mode("add", "Add difference", "yes", aliases=("add_difference",)),
            Mode("train", "Train difference", "yes", aliases=("train_difference", "traindifference")),
            Mode("smooth", "Smooth add", "yes", aliases=("smooth_add", "smoothadd")),
            Mode("cosine_a", "Cosine A", aliases=("cosinea",)),
            Mode("cosine_b", "Cosine B", aliases=("cosineb",)),
            Mode("slerp", "Spherical"),
            Mode("swap", "Tensor swap", options={"beta": BETA}, aliases=("tensor", "tensor_swap")),
            Mode("dare", "DARE", "may", {"keep": (0.5, 0.0, 1.0), **SEED}),
            Mode("ties", "TIES", "may", {"keep": (0.2, 0.0, 1.0)}),
            Mode("extract", "Extract", "yes", {"beta": BETA, "gamma": (1.0, 0.0, 10.0)}),
        )
    }
)


@dataclass(frozen=True)
class Steps:
    """The steps at which a term holds: from `start` up to, not with, `stop`, counted from 0; None is the run's end.

    With `fraction` both are parts of the run, 0.0 its first step and 1.0 behind its last.
    """

    start: float = 0
    stop: float | None = None
    fraction: bool = False

    def __post_init__(self) -> None:
        for name, given in (("start", self.start), ("stop", self.stop)):
            if given is not None and not 0 <= given <= (1 if self.fraction else 10_000):
                raise OutOfRange(name, given, 0, 1 if self.fraction else 10_000, "step=start-stop")
            if given is not None and not self.fraction and given != int(given):
                raise PrismError(f"{name} is {given:g}, which is no step; for a part of the run set fraction")
        if self.stop is not None and self.start >= self.stop:
            raise PrismError(f"step={self} ends before it starts; exchange the two numbers")

    def strength(self, step: int, steps: int) -> float:
        """1 where the term holds at `step` of `steps`, else 0."""
        at = step / max(steps, 1) if self.fraction else step
        return float(self.start <= at and (self.stop is None or at < self.stop))

    def __str__(self) -> str:
        return f"{self._number(self.start)}-{'' if self.stop is None else self._number(self.stop)}"

    def _number(self, value: float) -> str:
        return repr(float(value)) if self.fraction else str(int(value))


@dataclass(frozen=True)
class Term:
    """One model's part in a merge.

    Attributes:
        model: the name of its file, as the sources know it.
        weight: a number for every tensor, a preset's name, or a list for the blocks that presets run over, first to
            last; a list one longer begins with BASE. Blocks that a preset or list does not name follow: TIME_EMBED and
            LABEL_EMB the first block, OUT the last one, VAE the BASE, which itself is 0.
        scale: factor of a preset's or list's weights.
        rules: selectors with their own weights, see `Selector`; names win over blocks, later rules over earlier ones.
        mode: a key of `MODES`.
        minus: the model that is subtracted, for the modes with a difference.
        include, exclude: selectors; what is not included, or excluded, stays as it is.
        when: the steps at which the term holds, or its strength over the run; None is always.
        options: the mode's own numbers, where they are not the usual ones.
    """

    model: str
    weight: Weight = 0.0
    rules: tuple[tuple[Selector, float], ...] = ()
    mode: str = "sum"
    minus: str = ""
    scale: float = 1.0
    include: tuple[Selector, ...] = ()
    exclude: tuple[Selector, ...] = ()
    when: Steps | Curve | None = None
    options: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.model:
            raise PrismError("A term needs a model; write MODEL:WEIGHT, such as neon:0.5")
        mode = MODES[find_mode(self.mode)]
        if self.minus and mode.minus == "no":
            raise PrismError(f'The mode "{mode.name}" subtracts no model; leave "{self.minus}" away, or use add')
        weight, scale = _weight(self.weight), number("scale", self.scale)
        if isinstance(weight, float):
            weight, scale = number("weight", weight * scale), 1.0
        rules = {selector: number(f"weight of {selector}", value) for selector, value in self.rules}
        for name, value in {
            "mode": mode.name,
            "weight": weight,
            "scale": scale,
            "rules": tuple(rules.items()),
            "options": _options(mode, self.options),
        }.items():
            object.__setattr__(self, name, value)

    def option(self, name: str) -> float:
        """A number of the mode's own."""
        return dict(self.options).get(name, MODES[self.mode].options[name][0])

    def levels(self, layout: Layout) -> dict[str, float]:
        """The weight of each block of a model, from `weight` and the rules about whole blocks."""
        weight = self.weight
        levels = dict.fromkeys(layout.blocks, weight) if isinstance(weight, float) else self._spread(weight, layout)
        for selector, weight in self.rules:
            if not selector.piece:
                levels.update(dict.fromkeys(selector.blocks(layout), weight))
        return levels

    def exceptions(self, layout: Layout) -> dict[str, float | None]:
        """LDM names of tensors that do not follow their block: with a weight of their own, or None for untouched."""
        found: dict[str, float | None] = {}
        for selector, weight in self.rules:
            if selector.piece:
                found.update(dict.fromkeys(_picked(selector, layout), weight))
        if self.include:
            kept = {name for selector in self.include for name in _picked(selector, layout)}
            found.update(dict.fromkeys((name for name in layout.homes if name not in kept), None))
        for selector in self.exclude:
            found.update(dict.fromkeys(_picked(selector, layout), None))
        return found

    def weights(self, layout: Layout) -> dict[str, float]:
        """LDM name -> weight, of the tensors that the term touches."""
        levels, exceptions = self.levels(layout), self.exceptions(layout)
        weights = {name: exceptions.get(name, levels[block]) for name, block in layout.homes.items()}
        return {name: weight for name, weight in weights.items() if weight is not None}

    def strength(self, step: int, steps: int) -> float:
        """The factor of all weights at `step` of `steps`; a curve begins at the first and ends at the last of them."""
        if isinstance(self.when, Curve):
            return self.when(step / max(steps - 1, 1))
        return self.when.strength(step, steps) if self.when else 1.0

    def at(self, strength: float) -> Term:
        """The same all through the run, its weights times `strength`."""
        if strength == 1:
            return replace(self, when=None)
        if isinstance(self.weight, float):
            changed = replace(self, weight=round(self.weight * strength, DIGITS), when=None)
        else:
            changed = replace(self, scale=round(self.scale * strength, DIGITS), when=None)
        return replace(changed, rules=tuple((one, round(weight * strength, DIGITS)) for one, weight in self.rules))

    def _spread(self, weight: str | tuple[float, ...], layout: Layout) -> dict[str, float]:
        spine = layout.spine
        if isinstance(weight, str):
            preset = presets.PRESETS[weight]
            levels = {BASE: preset.base, **dict(zip(spine, preset.weights(len(spine))))}
        else:
            levels = dict(zip(_labels(len(weight), layout), weight))
        ends = {BASE: 0.0, VAE: levels.get(BASE, 0.0), "OUT": levels[spine[-1]] if spine else 0.0}
        first = levels[spine[0]] if spine else 0.0
        return {block: levels.get(block, ends.get(block, first)) * self.scale for block in layout.blocks}


@dataclass(frozen=True)
class Recipe:
    """A base and what is merged into it, term after term; sums that stand together add up: A + w1 (B - A) + w2 (C - A).

    `base` is the loaded model ("A") where nothing else is said.
    """

    terms: tuple[Term, ...] = ()
    base: str = LOADED

    def __post_init__(self) -> None:
        if self.base != LOADED and not self.terms:
            raise PrismError(f'"{self.base}" has nothing to be merged with; add a term, such as "{self.base} + B:0.5"')

    @classmethod
    def parse(cls, text: str, lists: Mapping[str, tuple[float, ...]] = MappingProxyType({})) -> Recipe:
        """Read the one-line form; empty text is the empty recipe.

        Terms are joined by " + ", with blanks around the sign. A name with ":" or " + " in it, or one of a pair
        ("B"-"C"), stands in double quotes, a quote in it doubled; the colon of a drive (C:\\models\\b) needs none.

        Args:
            lists: the user's own presets by name; their weights become part of the recipe.

        Raises PrismError that says where.
        """
        from .grammar import parse

        return parse(text, lists)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_json`; raises PrismError that names the entry."""
        from .codec import load

        return load(data)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is as usual is left out."""
        from .codec import dump

        return dump(self)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all files, the base first unless it is the loaded model."""
        used = [name for term in self.terms for name in (term.model, term.minus) if name]
        return tuple(dict.fromkeys(([] if self.base == LOADED else [self.base]) + used))

    def resolve(self, known: Iterable[str]) -> Recipe:
        """The models as `known` writes them, in whatever case; `B-C` is two models where none has the whole name.

        Raises UnknownName for a missing model.
        """
        names = Names(known)
        base = LOADED if self.base == LOADED else names[self.base]
        return replace(self, base=base, terms=tuple(_resolved(term, names) for term in self.terms))

    def run(self, steps: int, states: int = 8) -> tuple[Recipe, ...]:
        """What holds at each of `steps` steps: recipes without `when`, at most `states` (2 or more) different ones.

        The first and the last are exact; where the curves ask for more states, steps share the nearest one.
        """
        exact = [tuple(term.strength(step, steps) for term in self.terms) for step in range(steps)]
        kinds = list(dict.fromkeys(exact))
        if len(kinds) > states:
            if exact[-1] != exact[0]:
                kinds.append(kinds.pop(kinds.index(exact[-1])))
            whole, parts = len(kinds) - 1, states - 1
            near = {kind: kinds[round(round(i * parts / whole) * whole / parts)] for i, kind in enumerate(kinds)}
            exact = [near[kind] for kind in exact]
        made = {kind: self._at(kind) for kind in dict.fromkeys(exact)}
        return tuple(made[kind] for kind in exact)

    def _at(self, strengths: tuple[float, ...]) -> Recipe:
        terms = tuple(term.at(strength) for term, strength in zip(self.terms, strengths) if strength)
        if not terms and self.base != LOADED:
            terms = (Term(self.terms[0].model),)
        return Recipe(terms, self.base)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        from .grammar import written

        return written(self)


def find_mode(given: str) -> str:
    """A mode's name from any spelling; raises UnknownName."""
    name = given.strip().lower().replace(" ", "_").replace("-", "_")
    for mode in MODES.values():
        if name == mode.name or name in mode.aliases or name == mode.title.lower().replace(" ", "_"):
            return mode.name
    raise UnknownName("merge mode", given, MODES)


def number(what: str, given: Any) -> float:
    """A weight; raises PrismError for what is no number, OutOfRange beyond +-10."""
    value = _finite(what, given)
    if abs(value) > LIMIT:
        raise OutOfRange(what, value, -LIMIT, LIMIT, "block merge")
    return value + 0.0  # -0.0 and 0.0 are one weight


def _finite(what: str, given: Any) -> float:
    try:
        if isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given):
            return float(given)
    except OverflowError:  # a whole number of hundreds of digits
        pass
    shown = json.dumps(given, ensure_ascii=False, default=str)
    raise PrismError(f"{what} is {shown[:80]}; expected a number, such as 0.5")


def _weight(given: Weight) -> Weight:
    if isinstance(given, str):
        name = presets.find(given)
        if name is None:
            raise UnknownName("preset", given, presets.PRESETS)
        return name
    if isinstance(given, tuple):
        if len(given) < FEWEST:
            raise PrismError(f"a list of {len(given)} weights fits no model; write one weight for each block")
        return tuple(number(f"weight {i + 1} of the list", one) for i, one in enumerate(given))
    return number("weight", given)


def _options(mode: Mode, given: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Sorted, without the usual ones."""
    options = {}
    for name, value in given:
        if name not in mode.options:
            raise UnknownName(f'option of the mode "{mode.name}"', name, mode.options)
        usual, low, high = mode.options[name]
        value = _finite(name, value)
        if not low <= value <= high:
            raise OutOfRange(name, value, low, high, f"mode {mode.name}")
        if value != usual:
            options[name] = value
    return tuple(sorted(options.items()))


def fits(count: int, layout: Layout) -> bool:
    """Whether a list of `count` weights is made for a model with as many blocks."""
    return count - len(layout.spine) in (0, 1, 2)


def _labels(count: int, layout: Layout) -> tuple[str, ...]:
    """The blocks that a list of `count` weights is for.

    Lists of 25, 26 or 27 serve SDXL without IN09-11 and OUT09-11, as in supermerger.
    """
    spine = layout.spine
    if len(spine) == presets.SDXL and presets.SD <= count <= presets.SD + 2:
        spine = CLASSIC
    if count == len(spine):
        return spine
    if count == len(spine) + 1:
        return (BASE, *spine)
    if count == len(spine) + 2:  # supermerger's form for SDXL, runtime-block-merge's for SD 1
        return (BASE, *spine, VAE) if len(spine) == presets.SDXL else (*spine, "TIME_EMBED", "OUT")
    size = len(layout.spine)
    raise PrismError(
        f"a list of {count} weights does not fit {layout.title}; expected {size} for its blocks from IN00 on, "
        f"or {size + 1} with BASE first"
    )


def _picked(selector: Selector, layout: Layout) -> Iterator[str]:
    blocks = set(selector.blocks(layout))
    return (name for name, block in layout.homes.items() if block in blocks and selector.matches(name))


class Names:
    """The names of models, found in any case where only one is written so."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = list(dict.fromkeys(known))
        self._folded: dict[str, set[str]] = {}
        for name in self.known:
            if name != LOADED:
                self._folded.setdefault(name.casefold(), set()).add(name)

    def find(self, given: str) -> str | None:
        """The name as it is known."""
        alike = {given} if given in self.known else self._folded.get(given.casefold(), set())
        return next(iter(alike)) if len(alike) == 1 else None

    def __getitem__(self, given: str) -> str:
        found = self.find(given)
        if found is None:
            raise unknown_model(given, self.known)
        return found


def unknown_model(given: str, known: Iterable[str]) -> UnknownName:
    """With a few of the nearest names: there may be hundreds."""
    return UnknownName("model", given, (name for name in known if name != LOADED), most=NEAREST)


def _resolved(term: Term, names: Names) -> Term:
    wants = MODES[term.mode].minus
    if wants != "no" and not term.minus and names.find(term.model) is None:
        for dash in re.finditer("-", term.model):
            sides = [names.find(side.strip()) for side in (term.model[: dash.start()], term.model[dash.end() :])]
            if sides[0] and sides[1]:
                return replace(term, model=sides[0], minus=sides[1])
    found = replace(term, model=names[term.model], minus=term.minus and names[term.minus])
    if wants == "yes" and not term.minus:
        written = Recipe((replace(found, minus="C"),))
        raise PrismError(f'The mode "{term.mode}" needs a model to subtract: choose model C, or write {written}')
    return found
