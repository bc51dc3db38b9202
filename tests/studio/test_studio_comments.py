"""Comments in prompts; expected texts are a running A1111 1.10.1's answers to the same requests."""

from __future__ import annotations

import json

import pytest

JOB = {"steps": 1, "seed": 1}


def made(served, **fields):
    answer = served.client.post("/sdapi/v1/txt2img", json={**JOB, **fields})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["info"])


def test_a_comment_ends_with_its_line_in_both_prompts(served):
    info = made(served, prompt="a # comment\nfish", negative_prompt="bad # x")
    assert info["prompt"] == info["all_prompts"][0] == "a \nfish"
    assert info["negative_prompt"] == info["all_negative_prompts"][0] == "bad \n"
    assert info["infotexts"][0].startswith("a \nfish\nNegative prompt: bad \n\nSteps: 1, ")


def test_lines_of_comment_and_hires_prompts(served):
    hires = {"enable_hr": True, "hr_prompt": "big # c", "hr_upscaler": "Latent", "denoising_strength": 0.7}
    info = made(served, prompt="# whole line\na cat\n# tail", batch_size=2, **hires)
    assert info["prompt"] == "\na cat\n" and info["all_prompts"] == ["\na cat\n"] * 2
    assert info["infotexts"][1].startswith("a cat\n\nSteps: 1, ")
    assert 'Hires prompt: "big \\n"' in info["infotexts"][1]


def test_a_comment_draws_nothing_and_the_setting_keeps_it(served):
    with_comment, without = made(served, prompt="a # dog\nfish"), made(served, prompt="a \nfish")
    assert with_comment["infotexts"] == without["infotexts"]
    kept = made(served, prompt="a # dog\nfish", override_settings={"enable_prompt_comments": False})
    assert kept["prompt"] == "a # dog\nfish"


@pytest.mark.parametrize(("enabled", "words"), [(True, 2), (False, 5)])
def test_the_token_counter_leaves_comments_out(served, monkeypatch, enabled, words):
    from modules import shared, ui

    monkeypatch.setitem(shared.opts.data, "enable_prompt_comments", enabled)
    assert f">{words}/" in ui.update_token_counter("a # little dog\nfish", 20, [])


def test_the_hosts_own_scripts_come_after_those_of_extensions(served):
    from modules import scripts

    names = [type(one).__name__ for one in scripts.scripts_txt2img.alwayson_scripts]
    assert names[-1] == "ScriptStripComments" and len(names) > 1
