"""Prism Cascade. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts import cascade  # noqa: E402

cascade.register()


class PrismCascade(scripts.Script):
    def __init__(self):
        cascade.watch(self)

    def title(self):
        return cascade.CASCADE.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return cascade.ui(self)

    def process(self, p, *args):
        cascade.process(p, args)

    def before_process_batch(self, p, *args, batch_number, **kwargs):
        cascade.before_batch(p, batch_number)

    def process_before_every_sampling(self, p, *args, noise, **kwargs):
        cascade.before_sampling(p, noise)

    def post_sample(self, p, ps, *args):
        cascade.after_sampling(p, ps)

    def postprocess(self, p, processed, *args):
        cascade.after_job(p, processed)
