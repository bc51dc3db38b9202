"""In the miniature's world a typed tag draws the one thing it names; the bare word draws now this, now that."""

from __future__ import annotations

import io
from collections import Counter

import numpy
import pytest
import torch
from PIL import Image
from sd_prism.miniatures import MINI_V1
from sd_prism.miniatures import judge as judges
from sd_prism.studio import generate, host

SEEDS = 8


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Prompt -> how often the judge sees each subject, over seeds."""
    folder = tmp_path_factory.mktemp("senses")
    judge = judges.load(judges.FILE)

    def drawn(prompt, negative=""):
        request = {
            "prompt": f"{prompt}, color:black, place:snow",
            "negative_prompt": negative,
            "seed": 40_000,
            "steps": 12,
            "cfg_scale": 5,
            "batch_size": SEEDS,
            "sampler_name": "DPM++ 2M",
            "alwayson_scripts": {"Prism Namespaces": {"args": [{}]}},
        }
        result = generate.generate(request, checkpoint=MINI_V1, data_dir=folder)
        pictures = [numpy.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in result.images[-SEEDS:]]
        pixels = torch.from_numpy(numpy.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
        return Counter(answer["subject"] for answer in judge.read(pixels))

    yield drawn
    host.close_host()


@pytest.mark.parametrize("word", ["seal", "bat"])
def test_a_tag_says_which_one(subjects, word):
    bare = subjects(word)
    assert bare[f"species:{word}"] and bare[f"object:{word}"], bare
    for sense in ("species", "object"):
        assert subjects(f"{sense}:{word}")[f"{sense}:{word}"] >= SEEDS - 1


@pytest.mark.parametrize("written", ["（species：seal：1.2）", "species:(seal:1.1)", "[species:seal|species:seal]"])
def test_it_does_in_every_way_to_write_it(subjects, written):
    """Forms that a webui reads as something else by itself."""
    assert subjects(written)["species:seal"] >= SEEDS - 1


def test_a_minus_keeps_a_sense_out(subjects):
    before, after = subjects("seal"), subjects("seal, -object:seal")
    assert after["species:seal"] > before["species:seal"], (before, after)
