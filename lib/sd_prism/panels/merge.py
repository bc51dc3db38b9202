"""The panel "Prism Block Merge"."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..settings import MERGE
from .compat import switch
from .controls import ElemId, control

IN_SIGHT = ("model", "ratio"), ("preset", "mode")
ADVANCED = (
    ("minus", "options"),
    ("weights", "blocks"),
    ("te", "vae", "strength"),
    ("include", "exclude"),
    ("steps", "hires", "everywhere"),
    ("recipe",),
)


def build(elem_id: ElemId) -> list[Any]:
    """Draws the panel; the components in the order of the declaration."""
    made: dict[str, Any] = {}

    def rows(parts: tuple[tuple[str, ...], ...]) -> None:
        for names in parts:
            with gr.Row(elem_classes=["prism"]):
                for name in names:
                    made[name] = control(MERGE[name], elem_id)

    with switch(MERGE.title, elem_id("panel")) as made["enabled"]:
        rows(IN_SIGHT)
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            rows(ADVANCED)
    return [made[name] for name in MERGE.names]
