"""The studio's page in a browser: what a user clicks, and what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from browser import Page
from PIL import Image
from safetensors.torch import save_file

HERE = Path(__file__).parent
PASTED = "a pear\nNegative prompt: dark\nSteps: 3, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, Seed: 99, "


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A served studio with one extension and one localisation."""
    folder = tmp_path_factory.mktemp("page")
    extension = folder / "panel"
    (extension / "scripts").mkdir(parents=True)
    (extension / "scripts" / "panel.py").write_text((HERE / "page_script.py").read_text(encoding="utf8"))
    (extension / "javascript").mkdir()
    (extension / "javascript" / "panel.mjs").write_text("onUiLoaded(() => { globalThis.panelSaw = gradioApp(); });")
    (extension / "localizations").mkdir()
    (extension / "localizations" / "Pirate.json").write_text(json.dumps({"Generate": "Hoist", "Width": "Beam"}))
    loras = folder / "data" / "models" / "Lora"
    loras.mkdir(parents=True)
    save_file({"lora_unet_x.alpha": torch.ones(1)}, loras / "glow.safetensors")
    command = [sys.executable, str(HERE / "serve.py"), "0", str(folder / "data"), str(extension)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        address = next(line for line in process.stdout if line.startswith("Prism studio:")).split()[-1]
        yield SimpleNamespace(address=address, data=folder / "data", gate=extension / "gate")
        process.kill()


@pytest.fixture()
def page(browser, studio):
    """A fresh page; nothing may go wrong in it."""
    page = Page(browser, studio.address)
    yield page
    page.close()
    assert page.said == []


def settings(studio, **values):
    assert httpx.post(f"{studio.address}/sdapi/v1/options", json=values).status_code == 200


def picture(tmp_path, size=(64, 64), color="red", name="red.png"):
    Image.new("RGB", size, color).save(tmp_path / name)
    return str(tmp_path / name)


def test_the_page_is_clean(page, studio):
    named = "[...document.querySelectorAll('[id]:not([id=\"\"])')].map(x => x.id)"
    assert page.js(f"{named}.filter((id, i, all) => all.indexOf(id) !== i)") == []
    missing = ["img2img_prompt", "img2maskimg", "pnginfo_image", "settings_restart_gradio", "panel_word", "paste"]
    assert page.js(f"{json.dumps(missing)}.filter((id) => !document.getElementById(id))") == []
    strangers = [url for url in page.asked if not url.startswith((studio.address, "data:", "blob:"))]
    assert strangers == []
    page.wait("document.querySelector('#txt2img_res_switch_btn').title === 'Switch width/height'")


def test_a_prompt_becomes_a_picture_with_its_infotext(page):
    page.fill("#txt2img_prompt textarea", "a <b>blue</b> bird")
    page.numbers("txt2img", steps=2, seed=7)
    text = page.generate("txt2img")
    assert text.startswith("a <b>blue</b> bird\nSteps: 2, Sampler: DPM++ 2M, ")
    assert "Seed: 7, Size: 64x64" in text and "Panel" not in text
    page.wait("document.querySelector('#txt2img_gallery img')?.naturalWidth === 64")


def test_a_panel_opens_by_keyboard_and_its_values_reach_the_job(page):
    header = page.page.locator("#script_txt2img_test_panel_enabled-checkbox input[type=checkbox]")
    assert not page.visible("#script_txt2img_test_panel_amount") and not header.is_checked()
    header.focus()
    page.page.keyboard.press("Space")
    page.page.wait_for_selector("#script_txt2img_test_panel_amount", state="visible")
    page.numbers("txt2img", steps=1)
    assert "Panel: 3" in page.generate("txt2img")


def test_a_card_puts_its_network_into_the_prompt(page):
    page.fill("#txt2img_prompt textarea", "a cat")
    page.open("#txt2img_lora-button")
    page.click("#txt2img_lora .card")
    assert page.value("#txt2img_prompt textarea") == "a cat <lora:glow:1>"
    page.click("#txt2img_lora .card")
    assert page.value("#txt2img_prompt textarea") == "a cat"


def test_values_move_nothing_on_the_page(page):
    page.js("""() => { globalThis.shifts = []; new PerformanceObserver((list) => globalThis.shifts.push(
        ...list.getEntries().filter((x) => !x.hadRecentInput && x.value > 0.01).map((x) => x.value)
    )).observe({ type: 'layout-shift', buffered: false }); }""")
    page.numbers("txt2img", steps=2, width=128, height=72, cfg_scale=3.5)
    page.fill("#txt2img_prompt textarea", "one two three")
    page.wait("document.querySelector('#txt2img_token_counter').innerText !== '0/75'")
    page.generate("txt2img")
    assert page.js("globalThis.shifts") == []


def test_hires_says_its_size_and_makes_it(page):
    page.check("#txt2img_hr-checkbox input")
    page.numbers("txt2img", steps=2, hr_scale=1.5, seed=1)
    page.wait("document.querySelector('#txtimg_hr_finalres').innerText === 'from 64x64 to 96x96'")
    text = page.generate("txt2img")
    assert "Hires upscale: 1.5, Hires upscaler: Latent" in text and "Denoising strength: 0.7" in text
    page.wait("document.querySelector('#txt2img_gallery img')?.naturalWidth === 96")


def test_seeds_sizes_and_tokens(page):
    page.numbers("txt2img", steps=1, seed=5, width=128)
    page.click("#txt2img_res_switch_btn")
    page.wait("document.querySelector('#txt2img_height input[type=number]').value === '128'")
    assert page.value("#txt2img_width input[type=number]") == "64"
    page.click("#txt2img_random_seed")
    page.wait("document.querySelector('#txt2img_seed input').value === '-1'")
    text = page.generate("txt2img")
    page.click("#txt2img_reuse_seed")
    page.wait("document.querySelector('#txt2img_seed input').value !== '-1'")
    assert f"Seed: {page.value('#txt2img_seed input')}," in text
    assert not page.visible("#txt2img_subseed")
    page.check("#txt2img_subseed_show input")
    page.numbers("txt2img", subseed=3, subseed_strength=0.5)
    assert "Variation seed: 3, Variation seed strength: 0.5" in page.generate("txt2img")
    page.fill("#txt2img_prompt textarea", "one two three")
    page.wait("document.querySelector('#txt2img_token_counter').innerText === '3/75'")


def test_a_picture_goes_to_img2img_and_becomes_another(page):
    page.fill("#txt2img_prompt textarea", "a fox")
    page.numbers("txt2img", steps=2, seed=8)
    page.generate("txt2img")
    page.click("#txt2img_send_to_img2img")
    page.wait("document.querySelector('#img2img_image img')?.naturalWidth === 64")
    page.wait("get_uiCurrentTabContent().id === 'tab_img2img'")
    assert page.value("#img2img_prompt textarea") == "a fox" and page.value("#img2img_seed input") == "8"
    page.numbers("img2img", steps=4, denoising_strength=0.5)
    page.page.keyboard.press("Control+Enter")
    text = page.result("img2img")
    assert text.startswith("a fox\n") and "Denoising strength: 0.5" in text
    page.open("#img2img_tab_resize_by-button")
    page.numbers("img2img", scale=2)
    page.wait("document.querySelector('#img2img_scale_resolution_preview').innerText.endsWith('to 128x128')")
    assert "Size: 128x128" in page.generate("img2img")


def test_img2img_without_a_picture_says_so(page):
    page.open("#tab_img2img-button")
    page.click("#img2img_generate")
    assert "drop one into the tab img2img" in page.text("#html_log_img2img p")
    page.wait("getComputedStyle(document.querySelector('#img2img_interrupt')).display === 'none'")


def test_inpaint_upload_keeps_what_the_mask_leaves(page, studio, tmp_path):
    page.open("#tab_img2img-button")
    assert not page.visible("#inpaint_controls")
    page.open("#img2img_inpaint_upload_tab-button")
    assert page.visible("#inpaint_controls")
    page.upload("#img_inpaint_base", picture(tmp_path))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 16))
    mask.save(tmp_path / "mask.png")
    page.upload("#img_inpaint_mask", str(tmp_path / "mask.png"))
    page.numbers("img2img", steps=2, mask_blur=0, seed=8)
    assert "Mask blur" not in page.generate("img2img")
    newest = max((studio.data / "outputs").rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    with Image.open(newest) as image:
        assert image.crop((0, 16, 64, 64)).getcolors() == [(64 * 48, (255, 0, 0))]
        assert image.crop((0, 0, 64, 16)).getcolors() != [(64 * 16, (255, 0, 0))]


def test_a_mask_is_painted(page, tmp_path):
    page.open("#tab_img2img-button")
    page.open("#img2img_inpaint_tab-button")
    page.upload("#img2maskimg", picture(tmp_path, size=(256, 256)))
    page.page.wait_for_selector("#img2maskimg canvas")
    page.wait("document.querySelector('#img2maskimg canvas').getBoundingClientRect().width > 100")
    page.paint("#img2maskimg canvas")
    page.numbers("img2img", steps=2, width=64, height=64)
    page.open("#img2img_tab_resize_to-button")
    assert "Mask blur: 4" in page.generate("img2img")


def test_png_info_reads_a_picture_and_sends_it_on(page, studio, tmp_path):
    page.fill("#txt2img_prompt textarea", "a hare")
    page.numbers("txt2img", steps=2, seed=11)
    page.check("#txt2img_hr-checkbox input")
    page.generate("txt2img")
    newest = max((studio.data / "outputs").rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    page.reload()
    page.open("#tab_pnginfo-button")
    page.upload("#pnginfo_image", str(newest))
    page.wait("document.querySelector('#pnginfo_html').innerText.includes('a hare')")
    page.click("#txt2img_tab")
    page.wait("document.querySelector('#txt2img_prompt textarea').value === 'a hare'")
    page.wait("get_uiCurrentTabContent().id === 'tab_txt2img'")
    page.wait("document.querySelector('#txt2img_hr-checkbox input').checked")
    assert page.value("#txt2img_seed input") == "11"
    page.open("#tab_pnginfo-button")
    page.click("#img2img_tab")
    page.wait("document.querySelector('#img2img_image img')?.naturalWidth === 128")
    page.wait("document.querySelector('#img2img_prompt textarea').value === 'a hare'")


def test_paste_fills_fields_and_takes_settings_as_overrides(page, studio):
    page.check("#script_txt2img_test_panel_enabled-checkbox input")
    page.fill("#txt2img_prompt textarea", PASTED + "Size: 72x80, Clip skip: 2, ENSD: 31337")
    page.click("#paste")
    page.wait("document.querySelector('#txt2img_prompt textarea').value === 'a pear'")
    assert page.value("#txt2img_neg_prompt textarea") == "dark"
    assert page.value("#txt2img_sampling input") == "Euler a" and page.value("#txt2img_scheduler input") == "Karras"
    names = ("steps", "cfg_scale", "width", "height")
    assert [page.value(f"#txt2img_{name} input[type=number]") for name in names] == ["3", "4.5", "72", "80"]
    page.wait("!document.querySelector('#script_txt2img_test_panel_enabled-checkbox input').checked")
    page.wait("document.querySelector('#txt2img_override_settings')?.innerText.includes('ENSD: 31337')")
    text = page.generate("txt2img")
    assert "Clip skip: 2" in text and "ENSD: 31337" in text and "Seed: 99" in text
    assert httpx.get(f"{studio.address}/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1


def test_a_job_shows_its_progress_and_picture_and_is_interrupted(page, studio):
    settings(studio, show_progress_every_n_steps=1, live_preview_refresh_period=100, show_progress_type="Approx cheap")
    studio.gate.touch()
    try:
        page.numbers("txt2img", steps=20)
        page.start("txt2img")
        page.page.wait_for_selector("#txt2img_gallery_container .livePreview img")
        page.wait("/^[1-9]\\d?% ETA: /.test(document.querySelector('.progressDiv .progress').innerText)")
        assert page.visible("#txt2img_interrupt") and page.visible("#txt2img_skip")
        page.click("#txt2img_interrupt")
        page.result("txt2img")
        page.wait("!document.querySelector('.progressDiv') && !document.querySelector('.livePreview')")
        assert not page.visible("#txt2img_interrupt")
        page.wait("document.querySelector('#txt2img_gallery img')?.naturalWidth === 64")
    finally:
        studio.gate.unlink()


def test_scripts_of_the_menu_show_their_fields(page):
    page.click("#script_list input")
    page.page.get_by_role("option", name="X/Y/Z plot").click()
    page.page.wait_for_selector("#script_txt2img_xyz_plot_x_type", state="visible")


def test_settings_are_saved_and_shown_again(page, studio):
    page.open("#tab_settings-button")
    page.fill("#settings_search input, #settings_search textarea", "panel amount")
    page.page.wait_for_selector("#setting_panel_amount", state="visible")
    assert not page.visible("#setting_samples_save")
    page.number("#setting_panel_amount", 8)
    page.fill("#settings_search input, #settings_search textarea", "eta noise seed")
    page.number("#setting_eta_noise_seed_delta", 2**40)
    page.click("#settings_submit")
    assert "eta_noise_seed_delta" in page.text("#settings_result .studio-error")
    page.number("#setting_eta_noise_seed_delta", 0)
    page.click("#settings_submit")
    page.wait("document.querySelector('#settings_result').innerText.startsWith('1 settings changed: panel_amount')")
    assert json.loads((studio.data / "config.json").read_text())["panel_amount"] == 8
    page.reload()
    page.open("#tab_settings-button")
    page.wait("document.querySelector('#setting_panel_amount input')?.value === '8'")


def test_defaults_of_fields_survive_reload_ui(page, studio):
    page.numbers("txt2img", steps=33)
    page.open("#tab_settings-button")
    page.open("#settings_tab_defaults-button")
    page.click("#ui_defaults_view")
    page.wait("document.querySelector('#ui_defaults_review').innerText.includes('txt2img/Sampling steps/value')")
    page.click("#ui_defaults_apply")
    page.wait("document.querySelector('#ui_defaults_review').innerText.startsWith('Wrote')")
    saved = json.loads((studio.data / "ui-config.json").read_text())
    assert saved["txt2img/Sampling steps/value"] == 33
    page.reloads(lambda: page.page.get_by_text("Reload UI").last.click())
    assert page.value("#txt2img_steps input[type=number]") == "33"
    assert page.value("#img2img_steps input[type=number]") == "20"
    saved["txt2img/Sampling steps/value"] = 20
    (studio.data / "ui-config.json").write_text(json.dumps(saved))


def test_a_localisation_of_an_extension_is_used(page, studio):
    settings(studio, localization="Pirate")
    page.reloads(lambda: page.js("void reloadUi()"))
    assert page.text("#txt2img_generate") == "Hoist"
    assert "Beam" in page.text("#txt2img_width")
    settings(studio, localization="None")
    page.reloads(lambda: page.js("void reloadUi()"))
    assert page.text("#txt2img_generate") == "Generate"


def test_styles_are_written_chosen_and_applied(page, studio):
    page.click("#txt2img_styles_edit_button")
    page.page.wait_for_selector("#txt2img_styles_dialog", state="visible")
    page.fill("#txt2img_styles_edit_select input", "ink")
    page.page.keyboard.press("Enter")
    page.fill("#txt2img_edit_style_prompt textarea", "{prompt}, ink drawing")
    page.click("#txt2img_edit_style_save")
    page.wait_for_file(studio.data / "styles.csv", "ink drawing")
    page.click("#txt2img_edit_style_close")
    page.fill("#txt2img_prompt textarea", "a ship")
    page.click("#txt2img_styles input")
    page.page.get_by_role("option", name="ink").click()
    page.page.keyboard.press("Escape")
    page.click("#txt2img_style_apply")
    page.wait("document.querySelector('#txt2img_prompt textarea').value === 'a ship, ink drawing'")


def test_a_damaged_checkpoint_is_told_and_the_old_one_stays(page):
    page.click("#setting_sd_model_checkpoint input")
    page.page.get_by_role("option", name="zdamaged").click()
    page.wait("document.body.innerText.includes('header is damaged')")
    page.wait("document.querySelector('#setting_sd_model_checkpoint input').value.startsWith('tiny')")
    page.fill("#txt2img_prompt textarea", "x" * 30_000)
    page.click("#txt2img_generate")
    assert "prompt has 30000 characters" in page.text("#html_log_txt2img .studio-error")
    page.fill("#txt2img_prompt textarea", "a cat")
    page.numbers("txt2img", steps=1)
    assert page.generate("txt2img").startswith("a cat\n")


def test_labels_and_long_choices_have_room(page):
    page.page.set_viewport_size({"width": 800, "height": 1000})
    over_arrow = """() => {
        const field = document.querySelector("#setting_sd_model_checkpoint .secondary-wrap");
        const input = field.querySelector("input"), arrow = field.querySelector(".icon-wrap svg");
        const end = input.getBoundingClientRect().right - parseFloat(getComputedStyle(input).paddingRight);
        return end > arrow.getBoundingClientRect().left;
    }"""
    assert page.page.evaluate(over_arrow) is False
    page.page.set_viewport_size({"width": 1280, "height": 1200})
    page.page.locator("#txt2img_hr input[type=checkbox]").first.click()
    page.page.wait_for_selector("#txt2img_hr_resize_y")
    lines = """() => [...document.querySelectorAll("[id^=txt2img_hires_fix_row] [data-testid=block-info]")]
        .filter((label) => label.getBoundingClientRect().height > 30).map((label) => label.innerText)"""
    assert page.page.evaluate(lines) == []


def test_the_fill_button_of_a_plot_lies_on_its_rows_background(page):
    page.page.locator("#script_list input").click()
    page.page.get_by_role("option", name="X/Y/Z plot").click()
    page.page.locator("[id$=_x_type] input").first.click()
    page.page.get_by_role("option", name="Sampler", exact=True).click()
    button = page.page.locator("#xyz_grid_fill_x_tool_button")
    button.wait_for(state="visible")
    row, field = (
        f"getComputedStyle({where}).backgroundColor"
        for where in ("e.parentElement", "e.previousElementSibling.querySelector('.block')")
    )
    assert button.evaluate(f"e => {row} === {field}")
