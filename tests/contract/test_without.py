"""Prism with its panels off against the same webui without it: pictures and infotexts, byte by byte."""

from __future__ import annotations

import pytest
from contract.jobs import HIRES, JOB, inpainting, same

TWO = {"batch_size": 2, "n_iter": 2, "prompt": "(a red fish:1.2) in the [sea:snow:0.5]", "negative_prompt": "a cat"}
IMG2IMG = {name: value for name, value in inpainting().items() if "mask" not in name}
JOBS = {
    "txt2img": {**JOB, **TWO},
    "other sampler": {**JOB, "sampler_name": "DPM++ 2M", "cfg_scale": 1},
    "hires": {**JOB, **HIRES, "hr_prompt": "a blue cat"},
    "img2img": IMG2IMG,
    "inpainting": inpainting(),
}


@pytest.mark.parametrize("request_", JOBS.values(), ids=JOBS)
def test_off_is_byte_equal_to_the_webui_without_prism(host, bare, request_):
    with_prism, without = host.draw(request_), bare.draw(request_)
    assert [one.infotext for one in with_prism] == [one.infotext for one in without]
    for ours, theirs in zip(with_prism, without, strict=True):
        assert ours.png == theirs.png or ("init_images" in request_ and same(host, ours, theirs))
