"""The settings of "Prism Namespaces". New fields go to the end: their order is the order of the script's arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import OutOfRange, PrismError, UnknownName
from ..namespaces.dialects import DIALECTS
from ..namespaces.registry import SETS, Registry, for_dialect
from ..namespaces.render import Options
from ..schedule import Curve, short
from .base import AUTOMATIC, CUSTOM, Field, Panel, Value

T = TypeVar("T")
PASS = "pass"
EVERY = "*"
"""Stands for all namespaces that are not named themselves."""
STRENGTHS = 0.0, 4.0
ORDERS = {"by dialect": "", "as written": "written", "alphabetical": "alpha"}
TITLES = {name: dialect.title for name, dialect in DIALECTS.items()}
ITEM = re.compile(r"(?:([^\W\d][\w-]*)\s*=\s*)?([^\s,=]+)\s*,?\s*")
TAG = re.compile(r'\s*([^\W\d][\w -]*?)\s*:\s*("(?:[^"\\]|\\.)*"|[^",][^,]*?)\s*(?:,|$)')


def strengths(text: str) -> dict[str, float]:
    """Weights by namespace, from "species=1.2 studio=0.8"; a lone number is for EVERY one."""
    return {name: _number(name, value, *STRENGTHS, text) for name, value in _items(text)}


def binds(text: str) -> dict[str, float]:
    """As `strengths`, from 0 to 1."""
    return {name: _number(name, value, 0.0, 1.0, text) for name, value in _items(text)}


def windows(text: str) -> dict[str, tuple[float, float]]:
    """Starts and ends by namespace, from "species=0-0.6"; a lone pair is for EVERY one."""
    found = {}
    for name, value in _items(text):
        start, dash, stop = value.partition("-")
        if not dash:
            raise PrismError(f'"{value}" says no end; write a start and an end from 0 to 1, such as species=0-0.6')
        begin, end = (_number(name, one, 0.0, 1.0, text) for one in (start, stop))
        if begin >= end:
            raise PrismError(f'"{value}" ends before it starts; exchange the two numbers')
        found[name] = (begin, end)
    return found


def names(text: str) -> list[str]:
    """Names divided by blanks or commas."""
    return text.replace(",", " ").split()


def replacements(text: str) -> dict[str, str]:
    """Values by namespace, from tags such as 'species:dog, studio:"warner, bros"'."""
    found, end = {}, 0
    while end < len(text):
        match = TAG.match(text, end)
        if match is None:
            raise PrismError(
                f'"{text[end:].strip()[:40]}" is no tag; write tags as in species:dog, studio:"warner, bros"'
            )
        name, value = match.groups()
        found[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        end = match.end()
    return found


def by_namespace(given: Mapping[str, T], registry: Registry) -> dict[str, T]:
    """The same under the namespaces' own names; EVERY stands for all that are not named."""
    found: dict[str, Any] = dict.fromkeys(registry.namespaces, given[EVERY]) if EVERY in given else {}
    for name, value in given.items():
        if name != EVERY:
            known = registry.find(name)
            if known is None:
                raise UnknownName("Namespace", name, registry.namespaces)
            found[known.name] = value
    return found


def _items(text: str) -> list[tuple[str, str]]:
    items, end = [], 0
    while end < len(text):
        match = ITEM.match(text, end)
        if match is None:
            raise PrismError(
                f'"{text[end:][:40]}" cannot be read; write names with values, such as species=0.5 studio=1'
            )
        items.append((match[1] or EVERY, match[2]))
        end = match.end()
    return items


def _number(name: str, text: str, low: float, high: float, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise PrismError(f'"{text}" in "{whole[:80]}" is no number') from None
    if not low <= number <= high:
        raise OutOfRange("the value of all tags" if name == EVERY else name, number, low, high, whole[:80])
    return number


def _written(pairs: Mapping[str, str]) -> str:
    return " ".join(value if name == EVERY else f"{name}={value}" for name, value in pairs.items())


def _numbers(read: Callable[[str], dict[str, float]]) -> Callable[[str], str]:
    return lambda text: _written({name: short(number) for name, number in read(text).items()})


def _binds(text: str) -> str:
    return _numbers(binds)(text) if any(binds(text).values()) else ""


def _windows(text: str) -> str:
    return _written({name: f"{short(start)}-{short(stop)}" for name, (start, stop) in windows(text).items()})


def _sets(text: str) -> str:
    """Names of shipped sets."""
    one = Field("sets", "Set", "", "", choices=SETS)
    return " ".join(str(one.check(name, "")) for name in names(text))


def _replacements(text: str) -> str:
    def quoted(value: str) -> str:
        plain = value == value.strip() and not set(value) & set('",\\')
        return value if value and plain else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'

    return ", ".join(f"{name}:{quoted(value)}" for name, value in replacements(text).items())


def dialect_of(title: Value) -> str | None:
    """A dialect's name; None for the automatic one."""
    return next((name for name, known in TITLES.items() if known == title), None)


def registry(values: Mapping[str, Value], files: Iterable[Path] = ()) -> Registry:
    """The namespaces of these settings: the sets that they name, else those that their dialect wants; files add."""
    dialect, sets = dialect_of(values["dialect"]), names(str(values["sets"]))
    if sets:
        return Registry.of(*sets, files=files)
    return for_dialect(dialect or PASS, files=files, chosen=dialect is not None)


def options(values: Mapping[str, Value], target: str, files: Iterable[Path] = ()) -> Options:
    """These settings as the renderer takes them, for a host's syntax."""
    known = registry(values, files)
    return Options(
        dialect=dialect_of(values["dialect"]) or PASS,
        target=target,
        registry=known,
        strength=by_namespace(strengths(str(values["strength"])), known),
        window=by_namespace(windows(str(values["window"])), known),
        order=ORDERS[str(values["order"])],
        anti=bool(values["anti"]),
        isolate=frozenset(by_namespace(dict.fromkeys(names(str(values["isolate"]))), known)),
        replace=by_namespace(replacements(str(values["replace"])), known),
    )


def _text(name: str, label: str, doc: str, normal: Callable[[str], str]) -> Field:
    return Field(name, label, "", doc, quiet=True, normal=normal)


def _preset(dialect: str, *, order: str = "by dialect", bind: str = "") -> dict[str, Value]:
    return {"dialect": TITLES.get(dialect, AUTOMATIC), "anti": True, "bind": bind, "order": order}


PRESETS: dict[str, dict[str, Value]] = {
    "Right senses": _preset("", bind="1"),
    "Sygil": _preset("sygil"),
    "Sygil, sorted": _preset("sygil", order="alphabetical"),
    "SoteDiffusion": _preset("sote"),
    "Danbooru (Baka)": _preset("danbooru"),
    "Pony": _preset("pony"),
    "Animagine": _preset("animagine"),
}

NAMESPACES = Panel(
    title="Prism Namespaces",
    name="namespaces",
    doc="Typed tags such as species:seal, which every model is told in its own words and every host reads right.",
    fields=(
        Field("enabled", "Prism Namespaces", False, "Read the tags of this picture's prompts."),
        Field(
            "preset",
            "Preset",
            CUSTOM,
            "A named set of values; moving a control makes it your own.",
            choices=(CUSTOM, *PRESETS),
        ),
        Field(
            "dialect",
            "Dialect",
            AUTOMATIC,
            "How tags are said to the model; the automatic one is the loaded checkpoint's, else as written.",
            choices=(AUTOMATIC, *TITLES.values()),
            normal=lambda text: TITLES.get(text.casefold(), text),
        ),
        _text(
            "strength",
            "Strength of tags",
            "Weight of every tag, or of single namespaces, such as species=1.2 studio=0.8; 0 leaves them out.",
            _numbers(strengths),
        ),
        _text(
            "window",
            "Part of the run",
            "From where to where in the run tags are told, such as 0-0.6 or species=0-0.6.",
            _windows,
        ),
        Field(
            "anti",
            "Name wrong senses",
            False,
            "Put what a tag does not mean, where that is known, into the negative prompt.",
            quiet=True,
        ),
        _text(
            "isolate",
            "Encode apart",
            "Namespaces whose tags get chunks of their own, such as species studio.",
            lambda text: " ".join(names(text)),
        ),
        _text(
            "bind",
            "Bind",
            "How much of a tag's meaning comes from the tag encoded alone, 0 to 1, such as 0.4 or species=0.5.",
            _binds,
        ),
        _text(
            "bind_schedule",
            "Bind schedule",
            "Strength of the binding over the run as value@position, such as 1@0 0@0.5; empty: always.",
            lambda text: str(Curve.parse(text)),
        ),
        Field(
            "order",
            "Order",
            "by dialect",
            "The order of tags: the one the dialect was trained in, as written, or alphabetical.",
            choices=tuple(ORDERS),
            quiet=True,
        ),
        _text(
            "replace",
            "Other values",
            "Values that take the place of the prompt's own, such as species:dog; made for X/Y/Z plots.",
            _replacements,
        ),
        _text("sets", "Sets", f"Which namespaces exist, of {', '.join(SETS)}; empty: as the dialect wants.", _sets),
        Field(
            "show_rendered",
            "Keep the rendered prompt",
            False,
            "Also write what the model was told into the infotext.",
            quiet=True,
            once=True,
        ),
    ),
    presets=PRESETS,
)
