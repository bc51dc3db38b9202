"""Single files of Cascade in a webui that draws it with a pipeline of its own: what differs from other webuis there."""

from __future__ import annotations

import pytest
from contract.jobs import difference, encoded, start_picture
from contract.test_cascade import BLIND, DECODER, MAIN, QUICK, asked, draw, facts, furnished
from sd_prism.miniatures import MINI_CASCADE, MINI_CASCADE_DECODER
from sd_prism.settings import CASCADE

SHAPE = {"width": 128, "height": 128, "steps": 8, "cfg_scale": 5}
AS_ELSEWHERE = ("Euler a", "DPM++ 2M", "Euler")
GIVEN = {"steps": 5, "cfg": 2, "sampler": "DPM++ 2M", "schedule": "SGM Uniform", "shift_b": 1.5, "shift_c": 1.2}
RESCALED = {"rescale": 0.5, "rescale_c": 0.4, "seed_mode": "Fixed", "seed": 7}


@pytest.fixture(scope="module", autouse=True)
def files(host):
    if not host.own_cascade:
        pytest.skip("this webui has no pipeline of its own for Stable Cascade")
    yield from furnished(host)


@pytest.fixture(scope="module")
def plain(host):
    return draw(host)


def test_a_decoder_is_no_checkpoint_and_the_model_stays(host, plain):
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": DECODER})
    assert host.get("/sdapi/v1/options")["sd_model_checkpoint"].startswith(MAIN)
    answer = host.ask(asked(override_settings={"sd_model_checkpoint": DECODER}))
    assert answer.status_code == 500 and "choose its main file" in answer.text
    assert draw(host).pixels == plain.pixels


@pytest.mark.parametrize(
    ("given", "fields", "said"),
    [
        ({"decoder": "nobody"}, {}, DECODER),
        ({"decoder": MAIN}, {}, "holds no stage B"),
        ({}, {"override_settings": {"sd_model_checkpoint": BLIND}}, "may go with each of"),
        ({}, {"sampler_name": "UniPC"}, "UniPC cannot draw Stable Cascade"),
        ({}, {"width": 8, "height": 64}, "is too small"),
    ],
)
def test_what_cannot_be_drawn_is_refused(host, plain, given, fields, said):
    answer = host.ask(asked(given, **fields))
    assert answer.status_code == 500 and said in answer.text
    assert draw(host).pixels == plain.pixels


def test_what_is_left_out_is_told_in_the_infotext(host, plain):
    made = draw(host, {"preview_only": True, "images": "0123456789ab"})
    assert made.pixels == plain.pixels and f"{CASCADE.title} error" in made.infotext
    assert "Preview only, Image prompt" in made.infotext and "images=" not in made.infotext
    started = draw(host, init_images=[encoded(start_picture())], denoising_strength=0.5)
    assert "does not start from pictures" in started.infotext


def test_the_menu_of_unets_stays_as_it_was(host, plain):
    assert host.get("/sdapi/v1/options")["sd_unet"] == "None"


def test_its_default_sampler_is_the_official_one_by_the_shift(host):
    default = {"sampler_name": "Default"}
    found = {draw(host, {"shift_c": shift}, **default).pixels for shift in (1, 2, 3)}
    assert len(found) == 3 and draw(host, **default).pixels in found


def test_a_checkpoint_without_a_decoder_beside_it_is_drawn_with_a_named_one(host):
    blind = {"override_settings": {"sd_model_checkpoint": BLIND}}
    assert draw(host, {"decoder": DECODER}, **blind).image.size == (128, 96)


@pytest.fixture(scope="module")
def mini(host, studio):
    """The shipped pair in both."""
    places = host.data.parent / "checkpoints", studio.data / "models" / "Stable-diffusion"
    for one, place in zip((host, studio), places):
        for file in (MINI_CASCADE, MINI_CASCADE_DECODER):
            (place / file.name).write_bytes(file.read_bytes())
        one.post("/sdapi/v1/refresh-checkpoints")
    return {"override_settings": {"sd_model_checkpoint": MINI_CASCADE.stem}}


@pytest.mark.parametrize(
    ("sampler", "given", "fields"),
    [
        *((sampler, {}, {}) for sampler in AS_ELSEWHERE),
        ("Euler a", GIVEN, {"negative_prompt": "a dog"}),
        ("Euler a", {**GIVEN, **RESCALED}, {"width": 136, "height": 88}),
        ("DPM++ 2M", {"compression": 50}, {"width": 200, "height": 72}),
    ],
)
def test_pictures_are_the_studios(host, studio, mini, sampler, given, fields):
    job = {**SHAPE, "sampler_name": sampler, **fields, **mini}
    assert difference(draw(host, given, **job), draw(studio, given, **job)) <= 1


def test_the_route_tells_of_the_decoder(host, plain):
    told = facts(host)
    assert (told["cascade"], told["decoder"], told["missing"]) == (True, DECODER, "")
    assert draw(host, QUICK).pixels != plain.pixels
