"""Prism Cascade. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts.cascade.choice import panel  # noqa: E402

panel.register()


class PrismCascade(scripts.Script):
    def __init__(self):
        panel.watch(self)

    def title(self):
        return panel.CASCADE.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return panel.ui(self)

    def process(self, p, *args):
        panel.process(p, args)

    def before_process_batch(self, p, *args, batch_number, **kwargs):
        panel.before_batch(p, batch_number)

    def process_before_every_sampling(self, p, *args, noise, **kwargs):
        panel.before_sampling(p, noise)

    def post_sample(self, p, ps, *args):
        panel.after_sampling(p, ps)

    def postprocess(self, p, processed, *args):
        panel.after_job(p, processed)
