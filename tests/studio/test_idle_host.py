"""A webui that draws by a backend which calls nothing of Prism: its page says so, and jobs that ask for a panel do."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import gradio as gr
import jobs
import pytest
from sd_prism.panels.compat import NO_PIPELINES
from sd_prism.settings import FREEU, MERGE, NAMESPACES, PANELS
from sd_prism.studio import host, page

ASKED = {
    FREEU.title: {"enabled": True, "b1": 1.25},
    NAMESPACES.title: {"enabled": True},
    MERGE.title: {"enabled": True, "model": "other"},
}


@pytest.fixture
def webui(data, monkeypatch):
    """The studio's scripts by title, once the page is drawn and the backend has been changed."""
    host.open_host(data_dir=data)
    from modules import scripts

    page.build()
    monkeypatch.setattr(importlib.import_module("sd_prism.hosts.pipelines"), "idle", lambda: True)
    yield {script.title(): script for script in scripts.scripts_txt2img.alwayson_scripts}
    host.close_host()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_a_page_has_one_line_in_place_of_a_panel(webui, panel):
    with gr.Blocks() as drawn:
        assert webui[panel.title].ui(False) == []
    said = [one["props"]["value"] for one in drawn.get_config_file()["components"] if one["type"] == "html"]
    assert said == [f"<p>{NO_PIPELINES}</p>"]


@pytest.mark.parametrize("title", ASKED)
def test_a_job_says_what_is_missing_and_is_drawn(webui, title):
    from modules import scripts

    p = jobs.job("txt2img", scripts.scripts_txt2img)
    args = list(p.script_args)
    args[webui[title].args_from] = ASKED[title]
    p.script_args = tuple(args)
    done = jobs.run(p)
    assert f'{title} error: "{NO_PIPELINES.partition(chr(34))[0]}' in done.infotexts[0] and len(done.images) == 1


def test_calls_that_do_not_say_whose_they_are_are_let_pass(webui):
    """That backend tells of its calls without its denoiser."""
    from modules import script_callbacks

    registered = script_callbacks.callback_map["callbacks_cfg_denoiser"]
    assert any("merge" in one.callback.__module__ for one in registered)
    for one in registered:
        one.callback(SimpleNamespace(x=None, sampling_step=0, total_sampling_steps=1))
