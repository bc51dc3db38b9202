"""The panel "Prism FreeU": a preset and its strength in sight, everything else under "Advanced"."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from ..settings import FREEU
from .compat import switch
from .controls import ElemId, control, preset_menu, wire_presets

FACTORS = ("version", "rule"), ("b1", "s1"), ("b2", "s2"), ("b3", "s3")
SCHEDULE = ("start", "stop", "smoothness"), ("domain", "hires_radius")
CURVES = ("schedule", "hires_schedule")
DETAILS = tuple((f"{one}{k}", f"{other}{k}") for k in "123" for one, other in (("offset", "width"), ("cutoff", "high")))
NARROW = 160  # pixels, so that two columns fit side by side
FILTER = ("symmetric", "keep_mean", "compatible"), ("blocks",)


def build(elem_id: ElemId, measurement: Callable[[], str]) -> list[Any]:
    """Draws the panel; the components in the order of the declaration. `measurement` is HTML of the last one."""
    made: dict[str, Any] = {}

    def rows(*names: tuple[str, ...]) -> None:
        for row in names:
            with gr.Row(elem_classes=["prism"]):
                for name in row:
                    made[name] = control(FREEU[name], elem_id)

    with switch(FREEU.title, elem_id("panel")) as made["enabled"]:
        with gr.Row(elem_classes=["prism"]):
            made["preset"] = preset_menu(FREEU, elem_id)
            made["strength"] = control(FREEU["strength"], elem_id)
        with gr.Row(elem_classes=["prism"]):
            with gr.Column(min_width=NARROW):
                gr.HTML(_gains())
            with gr.Column(min_width=NARROW):
                made["compare"] = control(FREEU["compare"], elem_id)
                gr.Button("Generate A/B", elem_id=elem_id("ab"))
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            rows(*FACTORS)
            with gr.Accordion("Schedule", open=False, elem_id=elem_id("schedule_part")):
                rows(*SCHEDULE)
                with gr.Row(elem_classes=["prism"]):
                    for name in CURVES:
                        with gr.Column(min_width=NARROW):
                            gr.HTML(_editor(name))
                            made[name] = control(FREEU[name], elem_id)
            with gr.Accordion("Stages in detail", open=False, elem_id=elem_id("details")):
                rows(*DETAILS, *FILTER)
            with gr.Accordion("Measurement", open=False, elem_id=elem_id("measurement")):
                made["measure"] = control(FREEU["measure"], elem_id)
                show = gr.Button("Show the last measurement", elem_id=elem_id("show"))
                with gr.Column(elem_id=elem_id("measured")):  # gradio 3 writes the id of an HTML component twice
                    shown = gr.HTML(measurement())
                show.click(measurement, [], [shown], show_progress="hidden")
        wire_presets(FREEU, made)
    return [made[name] for name in FREEU.names]


def _gains() -> str:
    """Where the page draws the gain over frequency."""
    defaults = html.escape(json.dumps({one.name: one.default for one in FREEU.fields}))
    return f'<div class="prism-gains" data-defaults="{defaults}"></div>'


def _editor(name: str) -> str:
    """Where the page draws the curve of a field."""
    return f'<div class="prism-curve" data-field="{name}" data-label="{FREEU[name].label}"></div>'
