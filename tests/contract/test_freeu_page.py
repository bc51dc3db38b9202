"""The panel "Prism FreeU" in a browser, on every host's own gradio."""

from __future__ import annotations

import json

import pytest
from contract.pages import generate, opened, unfold

ROOT = "#script_txt2img_prism_freeu"
CURVE = '.prism-curve[data-field="schedule"]'


@pytest.fixture
def page(browser, host):
    """A fresh page with the panel on and everything in it open."""
    with opened(browser, host, f"{ROOT}_panel") as page:
        page.evaluate(f"document.querySelector('{ROOT}_panel-checkbox input').click()")
        for part in ("advanced", "schedule_part", "measurement", "others"):
            unfold(page, f"{ROOT}_{part}")
        page.wait_for_selector(f"{CURVE} circle")
        yield page


def schedule(page):
    return page.locator(f"{ROOT}_schedule textarea, {ROOT}_schedule input").first.input_value()


def line(page, place):
    return page.locator(f"{ROOT}_panel {place} polyline").first.get_attribute("points")


def number(page, name, value):
    field = page.locator(f"{ROOT}_{name} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def test_the_schedule_is_drawn_by_keyboard(page):
    points = page.locator(f"{ROOT}_panel {CURVE} circle")
    assert points.count() == 3 and schedule(page) == ""
    points.first.focus()
    page.keyboard.press("ArrowDown")
    assert schedule(page) == "0.95@0 1@1 0@1"
    page.keyboard.press("ArrowRight")
    assert schedule(page) == "0.95@0.05 1@1 0@1"
    page.keyboard.press("Enter")
    assert schedule(page) == "0.95@0.05 0.975@0.525 1@1 0@1"
    page.keyboard.press("Delete")
    assert schedule(page) == "0.95@0.05 1@1 0@1"
    assert page.evaluate("document.activeElement.tagName") == "circle"


def test_the_schedule_is_drawn_by_mouse_and_reaches_the_picture(page):
    point = page.locator(f"{ROOT}_panel {CURVE} circle").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 30, steps=4)
    page.mouse.up()
    drawn = schedule(page)
    assert drawn.endswith(" 1@1 0@1") and not drawn.startswith("1@0 ")
    assert f"schedule={drawn}" in generate(page)


def test_typing_a_schedule_draws_it_and_emptying_it_shows_start_and_stop(page):
    field = page.locator(f"{ROOT}_schedule textarea, {ROOT}_schedule input").first
    field.fill("0@0, 1@0.5, 0@1")
    page.wait_for_function(f"document.querySelectorAll('{ROOT}_panel {CURVE} circle').length === 3")
    middle = line(page, CURVE).split()[2]
    field.fill("")
    number(page, "start", 0.5)
    page.wait_for_function(f"document.querySelectorAll('{ROOT}_panel {CURVE} circle').length === 5")
    assert line(page, CURVE).split()[2].split(",")[0] == middle.split(",")[0]


def below(page):
    """How far under the panel's top "Advanced" lies; the page's own head settles when it likes."""
    return page.evaluate(
        """(root) => document.querySelector(`${root}_advanced`).getBoundingClientRect().y
            - document.querySelector(`${root}_panel`).getBoundingClientRect().y""",
        ROOT,
    )


def test_the_gain_plot_follows_the_sliders_and_nothing_moves(page):
    before = line(page, ".prism-gains")
    place = below(page)
    number(page, "s1", 0.4)
    page.wait_for_function(
        f"document.querySelector('{ROOT}_panel .prism-gains polyline').getAttribute('points') !== '{before}'"
    )
    assert below(page) == place


def test_a_comparison_is_one_click_and_goes_back(page):
    text = generate(page, f"{ROOT}_ab")
    assert "Prism FreeU: " in text
    page.wait_for_function(
        "new Set([...document.querySelectorAll('#txt2img_gallery img')].map((x) => x.src)).size >= 3"
    )
    page.wait_for_function(f"!document.querySelector('{ROOT}_compare input').checked")


def test_a_measurement_is_shown_on_request(page):
    page.evaluate(f"document.querySelector('{ROOT}_measure input').click()")
    generate(page)
    page.click(f"{ROOT}_show")
    page.wait_for_selector(f"{ROOT}_measured figure")
    assert page.locator(f"{ROOT}_measured figure").count() == 2
    assert "Stage 1 · Backbone gain:" in page.locator(f"{ROOT}_measured").inner_text()


def test_settings_of_another_program_are_read_into_the_panel(page):
    presets = {
        name: {"version": "1", "stage_infos": [{"backbone_factor": b, "skip_factor": 0.5}]}
        for name, b in (("Mine", 1.3), ("Other", 1.7))
    }
    text = page.locator(f"{ROOT}_others_text textarea").first
    text.fill("nothing of the kind")
    page.click(f"{ROOT}_others_read")
    page.wait_for_selector(f"{ROOT}_others_said :text('The file is no presets.json')")
    text.fill(json.dumps(presets))
    page.click(f"{ROOT}_others_read")
    b1 = f"document.querySelector('{ROOT}_b1 input[type=number]').value"
    page.wait_for_function(f"{b1} === '1.3'")
    assert "saves no version" in page.locator(f"{ROOT}_others_said").inner_text()
    page.click(f"{ROOT}_others_found input")
    page.locator("ul.options li, [role=option]").filter(has_text="Other").first.click()
    page.wait_for_function(f"{b1} === '1.7'")
    assert "b1=1.7; s1=0.5" in generate(page)
