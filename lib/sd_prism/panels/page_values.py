"""A tab's controls as flat values ("host.steps", "prompt", "freeu.enabled"), read and set together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from ..cards.card import HOST, SET
from ..settings import CUSTOM, Value

OPTIONS = {f"host.{one.name}": one for one in HOST if one.option}
"""What is no control of a tab but an option of the webui: a tab says another value among its override settings."""


class Values(NamedTuple):
    """What the controls say.

    Attributes:
        overrides: the tab's override settings, such as "Clip skip: 2".
    """

    flat: dict[str, Value]
    overrides: list[str]


class PageValues:
    """The controls of a tab.

    Args:
        found: components by flat name; under that of an option, the menu of override settings.
        option: a webui's option by its name.
    """

    def __init__(self, found: Mapping[str, Any], option: Callable[[str], Value]) -> None:
        self.keys, self.components = list(found), list(found.values())
        self.option = option

    def read(self, given: Sequence[Any]) -> Values:
        """From the values of `components`."""
        flat: dict[str, Value] = {}
        overrides: list[str] = []
        for key, component, value in zip(self.keys, self.components, given):
            if key in OPTIONS:
                overrides = value or []
                flat[key] = self._overridden(key, overrides)
            else:
                flat[key] = "" if value is None else _said(component, value)
        return Values({**flat, **_named(flat)}, overrides)

    def updates(self, new: Mapping[str, Value], values: Values) -> dict[Any, Any]:
        """What sets these values, by component."""
        found = {}
        for key, component in zip(self.keys, self.components):
            if key in new:
                found[component] = self._chips(key, new[key], values.overrides) if key in OPTIONS else new[key]
        return found

    def _overridden(self, key: str, overrides: Sequence[str]) -> Value:
        one = OPTIONS[key]
        said = (text.partition(":") for text in overrides)
        found = [value.strip() for name, _, value in said if name.strip() == one.key]
        return one.check(found[-1], "the override settings") if found else self.option(one.option)

    def _chips(self, key: str, value: Value, overrides: Sequence[str]) -> Any:
        one = OPTIONS[key]
        chips = [text for text in overrides if text.partition(":")[0].strip() != one.key]
        if value != self.option(one.option):
            chips.append(f"{one.key}: {value}")
        return gr.update(value=chips, choices=chips, visible=bool(chips))


def _said(component: Any, value: Any) -> Any:
    """What stands on the page, where the webui has a menu tell its place in the list (SD.Next's samplers)."""
    if getattr(component, "type", None) != "index":
        return value
    entry = component.choices[value]
    return str(entry if isinstance(entry, str) else entry[1])  # a pair in newer gradio


def _named(flat: Mapping[str, Value]) -> dict[str, Value]:
    """What the settings of panels are called that no preset was chosen for: a card names them so."""
    unnamed = [panel for panel in SET if panel.presets and flat.get(f"{panel.name}.preset") == CUSTOM]
    return {
        f"{panel.name}.preset": panel.preset_of({name: flat[f"{panel.name}.{name}"] for name in panel.names})
        for panel in unnamed
    }
