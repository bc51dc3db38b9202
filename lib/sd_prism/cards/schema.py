"""A card's file as JSON Schema, from the declarations that read it."""

from __future__ import annotations

from typing import Any

from .card import HOST, PLACES, SET, SIDES
from .preset import CARD, FORMAT

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
ADDRESS = {"type": "string", "pattern": "^https://"}


def schema() -> dict[str, Any]:
    """The whole file (draft 2020-12); other keys than these are allowed, and kept."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Prism card",
        "description": "What a model's author says about running it, each value with its source.",
        "type": "object",
        "required": ["format", "version", "feature", "name", "values"],
        "properties": {
            "format": {"const": FORMAT},
            "version": {"type": "integer", "minimum": 1},
            "feature": {"const": CARD},
            "name": {"type": "string", "minLength": 1},
            "author": TEXT,
            "notes": TEXT,
            "base": TEXTS,
            "values": _values(),
            "match": _match(),
            "advice": _names_of({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
            "licence": _only({"name": TEXT, "url": ADDRESS}),
            "link": ADDRESS,
            "example": TEXT,
            "sources": _names_of(TEXT),
            "not_stated": TEXTS,
        },
    }


def _values() -> dict[str, Any]:
    return _only(
        {
            "host": _only({one.name: one.schema() for one in HOST}),
            **dict.fromkeys(SIDES, _only(dict.fromkeys(PLACES, TEXT))),
            **{panel.name: _only(panel.schema()["properties"]) for panel in SET},
        }
    )


def _match() -> dict[str, Any]:
    return _only(
        {
            "names": TEXTS,
            "hashes": _hashes("[0-9a-fA-F]{8}([0-9a-fA-F]{2})?"),
            "sha256": _hashes("[0-9a-fA-F]{64}"),
            "metadata": _names_of(TEXT),
            "families": TEXTS,
        }
    )


def _hashes(pattern: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "pattern": f"^{pattern}$"}}


def _only(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _names_of(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}
