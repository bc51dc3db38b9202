"""What a setting and a panel are. Page, arguments, schema, axes, infotext, presets, CLI and docs derive from them.

A `Panel` is a frozen list of `Field`s. Their order is the order of the script's arguments, for ever: new fields go to
the end. `Panel.read` is the one door through which values enter, whatever form they come in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import OutOfRange, PrismError, UnknownName, decimal

Value = bool | int | float | str
CUSTOM = "Custom"
AUTOMATIC = "Automatic (by model)"


@dataclass(frozen=True)
class Field:
    """One setting. Its kind is the type of its default; `choices` makes it a menu, `low`..`high` a slider.

    A `quiet` one is written into the infotext only where it is not its default. `normal` gives a text in its normal
    form, or raises PrismError where it cannot be read; an empty text is always allowed. That of a menu maps other names
    to its choices. One that is for this run `once` is no property of the picture: infotext and presets leave it out.
    One that is `idle` where the others have these values means nothing there: the infotext leaves it out.
    """

    name: str
    label: str
    default: Value
    doc: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 0.0
    choices: tuple[str, ...] = ()
    since: str = "0.1.0"
    quiet: bool = False
    normal: Callable[[str], str] | None = None
    once: bool = False
    idle: Callable[[Mapping[str, Value]], bool] | None = None

    def check(self, value: object, where: str) -> Value:
        """The value in this field's type, or an error that names the field, the range and the nearest valid value."""
        if self.choices:
            return self._choice(value)
        if isinstance(self.default, bool):
            return self._switch(value, where)
        if isinstance(self.default, str):
            return self._text(value, where)
        return self._number(value, where)

    def _choice(self, value: object) -> str:
        folded = {choice.casefold(): choice for choice in self.choices}
        text = f"{value:g}" if isinstance(value, float) else str(value)
        text = self.normal(text) if self.normal else text
        if text.casefold() not in folded:
            raise UnknownName(self.label, value, self.choices)
        return folded[text.casefold()]

    def _text(self, value: object, where: str) -> str:
        text = str(value).strip()
        try:
            return self.normal(text) if self.normal and text else text
        except PrismError as error:
            raise PrismError(f"{self.label}: {error} ({where})") from error

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
            place = "" if where == self.label else f" ({where})"
            raise PrismError(f'{self.label} is "{value}"; it must be true or false{place}')
        return words[text]

    def _number(self, value: object, where: str) -> int | float:
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or math.isnan(number):
            raise PrismError(
                f'{self.label} is "{value}"; it must be a number between {self.low:g} and {self.high:g} ({where})'
                + decimal(str(value)[:80])
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
    """One script: its title, its settings in argument order, and the presets that fill some of them.

    One without a setting "enabled" is always on.
    `automatic` names the preset for a family of models, which the preset "Automatic (by model)" stands for.
    Of one without `presets` of its own the setting "preset" is a setting like any other.

    Attributes:
        saved: the user's own presets, each with all that is `kept`; `set_saved` exchanges them.
    """

    title: str
    name: str
    doc: str
    fields: tuple[Field, ...]
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    automatic: Callable[[str], str] | None = None
    saved: Mapping[str, Mapping[str, Value]] = field(default_factory=dict, init=False, compare=False)

    def __getitem__(self, name: str) -> Field:
        for one in self.fields:
            if one.name == name:
                return self._with_saved(one)
        raise UnknownName(f"{self.title} setting", name, [one.name for one in self.fields])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.fields)

    @property
    def on(self) -> dict[str, Value]:
        """What switches it on."""
        return {"enabled": True} if "enabled" in self.names else {}

    @property
    def off(self) -> dict[str, Value]:
        """What switches it off, if anything does."""
        return dict.fromkeys(self.on, False)

    @property
    def kept(self) -> tuple[str, ...]:
        """The settings that belong to a picture, and so to its infotext and to presets."""
        left_out = ("enabled", "preset") if self.presets else ("enabled",)
        return tuple(one.name for one in self.fields if not one.once and one.name not in left_out)

    def set_saved(self, presets: Mapping[str, Mapping[str, Value]]) -> None:
        """Exchanges the user's presets in one step, so that others see the old or the new ones."""
        object.__setattr__(self, "saved", dict(presets))

    @property
    def all_presets(self) -> dict[str, Mapping[str, Value]]:
        """The built-in presets and the user's; one of the user's takes the place of a built-in one of its name."""
        mine = self.saved
        taken = {name.casefold() for name in mine}
        return {**{name: one for name, one in self.presets.items() if name.casefold() not in taken}, **mine}

    def _with_saved(self, one: Field) -> Field:
        """The menu of presets offers the user's as well."""
        if one.name != "preset" or not self.saved:
            return one
        known = self.all_presets
        ours = (choice for choice in one.choices if choice in known or choice not in self.presets)
        return replace(one, choices=tuple(dict.fromkeys((*ours, *known))))

    def names_a_value(self, name: str) -> bool:
        """Whether the menu of presets has this name for something that is no preset, such as "Custom"."""
        declared = next(one for one in self.fields if one.name == "preset")
        try:
            return declared.check(name, self.title) not in self.presets
        except UnknownName:
            return False

    def defaults(self) -> dict[str, Value]:
        return {one.name: one.default for one in self.fields}

    def read(self, args: Sequence[object] | Mapping[str, object], family: str | None = None) -> dict[str, Value]:
        """Complete, checked values from any form of arguments.

        A mapping (or a sequence whose first item is one) names fields: given ones win over the named preset, the
        preset over the defaults, and the panel is on unless it says otherwise. A sequence is positional and may be
        short; there a named preset wins over the sliders that it sets, and "Custom" stands for the sliders.
        With the `family` of the loaded model the automatic preset becomes the one for it.
        """
        if isinstance(args, Mapping):
            return self._fill({**self.on, **args}, family)
        if args and isinstance(args[0], Mapping):
            return self.read(args[0], family)
        given = dict(zip(self.names, args, strict=False))
        preset = str(self["preset"].check(given["preset"], self.title)) if "preset" in given else CUSTOM
        sets = self._built_in if preset == AUTOMATIC else self.all_presets.get(preset, {})
        return self._fill({key: value for key, value in given.items() if key == "preset" or key not in sets}, family)

    def over(
        self, values: Mapping[str, Value], given: Mapping[str, object], family: str | None = None
    ) -> dict[str, Value]:
        """Values with given ones over them, the panel on; a given preset's own values come between the two."""
        if str(given.get("preset", CUSTOM)).casefold() != CUSTOM.casefold():
            preset = str(self["preset"].check(given["preset"], self.title))
            values = {name: value for name, value in values.items() if name not in self.sets(preset)}
        return self.read({**values, **self.on, **given}, family)

    @property
    def filled(self) -> tuple[str, ...]:
        """The settings that presets may fill, in order: a saved one sets any that is kept."""
        return self.kept if "preset" in self.names else ()

    def sets(self, preset: str) -> Collection[str]:
        """The settings that a preset decides; one that names none stands for another, so those of all built-in ones."""
        return self.all_presets.get(preset) or self._built_in

    @property
    def _built_in(self) -> tuple[str, ...]:
        """The settings that built-in presets fill."""
        return tuple(name for name in self.names if any(name in preset for preset in self.presets.values()))

    def _fill(self, given: Mapping[str, object], family: str | None) -> dict[str, Value]:
        checked = {name: self[name].check(value, self.title) for name, value in given.items()}
        if checked.get("preset") == AUTOMATIC and family is not None and self.automatic:
            checked["preset"] = self["preset"].check(self.automatic(family), self.title)
        named = str(checked.get("preset"))
        values = {**self.defaults(), **self.all_presets.get(named, {}), **checked}
        if self.presets:
            values["preset"] = self.preset_of(values)
        elif named in self.saved:
            values["preset"] = self.saved[named]["preset"]  # the user's name stands for the values, one of which it is
        return values

    def preset_of(self, values: Mapping[str, Value]) -> str:
        """The name of the preset that these values are, the named one first; "Custom" if none."""
        named, presets = str(values.get("preset", CUSTOM)), self.all_presets
        if named == AUTOMATIC or presets.get(named) == {}:
            return named  # these set nothing, so nothing contradicts them
        for name in [named, *presets]:
            preset = presets.get(name)
            if preset and all(values[key] == value for key, value in preset.items()):
                return name
        return CUSTOM

    def schema(self) -> dict[str, Any]:
        """The dict form of the API as JSON Schema (draft 2020-12)."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title,
            "description": self.doc,
            "type": "object",
            "properties": {one.name: self[one.name].schema() for one in self.fields},
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
                "author": {"type": "string"},
                "notes": {"type": "string"},
                "base": {"type": "array", "items": {"type": "string"}, "description": "Families of models."},
                "values": {
                    "type": "object",
                    "properties": {key: properties[key] for key in self.kept},
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
    return f"{_text(one.low)}..{_text(one.high)}" if math.isfinite(one.low) else ""
