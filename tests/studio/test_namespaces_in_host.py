"""Prism Namespaces through the whole house: what a job is told, what stays on it, its grid, its tokens, its pastes."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from sd_prism.miniatures import MINI_V1 as MINI
from sd_prism.namespaces.escape import literal
from sd_prism.studio import generate, host

JOB = {"prompt": "a red fish", "steps": 1, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
NUMBER = {"type": "number", "domain": [0, 999]}
WATCH = """
from modules import scripts

jobs = []


class Watch(scripts.Script):
    def title(self):
        return "Watch"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process_batch(self, p, *args, **kwargs):
        jobs.append((p, list(p.prompts), list(p.negative_prompts)))

"""


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    watch = folder / "watch"
    (watch / "scripts").mkdir(parents=True)
    (watch / "scripts" / "watch.py").write_text(WATCH)

    def drawn(*args, **fields):
        scripts = {"alwayson_scripts": {"Prism Namespaces": {"args": list(args)}}} if args else {}
        return generate.generate({**JOB, **scripts, **fields}, data_dir=folder, extensions=[watch], checkpoint=MINI)

    yield drawn
    host.close_host()


@pytest.fixture
def watched(draw):
    """Draws, and gives (p, prompts, negative prompts) of every batch as they are about to be encoded."""

    def of(*args, **fields):
        if "modules.scripts" not in sys.modules:
            draw()
        (entry,) = [x for x in sys.modules["modules.scripts"].scripts_data if x.script_class.__name__ == "Watch"]
        entry.module.jobs.clear()
        draw(*args, **fields)
        return list(entry.module.jobs)

    return of


def pixels(result):
    return Image.open(io.BytesIO(result.images[0])).tobytes()


def ours(name):
    return sys.modules[f"sd_prism.hosts.namespaces.{name}"]


def test_remarks_stand_under_the_picture_and_stop_nothing(watched):
    ((p, prompts, _),) = watched({}, prompt="speceis:seal, rating:safe, rating:mature")
    assert any('did you mean "species"' in one for one in p.comments)
    assert any("takes one value" in one for one in p.comments)
    assert prompts


def test_without_a_known_model_prompt_editing_wins_and_that_is_told(watched, monkeypatch):
    text = "[character:villain:0.5]"
    ((_, chosen, _),) = watched({"dialect": "pass"}, prompt=text)
    assert chosen == [f"[{literal('character:villain')}:0.5]"]
    monkeypatch.setattr(ours("rendering"), "detected", lambda: None)
    ((p, prompts, _),) = watched({}, prompt=text)
    assert prompts == [text] and any("read as prompt editing" in one for one in p.comments)


def test_the_automatic_dialect_is_the_checkpoints_and_its_name_is_kept(draw, monkeypatch):
    draw()
    assert "dialect=As written" in draw({}, prompt="species:seal").infotexts[0]  # mini-v1's own
    monkeypatch.setattr(ours("rendering"), "detected", lambda: "sote")
    assert "dialect=SoteDiffusion" in draw({}, prompt="species:seal").infotexts[0]


def test_what_stays_on_p_can_be_copied_and_dumped(watched):
    ((p, _, _),) = watched({"bind": "0.5"}, prompt="species:seal", enable_hr=True, denoising_strength=0.7)
    assert json.loads(json.dumps(p._prism_namespaces)) == copy.deepcopy(p._prism_namespaces)
    assert not vars(p).keys() & {"parse_extra_network_prompts", "get_conds_with_caching"}


def test_hidden_marks_are_gone_from_every_text_of_the_job(watched):
    text = 'title:"a #1 // b"'
    fields = {"enable_hr": True, "denoising_strength": 0.7, "hr_prompt": text, "negative_prompt": text}
    ((p, prompts, negatives),) = watched({}, prompt=text, n_iter=1, **fields)
    texts = [p.prompt, p.hr_prompt, p.main_prompt, *p.all_prompts, *p.all_hr_prompts, *p.all_negative_prompts]
    assert set(texts) == {text}
    assert not any(ord(char) > 0x10F000 for char in "".join([*prompts, *negatives, *p.hr_prompts]))


def test_a_broken_file_of_the_users_is_told_and_the_picture_drawn(draw, watched):
    plain = draw(prompt="species:seal")
    folder = sys.modules["modules.paths"].data_path
    file = ours("rendering").Path(folder, "prism", "namespaces", "broken.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{", encoding="utf8")
    try:
        made = draw({}, prompt="species:seal")
    finally:
        file.unlink()
    assert "Prism Namespaces error" in made.infotexts[0] and "broken.json" in made.infotexts[0]
    assert pixels(made) == pixels(plain)


def test_cells_of_a_grid_do_not_leak_into_each_other(draw):
    draw()
    namespaces = ours("panel")
    fields = dict(namespaces.NAMESPACES.axes())
    p = SimpleNamespace(extra_generation_params={})
    dialect, strength = (
        namespaces.host._apply(fields[f"[Prism Namespaces] {name}"]) for name in ("Dialect", "Strength of tags")
    )
    cell = copy.copy(p)
    dialect(cell, "sote", [])
    strength(cell, "species=1.2", [])
    namespaces.process(cell, (False,))
    assert (cell._prism_namespaces["dialect"], cell._prism_namespaces["strength"]) == ("SoteDiffusion", "species=1.2")
    other = copy.copy(p)
    namespaces.process(other, (False,))
    assert other._prism_namespaces is None and p.extra_generation_params == {}


# --- what is told


def test_the_rendered_prompts_of_both_passes_are_told_where_they_differ(draw):
    hires = {"enable_hr": True, "denoising_strength": 0.7, "hr_scale": 1}
    shown = {"dialect": "sote", "show_rendered": True}

    def told(**fields):
        text = draw(shown, **hires, **fields).infotexts[0]
        return dict(re.findall(r"Prism rendered ([a-z ]+): ([^,]+)", text))

    assert told(prompt="quality:best") == {"prompt": "best quality"}
    assert told(prompt="quality:best", hr_prompt="quality:worst", hr_negative_prompt="quality:low") == {
        "prompt": "best quality",
        "hires prompt": "worst quality",
        "hires negative prompt": "low quality",
    }
    assert told(prompt="best quality", hr_prompt="quality:best") == {"hires prompt": "best quality"}
    assert told(prompt="quality:best", hr_prompt="a fish") == {"prompt": "best quality"}
    assert "rendered" not in draw({"dialect": "sote"}, **hires, prompt="quality:best").infotexts[0]


def test_the_panel_that_was_moved_last_is_the_one_that_counts(draw):
    draw()
    rendering = ours("rendering")
    on, off = (rendering.NAMESPACES.read({"enabled": state}) for state in (True, False))
    panels = dict(rendering.panels)
    try:
        rendering.loaded("txt2img", *on.values())
        rendering.loaded("img2img", *off.values())
        assert rendering.panel() == on  # a page opens with this tab
        rendering.moved("img2img", *off.values())
        assert rendering.panel() == off
        rendering.moved("txt2img", *{**on, "strength": "specie"}.values())
        assert rendering.panel() == off  # half a word
    finally:
        rendering.panels.clear()
        rendering.panels.update(panels)


# --- pastes


def test_a_picture_of_other_namespaces_is_told_once(draw, caplog):
    made = draw({"dialect": "sygil"}, prompt="species:seal").infotexts[0]
    parse = sys.modules["modules.infotext_utils"].parse_generation_parameters
    pasted = ours("pasted")
    with caplog.at_level(logging.WARNING, "prism"):
        pasted.on_paste(made, parse(made))
        assert not caplog.records
        other = made.replace("registry=", "registry=0000")
        pasted.on_paste(other, parse(other))
    assert [record for record in caplog.records if "other namespaces" in record.message]


def test_row_40_is_a_prompt_where_its_words_are_namespaces(draw):
    draw()
    text = "Size:640x480, Steps:99, Seed:5"
    parse, pasted = sys.modules["modules.infotext_utils"].parse_generation_parameters, ours("pasted")
    params = parse(text)
    pasted.on_paste(text, params)
    assert params["Prompt"] == ""  # steps and seed are the host's words
    file = ours("rendering").Path(sys.modules["modules.paths"].data_path, "prism", "namespaces", "words.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"steps": NUMBER, "seed": NUMBER}), encoding="utf8")
    try:
        params = parse(text)
        pasted.on_paste(text, params)
        assert params["Prompt"] == text and "Steps" not in params and "Size-1" not in params
        text = f"a cat\n{text}, Sampler: Euler"
        params = parse(text)
        pasted.on_paste(text, params)
        assert params["Prompt"] == "a cat" and params["Steps"] == "99"
    finally:
        file.unlink()
