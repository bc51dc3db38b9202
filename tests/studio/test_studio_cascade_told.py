"""What stage C is told beside the prompt, in the studio: pictures, and how much of the guidance's contrast stays."""

from __future__ import annotations

import base64
import io
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jobs import FIELDS, painted, pixels
from PIL import Image
from sd_prism.cascade import formats
from sd_prism.cascade.guidance import Guidance
from sd_prism.hosts.cascade.pictures import Pictures
from sd_prism.miniatures import cascade_draw
from sd_prism.settings import CASCADE
from sd_prism.studio import host, page
from unit.cascade_files import METADATA, main_tensors, random_state, tiny_decoder, tiny_main, write

JOB = {
    **FIELDS,
    "width": 128,
    "height": 128,
    "sampler_name": "Euler a",
    "scheduler": "SGM Uniform",
    "steps": 3,
    "cfg_scale": 5,
}
SEEING = ("stage_c", "text", "effnet", "previewer", "vision")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    models = folder / "models" / "Stable-diffusion"
    tiny_main(models / "seeing-main.safetensors", parts=SEEING)
    tiny_main(models / "blind-main.safetensors", parts=SEEING[:4])
    states = {part: random_state(part) for part in SEEING}
    write(models / "fine-main.safetensors", main_tensors(states), {**METADATA, "prism.cascade.compression": "32"})
    tiny_decoder(models / "tiny-decoder.safetensors")
    host.open_host(data_dir=folder)
    page.build_fields()
    host.remember_defaults()
    yield models
    host.close_host()


@pytest.fixture
def draw(data):
    """draw(settings of the panel, field=value, ...) -> the host's answer."""

    def drawn(panel=None, checkpoint="seeing-main", tab="txt2img", **fields):
        request = {**JOB, "override_settings": {"sd_model_checkpoint": checkpoint}, **fields}
        request["alwayson_scripts"] = {CASCADE.title: {"args": [panel or {}]}}
        return host.run(host.request_of(request, tab)).processed

    return drawn


def picture(colour=(200, 40, 60)):
    """A file of a picture in base64."""
    file, image = io.BytesIO(), painted(96, 64)
    image.paste(colour, (0, 0, 40, 64))
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


ONE, TWO = picture(), picture((20, 200, 90))


def same(one, two):
    return one.images[0].tobytes() == two.images[0].tobytes()


def alone(data):
    """The networks without a webui."""
    return cascade_draw.Cascade.of(data / "seeing-main.safetensors", data / "tiny-decoder.safetensors")


def decoded(nets, latents):
    expected = nets.decoded(latents, [JOB["prompt"]], seed=JOB["seed"])[0].clamp(0, 1)
    return np.moveaxis(expected.numpy() * 255, 0, 2)


def seen(data, *texts):
    """Vectors (n,width) of pictures in base64."""
    encoder, known = formats.load(data / "seeing-main.safetensors", "vision", dtype=torch.float32), Pictures()
    cut = np.stack([np.asarray(known.cut(known.asked(text)[0].name, 224)) for text in texts])
    with torch.no_grad():
        return encoder(torch.from_numpy(cut).permute(0, 3, 1, 2) / 255)


def test_pictures_go_with_the_prompt_and_nothing_with_the_negative_one(draw, data, monkeypatch):
    nets, vectors = alone(data), seen(data, ONE, TWO)
    vectors = vectors * torch.tensor([[1.5], [0.75]])
    given, original = [vectors, torch.zeros_like(vectors)], nets.stage_c.condition
    monkeypatch.setattr(nets.stage_c, "condition", lambda text, pooled: original(text, pooled, given.pop(0)[None]))
    latents = nets.latents([JOB["prompt"]], steps=3, cfg=5.0, seed=JOB["seed"], compression=42)
    found = draw({"images": f"{ONE} {TWO}:0.5", "image_strength": 1.5})
    assert not given and abs(pixels(found.images[0]) - decoded(nets, latents)).max() <= 1.5


def test_a_batch_and_parts_of_a_prompt_follow_them_as_well(draw):
    prompt = "a cat AND a dog :0.5"
    both = draw({"images": ONE}, prompt=prompt, batch_size=2).images
    singles = [draw({"images": ONE}, prompt=prompt, seed=JOB["seed"] + i).images[0] for i in (0, 1)]
    assert all(abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(both, singles, strict=True))
    assert not same(draw({"images": ONE}, prompt=prompt), draw(prompt=prompt))


def test_several_pictures_are_a_list_or_a_text(draw):
    both = draw({"images": [ONE, TWO]})
    assert same(both, draw({"images": f"data:image/png;base64,{ONE},{TWO}"}))
    assert not same(both, draw({"images": ONE})) and not same(both, draw({"images": [TWO, ONE]}))


def test_strength_0_is_no_picture(draw):
    plain = draw()
    for panel in ({"images": ONE, "image_strength": 0}, {"images": ""}):
        found = draw(panel)
        assert same(found, plain) and "images=" not in found.infotexts[0]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_infotext_has_hashes_which_give_the_picture_back(draw, strength):
    found = draw({"images": f"{ONE} {TWO}:0.25", "image_strength": strength})
    names = re.search(r"images=([0-9a-f]{12} [0-9a-f]{12}:0.25)", found.infotexts[0])[1]
    assert ("image_strength=0.5" in found.infotexts[0]) == (strength == 0.5)
    assert same(found, draw({"images": names, "image_strength": strength}))


def test_a_picture_that_is_not_here_is_told_and_left_out(draw):
    plain = draw()
    for panel, checkpoint, said in (
        ({"images": "0123456789ab"}, "seeing-main", "the picture 0123456789ab is not here"),
        ({"images": f"{ONE} 0123456789ab"}, "seeing-main", "is not here"),
        ({"images": ONE}, "blind-main", "has no vision encoder; put it beside it as image_encoder/model.safetensors"),
    ):
        found = draw(panel, checkpoint)
        assert same(found, plain) and said in found.comments and "images=" not in found.infotexts[0]
        assert f"{CASCADE.title} error: " in found.infotexts[0] and "compression" not in found.comments


def test_img2img_and_hires_follow_pictures(draw):
    first = {"tab": "img2img", "init_images": [painted(128, 128)], "denoising_strength": 0.8}
    second = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Lanczos", "denoising_strength": 0.8}
    for fields in (first, second):
        assert not same(draw({"images": ONE}, **fields), draw(**fields))


def test_the_encoder_is_read_once_for_a_picture_and_not_kept(draw, monkeypatch):
    from modules import sd_models

    read, load = [], formats.load
    monkeypatch.setattr(formats, "load", lambda file, part, **more: read.append(part) or load(file, part, **more))
    third = picture((1, 2, 3))
    draw({"images": third})
    draw({"images": third}, seed=9)
    assert read.count("vision") == 1
    assert not any("vision" in name for name, _ in sd_models.model_data.sd_model.named_parameters())


# --- guidance


def test_rescaled_guidance_is_that_of_the_networks_alone(draw, data, monkeypatch):
    nets = alone(data)
    monkeypatch.setattr(cascade_draw, "Guidance", lambda cfg: Guidance(cfg, rescale=0.7))
    latents = nets.latents([JOB["prompt"]], steps=3, cfg=5.0, seed=JOB["seed"], compression=42)
    found = draw({"rescale_c": 0.7})
    assert "rescale_c=0.7" in found.infotexts[0] and not same(found, draw())
    assert abs(pixels(found.images[0]) - decoded(nets, latents)).max() <= 1.5


@pytest.mark.parametrize("sampler", ["DDIM", "DPM++ 2M", "PLMS"])
def test_every_kind_of_sampler_follows(draw, sampler):
    fields = {"sampler_name": sampler, "scheduler": "Automatic", "cfg_scale": 12}
    plain = draw(**fields)
    assert not same(plain, draw({"rescale_c": 1}, **fields)) and not same(plain, draw({"images": ONE}, **fields))
    one = {**fields, "cfg_scale": 1}
    assert same(draw({"rescale_c": 1}, **one), draw(**one))


def test_outputs_that_are_noise_are_rescaled_as_those_without_noise(data, monkeypatch):
    from sd_prism.hosts.cascade import guiding

    def combine(denoiser, outputs, conds, uncond, scale):
        alone = outputs[-len(conds) :]
        parts = [sum(weight * (outputs[row] - one) for row, weight in own) for own, one in zip(conds, alone)]
        return alone + scale * torch.stack(parts)

    source = torch.Generator().manual_seed(0)
    eps, x = (torch.randn(n, 16, 3, 3, generator=source) for n in (5, 2))
    conds, uncond, sigma = [[(0, 1.0), (1, 0.5)], [(2, 1.0)]], torch.zeros(2, 1), 3.0
    job = SimpleNamespace(values={"rescale_c": 0.7}, noisy=x)
    monkeypatch.setattr(guiding, "_job", lambda: job)
    combined = partial(guiding._combined, combine)
    plain = partial(combine, None, eps, conds, uncond)
    noise = combined(SimpleNamespace(alphas=1), eps, conds, uncond, 6.0)
    clean = combined(SimpleNamespace(), x[[0, 0, 1, 0, 1]] - sigma * eps, conds, uncond, 6.0)
    assert torch.allclose(clean, x - sigma * noise, atol=1e-4)
    wanted = 0.7 * plain(1.0).std((1, 2, 3)) + 0.3 * plain(6.0).std((1, 2, 3))
    assert torch.allclose(noise.std((1, 2, 3)), wanted)


def test_a_batch_is_rescaled_picture_by_picture(draw):
    both = draw({"rescale_c": 1}, batch_size=2).images
    singles = [draw({"rescale_c": 1}, seed=JOB["seed"] + i).images[0] for i in (0, 1)]
    assert all(abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(both, singles, strict=True))


def test_what_an_inpainting_keeps_is_not_rescaled(draw):
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    fields = {"tab": "img2img", "init_images": [painted(128, 128)], "mask": mask, "mask_blur": 0}
    found = draw({"rescale_c": 1}, denoising_strength=0.6, inpaint_full_res=False, **fields)
    assert (pixels(found.images[0])[:, :64] == pixels(painted(128, 128))[:, :64]).all()


# --- compression


def test_the_default_compression_can_be_had_against_the_files_own(draw):
    own, forced = draw(checkpoint="fine-main"), draw({"file_compression": False}, "fine-main")
    assert "compression=32" in own.infotexts[0] and "file_compression=False" in forced.infotexts[0]
    assert same(forced, draw()) and not same(forced, own)


# --- memory


def test_a_decoder_leaves_with_the_first_job_of_another_model(draw):
    """No model is loaded for the second one, as where a host takes one again that it had kept."""
    from sd_prism.hosts.cascade import again
    from sd_prism.hosts.cascade.decoding import decoding

    draw()
    for _ in range(2):
        again.again(again.last("txt2img"), {}, "txt2img", save=False)
        assert decoding._decoder is not None
        host.run(host.request_of({**FIELDS, "override_settings": {"sd_model_checkpoint": "mini-v1"}}, "txt2img"))
        assert decoding._decoder is None
