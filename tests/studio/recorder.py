"""An extension script that writes one line per hook."""

import os
from pathlib import Path

import gradio as gr
from modules import extra_networks, script_callbacks, scripts, shared

BASEDIR = scripts.basedir()
LOG = Path(BASEDIR) / "log.txt"
FAIL = os.environ.get("RECORDER_FAILS") == "1"


def note(text):
    with LOG.open("a") as file:
        file.write(text + "\n")
    if FAIL:
        raise RuntimeError("on purpose: " + text)


class Net(extra_networks.ExtraNetwork):
    def activate(self, p, params_list):
        note(f"activate {[x.items for x in params_list]}")

    def deactivate(self, p):
        note("deactivate")


def before_ui():
    extra_networks.register_extra_network(Net("net"))
    note("before_ui")


script_callbacks.on_before_ui(before_ui)
script_callbacks.on_ui_settings(lambda: note("ui_settings"))
script_callbacks.on_model_loaded(lambda model: note("model_loaded"))
script_callbacks.on_extra_noise(lambda params: note("extra_noise"))
script_callbacks.on_cfg_denoiser(lambda params: note(f"cfg_denoiser {params.denoiser.step} {tuple(params.x.shape)}"))
script_callbacks.on_cfg_denoised(lambda params: note("cfg_denoised"))
script_callbacks.on_cfg_after_cfg(lambda params: note("cfg_after_cfg"))
script_callbacks.on_before_image_saved(lambda params: note("before_image_saved"))
script_callbacks.on_image_saved(lambda params: note("image_saved"))
script_callbacks.on_image_grid(lambda params: note("image_grid"))
script_callbacks.on_app_started(lambda demo, app: note(f"app_started {demo is not None}"))
script_callbacks.on_script_unloaded(lambda: note("script_unloaded"))
script_callbacks.on_list_unets(lambda items: note("list_unets"))


class Recorder(scripts.Script):
    def title(self):
        return "Test Recorder"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        note("ui")
        enabled = gr.Checkbox(False, label="Recorder on", elem_id=self.elem_id("on"))
        amount = gr.Slider(0, 10, 3, label="Recorder amount", elem_id=self.elem_id("amount"))
        self.infotext_fields = [(enabled, lambda params: "Recorder" in params), (amount, "Recorder")]
        self.paste_field_names = ["Recorder"]
        return [enabled, amount]

    def setup(self, p, *args):
        note(f"setup {args}")

    def before_process(self, p, *args):
        note(f"before_process {p.all_prompts is None}")

    def process(self, p, enabled, amount):
        p.extra_generation_params.pop("Recorder", None)
        if enabled:
            p.extra_generation_params["Recorder"] = amount
        note(f"process {shared.sd_model.sd_checkpoint_info.name_for_extra} {len(p.all_seeds)}")

    def before_process_batch(self, p, *args, **kwargs):
        note(f"before_process_batch {sorted(kwargs)} {kwargs['prompts']} {p.rng.shape}")

    def after_extra_networks_activate(self, p, *args, **kwargs):
        note(f"after_extra_networks_activate {sorted(kwargs)}")

    def process_batch(self, p, *args, **kwargs):
        note(f"process_batch {sorted(kwargs)} {kwargs['prompts']} {p.c is None}")

    def process_before_every_sampling(self, p, *args, **kwargs):
        note(f"process_before_every_sampling {sorted(kwargs)} {kwargs['x'] is kwargs['noise']}")

    def before_hr(self, p, *args):
        note(f"before_hr {p.is_hr_pass} {p.hr_c is not None}")

    def on_mask_blend(self, p, mba, *args):
        note(f"on_mask_blend {mba.is_final_blend} {mba.sigma is None}")

    def post_sample(self, p, ps, *args):
        decoded = getattr(ps.samples, "already_decoded", False)
        note(f"post_sample {len(ps.samples) if decoded else tuple(ps.samples.shape)}")

    def postprocess_batch(self, p, *args, **kwargs):
        note(f"postprocess_batch {sorted(kwargs)}")

    def postprocess_batch_list(self, p, pp, *args, **kwargs):
        note(f"postprocess_batch_list {sorted(kwargs)} {len(pp.images)}")

    def postprocess_image(self, p, pp, *args):
        note(f"postprocess_image {pp.image.size}")

    def postprocess_maskoverlay(self, p, ppmo, *args):
        note(f"postprocess_maskoverlay {ppmo.mask_for_overlay is not None} {ppmo.overlay_image is not None}")

    def postprocess_image_after_composite(self, p, pp, *args):
        note("postprocess_image_after_composite")

    def postprocess(self, p, processed, *args):
        note(f"postprocess {len(processed.images)}")
