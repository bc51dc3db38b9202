"""The hires pass: its picture computed by hand, its sizes, its hooks, its conds and its infotext."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jobs import draw, euler, guided, job, noise, painted, picture_of, pixels, run
from PIL import Image
from sd_prism.errors import PrismError, UnknownName


def first_pass(engine, steps=4):
    sigmas = engine.denoiser().get_sigmas(steps)[:-1]
    return euler(guided(engine), noise((1, 4, 8, 8), 3) * sigmas[0], [*sigmas, torch.zeros(())])


def second_pass(engine, latent, strength=0.5, steps=4):
    """Exactly `steps` steps at the end of a schedule so long that they are `strength` of it."""
    sigmas = [*engine.denoiser().get_sigmas(int(steps / strength))][-steps - 1 :]
    return euler(guided(engine), latent + noise(latent.shape, 3) * sigmas[0], sigmas)


LATENT = {
    "Latent": {"mode": "bilinear"},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic"},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest"},
    "Latent (nearest-exact)": {"mode": "nearest-exact"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", LATENT)
def test_latent_upscalers_enlarge_the_first_passs_latent(engine, name):
    larger = torch.nn.functional.interpolate(first_pass(engine), size=(12, 12), **LATENT[name])
    expected = picture_of(engine, second_pass(engine, larger))
    found = draw("txt2img", enable_hr=True, hr_scale=1.5, hr_upscaler=name, denoising_strength=0.5).images[0]
    assert found.size == (96, 96) and abs(pixels(found) - expected).max() <= 1


@torch.no_grad()
@pytest.mark.parametrize("name, filter_", [("None", "LANCZOS"), ("Lanczos", "LANCZOS"), ("Nearest", "NEAREST")])
def test_pixel_upscalers_enlarge_the_first_passs_picture(engine, name, filter_):
    picture = Image.fromarray(picture_of(engine, first_pass(engine)))
    larger = np.asarray(picture.resize((96, 96), resample=Image.Resampling[filter_])).astype(np.float32)
    latent = engine.encode(torch.from_numpy(np.moveaxis(larger, 2, 0))[None] / 255 * 2 - 1)
    expected = picture_of(engine, second_pass(engine, latent))
    found = draw("txt2img", enable_hr=True, hr_scale=1.5, hr_upscaler=name, denoising_strength=0.5).images[0]
    assert abs(pixels(found) - expected).max() <= 1


@torch.no_grad()
def test_denoising_strength_0_leaves_the_enlarged_latent(engine):
    larger = torch.nn.functional.interpolate(first_pass(engine), size=(16, 16), mode="bilinear")
    found = draw("txt2img", enable_hr=True, hr_upscaler="Latent", denoising_strength=0).images[0]
    assert abs(pixels(found) - picture_of(engine, larger)).max() <= 1


@pytest.mark.parametrize(
    "first, resize, enlarged, truncated",
    [
        ((64, 64), (96, 0), (96, 96), (0, 0)),
        ((64, 96), (0, 144), (96, 144), (0, 0)),
        ((64, 64), (128, 96), (128, 128), (0, 4)),
        ((64, 64), (96, 136), (136, 136), (5, 0)),
    ],
)
def test_resize_cuts_what_is_over_on_both_sides(engine, first, resize, enlarged, truncated):
    p = job(
        "txt2img",
        width=first[0],
        height=first[1],
        enable_hr=True,
        hr_resize_x=resize[0],
        hr_resize_y=resize[1],
        steps=1,
    )
    size = run(p).images[0].size
    assert (p.hr_upscale_to_x, p.hr_upscale_to_y) == enlarged and (p.truncate_x, p.truncate_y) == truncated
    assert size == (resize[0] or enlarged[0], resize[1] or enlarged[1])


@pytest.mark.parametrize("size, scale, expected", [((64, 64), 1.3, (80, 80)), ((100, 60), 1.5, (144, 88))])
def test_upscalers_cut_sides_to_multiples_of_8(engine, size, scale, expected):
    from modules import shared

    for data in shared.sd_upscalers:
        assert data.scaler.upscale(Image.new("RGB", size), scale, data.data_path).size == expected


def test_infotext_tells_everything_that_differs(engine):
    text = draw(
        "txt2img",
        enable_hr=True,
        hr_upscaler="Lanczos",
        hr_scale=1.5,
        hr_second_pass_steps=2,
        hr_sampler_name="DPM++ 2M",
        hr_scheduler="Karras",
        hr_prompt="a dog",
        hr_negative_prompt="bad",
        hr_checkpoint_name="tiny",
        denoising_strength=0.4,
    ).infotexts[0]
    from modules import infotext_utils

    found = infotext_utils.parse_generation_parameters(text)
    expected = {
        "Hires upscale": "1.5",
        "Hires upscaler": "Lanczos",
        "Hires steps": "2",
        "Hires sampler": "DPM++ 2M",
        "Hires schedule type": "Karras",
        "Hires prompt": "a dog",
        "Hires negative prompt": "bad",
        "Denoising strength": "0.4",
        "Schedule type": "Automatic",
    }
    assert expected.items() <= found.items() and found["Hires checkpoint"].startswith("tiny [")


def test_what_is_as_in_the_first_pass_is_not_told(engine):
    text = draw("txt2img", enable_hr=True, hr_resize_x=96, hr_resize_y=72, sampler_name="DPM++ 2M").infotexts[0]
    assert "Schedule type: Karras" in text and "Hires resize: 96x72" in text
    for key in ("Hires prompt", "Hires negative prompt", "Hires sampler", "Hires schedule type", "Hires steps"):
        assert key not in text
    assert "Hires" not in draw("txt2img").infotexts[0]


def test_the_hires_checkpoint_draws_the_second_pass_and_the_settings_keep_theirs(engine):
    from modules import shared

    chosen = shared.opts.sd_model_checkpoint
    plain = draw("txt2img")
    fields = {"enable_hr": True, "hr_upscaler": "Latent"}
    two = draw("txt2img", hr_checkpoint_name="tiny", n_iter=2, **fields)
    assert shared.sd_model.sd_checkpoint_info.name == "tiny.safetensors"
    assert shared.opts.sd_model_checkpoint == chosen != shared.sd_model.sd_checkpoint_info.title
    other = draw("txt2img", hr_checkpoint_name="tiny", seed=4, **fields)
    assert pixels(two.images[1]).tolist() == pixels(other.images[0]).tolist()
    assert pixels(two.images[0]).tolist() != pixels(draw("txt2img", **fields).images[0]).tolist()
    assert pixels(draw("txt2img").images[0]).tolist() == pixels(plain.images[0]).tolist()
    assert shared.sd_model.sd_checkpoint_info.title == chosen


@pytest.mark.parametrize("field, value", [("hr_upscaler", "Lanczoss"), ("hr_checkpoint_name", "no such")])
def test_unknown_names_are_told(engine, field, value):
    with pytest.raises(UnknownName, match=value):
        draw("txt2img", enable_hr=True, **{field: value})


@pytest.mark.parametrize("tab, fields", [("txt2img", {"enable_hr": True}), ("img2img", {"init_images": [painted()]})])
def test_a_strength_that_is_left_out_is_told(engine, tab, fields):
    with pytest.raises(PrismError, match="denoising_strength is left out"):
        draw(tab, denoising_strength=None, **fields)


def test_a_given_first_pass_is_only_enlarged(engine):
    first = draw("txt2img").images[0]
    whole = draw("txt2img", enable_hr=True, hr_upscaler="Nearest", denoising_strength=0.5).images[0]
    given = draw("txt2img", enable_hr=True, hr_upscaler="Nearest", denoising_strength=0.5, firstpass_image=first)
    assert abs(pixels(given.images[0]) - pixels(whole)).max() <= 1


def test_firstphase_sizes_make_the_job_s_size_the_target(engine):
    p = job("txt2img", width=128, height=96, firstphase_width=64, firstphase_height=48, enable_hr=True)
    assert (p.width, p.height, p.hr_upscale_to_x, p.hr_upscale_to_y) == (64, 48, 128, 96)


def test_the_picture_before_the_hires_pass_is_kept_on_request(engine, tmp_path):
    from modules import shared

    shared.opts.save_images_before_highres_fix = True
    fields = {
        "enable_hr": True,
        "hr_upscaler": "Latent",
        "do_not_save_samples": False,
        "outpath_samples": str(tmp_path),
    }
    draw("txt2img", **fields)
    kept, final = sorted(tmp_path.rglob("*.png"))
    assert kept.name.endswith("-before-highres-fix.png") and Image.open(kept).size == (64, 64)
    assert Image.open(final).size == (128, 128)
    assert pixels(Image.open(kept)).tolist() == pixels(draw("txt2img").images[0]).tolist()


@pytest.fixture()
def encoded(engine, monkeypatch):
    """The texts that the text part is asked for."""
    seen = []
    encode = engine.text.encode
    monkeypatch.setattr(engine.text, "encode", lambda texts, **kw: seen.extend(texts) or encode(texts, **kw))
    return seen


def test_equal_prompts_are_encoded_once_for_jobs_and_passes(encoded):
    from modules import processing

    draw("txt2img", enable_hr=True)
    assert encoded == ["", "a cat", "", "a cat"]  # the hires steps are a part of the key
    draw("txt2img", enable_hr=True, seed=8)
    assert len(encoded) == 4
    draw("txt2img", prompt="a dog", enable_hr=True, hr_prompt="a cow")
    assert encoded[4:] == ["a dog", "a cow"]
    processing.StableDiffusionProcessing.cached_c = [None, None]
    draw("txt2img", prompt="a dog")
    assert encoded[6:] == ["a dog"]


def test_the_cond_cache_can_be_off_and_knows_tags_sizes_and_clip_skip(encoded):
    from modules import shared

    draw("txt2img")
    draw("txt2img", prompt="a cat<lora:none>")
    assert encoded[2:] == ["", "a cat"]
    draw("txt2img", override_settings={"CLIP_stop_at_last_layers": 2})
    draw("txt2img", override_settings={"CLIP_stop_at_last_layers": 2}, width=72)
    assert len(encoded) == 8
    shared.opts.persistent_cond_cache = False
    draw("txt2img")
    draw("txt2img")
    assert len(encoded) == 12
