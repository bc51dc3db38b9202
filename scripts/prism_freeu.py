"""Prism FreeU. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts import freeu  # noqa: E402

freeu.register()


class PrismFreeU(scripts.Script):
    def title(self):
        return freeu.FREEU.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return freeu.ui(self)

    def process(self, p, *args):
        freeu.process(p, args)

    def process_batch(self, p, *args, **kwargs):
        freeu.before_batch()

    def process_before_every_sampling(self, p, *args, **kwargs):
        freeu.before_sampling(p)

    def post_sample(self, p, ps, *args):
        freeu.after_sampling()

    def postprocess(self, p, processed, *args):
        freeu.after_job(p, processed)
