"""The panel "Prism Namespaces" in a browser, on every host's own gradio, and what follows from it on the server."""

from __future__ import annotations

import json

import pytest
from contract.jobs import JOB, namespaces
from contract.pages import opened, paste
from sd_prism.settings import NAMESPACES

ROOT = "#script_txt2img_prism_namespaces"


@pytest.fixture
def page(browser, host):
    with opened(browser, host, f"{ROOT}_panel") as page:
        yield page


def switch(page):
    page.evaluate(f"document.querySelector('{ROOT}_panel-checkbox input').click()")


def choose(page, name, text):
    """Types into a menu or a text of the panel."""
    field = page.locator(f"{ROOT}_{name} input, {ROOT}_{name} textarea").first
    field.click()
    field.fill(text)
    field.press("Enter")
    field.press("Tab")


def value(page, name):
    return page.locator(f"{ROOT}_{name} input, {ROOT}_{name} textarea").first.input_value()


def count(host, prompt, **fields):
    """The tokens that the host counts."""
    return int(host.post("/contract/count", {"prompt": prompt, **fields}).split(">")[1].split("/")[0])


def counts(page, host, prompt, wanted, **fields):
    """Waits until the server, told by the page, counts so many tokens."""
    for _ in range(50):
        if count(host, prompt, **fields) == wanted:
            return True
        page.wait_for_timeout(100)
    return False


def test_the_panel_is_one_closed_line(page):
    assert page.locator(f"{ROOT}_panel").first.bounding_box()["height"] < 60


def test_the_token_counter_counts_what_will_be_encoded(page, host):
    if not host.asks_what_to_count:
        pytest.skip("this webui's token counter counts what is written")
    host.draw({**JOB, "steps": 1})  # some webuis load no model before, and count for none
    plain = {text: count(host, text) for text in ("species:seal", "a, year:1990", 'title:"one #two"', "score:9")}
    switch(page)
    assert counts(page, host, "a, year:1990", plain["a, year:1990"] + 5)  # the host alone reads a weight
    assert count(host, "species:seal") == plain["species:seal"]
    assert count(host, 'title:"one #two"') == count(host, 'title:"one two"') + 1
    assert count(host, "a, -species:dog") < count(host, "a, species:dog")
    assert count(host, "a cat") == 2 and count(host, "year:1990", positive=False) == 6
    page.locator(f"{ROOT}_advanced .label-wrap").first.click()
    choose(page, "replace", "species:harbor seal")
    assert counts(page, host, "species:seal", plain["species:seal"] + 1)
    switch(page)
    assert counts(page, host, "a, year:1990", plain["a, year:1990"])


@pytest.fixture
def on_at_the_start(host):
    """ui-config.json says that a page opens with the panel on; it is read at each Reload UI."""
    file = host.data / "ui-config.json"
    before = file.read_text(encoding="utf8")
    config = json.loads(before)
    key = next((one for one in config if one.endswith("txt2img/Prism Namespaces/value")), None)
    if key is None:
        pytest.skip("this webui keeps no panel's switch in ui-config.json")
    file.write_text(json.dumps({**config, key: True}), encoding="utf8")
    host.reload()
    yield
    file.write_text(before, encoding="utf8")
    host.reload()


def test_a_page_that_opens_with_the_panel_on_counts_so(on_at_the_start, browser, host):
    alone = count(host, "a, year:1990")
    with opened(browser, host, f"{ROOT}_panel") as page:
        assert counts(page, host, "a, year:1990", alone + 5)


def test_a_pasted_picture_sets_the_panel_and_one_without_switches_it_off(page, host):
    request = {**JOB, "steps": 1, "prompt": "species:seal"}
    (made,) = host.draw({**request, **namespaces({"dialect": "pony", "strength": "species=1.2"})})
    (plain,) = host.draw(request)
    on = f"document.querySelector('{ROOT}_panel-checkbox input').checked"
    paste(page, made.infotext)
    page.wait_for_function(on)
    assert (value(page, "dialect"), value(page, "strength")) == ("Pony", "species=1.2")
    assert page.locator("#txt2img_prompt textarea").input_value() == "species:seal"
    paste(page, plain.infotext)
    page.wait_for_function(f"!{on}")


def test_a_pasted_prompt_of_tags_stays_whether_the_panel_is_on_or_off(page):
    text = "a seal, species:seal, studio:dc, series:batman, red hat"
    for _ in range(2):
        paste(page, text)
        page.wait_for_timeout(500)
        assert page.locator("#txt2img_prompt textarea").input_value() == text
        switch(page)


def test_a_preset_fills_the_panel(page):
    switch(page)
    page.locator(f"{ROOT}_preset input").first.click()
    page.locator("ul.options li, [role=option]").filter(has_text="SoteDiffusion").first.click()
    page.wait_for_function(
        "(id) => [...document.querySelectorAll(id)].some((one) => one.value === 'SoteDiffusion')",
        arg=f"{ROOT}_dialect input",
    )
    assert "SoteDiffusion" in NAMESPACES.presets
