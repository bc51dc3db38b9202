"""Settings as one infotext value and back: `name=value; name=value`, by value, so that a picture needs no preset file.

The text holds no comma, colon or newline of its own, so the hosts store it unquoted. Names that this version does not
know (a newer Prism wrote them) are left out on reading.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

from .errors import PrismError
from .schedule import short
from .settings import CUSTOM, Field, Panel, Value

log = logging.getLogger("prism")

ITEM = re.compile(r'(\w+)=("(?:[^"\\\n]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"(?=\s*(?:;|$))|[^;"][^;]*)')


def dumps(panel: Panel, values: Mapping[str, Value]) -> str:
    """The infotext value of a panel that is on: all but the switch itself, quiet fields at rest, and idle ones."""
    fields = [one for one in panel.fields if one.name != "enabled" and not one.once and not _idle(one, values)]
    shown = {one.name: values[one.name] for one in fields if not one.quiet or values[one.name] != one.default}
    if shown.get("preset") == CUSTOM:
        del shown["preset"]
    return "; ".join(f"{name}={_write(value)}" for name, value in shown.items())


def _idle(one: Field, values: Mapping[str, Value]) -> bool:
    return one.idle is not None and one.idle(values)


def loads(panel: Panel, text: str | None) -> dict[str, Value]:
    """Complete values from an infotext; the panel is explicitly off without the key, and where nothing can be read."""
    known = {name: value for name, value in _items(text or "") if name in panel.names}
    if "preset" in known and known["preset"] not in panel["preset"].choices:
        del known["preset"]  # the values stand for themselves
    try:
        return panel.read(known or panel.off)
    except PrismError as error:
        log.warning("%s in a pasted infotext was left out: %s", panel.title, error)
        return panel.read(panel.off)


def _items(text: str) -> list[tuple[str, str]]:
    return [(name, json.loads(value) if value.startswith('"') else value.strip()) for name, value in ITEM.findall(text)]


def _write(value: Value) -> str:
    if isinstance(value, float):
        return short(value)
    text = str(value)
    plain = text == text.strip() and not text.startswith('"') and not set(text) & set(";\n")
    return text if plain and text else json.dumps(text, ensure_ascii=False)
