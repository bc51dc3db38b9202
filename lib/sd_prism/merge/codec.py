"""Recipes as plain JSON values, both ways. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import PrismError, UnknownName
from .grammar import when_of, when_text
from .recipe import LOADED, Recipe, Term
from .select import Selector

KINDS: Mapping[type, str] = {
    str: 'a text, such as "neon"',
    list: 'a list, such as ["IN04"]',
    dict: 'an object, such as {"IN04": 0.5}',
}
FIELDS = ("model", "weight", "rules", "mode", "minus", "scale", "include", "exclude", "step", "options")


def dump(recipe: Recipe) -> dict[str, Any]:
    """{"base", "terms": [{"model", "weight", ...}]}; what is as usual is left out."""
    base = {} if recipe.base == LOADED else {"base": recipe.base}
    return {**base, "terms": [_dump(term) for term in recipe.terms]}


def _dump(term: Term) -> dict[str, Any]:
    usual = Term(term.model)
    values = {
        "rules": {str(selector): weight for selector, weight in term.rules},
        "mode": "" if term.mode == usual.mode else term.mode,
        "minus": term.minus,
        "include": [str(selector) for selector in term.include],
        "exclude": [str(selector) for selector in term.exclude],
        "step": when_text(term.when),
        "options": dict(term.options),
    }
    weight = list(term.weight) if isinstance(term.weight, tuple) else term.weight
    scale = {} if term.scale == 1 else {"scale": term.scale}
    return {"model": term.model, "weight": weight, **scale, **{name: value for name, value in values.items() if value}}


def load(data: Mapping[str, Any]) -> Recipe:
    """The inverse of `dump`; raises PrismError that names the entry which is missing, unknown, or of another type."""
    if not isinstance(data, Mapping) or not isinstance(data.get("terms", []), list):
        raise PrismError('a recipe is an object such as {"terms": [{"model": "B", "weight": 0.5}]}')
    for name in set(data) - {"base", "terms"}:
        raise UnknownName("entry of a recipe", name, ("base", "terms"))
    base = _typed(data, "base", LOADED)
    terms = []
    for i, term in enumerate(data.get("terms", [])):
        try:
            terms.append(_load(term))
        except PrismError as error:
            raise PrismError(f"terms[{i}] of the recipe: {error}") from error
    return Recipe(tuple(terms), base or LOADED)


def _load(data: Any) -> Term:
    if not isinstance(data, Mapping):
        raise PrismError(f'it is {_shown(data)}; expected an object such as {{"model": "B", "weight": 0.5}}')
    for name in set(data) - set(FIELDS):
        raise UnknownName("entry of a term", name, FIELDS)
    weight, step = data.get("weight", 0.0), _typed(data, "step", "")
    return Term(
        model=_typed(data, "model", ""),
        weight=tuple(weight) if isinstance(weight, list) else weight,
        rules=tuple((Selector.parse(name), value) for name, value in _typed(data, "rules", {}).items()),
        mode=_typed(data, "mode", "sum"),
        minus=_typed(data, "minus", ""),
        scale=data.get("scale", 1.0),
        include=_selectors(data, "include"),
        exclude=_selectors(data, "exclude"),
        when=when_of(step) if step else None,
        options=tuple(_typed(data, "options", {}).items()),
    )


def _selectors(data: Mapping[str, Any], name: str) -> tuple[Selector, ...]:
    given = _typed(data, name, [])
    return tuple(Selector.parse(_typed({name: one}, name, "")) for one in given)


def _typed(data: Mapping[str, Any], name: str, usual: str | list[str] | dict[str, float]) -> Any:
    """An entry, which must be of the type that the usual one has."""
    given = data.get(name, usual)
    if not isinstance(given, type(usual)):
        raise PrismError(f'"{name}" is {_shown(given)}; expected {KINDS[type(usual)]}')
    return given


def _shown(given: Any) -> str:
    return json.dumps(given, ensure_ascii=False, default=str)[:80]
