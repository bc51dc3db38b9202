"""Gradio components from declarations."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gradio as gr

from ..settings import Field, Panel, Value
from .compat import hide_group, unsaved

ElemId = Callable[[str], str]


def control(one: Field, elem_id: ElemId, **more: Any) -> Any:
    """The component of one field: checkbox, menu, slider, number or text; `more` is for gradio."""
    common: dict[str, Any] = {"label": one.label, "elem_id": elem_id(one.name), **more}
    if isinstance(one.default, bool):
        return gr.Checkbox(one.default, **common)
    if one.choices:
        menu = gr.Dropdown if len(one.choices) > 3 else gr.Radio
        return menu(list(one.choices), value=one.default, **common)
    if isinstance(one.default, str):
        return gr.Textbox(one.default, **common)
    return gr.Slider(one.low, one.high, value=one.default, step=one.step, **common)


def unseen(panel: Panel, elem_id: ElemId) -> list[Any]:
    """The components of a panel that is not on the page, at their defaults, which no page may change."""
    hide_group()
    return [unsaved(control(one, elem_id, visible=False)) for one in panel.fields]


def start_with(values: Mapping[str, Value], components: Mapping[str, Any]) -> None:
    """Other values than the defaults for a new page; they win over those that the host has saved."""
    for name, value in values.items():
        unsaved(components[name]).value = value


def said(*parts: str) -> str:
    """A line that is told to the user, screen readers included.

    Texts and values stand apart, as the webuis' localisations know whole texts only.
    """
    return f'<div class="prism-said" role="status">{apart(parts)}</div>'


def apart(parts: Iterable[str], between: str = " ") -> str:
    """Each part in an element of its own."""
    return between.join(f"<span>{html.escape(part)}</span>" for part in parts)
