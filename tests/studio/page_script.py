"""An extension script for the tests of the page: a panel, a setting, a tab, and a gate that holds a job."""

import time
from pathlib import Path

import gradio as gr
from modules import script_callbacks, scripts, shared
from modules.options import OptionInfo
from modules.ui_components import InputAccordion

GATE = Path(scripts.basedir()) / "gate"


def wait(params):
    """While the file is there, jobs stand still from the third step on, until they are interrupted."""
    while GATE.exists() and params.sampling_step >= 2 and not (shared.state.interrupted or shared.state.skipped):
        time.sleep(0.01)


def settings():
    section = ("panel", "Test settings")
    shared.opts.add_option("panel_amount", OptionInfo(3, "Panel amount", section=section))
    shared.opts.add_option(
        "panel_kind",
        OptionInfo("soft", "Panel kind", gr.Radio, {"choices": ["soft", "hard"]}, section=section).info("a remark"),
    )


def tab():
    with gr.Blocks(analytics_enabled=False) as interface:
        gr.Textbox("hello", label="Word", elem_id="panel_word")
    return [(interface, "Test tab", "panel_tab")]


script_callbacks.on_cfg_denoised(wait)
script_callbacks.on_ui_settings(settings)
script_callbacks.on_ui_tabs(tab)


class Panel(scripts.Script):
    def title(self):
        return "Test Panel"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        with InputAccordion(False, label="Test Panel", elem_id=self.elem_id("enabled")) as enabled:
            amount = gr.Slider(0, 10, 3, step=1, label="Amount", elem_id=self.elem_id("amount"))
        self.infotext_fields = [(enabled, lambda params: "Panel" in params), (amount, "Panel")]
        return [enabled, amount]

    def process(self, p, enabled, amount):
        if enabled:
            p.extra_generation_params["Panel"] = amount
