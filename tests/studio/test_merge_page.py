"""The bars of "Prism Block Merge" on the studio's page: other models, narrow windows, what moves and what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser import PATIENCE
from sd_prism.merge.presets import PRESETS
from sd_prism.settings import MERGE

ROOT = "#script_txt2img_prism_block_merge"
BARS = f"{ROOT}_panel .prism-bar"
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from sd_prism.studio import server
server.start(port=0, data_dir=sys.argv[2], open_browser=False)
"""
SDXL = [f"IN{i:02d}" for i in range(9)] + ["M00"] + [f"OUT{i:02d}" for i in range(9)]
WATCH_SHIFTS = """() => {
  globalThis.shifts = [];
  new PerformanceObserver((list) => globalThis.shifts.push(
    ...list.getEntries().filter((one) => one.value > 0.001).map((one) => one.value)
  )).observe({ type: "layout-shift", buffered: false });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A served studio with Prism's own panels and the shipped checkpoint."""
    lib = Path(__file__).resolve().parents[2] / "lib"
    command = [sys.executable, "-c", SERVE, str(lib), str(tmp_path_factory.mktemp("merge") / "data")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield next(line for line in process.stdout if line.startswith("Prism studio:")).split()[-1]
        process.kill()


@pytest.fixture
def open_page(browser, address):
    """Opens the panel in a window of this width; `answer` is given in place of the server's. No errors are allowed."""
    pages, said = [], []

    def opened(width=1400, answer=None):
        page = browser.new_page(viewport={"width": width, "height": 1200})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        if answer is not None:
            page.route("**/prism/v1/merge/model", lambda route: route.fulfill(**answer))
        page.goto(address)
        page.wait_for_selector("html:not(.opening) #txt2img_generate")
        page.wait_for_selector(f"{ROOT}_panel-checkbox input", state="attached")
        page.evaluate(f"document.querySelector('{ROOT}_panel-checkbox input').click()")
        page.locator(f"{ROOT}_panel .prism-bars").scroll_into_view_if_needed()
        page.wait_for_selector(f"{ROOT}_panel .prism-merge-facts:not(:empty)")
        return page

    yield opened
    for page in pages:
        page.close()
    assert [text for text in said if "422" not in text] == []


def labels(page):
    return page.eval_on_selector_all(BARS, "(bars) => bars.map((one) => one.getAttribute('aria-label').split(',')[0])")


def levels(page):
    return page.eval_on_selector_all(BARS, "(bars) => bars.map((one) => Number(one.getAttribute('aria-valuenow')))")


def text_of(page, name):
    return page.locator(f"{ROOT}_{name} textarea, {ROOT}_{name} input").first


def test_another_model_has_its_own_bars(open_page):
    presets = {name: [one.base, *one.weights(len(SDXL))] for name, one in PRESETS.items()}
    blocks = dict.fromkeys(["BASE", *SDXL, "TIME_EMBED", "LABEL_EMB", "OUT", "VAE"], 1_000_000)
    answer = {"title": "SDXL", "blocks": blocks, "spine": SDXL, "presets": presets, "memory": ["RAM 1 of 2 GB in use"]}
    answer["own"] = {"mine": presets["GRAD_A"][1:]}
    page = open_page(answer={"json": answer})
    assert labels(page) == list(blocks)
    assert page.locator(f"{ROOT}_panel .prism-merge-facts").inner_text() == "SDXL, 19 blocks · RAM 1 of 2 GB in use"
    text_of(page, "weights").fill(" ".join(str(i / 24) for i in range(25)))  # as for SD 1: six blocks fewer are left
    drawn = dict(zip(labels(page), levels(page)))
    assert (drawn["IN08"], drawn["M00"], drawn["OUT00"]) == (round(8 / 24, 4), 0.5, round(13 / 24, 4))
    page.locator(f"{ROOT}_panel select").select_option("mine")
    assert text_of(page, "weights").input_value() == "mine" and levels(page)[10] == 1


def test_without_an_answer_the_usual_bars_stay(open_page):
    page = open_page(answer={"status": 422, "body": json.dumps({"error": "x", "detail": "no checkpoint is there"})})
    assert page.locator(f"{ROOT}_panel .prism-merge-facts").inner_text() == (
        "The loaded model's blocks are not known: no checkpoint is there"
    )
    assert len(labels(page)) == 29
    page.locator(BARS).nth(3).focus()
    page.keyboard.press("End")
    assert levels(page)[3] == 1 and text_of(page, "weights").input_value().count(" ") == 25


@pytest.mark.parametrize("width", (1400, 900))
def test_nothing_moves_and_nothing_leaves_its_place(open_page, width):
    page = open_page(width)
    frame = page.locator(f"{ROOT}_panel").first.bounding_box()
    for box in (one.bounding_box() for one in (*page.locator(BARS).all(), *page.locator(".prism-merge-button").all())):
        assert box is None or (frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"])
    assert page.locator(BARS).first.bounding_box()["width"] >= 9
    page.evaluate(WATCH_SHIFTS)
    row = page.locator(f"{ROOT}_panel .prism-bars")
    row.scroll_into_view_if_needed()
    box = row.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 5, steps=20)
    page.mouse.up()
    page.click(f"{ROOT}_panel .prism-merge-button:text('Reset')")
    assert levels(page) == [*[0.5] * 28, 0]
    assert page.evaluate("globalThis.shifts") == []


def test_all_is_reached_by_keyboard(open_page):
    page = open_page()
    page.locator(f"{ROOT}_vae input, {ROOT}_vae textarea").first.focus()
    seen = []
    for _ in range(5):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")
        )
    assert seen[:2] == ["A/B", "BASE, text encoder"]  # with nothing to reset its button is passed over
    page.keyboard.press("Shift+Tab")
    page.locator(BARS).first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert (labels(page)[2], levels(page)[2]) == ("IN01", 0.7)
    assert page.locator(f"{BARS}[tabindex='0']").count() == 1
    assert page.locator(f"{ROOT}_ratio").first.get_attribute("title") == MERGE["ratio"].doc
