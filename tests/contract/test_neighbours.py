"""Prism among hostile extensions, all installed at once: everything works, in every host."""

from __future__ import annotations

import pytest
from contract.hosts import PRISM
from contract.jobs import HIRES, JOB, batches, difference, freeu, inpainting
from contract.neighbours import SCRIPTS
from sd_prism.settings import FREEU

JOBS = {"txt2img": JOB, "hires": {**JOB, **HIRES}, "inpainting": inpainting(), "batch": {**JOB, "batch_size": 2}}
PRESET = {"preset": "SD 2.1 (authors)"}


def pixels(host, job, *args):
    return [one.pixels for one in host.draw({**job, **(freeu(*args) if args else {})})]


@pytest.fixture(scope="module")
def without_prism(crowd):
    """The pictures of the same host and neighbours, Prism disabled."""
    crowd.post("/sdapi/v1/options", {"disabled_extensions": [PRISM]})
    crowd.reload()
    assert "PrismFreeU" not in crowd.state()["scripts"]
    pictures = {name: [one.png for one in crowd.draw(job)] for name, job in JOBS.items()}
    crowd.post("/sdapi/v1/options", {"disabled_extensions": []})
    crowd.reload()
    return pictures


def test_all_neighbours_are_there_and_do_what_they_do(crowd):
    pixels(crowd, JOB)
    state, log = crowd.state(), crowd.log.read_text(errors="replace")
    assert state["scripts"].count("Neighbour") == len(SCRIPTS) + 2
    assert not state["own torch.cat"]
    assert "RuntimeError: a neighbour's defect" in log and "copied" in log
    assert "Error loading script" not in log


@pytest.mark.parametrize("name", JOBS)
def test_off_is_byte_equal_to_absent(crowd, without_prism, name):
    assert [one.png for one in crowd.draw(JOBS[name])] == without_prism[name]
    assert [one.png for one in crowd.draw({**JOBS[name], **freeu(False)})] == without_prism[name]


@pytest.mark.parametrize("name", JOBS)
def test_freeu_gives_the_same_picture_as_without_neighbours(crowd, host, name):
    """To the last bit of a colour: two processes may round differently where a picture is encoded."""
    for args in ([True], [PRESET]):
        beside, alone = (one.draw({**JOBS[name], **freeu(*args)}) for one in (crowd, host))
        plain = crowd.draw(JOBS[name])
        assert max(map(difference, beside, alone)) <= 1 < max(map(difference, beside, plain))


def test_tags_are_rendered_as_without_neighbours(crowd, host):
    fields = {**HIRES, "batch_size": 2, "prompt": "species:seal, quality:best", "negative_prompt": "object:seal"}
    asked = {"dialect": "sote", "bind": "0.5", "anti": True}
    beside, _ = batches(crowd, asked, **fields)  # the second one is a neighbour's own
    assert [beside] == batches(host, asked, **fields)


def test_the_panel_and_its_arguments_are_prisms_own(crowd):
    page = [one["props"] for one in crowd.get("/config")["components"]]
    labels = [one.get("label") for one in page if one.get("elem_id") == "script_txt2img_prism_freeu_b1"]
    assert labels == [FREEU["b1"].label] * 2
    (info,) = [
        one
        for one in crowd.get("/sdapi/v1/script-info")
        if one["name"] == FREEU.title.lower() and not one["is_img2img"]
    ]
    assert [one["value"] for one in info["args"]] == [field.default for field in FREEU.fields]


def test_an_infotext_gives_its_picture_back(crowd):
    (made,) = crowd.draw({**JOB, **freeu(PRESET)})
    assert [one.pixels for one in crowd.draw({"infotext": made.infotext})] == [made.pixels]


def test_reload_ui_changes_nothing(crowd):
    before, pictures = crowd.state(), [pixels(crowd, JOB), pixels(crowd, JOB, True)]
    crowd.reload()
    assert crowd.state() == before
    assert [pixels(crowd, JOB), pixels(crowd, JOB, True)] == pictures
