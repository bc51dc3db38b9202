"""A followed card and the scripts that draw with copies of the job."""

from __future__ import annotations

import json

import pytest
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import CARDS, FREEU
from sd_prism.studio import generate, host

DETAIL = """
import copy

from modules import processing, scripts


class Detail(scripts.Script):
    def title(self):
        return "Detail"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def postprocess(self, p, processed):
        if not hasattr(p, "detail"):
            inner = copy.copy(p)
            inner.detail, inner.steps, inner.prompt = True, 1, "an eye"
            made = processing.process_images(inner)
            processed.images.extend(made.images)
            processed.infotexts.extend(made.infotexts)
"""
CARD = {
    "format": "prism.preset",
    "version": 1,
    "feature": "card",
    "name": "Small",
    "values": {"host": {"steps": 3}, "prompt": {"before": "bright"}, "freeu": {"b1": 1.3}},
}
JOB = {"prompt": "a red fish", "steps": 2, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    """draw(title=args) is the infotexts of a job with the script above."""
    folder = tmp_path_factory.mktemp("cards")
    detail = folder / "detail" / "scripts" / "detail.py"
    detail.parent.mkdir(parents=True)
    detail.write_text(DETAIL)
    card = folder / "prism" / "presets" / "card" / "small.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps(CARD))

    def drawn(**args):
        scripts = {"alwayson_scripts": {title: {"args": [given]} for title, given in args.items()}}
        given = {"data_dir": folder, "extensions": [detail.parents[1]], "checkpoint": MINI_V1}
        return generate.generate({**JOB, **scripts}, **given).infotexts

    yield drawn
    host.close_host()


def test_a_copy_of_the_job_keeps_what_its_script_gave_it(draw):
    outer, inner = draw(**{CARDS.title: {"card": "Small"}})
    assert outer.startswith("bright, a red fish") and "Steps: 3," in outer and "b1=1.3" in outer
    assert inner.startswith("an eye\n") and "Steps: 1," in inner and "b1=1.3" in inner


def test_without_a_card_nothing_is_set(draw):
    assert all("b1=" not in text and "bright" not in text for text in draw(**{FREEU.title: False}))
