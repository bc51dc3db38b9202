"""The panel "Prism Cards" in a browser, on every host's own gradio."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from contract.hosts import SECOND
from contract.pages import choose, field, fill, opened, paste, wait
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_prism.cards.card import cards_of
from sd_prism.cards.shipped import presets
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import AUTOMATIC, CARDS

ROOT = "#script_txt2img_prism_cards"
LINE = f"{ROOT}_panel .label-wrap"
CHECKPOINT = ":is(#setting_sd_model_checkpoint, .model_selection)"
FITS = "Prism mini-v1 fits this model"
# Of a model that a host loads only for the next job, not even the kind is known.
UNSURE = "A guess, for the kind of model alone:", "No card is known"
CONTROLS = {"#txt2img_cfg_scale": "5", "#txt2img_sampling": "DPM++ 2M", "#txt2img_scheduler": "Karras"}
UNCHANGED = f"{ROOT}_view :text('All of this card')"
ENTRIES = f"{ROOT}_card li[aria-label]"
GIGAFRACTAL = next(card for card in cards_of(presets("card")) if card.name == "Gigafractal Diffusion")
NAMELESS = re.compile(r"^\s*- (button|textbox|combobox|listbox|checkbox|spinbutton|link|region)(?! \")", re.MULTILINE)


@pytest.fixture
def page(browser, host):
    """A fresh page that has told whose card is offered; the user's cards are gone after the test."""
    with opened(browser, host, f"{ROOT}_panel", switch="") as page:
        page.set_default_timeout(120_000)  # a machine that does more than this
        page.wait_for_selector(f"{ROOT}_panel :text('{FITS}')")
        yield page
    shutil.rmtree(host.data / "prism" / "presets" / "card", ignore_errors=True)


def open_panel(page):
    """By the keyboard, as if nobody had a mouse."""
    page.focus(LINE)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{ROOT}_view p")


def waits_for_line(page, text):
    page.wait_for_function(
        "([line, text]) => document.querySelector(`${line} span`).textContent.trim() === text", arg=[LINE, text]
    )


def told(page, text):
    page.wait_for_selector(f"{ROOT}_preset_told :text('{text}')")


def rows(page):
    """The settings that the table names."""
    return set(page.locator(f"{ROOT}_view th[scope=row]").all_inner_texts())


def test_the_models_card_is_offered_applied_and_taken_back(page, host):
    page.evaluate("(line) => document.querySelector(line).click()", LINE)
    page.wait_for_selector(f"{ROOT}_view th:has-text('Then')")
    assert rows(page) >= {"CFG Scale", *(["Schedule type"] if host.schedules else [])}
    assert "Offered for its" in page.inner_text(f"{ROOT}_view") and not page.locator(f"{ROOT}_look").is_visible()
    before = {name: field(page, name).input_value() for name in CONTROLS if page.locator(name).count()}
    page.click(f"{ROOT}_apply")
    for name in before:
        wait(page, name, CONTROLS[name])
    page.wait_for_selector(f"{ROOT}_view th:has-text('Before')")
    assert page.is_disabled(f"{ROOT}_apply")
    page.click(f"{ROOT}_undo")
    for name, text in before.items():
        wait(page, name, text)
    fill(page, "#txt2img_cfg_scale", "5")
    page.hover("#txt2img_prompt")
    page.hover(f"{ROOT}_card")  # turned to again, the panel is compared with the page
    page.wait_for_selector(f"{ROOT}_view th:has-text('CFG Scale')", state="detached")


def test_everything_has_a_name_and_an_id_of_its_own(page):
    open_panel(page)
    page.click(f"{ROOT}_preset_files")
    page.wait_for_selector(f"{ROOT}_preset_export")
    shown = page.locator(f"{ROOT}_panel").first.aria_snapshot()
    page.click(f"{ROOT}_preset_save")
    page.wait_for_selector(f"{ROOT}_preset_name")
    shown += page.locator(f"{ROOT}_panel").first.aria_snapshot()
    assert '"Apply"' in shown and not NAMELESS.findall(shown), shown
    ids = page.evaluate("[...document.querySelectorAll('[id^=script_txt2img_prism_cards]')].map((one) => one.id)")
    assert len(ids) == len(set(ids)) and {f"{ROOT[1:]}_{name}" for name in ("card", "enabled", "search")} <= set(ids)


def test_a_card_is_saved_deleted_taken_back_and_exported(page, host):
    open_panel(page)
    fill(page, "#txt2img_steps", "7")
    fill(page, "#txt2img_prompt", "a lone star")
    page.click(f"{ROOT}_preset_save")
    page.locator(f"{ROOT}_preset_kept input").nth(1).check()
    field(page, f"{ROOT}_preset_name").fill("Mine")
    page.click(f"{ROOT}_preset_write")
    wait(page, f"{ROOT}_card", "Mine")
    page.wait_for_selector(UNCHANGED)
    (file,) = (host.data / "prism" / "presets" / "card").glob("*.json")
    mine = json.loads(file.read_text())
    assert mine["values"]["host"]["steps"] == 7 and mine["values"]["prompt"] == {"before": "a lone star"}
    assert mine["match"]["names"] == ["miniv1"] and "negative" not in mine["values"]

    page.click(f"{ROOT}_preset_files")
    page.click(f"{ROOT}_preset_export")
    with page.expect_download() as handed:
        page.locator(f"{ROOT}_preset_exported a[download]").first.click()
    handed.value.save_as(file.with_name("handed"))
    assert json.loads(file.with_name("handed").read_text()) == mine

    page.click(f"{ROOT}_preset_delete")
    wait(page, f"{ROOT}_card", AUTOMATIC)
    assert not file.exists()
    page.click(f"{ROOT}_preset_undo")
    wait(page, f"{ROOT}_card", "Mine")
    choose(page, f"{ROOT}_card", GIGAFRACTAL.name)
    page.wait_for_selector(f"{ROOT}_view a:text('{GIGAFRACTAL.licence[0]}')")
    page.click(f"{ROOT}_preset_delete")
    told(page, "is built in")


def test_cards_are_read_from_a_file_and_from_a_picture_and_found_again(page, tmp_path):
    open_panel(page)
    page.click(f"{ROOT}_preset_files")
    given = {"format": "prism.preset", "version": 1, "feature": "card", "name": "Given", "values": {}}
    (tmp_path / "given.json").write_text(json.dumps(given))
    written = PngInfo()
    written.add_text("parameters", "a fish\nNegative prompt: fog\nSteps: 9, Sampler: DDIM, CFG scale: 3, Size: 64x96")
    Image.new("RGB", (8, 8)).save(tmp_path / "drawn.png", pnginfo=written)
    files = page.locator(f"{ROOT}_preset_import input[type=file]")
    files.set_input_files(tmp_path / "given.json")
    wait(page, f"{ROOT}_card", "Given")
    files.set_input_files(tmp_path / "drawn.png")
    wait(page, f"{ROOT}_card", "drawn")
    page.wait_for_selector(f"{ROOT}_view th:has-text('Negative prompt')")
    assert rows(page) >= {"Sampling steps", "Sampling method", "CFG Scale", "Width", "Height"}
    files.set_input_files(tmp_path / "given.json")
    wait(page, f"{ROOT}_card", "Given")

    field(page, f"{ROOT}_search").fill("gigafr")
    for _ in range(30):  # an open menu does not follow its choices, and takes a moment to open
        page.evaluate(
            "(menu) => (document.activeElement.blur(), document.querySelector(menu).focus())", f"{ROOT}_card input"
        )
        page.wait_for_timeout(500)
        if page.locator(ENTRIES).count() == 3:
            break
    shown = [one.get_attribute("aria-label") for one in page.locator(ENTRIES).all()]
    assert shown == [AUTOMATIC, GIGAFRACTAL.name, "Given"]  # what is chosen stays in the menu


def test_the_offer_follows_the_menu_of_checkpoints(page, host):
    own = field(page, CHECKPOINT).input_value()
    assert MINI_V1.stem in own
    open_panel(page)
    choose(page, CHECKPOINT, SECOND)
    waits_for_line(page, CARDS.title)
    page.wait_for_selector(", ".join(f"{ROOT}_view :text('{said}')" for said in UNSURE))
    choose(page, CHECKPOINT, own)
    waits_for_line(page, f"{CARDS.title} · {FITS}")


def test_an_authors_own_parameter_text_gives_the_cards_settings(page):
    """That text is older than the model, and so lacks the model's own words."""
    example = GIGAFRACTAL.preset.extra["example"]
    paste(page, example)
    wait(page, "#txt2img_cfg_scale", "12.5")
    wait(page, "#txt2img_sampling", "Euler a")
    wait(page, "#txt2img_prompt", example.splitlines()[0])
    open_panel(page)
    choose(page, f"{ROOT}_card", GIGAFRACTAL.name)
    page.wait_for_selector(f"{ROOT}_view th:has-text('Prompt')")
    assert {one for one in rows(page) if not one.startswith("Prism Namespaces")} == {"Prompt"}
    page.click(f"{ROOT}_apply")
    wait(page, "#txt2img_prompt", f"gigafractal artstyle, {example.splitlines()[0]}")
    page.wait_for_selector(f"{ROOT}_view th:has-text('Before')")
