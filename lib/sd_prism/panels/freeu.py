"""The panel "Prism FreeU"."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..settings import FREEU
from .compat import switch
from .controls import ElemId, control, preset_menu, wire_presets


def build(elem_id: ElemId) -> list[Any]:
    """Draws the panel; the components in the order of the declaration."""
    made: dict[str, Any] = {}
    with switch(FREEU.title, elem_id("panel")) as made["enabled"]:
        with gr.Row(elem_classes=["prism"]):
            made["preset"] = preset_menu(FREEU, elem_id)
            made["version"] = control(FREEU["version"], elem_id)
        for row in (("b1", "s1"), ("b2", "s2")):
            with gr.Row(elem_classes=["prism"]):
                for name in row:
                    made[name] = control(FREEU[name], elem_id)
        wire_presets(FREEU, made)
    return [made[name] for name in FREEU.names]
