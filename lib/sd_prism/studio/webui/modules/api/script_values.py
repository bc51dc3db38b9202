"""Arguments of a selectable script as a request gives them: the right number, of the types that its page gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr
from sd_prism.errors import OutOfRange, PrismError, UnknownName

from modules import scripts


def completed(script: scripts.Script, given: Sequence[Any], defaults: Sequence[Any]) -> list[Any]:
    """`given` with the script's defaults for what is missing; surplus values are dropped.

    Raises:
        PrismError: a value is not of its component's type; the text names the script and the argument's label.
    """
    values = [*given[: len(defaults)], *defaults[len(given) :]]
    return [_checked(script, place, value) for place, value in enumerate(values)]


def _checked(script: scripts.Script, place: int, value: Any) -> Any:
    control = script.controls[place]
    where = f'{script.title()}: argument {place + 1} "{control.label or ""}"'
    if isinstance(control, gr.Dropdown):
        return _of_menu(control, value, where)
    if value is None and control.value is None:
        return value
    for kind, types, name in (
        (gr.Checkbox, (bool, int), "true or false"),
        ((gr.Slider, gr.Number), (int, float), "a number"),
        (gr.Textbox, str, "a text"),
    ):
        if isinstance(control, kind) and not _is(value, types):
            raise PrismError(f"{where} is {repr(value)[:80]}; it must be {name}, such as {control.value!r}")
    return value


def _is(value: Any, types: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, types) and (not isinstance(value, bool) or types == (bool, int))


def _of_menu(menu: gr.Dropdown, value: Any, where: str) -> Any:
    """A menu of type "index" gives the place of an entry, which a request may also name."""
    if menu.multiselect:
        if not (value is None or isinstance(value, (list, str))):
            raise PrismError(f"{where} is {repr(value)[:80]}; it must be a list of texts")
        return [value] if isinstance(value, str) else [str(entry) for entry in value or []]
    if menu.type != "index" or value is None:
        return value
    names = [str(name) for name, _ in menu.choices]
    if isinstance(value, str):
        if value not in names:
            raise UnknownName(where, value, names)
        return names.index(value)
    if not _is(value, int):
        raise PrismError(f"{where} is {repr(value)[:80]}; it must be a text such as {names[:1]} or its place")
    if not 0 <= value < len(names):
        raise OutOfRange(where, value, 0, len(names) - 1, "the places in its menu")
    return value
