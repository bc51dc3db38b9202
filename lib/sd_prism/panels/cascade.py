"""The panel "Prism Cascade": the decoder and its settings in sight, what is rarely moved under "Advanced".

The page's script writes the line of sizes and tells whether a Cascade checkpoint is in use.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gradio as gr

from ..cards import Store
from ..errors import PrismError
from ..settings import CASCADE
from ..settings.cascade import AUTO, FIRST_STAGE
from .compat import JS, LATEST, QUICK, tool_button, unsaved
from .controls import ElemId, control
from .presets import DROP, Presets

IN_SIGHT = ("steps", "cfg"), ("sampler", "schedule")
ADVANCED = (
    ("seed_mode", "seed"),
    ("compression", "file_compression"),
    ("rescale", "rescale_c"),
    ("shift_c", "shift_b"),
    ("dtype", "preview_only"),
)
ABSENT = (
    "Stable Cascade cannot be loaded here: this webui makes only the kinds of models in its own list. Prism's studio, "
    "AUTOMATIC1111, Forge and reForge draw with it."
)
OWN = (
    "This webui draws Stable Cascade with a pipeline of its own, which has no place for image prompts, img2img, hires "
    "fix, previews in place of pictures, and decoding again; presets leave its own sampler, steps and CFG alone."
)
OF_THE_HOST = ("sampling", "scheduler", "steps", "cfg_scale", "gallery", "generation_info", "html_info")


class Shown(NamedTuple):
    """Pictures for the tab's gallery, and what the webui shows with them."""

    pictures: list[Any]
    info: str
    html: str


class Host(Protocol):
    """What the panel asks of a webui."""

    def decoders(self) -> list[str]:
        """The decoders, as the menus show them."""

    def refresh(self) -> None:
        """Look for files anew."""

    def keep(self, file: str) -> str:
        """A picture's name in image prompts, by which it is known from then on; raises PrismError for another file."""

    def again(self, tab: str, given: Mapping[str, object], file: str) -> Shown:
        """The tab's last pictures, or those of a file of latents, by other settings; raises PrismError."""


@dataclass
class Drawn:
    """The panel's components; those of the webui are connected when they are there, too."""

    made: dict[str, Any]
    again: Any = None
    file: Any = None
    said: Any = None

    @property
    def components(self) -> list[Any]:
        """In the order of the declaration."""
        return [self.made[name] for name in CASCADE.names]


def build(elem_id: ElemId, store: Callable[[], Store], host: Host, lacking: Container[str] = ()) -> Drawn:
    """Draws the panel; where settings are lacking in the webui, these are unseen, and so is what goes with them."""
    drawn = Drawn({})
    made = drawn.made

    def rows(*parts: tuple[str, ...]) -> None:
        for names in parts:
            with gr.Row(elem_classes=["prism"]):
                for name in names:
                    made[name] = _control(name, elem_id, visible=name not in lacking)

    with gr.Accordion(CASCADE.title, open=False, elem_id=elem_id("panel")):
        if lacking:
            gr.HTML(f"<p>{OWN}</p>")
        gr.HTML('<div class="prism-cascade" role="status"></div>')
        with gr.Row(elem_classes=["prism"]):
            presets = Presets(CASCADE, elem_id, store)
            made["preset"] = presets.menu
        presets.draw()
        with gr.Row(elem_classes=["prism"]):
            made["decoder"] = _decoders(elem_id, host)
            refresh = tool_button("\U0001f504", elem_id("refresh"))
        rows(*IN_SIGHT)
        if not lacking:
            _again(drawn, elem_id)
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            rows(*ADVANCED)
            with gr.Row(elem_classes=["prism"], visible=not lacking):
                made["save_latents"] = _control("save_latents", elem_id)
                drawn.file = unsaved(
                    gr.File(
                        label="Latents to decode", file_types=[".safetensors"], height=DROP, elem_id=elem_id("latents")
                    )
                )
        _image_prompt(made, elem_id, host, visible=not lacking)
        presets.wire(made)
        looked = refresh.click(lambda: _looked(host), [], [made["decoder"]], **QUICK)
        looked.then(None, [], [], **{JS: "() => globalThis.prismCascadeAsk?.()"})
    return drawn


def _again(drawn: Drawn, elem_id: ElemId) -> None:
    drawn.again = gr.Button("Decode again", elem_id=elem_id("again"))
    with gr.Column(elem_id=elem_id("told")):  # gradio 3 writes the id of an HTML component twice
        drawn.said = gr.HTML("")


def _image_prompt(made: dict[str, Any], elem_id: ElemId, host: Host, visible: bool) -> None:
    """Chosen files are named in the text, which is what counts and what a paste fills."""
    with gr.Accordion("Image prompt", open=False, elem_id=elem_id("image_prompt"), visible=visible):
        gr.HTML('<div class="prism-cascade-blind" role="status"></div>')
        with gr.Column(elem_id=elem_id("seen")):
            said = gr.HTML("")
        files = gr.File(
            label="Pictures to follow",
            file_count="multiple",
            file_types=["image"],
            height=DROP,
            elem_id=elem_id("pictures"),
        )
        with gr.Row(elem_classes=["prism"]):
            for name in ("images", "image_strength"):
                made[name] = _control(name, elem_id)

    def named(chosen: Any) -> list[Any]:
        try:
            names = [host.keep(_path(one)) for one in chosen or ()]
        except PrismError as error:
            return [gr.update(), _said(error)]
        return [" ".join(names), ""]

    unsaved(made["images"])
    unsaved(files).change(named, [files], [made["images"], said], **QUICK)


def _control(name: str, elem_id: ElemId, **more: Any) -> Any:
    one = CASCADE[name]
    if name == "seed":
        return gr.Number(0, label=one.label, precision=0, elem_id=elem_id(name), **more)
    return control(one, elem_id, **more)


def _decoders(elem_id: ElemId, host: Host) -> Any:
    """A menu of decoders; what another machine has, a pasted infotext for example, may stand in it as well."""
    one = CASCADE["decoder"]
    menu = gr.Dropdown(
        [AUTO, *host.decoders()],
        value=one.default,
        label=one.label,
        elem_id=elem_id(one.name),
        allow_custom_value=True,
    )
    return unsaved(menu)


def _looked(host: Host) -> Any:
    host.refresh()
    return gr.update(choices=[AUTO, *host.decoders()])


def connect(drawn: Drawn, found: Mapping[str, Any], tab: str, host: Host) -> None:
    """Once the webui's own components `OF_THE_HOST` are there: presets set some, decoding fills others."""
    controls = ("sampling", "scheduler", "steps", "cfg_scale")

    def first_stage(name: str) -> list[Any]:
        wanted = FIRST_STAGE.get(name, {})
        return [gr.update(value=wanted[one]) if one in wanted else gr.update() for one in controls]

    outputs = [found[one] for one in controls]
    drawn.made["preset"].input(first_stage, [drawn.made["preset"]], outputs, **QUICK, **LATEST)
    decoded = drawn.again.click(
        _decode(tab, host),
        [drawn.file, *drawn.components],
        [found["gallery"], found["generation_info"], found["html_info"], drawn.said],
        **{JS: f"(...given) => {{ globalThis.showSubmitButtons?.('{tab}', false); return given; }}"},
    )
    decoded.then(None, [], [], **{JS: f"() => globalThis.showSubmitButtons?.('{tab}', true)"})


def _decode(tab: str, host: Host) -> Callable[..., list[Any]]:
    def decode(file: Any, *values: object) -> list[Any]:
        try:
            shown = host.again(tab, dict(zip(CASCADE.names, values)), _path(file))
        except PrismError as error:
            return [gr.update(), gr.update(), gr.update(), _said(error)]
        return [shown.pictures, shown.info, shown.html, ""]

    return decode


def _path(file: Any) -> str:
    """Where a chosen file lies, "" for none; gradio 3 gives a file, later ones its path."""
    return str(getattr(file, "name", file) or "")


def _said(error: PrismError) -> str:
    return f'<p class="prism-said">{html.escape(str(error))}</p>'
