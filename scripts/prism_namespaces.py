"""Prism Namespaces. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts import namespaces  # noqa: E402

namespaces.register()


class PrismNamespaces(scripts.Script):
    def title(self):
        return namespaces.NAMESPACES.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return namespaces.ui(self)

    def before_process(self, p, *args):
        namespaces.before_process(p, args)

    def process(self, p, *args):
        namespaces.process(p, args)

    def before_process_batch(self, p, *args, batch_number, **kwargs):
        namespaces.before_batch(p, batch_number)

    def post_sample(self, p, ps, *args):
        namespaces.after_sampling()
