"""Bound tags through the whole house: what the model is told call by call, the host's cond cache, remarks, traces."""

from __future__ import annotations

import sys

import pytest
import torch
from contract.jobs import HIRES, encoded, start_picture
from sd_prism.miniatures import MINI_V1
from sd_prism.schedule import Curve
from sd_prism.settings import NAMESPACES
from sd_prism.studio import generate, host

JOB = {
    "prompt": "a red fish, (species:seal:1.2) in the sea",
    "negative_prompt": "wax, object:seal",
    "steps": 4,
    "seed": 3,
    "width": 64,
    "height": 64,
    "sampler_name": "Euler",
    "cfg_scale": 5,
}
WATCHER = """
import sys
from modules import script_callbacks, scripts

sys.watched = watched = {}


def called(params):
    watched["calls"].append((params.text_cond.clone(), params.text_uncond.clone()))


script_callbacks.on_cfg_denoiser(called)


class Watcher(scripts.Script):
    def title(self):
        return "Watcher"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def setup(self, p, *args):
        watched.update(p=p, calls=[], conds=[])

    def process(self, p, *args):
        if len(p.all_prompts) == 2:
            p.all_prompts = [p.prompt, p.prompt.replace("seal", "bat")]

    def process_before_every_sampling(self, p, *args, c, uc, **kwargs):
        watched["conds"].append((c, uc))
        if "FAIL" in p.prompt:
            raise_in_the_job()


def raise_in_the_job():
    from modules import shared

    def stop(module, args):
        handle.remove()
        raise RuntimeError("on purpose")

    handle = shared.sd_model.model.diffusion_model.register_forward_pre_hook(stop)
"""


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binding")
    watcher = folder / "watcher"
    (watcher / "scripts").mkdir(parents=True)
    (watcher / "scripts" / "watcher.py").write_text(WATCHER)

    def drawn(bind="", schedule="", **fields):
        args = {"enabled": True, "dialect": "pass", "bind": bind, "bind_schedule": schedule}
        request = {**JOB, **fields, "alwayson_scripts": {NAMESPACES.title: {"args": [args]}}}
        result = generate.generate(request, data_dir=folder, extensions=[watcher], checkpoint=MINI_V1)
        return sys.watched | {"pictures": result.images}

    yield drawn
    host.close_host()


# --- the cond cache


def conds(job):
    """The conds of each pass, as (positive, negative) objects: the cache hands the same one out again."""
    return [tuple(map(id, pair)) for pair in job["conds"]]


PASSES = {"one": {}, "hires": HIRES, "hires prompt": {**HIRES, "hr_prompt": "a species:seal, snow"}}


@pytest.mark.parametrize("fields", PASSES.values(), ids=PASSES)
def test_the_cond_cache_knows_the_binding_and_keeps_what_it_does_not_touch(draw, fields):
    # all jobs are kept, so that no object takes the place of another
    jobs = [draw(bind, **fields) for bind in ("", "0", "0.5", "0.5", "species=1", "species=1 studio=1", "species=0.5")]
    plain, zero, half, again, species, other, fewer = map(conds, jobs)
    assert plain == zero and half == again and species == other
    for one, two in zip(plain + half + species, half + species + fewer):
        assert one[0] != two[0]
    assert [pair[1] for pair in species] == [pair[1] for pair in fewer], "no tag of the negative prompt was bound"
    assert [pair[1] for pair in plain] != [pair[1] for pair in half]


def test_what_the_cache_holds_is_never_changed(draw):
    before, bound, after = draw(), draw("1"), draw()
    for one, other in zip(before["calls"], after["calls"]):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert before["pictures"] == after["pictures"]
    assert not torch.equal(before["calls"][0][0], bound["calls"][0][0])


# --- strength over the steps

CURVE = "0@0 1@0.5 0.2@0.5 1@1"
RUNS = {
    "txt2img": ({}, [4]),
    "two calls a step": ({"sampler_name": "Heun"}, [8]),
    "timesteps": ({"sampler_name": "DDIM"}, [4]),
    "img2img": ({"init_images": [encoded(start_picture())], "denoising_strength": 0.5}, [3]),
    "hires": ({**HIRES, "hr_second_pass_steps": 3}, [4, 3]),
    "editing": ({"prompt": "a wax [species:seal:species:bat:0.5], sea"}, [4]),
    "alternation": ({"prompt": "a wax [species:seal|species:bat], sea"}, [4]),
    "AND": ({"prompt": "a wax species:seal AND snow :0.5 AND a species:bat"}, [4]),
    "a long prompt": ({"prompt": "wax " * 74 + "species:seal", "negative_prompt": "wax"}, [4]),
}


@pytest.mark.parametrize(("fields", "lengths"), RUNS.values(), ids=RUNS)
def test_a_schedule_blends_the_conds_at_every_call_of_each_pass(draw, fields, lengths):
    plain, whole, faded = (draw(*args, **fields)["calls"] for args in ([], ["1"], ["1", CURVE]))
    levels = [Curve.parse(CURVE)(call / length) for length in lengths for call in range(length)]
    assert len(plain) in (len(levels), len(levels) - 1)  # a sampler's last step may take a call less
    for level, *three in zip(levels, plain, whole, faded):
        for none, full, between in zip(*three):
            assert torch.allclose(torch.lerp(none, full, level), between, atol=1e-6)
    assert not all(torch.equal(none[0], full[0]) for none, full in zip(plain, whole))


def test_a_flat_schedule_is_a_strength(draw):
    half = draw("0.5")["calls"]
    for args in (["1", "0.5"], ["0.5", "1"], ["0.5", "2@0 2@1"], ["0.5", ""]):
        assert all(torch.equal(one[0], other[0]) for one, other in zip(half, draw(*args)["calls"]))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(draw()["calls"], draw("1", "0")["calls"]))


# --- batches


def test_every_prompt_of_a_batch_is_bound_as_if_it_were_alone(draw):
    singles = [
        draw("1", prompt=JOB["prompt"].replace("seal", word), seed=seed) for word, seed in (("seal", 3), ("bat", 4))
    ]
    both = draw("1", batch_size=2)["calls"]
    for call, *alone in zip(both, *(job["calls"] for job in singles)):
        assert torch.equal(call[0], torch.cat([one[0] for one in alone]))
    assert draw("1", n_iter=2)["pictures"] == [picture for job in singles for picture in job["pictures"]]


# --- traces and remarks


def test_strength_zero_replaces_nothing_and_a_bound_job_gives_all_back(draw):
    for bind in ("", "0", "species=0", "1"):
        assert "get_conds_with_caching" not in vars(draw(bind)["p"])


def test_a_job_that_failed_leaves_nothing_behind(draw):
    plain = draw()["pictures"]
    with pytest.raises(RuntimeError, match="on purpose"):
        draw("1", prompt="FAIL " + JOB["prompt"])
    text = sys.modules["modules.shared"].sd_model.cond_stage_model
    assert all("forward" not in vars(one) and "encode_with_transformers" not in vars(one) for one in text.embedders)
    assert draw()["pictures"] == plain


def test_what_cannot_be_bound_is_told_under_the_picture_also_from_the_cache(draw):
    tag = "species:" + "very " * 80 + "large seal"
    plain = draw(prompt=f"wax, {tag}")
    for _ in range(2):
        job = draw("1", prompt=f"wax, {tag}", negative_prompt="")
        (told,) = [text for text in job["p"].comments if "not bound" in text]
        assert told.startswith(NAMESPACES.title) and "large seal" in told
    assert torch.equal(job["calls"][0][0], plain["calls"][0][0])
    assert not [text for text in draw("1")["p"].comments if "not bound" in text]
