"""The panel "Prism Cards" in a browser, on every host's own gradio."""

from __future__ import annotations

import pytest
from contract.pages import opened

ROOT = "#script_txt2img_prism_cards"
# Opens an accordion; a page that is still being built may swallow a click.
OPEN = """(selector) => {
  const label = document.querySelector(`${selector} .label-wrap`);
  if (label && !label.classList.contains("open")) label.click();
  return Boolean(label?.classList.contains("open"));
}"""


@pytest.fixture
def page(browser, host):
    with opened(browser, host, f"{ROOT}_panel", switch="") as page:
        page.set_default_timeout(120_000)  # a machine that does more than this
        yield page


def waits_for(page, elem_id, value):
    page.wait_for_function(
        "([id, text]) => document.querySelector(`${id} input`)?.value === text", arg=[elem_id, value]
    )


def test_the_models_card_is_offered_applied_and_taken_back(page):
    page.wait_for_selector(f"{ROOT}_panel :text('Prism mini-v1 fits this model')")
    page.wait_for_function(OPEN, arg=f"{ROOT}_panel", polling=1000)
    page.hover(f"{ROOT}_card")  # turned to, it is compared with the page
    page.wait_for_selector(f"{ROOT}_view th:text('CFG Scale')")
    waits_for(page, "#txt2img_cfg_scale", "7")
    page.click(f"{ROOT}_apply")
    waits_for(page, "#txt2img_cfg_scale", "5")
    waits_for(page, "#txt2img_scheduler", "Karras")
    page.wait_for_selector(f"{ROOT}_view th:text('Before')")
    page.click(f"{ROOT}_undo")
    waits_for(page, "#txt2img_cfg_scale", "7")
    waits_for(page, "#txt2img_scheduler", "Automatic")
    assert not page.locator(f"{ROOT}_look").is_visible()
    ids = page.evaluate("[...document.querySelectorAll('[id^=script_txt2img_prism_cards]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
