"""Prism Namespaces. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts.namespaces import panel  # noqa: E402

panel.register()


class PrismNamespaces(scripts.Script):
    def title(self):
        return panel.NAMESPACES.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return panel.ui(self)

    def before_process(self, p, *args):
        panel.before_process(p, args)

    def process(self, p, *args):
        panel.process(p, args)

    def before_process_batch(self, p, *args, batch_number, **kwargs):
        panel.before_batch(p, batch_number)

    def post_sample(self, p, ps, *args):
        panel.after_sampling()
