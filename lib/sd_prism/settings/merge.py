"""The settings of "Prism Block Merge". New fields go to the end: their order is the order of the script's arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..errors import PrismError, UnknownName, decimal
from ..merge import others, presets
from ..merge.grammar import lone, when_of, when_text
from ..merge.recipe import MODES, Recipe, Term, Weight, find_mode, number
from ..merge.select import Selector
from ..schedule import short
from .base import Field, Panel, Value

FLAT = "Flat"
OFF = "off"
"""In the place of a recipe: the loaded model as it is."""
OFF_WORDS = (OFF, "0", "none")
WEIGHTS = ("ratio", "preset", "weights", "blocks", "te", "vae")
"""The settings that say how much of model B each block gets."""
OPTIONS = tuple(dict.fromkeys(name for mode in MODES.values() for name in mode.options))


def recipe_of(values: Mapping[str, Value], *, hires: bool = False) -> Recipe:
    """What the panel asks for, of the first pass or of the hires pass; its own model first, then the recipe's terms.

    Raises PrismError where settings do not go together.
    """
    own = str(values["hires"])
    if hires and own:
        return Recipe() if own == OFF else Recipe.parse(own)
    more = Recipe.parse(str(values["recipe"]))
    return Recipe((*_term(values), *more.terms), more.base)


def _term(values: Mapping[str, Value]) -> tuple[Term, ...]:
    if not values["model"]:
        return ()
    ends = [(name, values[key]) for name, key in (("BASE", "te"), ("VAE", "vae")) if values[key] != ""]
    term = Term(
        str(values["model"]),
        _weight(values),
        (*((Selector(name), float(weight)) for name, weight in ends), *rules(str(values["blocks"]))),
        find_mode(str(values["mode"])),
        str(values["minus"]),
        include=selectors(str(values["include"])),
        exclude=selectors(str(values["exclude"])),
        options=tuple(options(str(values["options"])).items()),
    )
    steps, strength = str(values["steps"]), float(values["strength"])
    if not strength:  # at weight 0 some modes still change the model
        return ()
    return (replace(term.at(strength), when=when_of(steps) if steps else None),)


def _weight(values: Mapping[str, Value]) -> Weight:
    text = str(values["weights"])
    if _is_name(text):
        name = presets.find(text)
        if name is None:
            raise UnknownName("block preset", text, presets.PRESETS)
        return name
    if text:
        return weights(text)
    return float(values["ratio"]) if values["preset"] == FLAT else str(values["preset"])


def weights(text: str) -> tuple[float, ...]:
    """Numbers divided by blanks or commas; or a weight command, see `others.command`."""
    if ":" in text:
        return others.command(text)
    if decimal(text):
        raise PrismError(f'"{text}" is no list of weights{decimal(text)} as the ratio')
    return tuple(_number("a weight", one) for one in _items(text))


def rules(text: str) -> tuple[tuple[Selector, float], ...]:
    """Weights by selector, from "IN04=0.3 OUT00-OUT05=1 /attn2=0"."""
    return tuple((Selector.parse(name), _number(name, weight)) for name, weight in map(_pair, _items(text)))


def selectors(text: str) -> tuple[Selector, ...]:
    """Blocks and pieces of names, from "IN04-IN08 /attn2"."""
    return tuple(map(Selector.parse, _items(text)))


def options(text: str) -> dict[str, float]:
    """Numbers by name, from "keep=0.3 seed=5"."""
    found = {}
    for name, value in map(_pair, _items(text)):
        if name.lower() not in OPTIONS:
            raise UnknownName("option of a merge mode", name, OPTIONS)
        found[name.lower()] = _number(name, value, limited=False)
    return found


def _items(text: str) -> list[str]:
    return re.sub(r"\s*=\s*", "=", text).replace(",", " ").split()


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not (name and equals):
        raise PrismError(lone(item))
    return name, value


def _number(what: str, text: str, *, limited: bool = True) -> float:
    try:
        value = float(text)
    except ValueError:
        raise PrismError(f'"{text[:40]}" is no number{decimal(text)}') from None
    return number(what, value) if limited else value


def _is_name(text: str) -> bool:
    """Whether it is a preset's name, which may be the user's own, in place of weights."""
    return text[:1].isalpha() and ":" not in text


def _weights_text(text: str) -> str:
    return (presets.find(text) or text) if _is_name(text) else " ".join(map(short, weights(text)))


def _recipe_text(text: str) -> str:
    """A preset that is not known here may be the user's own."""
    try:
        return str(Recipe.parse(text))
    except UnknownName as error:
        if error.kind.startswith("weight or preset"):
            return text
        raise


def _rules_text(text: str) -> str:
    return " ".join(f"{selector}={short(weight)}" for selector, weight in rules(text))


def _options_text(text: str) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in options(text).items())


def _steps_text(text: str) -> str:
    return when_text(when_of(text)).replace(",", " ")


def _hires_text(text: str) -> str:
    return OFF if text.casefold() in OFF_WORDS else _recipe_text(text)


def _text(name: str, label: str, doc: str, normal: Callable[[str], str] | None = None, default: str = "") -> Field:
    return Field(name, label, default, doc, quiet=True, normal=normal)


MERGE = Panel(
    title="Prism Block Merge",
    name="merge",
    doc="Merges other checkpoints into the loaded one while it is in use, block by block; no file is written.",
    fields=(
        Field("enabled", "Prism Block Merge", False, "Merge for this picture."),
        Field(
            "model",
            "Model B",
            "",
            "The checkpoint that is merged into the loaded one.",
            idle=lambda values: not values["model"] and bool(values["recipe"]),
        ),
        Field(
            "ratio",
            "Ratio",
            0.5,
            "The weight of model B in every block, unless preset or weights say it; in Cosine and Extract 0 is not A.",
            low=-1.0,
            high=2.0,
            step=0.01,
            idle=lambda values: not values["model"] or bool(values["weights"]) or values["preset"] != FLAT,
        ),
        Field(
            "preset",
            "Block preset",
            FLAT,
            "Weights of the blocks by a known name; Flat is the ratio everywhere.",
            choices=(FLAT, *presets.PRESETS),
            quiet=True,
            normal=lambda text: presets.find(text) or text,
        ),
        _text(
            "weights",
            "Block weights",
            "A weight for each block, IN00 to the last OUT (one more: BASE comes first); a preset of your own; or "
            "runtime-block-merge's command, base:0.5, in00:1.",
            _weights_text,
        ),
        _text(
            "blocks",
            "Single blocks",
            "Weights that win over all others, such as IN04=0.3 OUT00-OUT05=1 /attn2=0 (parts of tensors' names).",
            _rules_text,
        ),
        _text(
            "te",
            "Text encoder",
            "Its weight; empty: the ratio, what the weights say, or a preset's, which is mostly 0.",
            lambda text: short(_number("the text encoder's weight", text)),
        ),
        _text(
            "vae",
            "VAE",
            "Its weight; empty: as the text encoder.",
            lambda text: short(_number("the VAE's weight", text)),
            default="0",
        ),
        Field(
            "mode",
            "Merge mode",
            MODES["sum"].title,
            "How model B changes the loaded one.",
            choices=tuple(mode.title for mode in MODES.values()),
            quiet=True,
            normal=lambda text: MODES[find_mode(text)].title,
        ),
        _text("minus", "Model C", "The checkpoint that model B is compared with, for modes with a difference."),
        _text(
            "options", "Mode options", f"The mode's own numbers: {', '.join(OPTIONS)}; such as keep=0.3.", _options_text
        ),
        _text(
            "include",
            "Only these blocks",
            "Blocks and parts of tensors' names that may change, such as IN04-IN08 /attn2; empty: all.",
            lambda text: " ".join(map(str, selectors(text))),
        ),
        _text(
            "exclude",
            "Except these blocks",
            "Blocks and parts of tensors' names that stay as they are.",
            lambda text: " ".join(map(str, selectors(text))),
        ),
        _text(
            "steps",
            "Steps",
            "When model B is there: steps 5-20, parts of the run 0.2-0.8, or a curve such as 0@0 1@0.5; empty: always.",
            _steps_text,
        ),
        Field(
            "strength",
            "Merge strength",
            1.0,
            "A factor on all weights of model B: 0 is off, 1 as set.",
            low=0.0,
            high=2.0,
            step=0.01,
            quiet=True,
        ),
        _text(
            "recipe",
            "More models",
            "Further terms, such as anime:0.3:BASE=0 + neon:GRAD_V; see the grammar below.",
            _recipe_text,
        ),
        _text(
            "hires",
            "Hires pass",
            "What the hires pass merges: empty: the same, its steps from the start; off; or a recipe of its own.",
            _hires_text,
        ),
        Field(
            "everywhere",
            "Other checkpoints too",
            False,
            "Also merge into the hires checkpoint and the refiner.",
            quiet=True,
        ),
    ),
)
