"""One declaration per setting; panel, arguments, API schema, XYZ axes, infotext, presets, CLI and docs derive from it.

A `Panel` is a frozen list of `Field`s. Their order is the order of the script's arguments, for ever: new fields go to
the end. `Panel.read` is the one door through which values enter, whatever form they come in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import OutOfRange, PrismError, UnknownName
from .freeu.presets import PRESETS as FREEU_PRESETS
from .freeu.value import FreeU

Value = bool | int | float | str
CUSTOM = "Custom"


@dataclass(frozen=True)
class Field:
    """One setting. Its kind is the type of its default; `choices` makes it a menu, `low`..`high` a slider."""

    name: str
    label: str
    default: Value
    doc: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 0.0
    choices: tuple[str, ...] = ()
    since: str = "0.1.0"

    def check(self, value: object, where: str) -> Value:
        """The value in this field's type, or an error that names the field, the range and the nearest valid value."""
        if self.choices:
            return self._choice(value)
        if isinstance(self.default, bool):
            return self._switch(value, where)
        if isinstance(self.default, str):
            return str(value)
        return self._number(value, where)

    def _choice(self, value: object) -> str:
        folded = {choice.casefold(): choice for choice in self.choices}
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if text.casefold() not in folded:
            raise UnknownName(self.label, value, self.choices)
        return folded[text.casefold()]

    def _switch(self, value: object, where: str) -> bool:
        words = {
            "true": True,
            "on": True,
            "1": True,
            "yes": True,
            "false": False,
            "off": False,
            "0": False,
            "no": False,
        }
        text = str(value).casefold()
        if text not in words:
            raise PrismError(f'{self.label} is "{value}"; it must be true or false ({where})')
        return words[text]

    def _number(self, value: object, where: str) -> int | float:
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or math.isnan(number):
            raise PrismError(
                f'{self.label} is "{value}"; it must be a number between {self.low:g} and {self.high:g} ({where})'
            )
        if not self.low <= number <= self.high:
            raise OutOfRange(self.label, number, self.low, self.high, where)
        return round(number) if isinstance(self.default, int) else number

    def schema(self) -> dict[str, Any]:
        """This field as JSON Schema."""
        kind = {bool: "boolean", int: "integer", float: "number", str: "string"}[type(self.default)]
        out: dict[str, Any] = {"type": kind, "title": self.label, "description": self.doc, "default": self.default}
        if self.choices:
            out["enum"] = list(self.choices)
        if math.isfinite(self.low):
            out |= {"minimum": self.low, "maximum": self.high}
        return out


@dataclass(frozen=True)
class Panel:
    """One script: its title, its settings in argument order, and the presets that fill some of them."""

    title: str
    name: str
    doc: str
    fields: tuple[Field, ...]
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Field:
        for one in self.fields:
            if one.name == name:
                return one
        raise UnknownName(f"{self.title} setting", name, [one.name for one in self.fields])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.fields)

    def defaults(self) -> dict[str, Value]:
        return {one.name: one.default for one in self.fields}

    def read(self, args: Sequence[object] | Mapping[str, object]) -> dict[str, Value]:
        """Complete, checked values from any form of arguments.

        A mapping (or a sequence whose first item is one) names fields: given ones win over the named preset, the
        preset over the defaults, and the panel is on unless it says otherwise. A sequence is positional and may be
        short; there a named preset wins over the sliders, and "Custom" stands for the sliders.
        """
        if isinstance(args, Mapping):
            return self._fill({"enabled": True, **args})
        if args and isinstance(args[0], Mapping):
            return self.read(args[0])
        given = dict(zip(self.names, args, strict=False))
        preset = given.get("preset", CUSTOM)
        if preset != CUSTOM:
            given = {name: value for name, value in given.items() if name in ("enabled", "preset")}
        return self._fill(given)

    def _fill(self, given: Mapping[str, object]) -> dict[str, Value]:
        checked = {name: self[name].check(value, self.title) for name, value in given.items()}
        values = {**self.defaults(), **self.presets.get(str(checked.get("preset")), {}), **checked}
        if self.presets:
            values["preset"] = self.preset_of(values)
        return values

    def preset_of(self, values: Mapping[str, Value]) -> str:
        """The name of the preset that these values are, the named one first; "Custom" if none."""
        named = str(values.get("preset", CUSTOM))
        for name in [named, *self.presets]:
            if name in self.presets and all(values[key] == value for key, value in self.presets[name].items()):
                return name
        return CUSTOM

    def schema(self) -> dict[str, Any]:
        """The dict form of the API as JSON Schema (draft 2020-12)."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title,
            "description": self.doc,
            "type": "object",
            "properties": {one.name: one.schema() for one in self.fields},
            "additionalProperties": False,
        }

    def preset_schema(self) -> dict[str, Any]:
        """A saved preset of this panel: what differs from the defaults, with where it came from."""
        properties = self.schema()["properties"]
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"{self.title} preset",
            "type": "object",
            "required": ["format", "version", "feature", "name", "values"],
            "properties": {
                "format": {"const": "prism.preset"},
                "version": {"type": "integer", "minimum": 1},
                "feature": {"const": self.name},
                "name": {"type": "string", "minLength": 1},
                "values": {
                    "type": "object",
                    "properties": {key: properties[key] for key in self.names if key not in ("enabled", "preset")},
                },
            },
        }

    def options(self) -> list[tuple[str, dict[str, Any]]]:
        """Command-line options as (flag, argparse keywords); values are checked by `read`, not by the parser."""
        return [
            (
                f"--{self.name}.{one.name}",
                {"dest": f"{self.name}.{one.name}", "metavar": _range(one) or "TEXT", "help": one.doc},
            )
            for one in self.fields
        ]

    def axes(self) -> list[tuple[str, Field]]:
        """X/Y/Z axes as (label, field)."""
        return [(f"[{self.title}] {'Enabled' if one.name == 'enabled' else one.label}", one) for one in self.fields]

    def markdown(self) -> str:
        """The README's table of this panel."""
        rows = ["| setting | name | values | default | what it does |", "|---|---|---|---|---|"]
        for one in self.fields:
            values = _range(one).replace("|", " / ")
            rows.append(f"| {one.label} | `{one.name}` | {values} | {_text(one.default)} | {one.doc} |")
        return "\n".join(rows)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range(one: Field) -> str:
    if one.choices:
        return "|".join(one.choices)
    if isinstance(one.default, bool):
        return "on|off"
    return f"{one.low:g}..{one.high:g}" if math.isfinite(one.low) else ""


def _freeu_values(settings: FreeU) -> dict[str, Value]:
    """A FreeU value as this panel's fields."""
    factors = {name: getattr(settings, name) for name in ("b1", "s1", "b2", "s2")}
    return {"version": str(settings.version), **factors}


_AUTHORS = {name: _freeu_values(preset.values) for name, preset in FREEU_PRESETS.items()}


def _factor(name: str, label: str, default: float, doc: str) -> Field:
    return Field(name, label, default, doc, low=0.0, high=3.0, step=0.01)


FREEU = Panel(
    title="Prism FreeU",
    name="freeu",
    doc="Re-weights what the UNet's decoder reads: its backbone and its skip features (arXiv 2309.11497).",
    fields=(
        Field("enabled", "Prism FreeU", False, "Apply FreeU to this picture."),
        Field(
            "preset",
            "Preset",
            CUSTOM,
            "A named set of values; moving a slider makes it your own.",
            choices=(CUSTOM, *_AUTHORS),
        ),
        Field(
            "version",
            "Version",
            "2",
            "How the backbone is scaled: 1 by a constant, 2 by its own feature map.",
            choices=("1", "2"),
        ),
        _factor("b1", "Stage 1 backbone", 1.5, "Backbone factor of the deepest stage; 1 changes nothing."),
        _factor("s1", "Stage 1 skip", 0.9, "Factor on the lowest waves of the deepest stage's skips."),
        _factor("b2", "Stage 2 backbone", 1.6, "Backbone factor of the next stage; 1 changes nothing."),
        _factor("s2", "Stage 2 skip", 0.2, "Factor on the lowest waves of the next stage's skips."),
    ),
    presets=_AUTHORS,
)

PANELS = (FREEU,)
