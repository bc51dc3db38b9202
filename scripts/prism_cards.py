"""Prism Cards. The work is done in lib/sd_prism; this file is what the webui finds."""

import runpy
from pathlib import Path

from modules import scripts

runpy.run_path(str(Path(__file__).resolve().parents[1] / "lib" / "sd_prism" / "bind.py"))
from sd_prism.hosts.cards import panel  # noqa: E402

panel.register()


class PrismCards(scripts.Script):
    def __init__(self):
        panel.watch(self)

    def title(self):
        return panel.CARDS.title

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return panel.ui(self)

    def before_process(self, p, *args):
        panel.before_process(p, args)
