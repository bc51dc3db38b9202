"""Reload UI: new scripts, page and routes in the running app; nothing twice, nothing lost, nothing left over."""

from __future__ import annotations

import gc
import sys
import threading
import time

import psutil
import pytest

JOB = {"prompt": "a red apple", "steps": 2, "seed": 42, "sampler_name": "Euler"}
SCRIPT = """
import gradio as gr
from modules import scripts, script_callbacks, shared
from modules.options import OptionInfo

VERSION = {version}

class Marked(scripts.Script):
    def title(self):
        return "Marked {version}"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Slider(0, 10, VERSION, step=1, label="Mark", elem_id=self.elem_id("mark"))]

    def process(self, p, mark):
        p.extra_generation_params["Mark"] = mark

def add_routes(demo, app):
    @app.get("/marked/version")
    def version():
        return VERSION

def settings():
    shared.opts.add_option("marked_{version}", OptionInfo({version}, "Mark", section=("marked", "Marked")))

script_callbacks.on_app_started(add_routes)
script_callbacks.on_ui_settings(settings)
script_callbacks.on_before_reload(lambda: print("before reload {version}"))
script_callbacks.on_script_unloaded(lambda: print("unloaded {version}"))
"""


@pytest.fixture()
def marked(served):
    """An installed extension whose version can be changed; gone after the test."""
    file = served.data / "extensions" / "marked" / "scripts" / "marked.py"
    file.parent.mkdir(parents=True, exist_ok=True)

    def write(version):
        file.write_text(SCRIPT.replace("{version}", str(version)), encoding="utf8")

    yield write
    file.unlink()
    reload(served)


def reload(served):
    answer = served.client.post("/internal/reload-ui")
    assert answer.status_code == 200, answer.text


def routes(served):
    return [getattr(route, "path", type(route).__name__) for route in served.app.app.routes]


def test_a_new_version_replaces_the_old_one_everywhere(served, marked, capsys):
    marked(1)
    reload(served)
    first, client = routes(served), served.client
    assert client.get("/marked/version").json() == 1
    assert "Mark: 1" in client.post("/sdapi/v1/txt2img", json=JOB).json()["info"]
    marked(2)
    capsys.readouterr()
    reload(served)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line in ("before reload 1", "unloaded 1")] == ["before reload 1", "unloaded 1"]
    assert client.get("/marked/version").json() == 2
    assert "Mark: 2" in client.post("/sdapi/v1/txt2img", json=JOB).json()["info"]
    scripts = client.get("/sdapi/v1/scripts").json()
    assert "marked 2" in scripts["txt2img"] and "marked 1" not in scripts["img2img"] + scripts["txt2img"]
    options = client.get("/sdapi/v1/options").json()
    assert options["marked_2"] == 2
    properties = client.get("/openapi.json").json()["components"]["schemas"]["Options"]["properties"]
    assert "marked_2" in properties and "marked_1" not in properties
    config = client.get("/config").json()
    ids = [x["props"].get("elem_id") for x in config["components"]]
    assert "script_txt2img_marked_2_mark" in ids and "script_txt2img_marked_1_mark" not in ids
    assert routes(served) == first


def test_extensions_can_be_switched_off_and_on_again(served, marked):
    marked(5)

    def scripts_with(**settings):
        assert served.client.post("/sdapi/v1/options", json=settings).status_code == 200
        reload(served)
        return served.client.get("/sdapi/v1/scripts").json()["txt2img"]

    assert scripts_with(disabled_extensions=["marked"]) == ["x/y/z plot", "test recorder"]
    assert scripts_with(disabled_extensions=[], disable_all_extensions="extra") == ["x/y/z plot"]
    assert scripts_with(disable_all_extensions="none") == ["x/y/z plot", "test recorder", "marked 5"]


def test_the_checkpoint_stays_loaded_and_pictures_stay_the_same(served):
    from modules import shared

    before = served.client.post("/sdapi/v1/txt2img", json=JOB).json()["images"]
    model = shared.sd_model
    reload(served)
    assert shared.sd_model is model
    assert served.client.post("/sdapi/v1/txt2img", json=JOB).json()["images"] == before


def test_running_and_waiting_jobs_end_well(served, marked):
    """The job that runs ends with the old scripts; the one that waits behind the reload runs with the new ones."""
    marked(3)
    reload(served)
    marked(4)
    answers = {}

    def ask(name, **fields):
        answers[name] = served.client.post("/sdapi/v1/txt2img", json={**JOB, **fields}).json()["info"]

    def started(job):
        deadline = time.monotonic() + 10
        while job not in served.client.get("/sdapi/v1/progress").json()["state"]["job"]:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    running = threading.Thread(target=ask, args=("running",), kwargs={"n_iter": 30, "steps": 5})
    running.start()
    started("Batch")
    reloading = threading.Thread(target=reload, args=(served,))
    reloading.start()
    from modules.call_queue import queue_lock

    while len(queue_lock._waiting) < 1:
        time.sleep(0.001)
    waiting = threading.Thread(target=ask, args=("waiting",))
    waiting.start()
    for thread in (running, reloading, waiting):
        thread.join(60)
    assert answers["running"].count("Mark: 3") >= 30
    assert "Mark: 4" in answers["waiting"]


def test_reloads_leave_nothing_behind(served):
    from fastapi import FastAPI
    from gradio import Blocks

    def living():
        gc.collect()
        found = [type(x) for x in gc.get_objects() if isinstance(x, (FastAPI, Blocks))]
        return len(found), threading.active_count(), len(sys.modules)

    for _ in range(40):  # gradio itself remembers the last 36 pages
        with Blocks(analytics_enabled=False):
            pass
    reload(served)
    before, memory = living(), psutil.Process().memory_info().rss
    for _ in range(4):
        reload(served)
    after, grown = living(), psutil.Process().memory_info().rss - memory
    assert all(new <= old + allowed for new, old, allowed in zip(after, before, (8, 2, 0))), (before, after)
    assert grown < 40 * 2**20
