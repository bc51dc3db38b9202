"""Interrupt, skip and stop, what they leave behind, and live previews."""

from __future__ import annotations

import math

import pytest
import torch
from jobs import draw, guided, job, noise, painted, picture_of, pixels, run


@pytest.fixture()
def at_call(engine):
    """at_call(n, act) does `act(state)` when the denoiser is called for the n-th time."""
    from modules import script_callbacks, shared

    registered = []

    def arrange(call, act):
        calls = iter(range(1, 1000))

        def watch(params):
            if next(calls) == call:
                act(shared.state)

        registered.append(watch)
        script_callbacks.on_cfg_denoiser(watch)

    yield arrange
    for function in registered:
        script_callbacks.remove_callbacks_for_function(function)


@torch.no_grad()
def test_an_interrupt_gives_what_the_prompt_made_of_the_last_step(engine, at_call):
    at_call(1, lambda state: state.interrupt())
    found = draw("txt2img", n_iter=3, override_settings={"return_grid": False})
    sigma = engine.denoiser().sigma_max
    alone = guided(engine, scale=1.0)(noise((1, 4, 8, 8), 3) * sigma, sigma.view(1))
    assert len(found.images) == 1 and abs(pixels(found.images[0]) - picture_of(engine, alone)).max() <= 1
    assert found.infotexts[0].startswith("a cat\nSteps: 4")


def test_an_interrupt_before_the_first_step_gives_the_start(engine, at_call):
    from modules import script_callbacks, shared

    stop = lambda params: shared.state.interrupt()  # noqa: E731
    script_callbacks.on_extra_noise(stop)
    try:
        fields = {"init_images": [painted()], "override_settings": {"img2img_extra_noise": 0.1}}
        found = draw("img2img", **fields).images[0]
        at_0 = {"denoising_strength": 0, "override_settings": {"img2img_fix_steps": True}}
        assert pixels(found).tolist() == pixels(draw("img2img", init_images=[painted()], **at_0).images[0]).tolist()
    finally:
        script_callbacks.remove_callbacks_for_function(stop)


def test_a_skip_ends_one_batch_and_a_stop_all_that_follow(engine, at_call):
    settings = {"override_settings": {"return_grid": False}}
    whole = draw("txt2img", n_iter=3, **settings)
    at_call(6, lambda state: state.skip())
    skipped = draw("txt2img", n_iter=3, **settings)
    same = [pixels(a).tolist() == pixels(b).tolist() for a, b in zip(skipped.images, whole.images)]
    assert same == [True, False, True]
    at_call(6, lambda state: state.stop_generating())
    stopped = draw("txt2img", n_iter=3, **settings)
    assert [pixels(a).tolist() for a in stopped.images] == [pixels(a).tolist() for a in whole.images[:2]]


def test_an_interrupt_in_the_first_pass_leaves_the_second_out(engine, at_call):
    at_call(2, lambda state: state.interrupt())
    p = job("txt2img", enable_hr=True, hr_upscaler="Latent")
    assert run(p).images[0].size == (64, 64) and not p.is_hr_pass


def test_a_job_that_never_starts_has_no_pictures_and_one_infotext(engine):
    from modules import processing, shared

    shared.state.begin("test")
    shared.state.interrupt()
    try:
        found = processing.process_images(job("txt2img"))
    finally:
        shared.state.end()
    assert found.images == [] and len(found.infotexts) == 1 and "Seed: 3" in found.infotexts[0]


@pytest.mark.parametrize("keep, files", [(False, 0), (True, 1)])
def test_incomplete_pictures_are_saved_on_request_only(engine, at_call, tmp_path, keep, files):
    at_call(2, lambda state: state.interrupt())
    settings = {"save_incomplete_images": keep}
    draw("txt2img", do_not_save_samples=False, outpath_samples=str(tmp_path), override_settings=settings)
    assert len(list(tmp_path.rglob("*.png"))) == files


def test_an_exception_in_the_job_skips_what_comes_after_it(engine, monkeypatch):
    from modules import shared

    chosen = shared.opts.CLIP_stop_at_last_layers
    monkeypatch.setattr(engine, "decode", lambda latents: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw("txt2img", override_settings={"CLIP_stop_at_last_layers": 2})
    assert shared.opts.CLIP_stop_at_last_layers == chosen
    monkeypatch.undo()
    assert draw("txt2img").images


def test_a_hires_batch_counts_as_two_jobs(engine, at_call):
    seen = []
    for call in (1, 5):
        at_call(call, lambda state: seen.append((state.job_no, state.job_count)))
    draw("txt2img", enable_hr=True)
    assert seen == [(0, 2), (1, 2)]


def preview(state):
    state.set_current_image()
    return state.id_live_preview, state.current_image and state.current_image.size


@pytest.mark.parametrize("method, size", [("Full", (64, 64)), ("Approx cheap", (8, 8)), ("Approx NN", (8, 8))])
def test_previews_come_every_n_steps(engine, at_call, method, size):
    from modules import shared

    shared.opts.data.update(show_progress_type=method, show_progress_every_n_steps=2)
    seen = []
    for call in range(1, 7):
        at_call(call, lambda state: seen.append(preview(state)))
    draw("txt2img", steps=6)
    assert seen == [(0, None), (0, None), (0, None), (1, size), (1, size), (2, size)]


def test_a_batch_is_one_preview_and_previews_can_be_off(engine, at_call):
    from modules import shared

    shared.opts.data.update(show_progress_type="Full", show_progress_every_n_steps=1)
    seen = []
    at_call(3, lambda state: seen.append(preview(state)))
    draw("txt2img", batch_size=2)
    shared.opts.show_progress_grid = False
    at_call(3, lambda state: seen.append(preview(state)))
    draw("txt2img", batch_size=2)
    shared.opts.live_previews_enable = False
    at_call(3, lambda state: seen.append(preview(state)))
    draw("txt2img")
    assert [shown for _, shown in seen] == [(128, 64), (64, 64), None]


def test_a_preview_that_cannot_be_made_does_not_touch_the_job(engine, at_call, monkeypatch):
    from modules import errors, sd_vae_approx, shared

    sd_vae_approx.forget()
    monkeypatch.setattr(engine, "encode", lambda images: 1 / 0)
    shared.opts.data.update(show_progress_type="Approx cheap", show_progress_every_n_steps=1)
    at_call(3, preview)
    assert len(draw("txt2img").images) == 1
    assert errors.get_exceptions()[0]["exception"] == "division by zero"


def test_the_cheap_preview_is_fitted_to_the_vae(engine):
    from modules import sd_vae_approx

    # The tiny VAE decodes by tanh of the first three channels; its encoder averages.
    latents = engine.encode(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    assert torch.allclose(sd_vae_approx.cheap_approximation(latents), latents[:, :3], atol=1e-4)
    shown = sd_vae_approx.cheap_approximation(latents[0])
    assert shown.shape == (3, 8, 8) and math.isfinite(float(shown.sum()))


@pytest.mark.parametrize("subject, scale", [("Combined", 5.0), ("Prompt", 1.0), ("Negative prompt", 0.0)])
@torch.no_grad()
def test_a_preview_shows_one_of_three_subjects(engine, at_call, subject, scale):
    from modules import shared

    shared.opts.live_preview_content = subject
    seen = []
    at_call(2, lambda state: seen.append(state.current_latent))
    draw("txt2img")
    sigma = engine.denoiser().sigma_max
    expected = guided(engine, scale=scale)(noise((1, 4, 8, 8), 3) * sigma, sigma.view(1))
    assert torch.allclose(seen[0], expected, atol=1e-3)
