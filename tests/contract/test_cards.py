"""Jobs that follow a card, in every host."""

from __future__ import annotations

import json

import pytest
from contract.hosts import SECOND
from contract.jobs import JOB, PROBE_TITLE, difference, encoded, freeu, start_picture
from contract.test_presets import GRID, ROUNDED, grid
from sd_prism.settings import CARDS, FREEU

QUICK = {**JOB, "steps": 1}
S3D = "Baka-Diffusion [S3D]"
MINI = "Prism mini-v1"
SMALL, OTHER = "Small", "Other"
MINE = {
    SMALL: {
        "host": {"steps": 2, "cfg": 3, "height": 72, "clip_skip": 2},
        "prompt": {"before": "bright"},
        "negative": {"after": "fog"},
        "freeu": {"b1": 1.3},
    },
    OTHER: {"host": {"steps": 3, "sampler": "of another webui"}},
}
BY_HAND = {
    **JOB,
    **freeu({"b1": 1.3}),
    "steps": 2,
    "cfg_scale": 3,
    "height": 72,
    "prompt": f"bright, {JOB['prompt']}",
    "negative_prompt": "fog",
    "override_settings": {"CLIP_stop_at_last_layers": 2},
}


def cards(*args):
    return freeu(*args, title=CARDS.title)


def followed(name=SMALL, **scripts):
    """A request's part that follows a card, with arguments for other scripts by their titles."""
    others = {title: {"args": [args]} for title, args in scripts.items()}
    return {"alwayson_scripts": {**cards({"card": name})["alwayson_scripts"], **others}}


@pytest.fixture
def mine(host):
    """Two cards of the user's own, gone after the test."""
    folder = host.data / "prism" / "presets" / "card"
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in MINE.items():
        whole = {"format": "prism.preset", "version": 1, "feature": "card", "name": name, "values": values}
        (folder / f"{name}.json").write_text(json.dumps(whole), encoding="utf8")
    yield
    for name in MINE:
        (folder / f"{name}.json").unlink()


def test_off_it_is_as_if_it_were_not_there(host):
    (plain,) = host.draw(QUICK)
    (off,) = host.draw({**QUICK, **cards(False, MINI)})
    assert off.png == plain.png and CARDS.title not in off.infotext


def test_a_job_follows_the_card_of_its_model_and_says_every_value(host):
    (picture,) = host.draw({**QUICK, **cards(True)})
    said = picture.infotext
    assert f"{CARDS.title}: card={MINI}" in said and "Size: 128x128" in said
    assert ("Schedule type: Karras" in said) == host.schedules
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


def test_only_a_card_that_surely_fits_is_followed_by_itself(host):
    other = {"override_settings": {"sd_model_checkpoint": SECOND}}
    (picture,) = host.draw({**QUICK, **other, **cards(True)})
    assert "No card is known for this model" in picture.infotext and "Size: 64x64" in picture.infotext


def test_the_webuis_own_option_is_set_for_the_job_alone(host, mine):
    (picture,) = host.draw({**JOB, **followed()})
    (by_hand,) = host.draw(BY_HAND)
    assert "Clip skip: 2" in picture.infotext and picture.pixels == by_hand.pixels
    assert host.get("/sdapi/v1/options")["CLIP_stop_at_last_layers"] == 1


def test_a_panel_that_is_on_by_itself_wins(host, mine):
    (picture,) = host.draw({**JOB, **followed(**{FREEU.title: {"b1": 0.8}})})
    assert "b1=0.8" in picture.infotext and "b1=1.3" not in picture.infotext and "Steps: 2," in picture.infotext
    (by_hand,) = host.draw({**BY_HAND, **freeu({"b1": 0.8})})
    assert picture.pixels == by_hand.pixels


def test_a_picture_to_start_from_keeps_its_size(host, mine):
    request = {**JOB, "init_images": [encoded(start_picture())], "denoising_strength": 0.6, **followed()}
    (picture,) = host.draw(request)
    assert "Size: 64x64" in picture.infotext and "CFG scale: 3" in picture.infotext and "b1=1.3" in picture.infotext


def test_pasted_its_values_are_drawn_again_without_it(host, mine):
    (first,) = host.draw({**JOB, **followed()})
    (again,) = host.draw({"infotext": first.infotext})
    assert CARDS.title in first.infotext and CARDS.title not in again.infotext
    assert difference(again, first) <= ROUNDED


def test_every_picture_of_a_batch_follows(host, mine):
    pictures = host.draw({**JOB, "batch_size": 2, "n_iter": 2, **followed()})
    assert len({one.pixels for one in pictures}) == 4
    for one in pictures:
        assert f"card={SMALL}" in one.infotext and one.infotext.count("bright") == one.infotext.count("fog") == 1


def test_a_picture_inside_a_picture_has_the_cards_values_once(host, mine):
    outer, inner = host.draw({**JOB, **followed(**{PROBE_TITLE: "nest"})})
    assert f"card={SMALL}" in outer.infotext and CARDS.title not in inner.infotext
    assert inner.infotext.count("bright") == 1 and "b1=1.3" in inner.infotext and inner.infotext.count("Steps: 2,") == 1


def test_a_grid_goes_over_cards(host, mine):
    asked = grid(host, f"[{CARDS.title}] Card", (SMALL, OTHER))
    small, other = host.draw({**JOB, **cards(False), "script_name": GRID, "script_args": asked})[1:]
    assert small.pixels == host.draw(BY_HAND)[0].pixels
    assert other.pixels == host.draw({**JOB, "steps": 3})[0].pixels
    assert f"card={OTHER}" in other.infotext and "bright" not in other.infotext  # nothing is left of the cell before
    assert "Sampler: Euler," in other.infotext  # what this webui lacks stays as it is
