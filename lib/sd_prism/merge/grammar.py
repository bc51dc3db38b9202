"""The one-line form of recipes, both ways: MODEL:WEIGHT[:BLOCK=w,BLOCK=w][:option=value]... + ... No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import PrismError, UnknownName, decimal
from ..schedule import Curve, short
from . import presets
from .recipe import LOADED, MODES, Recipe, Steps, Term, Weight, find_mode
from .select import Selector

UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
NUMBER = rf"[+-]?{UNSIGNED}"
PIECE = re.compile(r'"(?:[^"]|"")*"|(?P<join>\s\+\s)|(?P<colon>:)|[^":\s]+|\s|"')
QUOTED = re.compile(r'"(?:[^"]|"")*"')
RANGE = re.compile(rf"({UNSIGNED})?-({UNSIGNED})?")
DRIVE = re.compile(r"[A-Za-z]")
COMMON = ("mode", "lbw", "scale", "minus", "step", "start", "stop", "include", "exclude")


@dataclass
class Part:
    """A stretch of the text between colons, and where it begins."""

    text: str
    start: int


@dataclass
class Draft:
    """A term's fields while its parts are read."""

    fields: dict[str, Any] = field(default_factory=dict)
    rules: list[tuple[Selector, float]] = field(default_factory=list)
    options: dict[str, float] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)


def parse(text: str, lists: Mapping[str, tuple[float, ...]]) -> Recipe:
    """See `Recipe.parse`."""
    if not text.strip():
        return Recipe()
    parts = _parts(text)
    base = LOADED
    if len(parts) > 1 and len(parts[0]) == 1:
        base = _model(parts.pop(0)[0])["model"]
    return Recipe(tuple(_term(one, lists) for one in parts), base)


def _parts(text: str) -> list[list[Part]]:
    """Terms, each the parts between its colons."""
    terms = [[Part("", 0)]]
    for piece in PIECE.finditer(text):
        if piece[0] == '"':
            raise _error("a quote is opened and not closed", Part(text[piece.start() :], piece.start()))
        if piece["join"]:
            terms.append([Part("", piece.end())])
        elif piece["colon"] and not _drive(terms[-1], text, piece.end()):
            terms[-1].append(Part("", piece.end()))
        else:
            terms[-1][-1].text += piece[0]
    return terms


def _drive(term: list[Part], text: str, behind: int) -> bool:
    """Whether a colon belongs to the drive of a Windows path."""
    return len(term) == 1 and bool(DRIVE.fullmatch(term[0].text.strip())) and text[behind : behind + 1] in ("\\", "/")


def _term(parts: list[Part], lists: Mapping[str, tuple[float, ...]]) -> Term:
    draft = Draft(_model(parts[0]))
    if len(parts) < 2:
        raise _error(f'the model "{draft.fields["model"]}" has no weight; write {parts[0].text.strip()}:0.5', parts[0])
    rest = parts[1:]
    if "=" not in rest[0].text:
        draft.fields["weight"] = _weight(rest.pop(0), lists)
    for part in rest:
        _option(part, draft, lists)
    try:
        if draft.steps:
            draft.fields["when"] = _when(draft.steps)
        return Term(**draft.fields, rules=tuple(draft.rules), options=tuple(draft.options.items()))
    except PrismError as error:
        raise _error(str(error), parts[0]) from error


def _model(part: Part) -> dict[str, str]:
    """The model's name, or that of two in quotes with a minus between."""
    text = part.text.strip()
    quoted = QUOTED.match(text)
    if quoted is None:
        if not text or '"' in text:
            raise _error(
                "a quote stands within a name; quote whole names" if text else "a model's name is missing", part
            )
        return {"model": text}
    names = {"model": _unquoted(quoted[0])}
    rest = text[quoted.end() :].lstrip()
    if rest[:1] == "-" and rest[1:].strip():
        return {**names, "minus": _unquoted(rest[1:].strip())}
    if rest:
        raise _error(f'"{rest}" follows the name {quoted[0]}; expected ":", or "-" and another model', part)
    return names


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if QUOTED.fullmatch(text) else text


def _weight(part: Part, lists: Mapping[str, tuple[float, ...]]) -> Weight:
    text = part.text.strip()
    if decimal(text) or re.fullmatch(NUMBER, text):  # no model has so few blocks that "0,5" were a list
        return _number(part)
    if "," in text:
        return tuple(map(_number, _split(part)))
    name = presets.find(text)
    if name is None and text in lists:
        return tuple(lists[text])
    if name is None:
        raise UnknownName(f"weight or preset (character {part.start + 1})", text, (*lists, *presets.PRESETS))
    return name


def _number(part: Part) -> float:
    if not re.fullmatch(NUMBER, part.text.strip()):
        raise _error(f'"{part.text.strip()}" is no number{decimal(part.text)}', part)
    return float(part.text)


def _option(part: Part, draft: Draft, lists: Mapping[str, tuple[float, ...]]) -> None:
    name, equals, value = (one.strip() for one in part.text.partition("="))
    at = Part(value, part.start + len(part.text) - len(part.text.partition("=")[2].lstrip()))
    if not equals:
        draft.fields["mode"] = _mode(part, name)
        return
    key = name.lower()
    if key == "mode":
        draft.fields["mode"] = _mode(part, value)
    elif key == "lbw":
        draft.fields["scale"] = draft.fields.get("weight", 1.0)
        draft.fields["weight"] = _weight(at, lists)
    elif key == "scale":
        draft.fields["scale"] = _number(at)
    elif key == "minus":
        draft.fields["minus"] = _unquoted(value)
    elif key in ("step", "start", "stop"):
        draft.steps[key] = value
    elif key in ("include", "exclude"):
        draft.fields[key] = tuple(map(_selector, _split(at)))
    elif any(key in mode.options for mode in MODES.values()):
        draft.options[key] = _number(at)
    else:
        draft.rules += _rules(part)


def _mode(part: Part, name: str) -> str:
    try:
        return find_mode(name)
    except UnknownName:
        known = (*MODES, *(f"{option}=" for option in COMMON))
        raise UnknownName(f"mode or option (character {part.start + 1})", name, known) from None


def _rules(part: Part) -> list[tuple[Selector, float]]:
    rules = []
    for one in _split(part):
        name, equals, value = one.text.partition("=")
        if not equals:
            raise _error(lone(name.strip()), one)
        rules.append((_selector(Part(name, one.start)), _number(Part(value, one.start + len(name) + 1))))
    return rules


def lone(name: str) -> str:
    """What is wrong with an item that has no weight."""
    if re.fullmatch(UNSIGNED, name):
        return f'"{name}" is no block; a number has a decimal point: write IN04=0.5, not IN04=0,5'
    return f'"{name[:40]}" has no weight; write {name[:40]}=0.5'


def _split(part: Part) -> list[Part]:
    """What stands between commas."""
    parts, at = [], part.start
    for one in part.text.split(","):
        parts.append(Part(one, at))
        at += len(one) + 1
    return parts


def _selector(part: Part) -> Selector:
    try:
        return Selector.parse(part.text)
    except UnknownName as error:
        known = (*error.known, *(f"{option}=" for option in COMMON))
        raise UnknownName(f"block or option (character {part.start + 1})", part.text.strip(), known) from None
    except PrismError as error:
        raise _error(str(error), part) from error


def _error(what: str, part: Part) -> PrismError:
    return PrismError(f"{what} (character {part.start + 1} of the recipe)")


# --- steps -------------------------------------------------------------------------------------------------------


def _when(given: Mapping[str, str]) -> Steps | Curve:
    if "step" in given:
        if len(given) > 1:
            raise PrismError("step= says start and stop at once; leave start= and stop= away")
        return when_of(given["step"])
    return when_of(f"{given.get('start', '')}-{given.get('stop', '')}")


def when_of(text: str) -> Steps | Curve:
    """`5-20` are steps, `0.2-0.8` parts of the run (either end may be left away), `0@0,1@0.5` a strength over it."""
    if "@" in text:
        return Curve.parse(text)
    found = RANGE.fullmatch(text.strip())
    if not found or not (found[1] or found[2]):
        raise PrismError(f"step={text} is no range; write step=5-20, step=0.2-0.8, or step=0@0,1@0.5 (value@position)")
    fraction = re.search(r"[.eE]", found[0]) is not None
    step = next((one for one in found.groups() if one and one.isdecimal() and int(one) > 1), "")
    if fraction and step:
        raise PrismError(f"step={text} has a part of the run and the step {step}; write both as parts or both as steps")
    return Steps(float(found[1] or 0), float(found[2]) if found[2] else None, fraction)


def when_text(when: Steps | Curve | None) -> str:
    """What `when_of` reads; nothing for None."""
    if isinstance(when, Curve):
        return ",".join(f"{short(value)}@{short(position)}" for position, value in when.points)
    return str(when or "")


# --- writing -----------------------------------------------------------------------------------------------------


def written(recipe: Recipe) -> str:
    """See `Recipe.__str__`."""
    base = [] if recipe.base == LOADED else [_name(recipe.base)]
    return " + ".join(base + [_written(term) for term in recipe.terms])


def _written(term: Term) -> str:
    model = f"{_quoted(term.model)}-{_quoted(term.minus)}" if term.minus else _name(term.model)
    weight = term.weight
    parts = [model, weight if isinstance(weight, str) else ",".join(map(short, _tuple(weight)))]
    if term.rules:
        parts.append(",".join(f"{selector}={short(value)}" for selector, value in term.rules))
    parts += [] if term.mode == "sum" else [term.mode]
    parts += [] if term.scale == 1 else [f"scale={short(term.scale)}"]
    parts += [f"{name}={short(value)}" for name, value in term.options]
    for name, selectors in (("include", term.include), ("exclude", term.exclude)):
        parts += [f"{name}={','.join(map(str, selectors))}"] if selectors else []
    parts += [f"step={when_text(term.when)}"] if term.when else []
    return ":".join(parts)


def _tuple(weight: float | tuple[float, ...]) -> tuple[float, ...]:
    return weight if isinstance(weight, tuple) else (weight,)


def _name(name: str) -> str:
    """A model's name, in quotes where the grammar needs them."""
    plain = name == name.strip() and not re.search(r'[":]|\s\+\s', name.replace("\n", " "))
    return name if plain else _quoted(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
