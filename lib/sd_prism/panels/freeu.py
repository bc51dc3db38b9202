"""The panel "Prism FreeU": a preset and its strength in sight, everything else under "Advanced"."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from ..cards import Store
from ..errors import PrismError
from ..freeu import others
from ..settings import FREEU
from .compat import LATEST, QUICK, switch, unsaved
from .controls import ElemId, control
from .presets import Presets

FACTORS = ("version", "rule"), ("b1", "s1"), ("b2", "s2"), ("b3", "s3")
SCHEDULE = ("start", "stop", "smoothness"), ("domain", "hires_radius")
CURVES = ("schedule", "hires_schedule")
DETAILS = tuple((f"{one}{k}", f"{other}{k}") for k in "123" for one, other in (("offset", "width"), ("cutoff", "high")))
NARROW = 240  # pixels, so that the words of a drawing can be read
FILTER = ("symmetric", "keep_mean", "compatible"), ("blocks",)


def build(elem_id: ElemId, store: Callable[[], Store], measurement: Callable[[], str]) -> list[Any]:
    """Draws the panel; the components in the order of the declaration. `measurement` is HTML of the last one."""
    made: dict[str, Any] = {}

    def rows(*names: tuple[str, ...]) -> None:
        for row in names:
            with gr.Row(elem_classes=["prism"]):
                for name in row:
                    made[name] = control(FREEU[name], elem_id)

    with switch(FREEU.title, elem_id("panel")) as made["enabled"]:
        with gr.Row(elem_classes=["prism"]):
            presets = Presets(FREEU, elem_id, store)
            made["preset"] = presets.menu
        presets.draw()
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
                show.click(measurement, [], [shown], **QUICK)
            with gr.Accordion("From another program", open=False, elem_id=elem_id("others")):
                _importer(made, elem_id)
        presets.wire(made)
    return [made[name] for name in FREEU.names]


def _importer(made: dict[str, Any], elem_id: ElemId) -> None:
    """Reads a text of another program into the panel; of several presets the first, then the one that is chosen."""
    names = ["enabled", "preset", *FREEU.kept]
    text = gr.Textbox(
        "", lines=3, label="Infotext, presets.json or freeu_presets.py", elem_id=elem_id("others_text"), max_lines=8
    )
    found = gr.Dropdown([], label="Found", elem_id=elem_id("others_found"))
    button = gr.Button("Read into the panel", elem_id=elem_id("others_read"))
    with gr.Column(elem_id=elem_id("others_said")):
        said = gr.HTML("<p>The panel takes the values over; nothing is stored.</p>")

    def read(given: str, chosen: str | None) -> list[Any]:
        try:
            presets = others.from_text(given)
            name = chosen if chosen in presets else next(iter(presets))
            values = FREEU.read(presets[name].values)
        except PrismError as error:
            return [gr.update(), _paragraphs([str(error)]), *[gr.update()] * len(names)]
        menu = gr.update(choices=list(presets), value=name)
        return [menu, _paragraphs(presets[name].notes or ["Read."]), *(values[one] for one in names)]

    outputs = [found, said, *(made[one] for one in names)]
    button.click(read, [text, found], outputs, **QUICK)
    found.input(read, [text, found], outputs, **QUICK, **LATEST)
    for component in (text, found):
        unsaved(component)


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _gains() -> str:
    """Where the page draws the gain over frequency."""
    defaults = html.escape(json.dumps({one.name: one.default for one in FREEU.fields}))
    return f'<div class="prism-gains" data-defaults="{defaults}"></div>'


def _editor(name: str) -> str:
    """Where the page draws the curve of a field."""
    return f'<div class="prism-curve" data-field="{name}" data-label="{FREEU[name].label}"></div>'
