"""The two generation tabs: what both have, declared once, in the host's order and with its element ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from sd_prism.errors import PrismError
from sd_prism.studio.page.events import QUIET

SECTIONS = (
    "image",
    "inpaint",
    "sampler",
    "accordions",
    "checkboxes",
    "dimensions",
    "cfg",
    "denoising",
    "seed",
    "batch",
    "override_settings",
)


@dataclass
class Tab:
    """A generation tab while it is built.

    Attributes:
        name: "txt2img" or "img2img"; the first part of the element ids.
        runner: the tab's scripts.
        fields: components with values, by the name of the request's field; some names are the page's own.
        parts: buttons and other components without a value that a job needs.
        paste: (component, infotext key or function) of what a paste fills in, in the host's order.
    """

    name: str
    runner: Any
    fields: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    paste: list = field(default_factory=list)

    def id(self, part: str) -> str:
        """An element id of this tab."""
        return f"{self.name}_{part}"

    def add(self, name: str, component: Any, target: Any = None) -> Any:
        """Take a component as the field `name`, filled by a paste of `target`."""
        from modules.infotext_utils import PasteField

        self.fields[name] = component
        if target is not None:
            self.paste.append(PasteField(component, target, api=name))
        return component


def native_size() -> int:
    """The size that the chosen checkpoint was trained for, from its header; 512 when that cannot be read."""
    from modules import sd_models

    model = sd_models.model_data.sd_model
    try:
        return sd_models.native_size(sd_models.select_checkpoint()) if model is None else model.native_size
    except (PrismError, OSError, AttributeError):
        return 512  # a damaged file is told about when it is loaded


def settings(tab: Tab, own: dict[str, Callable[[Tab], None]]) -> None:
    """The fields in the host's sections, each followed by the scripts that ask for that section.

    Args:
        own: what only this tab has, by section.
    """
    rows = {**COMMON, **own}
    runner = tab.runner
    runner.prepare_ui()
    for section in [*SECTIONS, *_sections_of(runner)]:
        if section == "accordions":
            with gr.Column(elem_id=tab.id("accordions"), elem_classes=["accordions"]):
                rows.get(section, _nothing)(tab)
                runner.setup_ui_for_section(section)
        else:
            rows.get(section, _nothing)(tab)
            runner.setup_ui_for_section(section)
    with gr.Column(elem_id=tab.id("script_container")):
        runner.setup_ui()


def _nothing(tab: Tab) -> None:
    """A section without fields of the page's own."""


def _sections_of(runner: Any) -> list[str]:
    """Sections that only scripts know."""
    names = [script.section for script in runner.scripts if isinstance(script.section, str)]
    return [name for name in dict.fromkeys(names) if name not in SECTIONS]


def _sampler(tab: Tab) -> None:
    from modules import sd_samplers, sd_schedulers

    names = sd_samplers.visible_sampler_names()
    schedules = [x.label for x in sd_schedulers.schedulers]
    with gr.Row(elem_id=f"sampler_selection_{tab.name}"):
        sampler = gr.Dropdown(names, value=names[0], label="Sampling method", elem_id=tab.id("sampling"))
        scheduler = gr.Dropdown(schedules, value=schedules[0], label="Schedule type", elem_id=tab.id("scheduler"))
    steps = gr.Slider(1, 150, 20, step=1, label="Sampling steps", elem_id=tab.id("steps"))
    tab.add("steps", steps, "Steps")
    tab.add("sampler_name", sampler, sd_samplers.get_sampler_from_infotext)
    tab.add("scheduler", scheduler, sd_samplers.get_scheduler_from_infotext)


def size_sliders(tab: Tab) -> None:
    """Width and height, and the buttons beside them."""
    from modules.ui_components import ToolButton

    size = native_size()
    with gr.Row():
        with gr.Column(elem_id=tab.id("column_size"), scale=4):
            width = gr.Slider(64, 2048, size, step=8, label="Width", elem_id=tab.id("width"))
            height = gr.Slider(64, 2048, size, step=8, label="Height", elem_id=tab.id("height"))
        with gr.Column(elem_id=tab.id("dimensions_row"), scale=0, min_width=40, elem_classes=["dimensions-tools"]):
            switch = ToolButton("⇅", elem_id=tab.id("res_switch_btn"), tooltip="Switch width/height")
            if tab.name == "img2img":
                tab.parts["detect_size"] = ToolButton(
                    "📐", elem_id="img2img_detect_image_size_btn", tooltip="Auto detect size from img2img"
                )
    tab.add("width", width, "Size-1")
    tab.add("height", height, "Size-2")
    switch.click(lambda w, h: (h, w), [width, height], [width, height], **QUIET)


def batch_sliders(tab: Tab) -> None:
    """Batch count and batch size."""
    with gr.Column(elem_id=tab.id("column_batch"), scale=2, min_width=160):
        count = gr.Slider(1, 100, 1, step=1, label="Batch count", elem_id=tab.id("batch_count"))
        batch = gr.Slider(1, 8, 1, step=1, label="Batch size", elem_id=tab.id("batch_size"))
    tab.add("n_iter", count)
    tab.add("batch_size", batch, "Batch size")


def _dimensions(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4):
            size_sliders(tab)
        batch_sliders(tab)


def _cfg(tab: Tab) -> None:
    cfg = gr.Slider(1.0, 30.0, 7.0, step=0.5, label="CFG Scale", elem_id=tab.id("cfg_scale"))
    tab.add("cfg_scale", cfg, "CFG scale")


def _seed(tab: Tab) -> None:
    from modules.ui_components import ToolButton

    def number(name: str, label: str, target: str) -> None:
        component = gr.Number(-1, label=label, precision=0, elem_id=tab.id(name), min_width=100)
        tab.add(name, component, target)
        dice = ToolButton("🎲️", elem_id=tab.id(f"random_{name}"), tooltip="Set seed to -1: a new one for each job")
        reuse = ToolButton("♻️", elem_id=tab.id(f"reuse_{name}"), tooltip="Reuse seed from last generation")
        dice.click(lambda: -1, None, [component], **QUIET)
        tab.parts[f"reuse_{name}"] = reuse

    def resize(name: str, label: str, target: str) -> None:
        slider = gr.Slider(0, 2048, 0, step=8, label=label, elem_id=tab.id(name))
        tab.add(name, slider, target)

    with gr.Row(elem_id=tab.id("seed_row"), elem_classes=["seed-row"]):
        number("seed", "Seed", "Seed")
        show = gr.Checkbox(False, label="Extra", elem_id=tab.id("subseed_show"), container=False, min_width=80, scale=0)
    with gr.Column(visible=False, elem_id=tab.id("seed_extras")) as extras:
        with gr.Row(elem_id=tab.id("subseed_row"), elem_classes=["seed-row"]):
            number("subseed", "Variation seed", "Variation seed")
            strength = gr.Slider(0, 1, 0.0, step=0.01, label="Variation strength", elem_id=tab.id("subseed_strength"))
        with gr.Row(elem_id=tab.id("seed_resize_from_row")):
            resize("seed_resize_from_w", "Resize seed from width", "Seed resize from-1")
            resize("seed_resize_from_h", "Resize seed from height", "Seed resize from-2")
    tab.add("subseed_strength", strength, "Variation seed strength")
    tab.add("subseed_show", show, lambda params: "Variation seed" in params or "Seed resize from-1" in params)
    show.change(lambda on: gr.update(visible=on), [show], [extras], **QUIET)


def _override_settings(tab: Tab) -> None:
    with gr.Row(elem_id=tab.id("override_settings_row")):
        chips = gr.Dropdown(
            [], label="Override settings", visible=False, elem_id=tab.id("override_settings"), multiselect=True
        )
    tab.fields["override_settings"] = chips
    chips.input(lambda left: gr.update(visible=bool(left)), [chips], [chips], **QUIET)


COMMON: dict[str, Callable[[Tab], None]] = {
    "sampler": _sampler,
    "dimensions": _dimensions,
    "cfg": _cfg,
    "seed": _seed,
    "override_settings": _override_settings,
}
