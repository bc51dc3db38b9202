"""Recipes as plain JSON values, both ways. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import PrismError, UnknownName
from .grammar import when_of, when_text
from .recipe import LOADED, Recipe, Term
from .select import Selector

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
    """The inverse of `dump`."""
    if not isinstance(data, Mapping) or not isinstance(data.get("terms", []), list):
        raise PrismError('a recipe is an object such as {"terms": [{"model": "B", "weight": 0.5}]}')
    for name in set(data) - {"base", "terms"}:
        raise UnknownName("entry of a recipe", name, ("base", "terms"))
    terms = []
    for i, term in enumerate(data.get("terms", [])):
        try:
            terms.append(_load(term))
        except (PrismError, TypeError, ValueError, AttributeError) as error:
            raise PrismError(f"terms[{i}] of the recipe: {error}") from error
    return Recipe(tuple(terms), str(data.get("base") or LOADED))


def _load(data: Mapping[str, Any]) -> Term:
    for name in set(data) - set(FIELDS):
        raise UnknownName("entry of a term", name, FIELDS)
    weight = data.get("weight", 0.0)
    return Term(
        model=str(data.get("model") or ""),
        weight=tuple(weight) if isinstance(weight, list) else weight,
        rules=tuple((Selector.parse(name), value) for name, value in data.get("rules", {}).items()),
        mode=data.get("mode", "sum"),
        minus=str(data.get("minus") or ""),
        scale=data.get("scale", 1.0),
        include=tuple(map(Selector.parse, data.get("include", ()))),
        exclude=tuple(map(Selector.parse, data.get("exclude", ()))),
        when=when_of(data["step"]) if data.get("step") else None,
        options=tuple(data.get("options", {}).items()),
    )
