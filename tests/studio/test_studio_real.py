"""The whole way with the real engine: small random checkpoints in LDM's layout, and Prism's own scripts."""

from __future__ import annotations

import io

import pytest
from checkpoints import Original
from PIL import Image
from sd_prism.errors import PrismError
from sd_prism.studio import generate, host

JOB = {"prompt": "a (red:1.2) [cat:dog:0.5] AND a tree", "steps": 2, "seed": 3, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    models = folder / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    for family in ("sd1", "sdxl"):
        Original(family).save(models / f"small-{family}.safetensors")
    (models / "zdamaged.safetensors").write_bytes(b"no model")
    yield folder
    host.close_host()


def draw(folder, name="small-sd1", **fields):
    request = {**JOB, "override_settings": {"sd_model_checkpoint": name}, **fields}
    return generate.generate(request, data_dir=folder)


def pixels(result):
    return Image.open(io.BytesIO(result.images[0])).tobytes()


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "Heun", "DDIM", "LCM"])
def test_every_kind_of_sampler_draws_the_same_picture_twice(folder, sampler):
    one = draw(folder, sampler_name=sampler)
    assert pixels(one) == pixels(draw(folder, sampler_name=sampler))
    assert one.info["model"].startswith("small-sd1.safetensors [") and one.info["panels"] == []
    assert Image.open(io.BytesIO(one.images[0])).text["parameters"] == one.infotexts[0]


def test_a_batch_repeats_single_runs(folder):
    both = draw(folder, batch_size=2)
    assert both.info["seeds"] == [3, 4] and len(both.images) == 2
    assert both.infotexts[1].startswith(JOB["prompt"]) and "Seed: 4" in both.infotexts[1]


def test_freeu_changes_the_picture_and_leaves_no_trace(folder):
    plain = draw(folder)
    on = draw(folder, alwayson_scripts={"Prism FreeU": {"args": [{"enabled": True, "b1": 1.6, "b2": 1.4}]}})
    assert pixels(on) != pixels(plain)
    assert on.info["panels"] == ["Prism FreeU"] and "Prism FreeU: " in on.infotexts[0]
    assert pixels(draw(folder)) == pixels(plain)


def test_sdxl_gets_its_vector_and_long_prompts_their_chunks(folder):
    assert len(draw(folder, "small-sdxl", prompt="a cat " * 60, sampler_name="Euler").images) == 1


def test_a_damaged_checkpoint_leaves_the_studio_with_the_one_before(folder):
    plain = draw(folder)
    with pytest.raises(PrismError, match="zdamaged"):
        draw(folder, "zdamaged")
    assert pixels(draw(folder)) == pixels(plain)


def test_a_checkpoint_that_does_not_exist_is_said(folder):
    with pytest.raises(PrismError, match="There is no checkpoint"):
        generate.generate(JOB, checkpoint=folder / "nothing.safetensors", data_dir=folder)
