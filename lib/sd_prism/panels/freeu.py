"""The panel "Prism FreeU": a preset and its strength in sight, everything else under "Advanced"."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..settings import FREEU
from .compat import switch
from .controls import ElemId, control, preset_menu, wire_presets

FACTORS = ("version", "rule"), ("b1", "s1"), ("b2", "s2"), ("b3", "s3")
SCHEDULE = ("start", "stop", "smoothness"), ("schedule", "hires_schedule"), ("domain", "hires_radius")
DETAILS = tuple(tuple(f"{name}{k}" for name in ("offset", "width", "cutoff", "high")) for k in "123")
FILTER = ("symmetric", "keep_mean", "compatible"), ("blocks",)


def build(elem_id: ElemId) -> list[Any]:
    """Draws the panel; the components in the order of the declaration."""
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
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            rows(*FACTORS)
            with gr.Accordion("Schedule", open=False, elem_id=elem_id("schedule_part")):
                rows(*SCHEDULE)
            with gr.Accordion("Stages in detail", open=False, elem_id=elem_id("details")):
                rows(*DETAILS, *FILTER)
        wire_presets(FREEU, made)
    return [made[name] for name in FREEU.names]
