"""The panel "Prism Block Merge" in a browser, on every host's own gradio."""

from __future__ import annotations

import json

import pytest
from contract import pages
from contract.hosts import SECOND
from contract.pages import generate, opened, paste, unfold
from sd_prism import infotext
from sd_prism.merge.presets import PRESETS
from sd_prism.settings import MERGE

ROOT = "#script_txt2img_prism_block_merge"
BARS = f"{ROOT}_panel .prism-bar"
SPINE = [f"IN{i:02d}" for i in range(12)] + ["M00"] + [f"OUT{i:02d}" for i in range(12)]
HALVES = {"BASE": 0.5, **dict.fromkeys(SPINE, 0.5), "TIME_EMBED": 0.5, "OUT": 0.5, "VAE": 0}
LEVELS = f"""() => Object.fromEntries([...document.querySelectorAll('{BARS}')].map(
  (bar) => [bar.getAttribute('aria-label').split(',')[0], Number(bar.getAttribute('aria-valuenow'))]))"""
# Switches the panel on, until its bars are there.
ON = """(panel) => {
  const box = document.querySelector(`${panel}-checkbox input`);
  const seen = document.querySelector(`${panel} .prism-bars`)?.offsetParent;
  if (!box.checked) box.click();
  else if (!seen) document.querySelector(`${panel} .label-wrap`)?.click();
  return Boolean(seen);
}"""


@pytest.fixture
def page(browser, host):
    """A fresh page with the panel on, and the bars of the loaded model in it."""
    with opened(browser, host, f"{ROOT}_panel") as page:
        page.wait_for_function(ON, arg=f"{ROOT}_panel", polling=500)
        page.locator(f"{ROOT}_panel .prism-bars").scroll_into_view_if_needed()
        page.wait_for_selector(f"{ROOT}_panel .prism-merge-facts:text('Stable Diffusion 1, 25 blocks')")
        yield page


def field(page, name):
    return pages.field(page, f"{ROOT}_{name}")


def value(page, name):
    return field(page, name).input_value()


def fill(page, name, text):
    pages.fill(page, f"{ROOT}_{name}", text)


def choose(page, name, text):
    """Takes an entry of a menu, as a user does."""
    field(page, name).click()
    page.locator(f"li[aria-label='{text}']").first.click()
    field(page, name).press("Tab")


def levels(page):
    return page.evaluate(LEVELS)


def bar(page, label):
    return page.locator(f"{BARS}[aria-label='{label}'], {BARS}[aria-label^='{label},']")


def said(page):
    return page.locator(f"{ROOT}_panel .prism-merge-state").inner_text()


def wait(page, name, text):
    pages.wait(page, f"{ROOT}_{name}", text)


def test_there_is_a_slider_for_each_block_of_the_loaded_model(page):
    assert levels(page) == HALVES
    assert "RAM" in page.locator(f"{ROOT}_panel .prism-merge-facts").inner_text()
    assert said(page) == "No model B is chosen yet"
    ids = page.evaluate("[...document.querySelectorAll('[id^=script_txt2img_prism_block]')].map((one) => one.id)")
    assert len(ids) == len(set(ids)) and {f"{ROOT[1:]}_{name}" for name in MERGE.names[1:4]} <= set(ids)


def test_a_painted_curve_reaches_the_picture_and_moves_nothing(page):
    choose(page, "model", SECOND)
    place = page.locator(f"{ROOT}_advanced").bounding_box()
    page.locator(f"{ROOT}_panel .prism-bars").scroll_into_view_if_needed()
    first, last = (bar(page, label).locator(".prism-track").bounding_box() for label in ("IN00", "OUT11"))
    page.mouse.move(first["x"] + 4, first["y"] + first["height"] - 1)
    page.mouse.down()
    page.mouse.move(last["x"] + 4, last["y"] + 1, steps=4)
    page.mouse.up()
    drawn = levels(page)
    curve = [drawn[label] for label in SPINE]
    assert curve == sorted(curve) and curve[0] < 0.05 and curve[-1] > 0.95 and len(set(curve)) > 20
    assert (drawn["BASE"], drawn["TIME_EMBED"], drawn["OUT"]) == (0.5, curve[0], curve[-1])
    assert [float(one) for one in value(page, "weights").split()] == [0.5, *curve]
    assert said(page) == "Your own weights"
    moved = page.locator(f"{ROOT}_advanced").bounding_box()
    assert (moved["height"], moved["width"]) == (place["height"], place["width"])
    text = generate(page)
    assert f"weights={value(page, 'weights')}" in text and f"model={SECOND}" in text


def test_keys_move_the_bars_and_a_double_click_resets_one(page):
    bar(page, "IN01").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("PageUp")
    assert levels(page) == {**HALVES, "IN01": 0.75}
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert levels(page) == {**HALVES, "IN01": 0, "IN02": 1}
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "IN02"
    page.keyboard.press("Delete")
    assert levels(page) == {**HALVES, "IN01": 0}
    for label, name, text in (("TIME_EMBED", "blocks", "TIME_EMBED=0"), ("BASE", "te", "0"), ("VAE", "vae", "0.05")):
        bar(page, label).focus()
        page.keyboard.press("ArrowUp" if label == "VAE" else "Home")
        assert value(page, name) == text
    assert levels(page) == {**HALVES, "BASE": 0, "IN01": 0, "TIME_EMBED": 0, "VAE": 0.05}
    bar(page, "IN01").locator(".prism-track").dblclick()
    assert levels(page)["IN01"] == 0.5 and value(page, "weights") == ""
    page.click(f"{ROOT}_panel .prism-merge-button:text('Reset')")
    assert levels(page) == HALVES


def test_a_preset_draws_its_curve_and_takes_the_place_of_own_weights(page):
    curve = [round(one, 4) for one in PRESETS["GRAD_V"].weights(25)]
    bar(page, "M00").focus()
    page.keyboard.press("End")
    choose(page, "preset", "GRAD_V")
    wait(page, "weights", "")
    drawn = levels(page)
    assert [drawn[label] for label in SPINE] == curve and drawn["BASE"] == 0
    bar(page, "M00").focus()
    page.keyboard.press("End")
    assert [levels(page)[label] for label in SPINE] == [*curve[:12], 1, *curve[13:]]
    picture = page.evaluate(
        "[...document.styleSheets].flatMap((one) => { try { return [...one.cssRules]; } catch { return []; } })"
        ".filter((rule) => rule.selectorText?.includes('block_merge_preset') && rule.style.backgroundImage).length"
    )
    assert picture == len(PRESETS) + 1


def test_typed_weights_are_drawn_and_wrong_ones_are_told(page):
    choose(page, "model", SECOND)
    fill(page, "weights", ", ".join(["1"] * 25))
    assert levels(page) == {**HALVES, **dict.fromkeys([*SPINE, "TIME_EMBED", "OUT"], 1), "BASE": 0}
    fill(page, "blocks", "in0-in02=0.25 /attn2=0 OUT11=1.5")
    drawn = levels(page)
    assert [drawn[label] for label in SPINE[:4]] == [0.25, 0.25, 0.25, 1] and drawn["OUT11"] == 1.5
    fill(page, "weights", "1 1 1")
    assert said(page) == "3 weights: 25 are needed, or 26 with the text encoder's first"
    bar(page, "IN05").focus()
    page.keyboard.press("Home")
    ruled = {"IN00": 0.25, "IN01": 0.25, "IN02": 0.25, "OUT11": 1.5}
    assert levels(page) == {**HALVES, **ruled, "IN05": 0}  # a list that cannot be read gives way, rules stay


def test_a_pasted_merge_is_drawn_and_its_missing_model_is_told(page):
    curve = " ".join(f"{i / 25:g}" for i in range(26))
    merge = {"model": "nobody [0123456789]", "weights": curve, "blocks": "TIME_EMBED=0.9", "mode": "TIES"}
    settings = json.dumps(infotext.dumps(MERGE, MERGE.read(merge)))
    paste(page, f"a cat\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, {MERGE.title}: {settings}, Version: v1.10.1")
    wait(page, "weights", curve)
    page.wait_for_function(f"() => ({LEVELS})().M00 === 0.52 && ({LEVELS})().TIME_EMBED === 0.9")
    assert value(page, "model") == "nobody [0123456789]"
    page.wait_for_selector(f"{ROOT}_minus", state="visible")
    assert "Prism Block Merge error: " in generate(page)


def test_model_c_is_there_where_the_mode_needs_it(page):
    assert not page.locator(f"{ROOT}_minus").is_visible()
    height = page.locator(f"{ROOT}_panel").first.bounding_box()["height"]
    choose(page, "mode", "Add difference")
    page.wait_for_selector(f"{ROOT}_minus", state="visible")
    assert page.locator(f"{ROOT}_panel").first.bounding_box()["height"] == height
    choose(page, "mode", "Spherical")
    page.wait_for_selector(f"{ROOT}_minus", state="hidden")


def test_a_b_switches_the_merge_off_and_on(page):
    choose(page, "model", SECOND)
    fill(page, "strength", "0.8")
    button = page.locator(f"{ROOT}_panel .prism-merge-button:text('A/B')")
    button.click()
    assert value(page, "strength") == "0" and said(page) == "Strength 0: the loaded model alone"
    assert button.get_attribute("aria-pressed") == "true"
    assert "strength=0" in generate(page)
    button.click()
    assert value(page, "strength") == "0.8" and button.get_attribute("aria-pressed") == "false"
    assert "strength=0.8" in generate(page)


def test_a_cleared_model_is_none(page):
    choose(page, "model", SECOND)
    fill(page, "model", "")
    text = generate(page)
    assert SECOND not in text and "error" not in text


def test_a_bake_says_how_far_it_is_and_where_it_went(page, host):
    unfold(page, f"{ROOT}_bake")
    told = page.locator(f"{ROOT}_baked .prism-said")

    def bake():
        page.click(f"{ROOT}_bake_write")

    fill(page, "bake_name", "made by hand")
    bake()
    page.wait_for_selector(f"{ROOT}_baked :text('There is nothing to bake')")
    choose(page, "model", SECOND)
    bake()
    page.wait_for_selector(f"{ROOT}_baked :text('Written: ')")
    assert told.inner_text().endswith("made by hand.safetensors (fp16 and fp32)")  # the VAE is not merged
    (file,) = host.data.parent.rglob("made by hand.safetensors")
    try:
        bake()
        page.wait_for_selector(f"{ROOT}_baked :text('exists already')")
        page.click(f"{ROOT}_refresh")
        choose(page, "model", "made by hand")
    finally:
        file.unlink()
        host.post("/sdapi/v1/refresh-checkpoints")
