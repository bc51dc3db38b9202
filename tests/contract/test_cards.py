"""Jobs that follow a card, in every host."""

from __future__ import annotations

from contract.jobs import JOB, freeu
from sd_prism.settings import CARDS, FREEU

QUICK = {**JOB, "steps": 1}
S3D = "Baka-Diffusion [S3D]"
MINI = "Prism mini-v1"


def cards(*args):
    return freeu(*args, title=CARDS.title)


def test_off_it_is_as_if_it_were_not_there(host):
    (plain,) = host.draw(QUICK)
    (off,) = host.draw({**QUICK, **cards(False, MINI)})
    assert off.png == plain.png and CARDS.title not in off.infotext


def test_a_job_follows_the_card_of_its_model_and_says_every_value(host):
    (picture,) = host.draw({**QUICK, **cards(True)})
    said = picture.infotext
    assert f"{CARDS.title}: card={MINI}" in said and "Schedule type: Karras" in said and "Size: 128x128" in said
    own = {"steps": 20, "sampler_name": "DPM++ 2M", "scheduler": "Karras", "width": 128, "height": 128}
    (by_hand,) = host.draw({**QUICK, **own})
    assert picture.pixels == by_hand.pixels


def test_a_card_by_name_sets_texts_and_panels_once(host):
    small = {"card": S3D.lower()}
    (picture,) = host.draw({**QUICK, "negative_prompt": "lowres", **cards(small)})
    assert f"card={S3D}" in picture.infotext and "Size: 600x896" in picture.infotext
    assert picture.infotext.count("lowres") == 1 and f"{FREEU.title}: preset=Baka-Diffusion" in picture.infotext


def test_an_unknown_card_is_told_with_the_known_ones(host):
    (picture,) = host.draw({**QUICK, **cards({"card": "Sygil-Difusion"})})
    assert f"{CARDS.title} error" in picture.infotext and "Sygil-Diffusion" in picture.infotext
    assert "Size: 64x64" in picture.infotext
