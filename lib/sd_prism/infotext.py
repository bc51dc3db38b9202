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


def dumps(panel: Panel, values: Mapping[str, Value], *, full: bool = False) -> str:
    """The infotext value of a panel that is on: all but its switch and idle fields; quiet ones at rest if `full`."""
    fields = [one for one in panel.fields if one.name != "enabled" and not one.once and not _idle(one, values)]
    shown = {one.name: values[one.name] for one in fields if full or not one.quiet or values[one.name] != one.default}
    if shown.get("preset") == CUSTOM:
        del shown["preset"]
    return "; ".join(f"{name}={_write(value)}" for name, value in shown.items())


def _idle(one: Field, values: Mapping[str, Value]) -> bool:
    return one.idle is not None and one.idle(values)


def loads(panel: Panel, text: str | None) -> dict[str, Value]:
    """As `read`; without a text, and where nothing can be read, the panel is explicitly off."""
    try:
        return read(panel, text or "")
    except PrismError as error:
        log.warning("%s in a pasted infotext was left out: %s", panel.title, error)
        return panel.read(panel.off)


def read(panel: Panel, text: str) -> dict[str, Value]:
    """Complete values from an infotext; the panel is explicitly off where it says nothing.

    Values stand for themselves: a preset only lends them its name, where it has the same ones here.
    """
    known = {name: value for name, value in items(text) if name in panel.names}
    named = known.pop("preset") if "preset" in known and not panel.names_a_value(known["preset"]) else None
    values = panel.read({**panel.on, **known} if known or named is not None else panel.off)
    return values if named is None or not panel.presets else {**values, "preset": _name(panel, named, values)}


def _name(panel: Panel, named: str, values: Mapping[str, Value]) -> str:
    """What these values are called here, by the preset's own name if it has them."""
    choices = {choice.casefold(): choice for choice in panel["preset"].choices}
    return panel.preset_of({**values, "preset": choices.get(named.casefold(), CUSTOM)})


def items(text: str) -> list[tuple[str, str]]:
    """Names and values as they are written."""
    return [(name, json.loads(value) if value.startswith('"') else value.strip()) for name, value in ITEM.findall(text)]


def _write(value: Value) -> str:
    if isinstance(value, float):
        return short(value)
    text = str(value)
    plain = text == text.strip() and not text.startswith('"') and not set(text) & set(";\n")
    return text if plain and text else json.dumps(text, ensure_ascii=False)
