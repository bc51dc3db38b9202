"""The panel "Prism Block Merge": model, ratio, preset and the blocks' bars in sight, the rest under "Advanced".

The page's script draws the bars and writes what they say into the panel's own texts.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gradio as gr

from ..cards import Store
from ..errors import PrismError
from ..merge.recipe import MODES
from ..settings import MERGE
from .compat import QUICK, switch, tool_button, unsaved
from .controls import ElemId, control, said
from .presets import Presets

NARROW = 160  # pixels, so that two columns fit side by side
MODELS = ("model", "minus")
ADVANCED = ("include", "exclude"), ("steps", "hires"), ("options", "recipe"), ("everywhere",)
AS_LOADED = "as loaded"
FORMATS = (AS_LOADED, "fp16", "bf16", "fp32")
TIPS = {
    "bake_name": "The name of the new checkpoint; it goes where the other checkpoints are.",
    "bake_format": "The format of its numbers; as loaded, it draws what the webui draws now; fp16 is half of fp32.",
    "bake_write": "Write the merge to a file, which then is a checkpoint like any other.",
}


class Host(Protocol):
    """What the panel asks of a webui."""

    def names(self) -> list[str]:
        """The checkpoints, as the menus show them."""

    def refresh(self) -> None:
        """Look for checkpoints anew."""

    def baked(self, given: Mapping[str, object]) -> Iterator[tuple[str, int, int]]:
        """Write a file: the panel's settings, with "name" and "dtype" ("" is that of the loaded model).

        Gives (path and format, bytes written, all bytes) now and then, both equal when the file is complete.

        Raises PrismError.
        """


def build(elem_id: ElemId, store: Callable[[], Store], host: Host) -> list[Any]:
    """Draws the panel; the components in the order of the declaration."""
    made: dict[str, Any] = {}

    def rows(*parts: tuple[str, ...]) -> None:
        for names in parts:
            with gr.Row(elem_classes=["prism"]):
                for name in names:
                    made[name] = control(MERGE[name], elem_id)

    with switch(MERGE.title, elem_id("panel")) as made["enabled"]:
        with gr.Row(elem_classes=["prism"]):
            presets = Presets(MERGE, elem_id, store)
        presets.draw()
        with gr.Row(elem_classes=["prism"]):
            made["model"] = _model_menu("model", elem_id, host)
            refresh = tool_button("\U0001f504", elem_id("refresh"))
            made["mode"] = control(MERGE["mode"], elem_id)
            made["minus"] = _model_menu("minus", elem_id, host)
        with gr.Row(elem_classes=["prism"]):
            made["ratio"] = control(MERGE["ratio"], elem_id)
            made["strength"] = control(MERGE["strength"], elem_id)
        with gr.Row(elem_classes=["prism"]):
            made["preset"] = control(MERGE["preset"], elem_id, scale=3, min_width=2 * NARROW)
            for name in ("te", "vae"):
                made[name] = control(MERGE[name], elem_id, scale=1, min_width=NARROW // 2, max_lines=1)
        gr.HTML(_bars())
        made["weights"] = control(MERGE["weights"], elem_id, lines=2, max_lines=2)  # as high as a full list: no jumps
        made["blocks"] = control(MERGE["blocks"], elem_id, max_lines=1)
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            rows(*ADVANCED)
        with gr.Accordion("Bake…", open=False, elem_id=elem_id("bake")):
            _baker(made, elem_id, host)
        made["mode"].change(_minus_update, [made["mode"]], [made["minus"]], **QUICK)
        _wire_refresh(refresh, made, host)
        presets.wire(made)
    return [made[name] for name in MERGE.names]


def _model_menu(name: str, elem_id: ElemId, host: Host) -> Any:
    """A menu of checkpoints; what another machine has, a pasted infotext for example, may stand in it as well."""
    one = MERGE[name]
    shown = name != "minus" or _needs_minus(str(MERGE["mode"].default))
    return unsaved(
        gr.Dropdown(
            _menu(host),
            value=one.default,
            label=one.label,
            elem_id=elem_id(name),
            allow_custom_value=True,
            visible=shown,
            min_width=NARROW,
        )
    )


def _menu(host: Host) -> list[str]:
    """No model, then all: gradio 4 takes the first entry for a value that is empty."""
    return ["", *host.names()]


def _needs_minus(title: str) -> bool:
    return any(mode.title == title and mode.minus != "no" for mode in MODES.values())


def _minus_update(title: str) -> Any:
    return gr.update(visible=_needs_minus(title))


def _wire_refresh(button: Any, made: Mapping[str, Any], host: Host) -> None:
    def look() -> list[Any]:
        host.refresh()
        names = _menu(host)
        return [gr.update(choices=names) for _ in MODELS]

    button.click(look, [], [made[name] for name in MODELS], **QUICK)


def _bars() -> str:
    """Where the page draws the blocks; it also says what those of baking are for."""
    return f'<div class="prism-merge" data-tips="{html.escape(json.dumps(TIPS))}"></div>'


def _baker(made: Mapping[str, Any], elem_id: ElemId, host: Host) -> None:
    """Writes the merge that the panel shows to a file, and says how far it is."""
    with gr.Row(elem_classes=["prism"]):
        name = unsaved(gr.Textbox("", label="Name of the new checkpoint", elem_id=elem_id("bake_name"), max_lines=1))
        dtype = unsaved(gr.Radio(list(FORMATS), value=AS_LOADED, label="Format", elem_id=elem_id("bake_format")))
    button = gr.Button("Bake", elem_id=elem_id("bake_write"))
    with gr.Column(elem_id=elem_id("baked")):  # gradio 3 writes the id of an HTML component twice
        line = gr.HTML(said("The loaded checkpoint is the base. A merge at some steps only cannot be written."))
    fields = [one for one in MERGE.names if one != "enabled"]

    def write(name: str, dtype: str, *values: object) -> Iterator[str]:
        given = {**dict(zip(fields, values)), "name": name, "dtype": "" if dtype == AS_LOADED else dtype}
        try:
            for path, done, total in host.baked(given):
                yield said("Written:", path) if done == total else _progress(done, total)
        except PrismError as error:
            yield said(str(error))

    inputs = [name, dtype, *(made[one] for one in fields)]
    button.click(write, inputs, [line], show_progress="hidden")


def _progress(done: int, total: int) -> str:
    share = done / total if total else 0.0
    return (
        f'<div class="prism-said" role="status"><progress max="1" value="{share:.3f}"></progress> '
        f"{share:.0%} · {total / 1e6:,.0f} MB</div>"
    )
