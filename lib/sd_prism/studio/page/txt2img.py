"""The txt2img tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sd_prism.studio.page import tab as tabs
from sd_prism.studio.page.events import QUIET
from sd_prism.studio.page.tab import Tab

SAME = {"checkpoint": "Use same checkpoint", "sampler": "Use same sampler", "scheduler": "Use same scheduler"}
HIRES_KEYS = ("Hires upscale", "Hires upscaler", "Hires resize-1")


def settings(tab: Tab) -> None:
    """All fields below the prompts."""
    tabs.settings(tab, {"accordions": _hires})


def request_fields(values: dict[str, Any]) -> dict[str, Any]:
    """This tab's request has nothing that is not a field of the page."""
    return {}


def _upscalers() -> list[str]:
    from modules import shared

    return [*shared.latent_upscale_modes, *(x.name for x in shared.sd_upscalers)]


def _hires(tab: Tab) -> None:
    from modules import shared
    from modules.ui_components import InputAccordion

    with InputAccordion(False, label="Hires. fix", elem_id="txt2img_hr") as enabled:
        with enabled.extra():
            # The misspelt id is the host's.
            resolution = gr.HTML("", elem_id="txtimg_hr_finalres")
        with gr.Row(elem_id="txt2img_hires_fix_row1"):
            upscaler = gr.Dropdown(
                _upscalers(),
                value=shared.latent_upscale_default_mode,
                label="Upscaler",
                elem_id="txt2img_hr_upscaler",
            )
            steps = gr.Slider(0, 150, 0, step=1, label="Hires steps", elem_id="txt2img_hires_steps")
            strength = gr.Slider(
                0.0, 1.0, 0.7, step=0.01, label="Denoising strength", elem_id="txt2img_denoising_strength"
            )
        with gr.Row(elem_id="txt2img_hires_fix_row2"):
            scale = gr.Slider(1.0, 4.0, 2.0, step=0.05, label="Upscale by", elem_id="txt2img_hr_scale")
            to_width = gr.Slider(0, 2048, 0, step=8, label="Resize width to", elem_id="txt2img_hr_resize_x")
            to_height = gr.Slider(0, 2048, 0, step=8, label="Resize height to", elem_id="txt2img_hr_resize_y")
        tab.add("denoising_strength", strength, "Denoising strength")
        tab.add("enable_hr", enabled, _is_hires)
        tab.add("hr_scale", scale, "Hires upscale")
        tab.add("hr_upscaler", upscaler, "Hires upscaler")
        tab.add("hr_second_pass_steps", steps, "Hires steps")
        tab.add("hr_resize_x", to_width, "Hires resize-1")
        tab.add("hr_resize_y", to_height, "Hires resize-2")
        _hires_names(tab)
        _hires_prompts(tab)
    tab.parts["hr_resolution"] = resolution


def _is_hires(params: dict[str, Any]) -> bool:
    return "Denoising strength" in params and any(key in params for key in HIRES_KEYS)


def _hires_names(tab: Tab) -> None:
    """Checkpoint, sampler and schedule of the second pass."""
    from modules import sd_models, sd_samplers, sd_schedulers, shared, ui_common

    def checkpoints() -> dict[str, Any]:
        return {"choices": [SAME["checkpoint"], *sd_models.checkpoint_tiles(use_short=True)]}

    samplers = [SAME["sampler"], *sd_samplers.visible_sampler_names()]
    schedulers = [SAME["scheduler"], *(x.label for x in sd_schedulers.schedulers)]
    with gr.Row(elem_id="txt2img_hires_fix_row3", visible=shared.opts.hires_fix_show_sampler) as row:
        checkpoint = gr.Dropdown(**checkpoints(), value=SAME["checkpoint"], label="Checkpoint", elem_id="hr_checkpoint")
        ui_common.create_refresh_button(checkpoint, sd_models.list_models, checkpoints, "hr_checkpoint_refresh")
        sampler = gr.Dropdown(samplers, value=SAME["sampler"], label="Hires sampling method", elem_id="hr_sampler")
        scheduler = gr.Dropdown(
            schedulers, value=SAME["scheduler"], label="Hires schedule type", elem_id="hr_scheduler"
        )
    tab.add("hr_checkpoint_name", checkpoint, "Hires checkpoint")
    tab.add("hr_sampler_name", sampler, sd_samplers.get_hr_sampler_from_infotext)
    tab.add("hr_scheduler", scheduler, sd_samplers.get_hr_scheduler_from_infotext)
    keys = ("Hires checkpoint", "Hires sampler", "Hires schedule type")
    tab.paste.append((row, _shown_if_any(dict(zip(keys, SAME.values())))))


def _hires_prompts(tab: Tab) -> None:
    """Prompts of the second pass."""
    from modules import shared

    with gr.Row(elem_id="txt2img_hires_fix_row4", visible=shared.opts.hires_fix_show_prompts) as row:
        for name, key, ident in (
            ("hr_prompt", "Hires prompt", "hires_prompt"),
            ("hr_negative_prompt", "Hires negative prompt", "hires_neg_prompt"),
        ):
            box = gr.Textbox(
                "",
                label=key,
                show_label=False,
                lines=3,
                elem_id=ident,
                elem_classes=["prompt"],
                placeholder=f"{key}.\nLeave empty to use that of the first pass.",
            )
            tab.add(name, box, key)
    tab.paste.append((row, _shown_if_any({"Hires prompt": "", "Hires negative prompt": ""})))


def _shown_if_any(usual: dict[str, str]) -> Any:
    """A row that is hidden by default is shown when a pasted text has something for it."""

    def update(params: dict[str, Any]) -> Any:
        unusual = any(params.get(key, value) != value for key, value in usual.items())
        return gr.update(visible=True) if unusual else gr.update()

    return update


def connect(tab: Tab) -> None:
    """Show what size hires fix will give."""
    names = ("enable_hr", "width", "height", "hr_scale", "hr_resize_x", "hr_resize_y")
    inputs = [tab.fields[name] for name in names]
    gr.on(
        [component.change for component in inputs],
        _hires_size,
        inputs,
        [tab.parts["hr_resolution"]],
        trigger_mode="always_last",
        **QUIET,
    )


def _hires_size(enabled: bool, width: int, height: int, scale: float, to_width: int, to_height: int) -> str:
    from modules import processing

    if not enabled:
        return ""
    p = processing.StableDiffusionProcessingTxt2Img(
        width=width, height=height, enable_hr=True, hr_scale=scale, hr_resize_x=to_width, hr_resize_y=to_height
    )
    p.calculate_target_resolution()
    to = f"{p.hr_resize_x or p.hr_upscale_to_x}x{p.hr_resize_y or p.hr_upscale_to_y}"
    first, then = f"<span class='resolution'>{width}x{height}</span>", f"<span class='resolution'>{to}</span>"
    return f"from {first} to {then}"
