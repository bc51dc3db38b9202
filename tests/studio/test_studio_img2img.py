"""img2img and inpainting: pictures computed by hand, masks, overlays, hooks and infotext."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from jobs import draw, euler, guided, job, noise, painted, picture_of, pixels, run
from PIL import Image, ImageDraw
from sd_prism.errors import PrismError

HALF = Image.new("L", (64, 64))
HALF.paste(255, (32, 0, 64, 64))
SHARP = {"mask_blur": 0, "inpaint_full_res": False}


def latent_of(engine, picture):
    array = np.moveaxis(np.asarray(picture).astype(np.float32), 2, 0) / 255
    return engine.encode(torch.from_numpy(array)[None] * 2 - 1)


def by_hand(engine, latent, strength, steps=4, multiplier=1.0, extra=0.0, mask=None):
    """Euler over the last part of the schedule; with a mask (1 where it draws) every step keeps the rest."""
    sigmas = [*engine.denoiser().get_sigmas(steps)]
    sigmas = sigmas[steps - int(min(strength, 0.999) * steps) - 1 :]
    drawn = noise(latent.shape, 3) * multiplier
    model = guided(engine)
    if mask is None:
        mask = torch.ones(())

    def masked(x, sigma):
        return model(x, sigma) * mask + latent * (1 - mask)

    out = euler(masked, latent + drawn * (sigmas[0] + extra), sigmas)
    return picture_of(engine, out * mask + latent * (1 - mask))


@torch.no_grad()
@pytest.mark.parametrize("strength", [0, 0.3, 0.75, 1])
def test_only_the_last_steps_are_made(engine, strength):
    expected = by_hand(engine, latent_of(engine, painted()), strength)
    found = draw("img2img", init_images=[painted()], denoising_strength=strength).images[0]
    assert abs(pixels(found) - expected).max() <= 1


@torch.no_grad()
def test_noise_multiplier_and_extra_noise(engine):
    latent = latent_of(engine, painted())
    fields = {"init_images": [painted()], "denoising_strength": 0.6}
    found = draw("img2img", initial_noise_multiplier=0.5, **fields)
    assert abs(pixels(found.images[0]) - by_hand(engine, latent, 0.6, multiplier=0.5)).max() <= 1
    assert "Noise multiplier: 0.5" in found.infotexts[0]
    found = draw("img2img", override_settings={"img2img_extra_noise": 0.3}, **fields)
    assert abs(pixels(found.images[0]) - by_hand(engine, latent, 0.6, extra=0.3)).max() <= 1
    assert "Extra noise: 0.3" in found.infotexts[0]


@torch.no_grad()
def test_at_strength_0_exact_steps_give_the_picture_through_the_vae(engine):
    fields = {"init_images": [painted()], "denoising_strength": 0, "override_settings": {"img2img_fix_steps": True}}
    expected = picture_of(engine, latent_of(engine, painted()))
    for sampler in ("Euler", "DPM++ 2M", "DDIM"):
        assert pixels(draw("img2img", sampler_name=sampler, **fields).images[0]).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["DPM++ 2M", "DPM++ SDE", "Euler a", "Heun", "DDIM", "PLMS", "LCM"])
def test_every_sampler_stays_nearer_to_the_picture_at_a_lower_strength(engine, name):
    from modules import shared

    target = pixels(draw("img2img", init_images=[painted()], denoising_strength=0).images[0])
    shared.opts.eta_noise_seed_delta = 0

    def distance(strength):
        found = draw("img2img", init_images=[painted()], denoising_strength=strength, sampler_name=name, steps=10)
        return abs(pixels(found.images[0]) - target).mean()

    assert distance(0.1) < distance(1.0)


@torch.no_grad()
@pytest.mark.parametrize("mode, box", [(1, (32, 0, 96, 64)), (0, None)])
def test_the_picture_is_resized_first(engine, mode, box):
    wide = painted(128, 64)
    fitted = wide.crop(box) if box else wide.resize((64, 64), resample=Image.Resampling.LANCZOS)
    found = draw("img2img", init_images=[wide], resize_mode=mode, denoising_strength=0.5).images[0]
    assert abs(pixels(found) - by_hand(engine, latent_of(engine, fitted), 0.5)).max() <= 1


@torch.no_grad()
def test_the_latent_can_be_resized_instead(engine):
    latent = torch.nn.functional.interpolate(latent_of(engine, painted(128, 64)), size=(8, 8), mode="bilinear")
    found = draw("img2img", init_images=[painted(128, 64)], resize_mode=3, denoising_strength=0.5).images[0]
    assert abs(pixels(found) - by_hand(engine, latent, 0.5)).max() <= 1


def test_resize_and_fill_continues_the_borders(engine):
    from modules import images

    picture = Image.new("RGB", (16, 4), "red")
    picture.paste("blue", (0, 3, 16, 4))
    filled = images.resize_image(2, picture, 16, 16)
    assert [filled.getpixel((3, y)) for y in (0, 5, 6, 9, 15)] == [
        *[(255, 0, 0)] * 3,
        (0, 0, 255),
        (0, 0, 255),
    ]


def test_transparency_shows_the_background_colour(engine):
    from modules import images

    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert [images.flatten(clear, "#00ff00").getpixel((x, 0)) for x in (0, 1)] == [(0, 255, 0), (10, 20, 30)]


@torch.no_grad()
def test_inpainting_draws_under_the_mask_and_keeps_the_rest_to_the_bit(engine):
    latent = latent_of(engine, painted())
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    found = draw("img2img", init_images=[painted()], mask=HALF, inpainting_fill=1, denoising_strength=0.75, **SHARP)
    picture = pixels(found.images[0])
    assert picture[:, :32].tolist() == pixels(painted())[:, :32].tolist()
    assert abs(picture[:, 32:] - by_hand(engine, latent, 0.75, mask=mask)[:, 32:]).max() <= 1


@torch.no_grad()
@pytest.mark.parametrize("fill", [2, 3])
def test_latent_fills_start_from_noise_or_nothing(engine, fill):
    latent = latent_of(engine, painted())
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    start = latent * (1 - mask) + (noise(latent.shape, 3) * mask if fill == 2 else 0)
    found = draw("img2img", init_images=[painted()], mask=HALF, inpainting_fill=fill, denoising_strength=0.75, **SHARP)
    expected = by_hand(engine, start, 0.75, mask=mask)
    assert abs(pixels(found.images[0])[:, 32:] - expected[:, 32:]).max() <= 1
    assert f"Masked content: latent {'noise' if fill == 2 else 'nothing'}" in found.infotexts[0]


def test_an_inverted_mask_keeps_the_other_half(engine):
    found = draw("img2img", init_images=[painted()], mask=HALF, inpainting_mask_invert=1, **SHARP)
    assert pixels(found.images[0])[:, 32:].tolist() == pixels(painted())[:, 32:].tolist()
    assert "Mask mode: Inpaint not masked" in found.infotexts[0]


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "PLMS"])
def test_only_masked_draws_a_part_and_pastes_it_back(engine, sampler):
    large, mask = painted(160, 120), Image.new("L", (160, 120))
    ImageDraw.Draw(mask).rectangle((100, 40, 119, 59), fill=255)
    p = job("img2img", init_images=[large], mask=mask, mask_blur=0, inpaint_full_res_padding=4, sampler_name=sampler)
    found = run(p)
    changed = np.argwhere((pixels(found.images[0]) != pixels(large)).any(-1))
    assert found.images[0].size == (160, 120) and p.paste_to == (96, 36, 28, 28)
    assert changed.min(0).tolist() >= [40, 100] and changed.max(0).tolist() <= [59, 119]
    assert "Inpaint area: Only masked, Masked area padding: 4, Masked content: fill" in found.infotexts[0]


def test_a_blank_mask_draws_the_whole_picture_and_says_so(engine):
    blank = draw("img2img", init_images=[painted()], mask=Image.new("L", (64, 64)))
    assert pixels(blank.images[0]).tolist() == pixels(draw("img2img", init_images=[painted()]).images[0]).tolist()
    assert "mask is blank" in blank.comments


def test_mask_pictures_on_request(engine):
    settings = {"return_mask": True, "return_mask_composite": True}
    fields = {"init_images": [painted()], "mask": HALF, "override_settings": settings, **SHARP}
    picture, mask, composite = draw("img2img", **fields).images
    assert pixels(mask)[..., 0].tolist() == pixels(HALF).tolist()
    assert composite.mode == "RGBA" and pixels(composite)[..., 3].tolist() == pixels(HALF).tolist()
    assert pixels(composite)[:, 32:, :3].tolist() == pixels(picture)[:, 32:].tolist()


def test_without_overlay_the_rest_went_through_the_vae(engine):
    fields = {"init_images": [painted()], "mask": HALF, "override_settings": {"overlay_inpaint": False}, **SHARP}
    kept = pixels(draw("img2img", **fields).images[0])[:, :24]
    assert kept.tolist() == picture_of(engine, latent_of(engine, painted()))[:, :24].tolist()


def test_one_picture_fills_the_batch_and_several_are_the_batch(engine):
    one = draw("img2img", init_images=[painted()], batch_size=2)
    assert len(one.images) == 2 and one.all_seeds == [3, 4]
    other = painted().rotate(90)
    both = draw("img2img", init_images=[painted(), other], batch_size=3, denoising_strength=0.2)
    assert len(both.images) == 2
    alone = draw("img2img", init_images=[other], seed=4, denoising_strength=0.2).images[0]
    assert abs(pixels(both.images[1]) - pixels(alone)).max() <= 1
    with pytest.raises(PrismError, match="2 pictures and batch_size is 1"):
        draw("img2img", init_images=[painted(), other])
    with pytest.raises(PrismError, match="at least one picture"):
        draw("img2img", init_images=[])


def test_a_latent_resize_wants_the_picture_s_size_for_inpainting(engine):
    with pytest.raises(PrismError, match="the picture is 128x64 and its mask 64x64"):
        draw("img2img", init_images=[painted(128, 64)], mask=HALF, resize_mode=3, inpaint_full_res=False)


def test_mask_blur_is_one_number_for_two(engine):
    p = job("img2img", mask_blur=7)
    assert (p.mask_blur_x, p.mask_blur_y, p.mask_blur) == (7, 7, 7)
    p.mask_blur_y = 2
    assert p.mask_blur is None
    assert job("img2img").mask_blur == 4


def test_the_blur_is_opencvs(engine):
    from modules import masking

    row = np.array([[0, 0, 0, 255, 255, 0, 0, 0, 0, 200]], dtype=np.uint8)
    expected = {  # cv2.GaussianBlur of OpenCV 4.11 with A1111's kernel sizes
        1: [2, 15, 76, 163, 163, 76, 16, 12, 48, 80],
        2: [48, 57, 78, 97, 98, 81, 61, 48, 44, 45],
        4: [73, 73, 72, 72, 69, 69, 66, 63, 60, 60],
    }
    for sigma, blurred in expected.items():
        assert np.asarray(masking.blur(Image.fromarray(row), sigma, 0)).tolist() == [blurred]
        assert np.asarray(masking.blur(Image.fromarray(row.T), 0, sigma)).T.tolist() == [blurred]


@pytest.mark.parametrize(
    "given, expected",
    [  # answers of A1111 1.10.1
        (((10, 10, 40, 20), 64, 64, 100, 100), (10, 0, 40, 30)),
        (((0, 0, 100, 10), 64, 128, 100, 100), (0, 0, 100, 100)),
        (((80, 80, 98, 95), 128, 64, 100, 100), (70, 80, 100, 95)),
        (((5, 5, 6, 60), 64, 64, 100, 64), (0, 5, 55, 60)),
        (((0, 50, 64, 64), 64, 64, 64, 64), (0, 0, 64, 64)),
        (((90, 10, 99, 90), 96, 64, 120, 100), (0, 10, 120, 90)),
    ],
)
def test_a_region_grows_to_the_job_s_proportions(engine, given, expected):
    from modules import masking

    assert masking.expand_crop_region(*given) == expected


def test_the_region_around_a_mask(engine):
    from modules import masking

    mask = Image.new("L", (20, 10))
    assert (masking.get_crop_region(mask, 3), masking.get_crop_region_v2(mask, 3)) == ((17, 7, 3, 3), None)
    mask.paste(255, (4, 2, 9, 6))
    assert masking.get_crop_region(mask, 3) == (1, 0, 12, 9) and masking.get_crop_region_v2(mask) == (4, 2, 9, 6)


def test_filling_is_a1111s(engine):
    from modules import masking

    slope = Image.linear_gradient("L")
    channels = [slope.resize((16, 16)), slope.rotate(90).resize((16, 16)), Image.new("L", (16, 16), 90)]
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 12, 12))
    filled = masking.fill(Image.merge("RGB", channels), mask)
    found = [filled.getpixel(place) for place in ((0, 0), (5, 5), (8, 8), (11, 4), (15, 15))]
    assert all(math.dist(a, b) < 3 for a, b in zip(found, [(8, 8, 90), (73, 73, 90), (144, 144, 89), (60, 194, 89)]))
    assert found[4] == (247, 247, 90)


def test_a_mask_may_be_transparency(engine):
    from modules import processing

    mask = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 129)):
        mask.putpixel((x, 0), (255, 255, 255, alpha))
    assert list(processing.create_binary_mask(mask).tobytes()) == [0, 0, 255]
    assert list(processing.create_binary_mask(mask, round=False).tobytes()) == [0, 128, 129]
    assert list(processing.create_binary_mask(mask.convert("RGB")).tobytes()) == [255, 255, 255]
