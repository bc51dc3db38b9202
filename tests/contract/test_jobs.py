"""Jobs that other extensions, other models, or errors make difficult; the same in every host."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
from contract.hosts import SECOND
from contract.jobs import HIRES, JOB, KEPT, difference, freeu, inpainting, same, start_picture, wishing
from contract.record import HOOKS, load
from sd_prism.settings import FREEU

HOOKS_OF_A_PICTURE = sorted({line.split()[0] for line in load(HOOKS)["log"]["txt2img"]})
OURS = ("process", "before_sampling", "after_sampling")
MANY_STEPS = 150
OTHER_MODEL = {"override_settings": {"sd_model_checkpoint": SECOND}}


def png(host, *args, **fields):
    (made,) = host.draw({**JOB, **fields, **(freeu(*args) if args else {})})
    return made.png


@pytest.fixture
def plain(host):
    return png(host)


@pytest.fixture
def unchanged(host, plain):
    """After the test a plain picture has the bytes that it had before, and no module of the UNet has a hook."""
    hooks = host.state()["hooks"]
    yield plain
    assert png(host) == plain
    assert host.state()["hooks"] == hooks


# --- errors


@pytest.fixture(scope="module")
def kept(host):
    """The pictures of a job, and the hooks that the host calls for it."""
    host.hooks()
    pictures = [one.pixels for one in host.draw({**JOB, **KEPT})]
    return pictures, {line.split()[0] for line in host.hooks()}


@pytest.mark.parametrize("hook", HOOKS_OF_A_PICTURE)
def test_an_exception_in_a_hook_is_reported_and_the_picture_comes(host, kept, hook):
    pictures, called = kept
    if hook not in called:
        pytest.skip("this host never calls it")
    assert [one.pixels for one in host.draw(wishing(f"fail in {hook}", **KEPT))] == pictures
    assert f"RuntimeError: on purpose, in {hook}" in host.log.read_text(errors="replace")


@pytest.mark.parametrize("fields", [HIRES, inpainting()], ids=["hires", "inpainting"])
def test_exceptions_in_all_hooks_of_others_leave_freeu_as_it_is(host, unchanged, fields):
    (alone,) = host.draw({**JOB, **fields, **freeu(True)})
    (beside,) = host.draw(wishing("fail everywhere", True, **fields))
    assert difference(beside, alone) <= (host.noise if "init_images" in fields else 0)


@pytest.mark.parametrize("name", OURS)
def test_an_exception_in_a_hook_of_prism_is_reported_and_the_picture_comes(host, unchanged, name):
    on = png(host, True)
    assert len(host.draw(wishing(f"break Prism's {name}", True))) == 1
    assert f"RuntimeError: on purpose, in Prism's {name}" in host.log.read_text(errors="replace")
    assert png(host, True) == on


def test_an_exception_in_the_job_skips_postprocess_and_the_next_job_is_clean(host, unchanged):
    on = png(host, True)
    host.hooks()
    assert host.ask(wishing("break the job", True)).status_code == host.broken
    lines = host.hooks()
    sampling = "process_before_every_sampling "
    assert any(line.startswith(sampling) for line in lines) or sampling.strip() in host.lacks
    # a webui that answers as if nothing had happened goes on with no pictures
    assert not any(line.startswith("postprocess" if host.broken == 500 else "postprocess ") for line in lines)
    assert png(host) == unchanged
    assert png(host, True) == on


def test_after_an_interrupted_job_the_next_one_is_clean(host, unchanged):
    host.hooks()
    with ThreadPoolExecutor() as threads:
        job = threads.submit(host.ask, {**JOB, "steps": MANY_STEPS, **freeu(True)})
        while not host.get("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"]:
            assert not job.done()
            sleep(0.02)
        host.post("/sdapi/v1/interrupt")
        assert len(job.result().json()["images"]) == host.interrupted
    if "cfg_denoiser" not in host.lacks:
        assert 0 < sum(line.startswith("cfg_denoiser ") for line in host.hooks()) < MANY_STEPS


# --- jobs in jobs, other models


@pytest.mark.parametrize("fields", [{}, HIRES], ids=["plain", "hires"])
def test_a_job_in_a_job_gets_freeu_and_changes_nothing_outside(host, unchanged, fields):
    (on,) = host.draw({**JOB, **fields, **freeu(True)})
    outer, inner = host.draw(wishing("nest", True, **fields))
    assert outer.png == on.png
    assert inner.pixels == host.draw({**JOB, **freeu(True)})[0].pixels


def test_another_checkpoint_for_one_job(host, unchanged):
    chosen = host.get("/sdapi/v1/options")["sd_model_checkpoint"]
    other, on = png(host, **OTHER_MODEL), png(host, True, **OTHER_MODEL)
    assert len({unchanged, other, on, png(host, True)}) == 4
    assert png(host, True, **OTHER_MODEL) == on
    assert host.get("/sdapi/v1/options")["sd_model_checkpoint"] == chosen


def test_another_checkpoint_for_the_hires_pass_alone(host, unchanged):
    fields = {**HIRES, "hr_checkpoint_name": SECOND, "denoising_strength": 1.0}
    pictures = [png(host, **fields), png(host, True, **fields), png(host, **HIRES), png(host, True, **HIRES)]
    assert len(set(pictures)) == 4
    assert png(host, True, **fields) == pictures[1]


# --- image to image


@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
def test_freeu_in_image_to_image(host, unchanged, mask):
    job = inpainting()
    if not mask:
        del job["mask"]
    (plain,) = host.draw(job)
    assert same(host, host.draw({**job, **freeu(False)})[0], plain)
    (on,) = host.draw({**job, **freeu(True)})
    assert difference(on, plain) > host.noise
    assert same(host, host.draw({**job, **freeu(True)})[0], on)
    assert f"{FREEU.title}: " in on.infotext and FREEU.title not in plain.infotext
    kept = np.asarray(on.image)[:, :32] == np.asarray(start_picture())[:, :32]
    assert kept.all() == mask


def test_a_picture_tells_its_settings(host):
    (made,) = host.draw({**JOB, **freeu(True)})
    told = host.post("/sdapi/v1/png-info", {"image": made.encoded})
    assert told["info"] == made.infotext
    assert told["parameters"][FREEU.title] and str(told["parameters"]["Seed"]) == "1"
