"""Prism Block Merge. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts.merge import panel  # noqa: E402

panel.register()


class PrismMerge(scripts.Script):
    def title(self):
        return panel.MERGE.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return panel.ui(self)

    def before_process(self, p, *args):
        panel.before_process(p)

    def process(self, p, *args):
        panel.process(p, args)

    def after_extra_networks_activate(self, p, *args, extra_network_data, **kwargs):
        panel.networks_told(p, extra_network_data)

    def process_batch(self, p, *args, **kwargs):
        panel.before_encoding(p)

    def process_before_every_sampling(self, p, *args, **kwargs):
        panel.before_sampling(p)
