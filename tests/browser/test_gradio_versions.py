"""The panel built and clicked on the gradios of the hosts: 3.41.2 (AUTOMATIC1111) and 4.40.0 (Forge).

Each has an environment of its own beside the repository's, made once from pinned packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import expect
from sd_prism.settings import AUTOMATIC, CARDS, CASCADE, CUSTOM, FREEU, MERGE, NAMESPACES

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
COMMON = (
    "anyio==3.7.1",
    "httpx==0.24.1",
    "Jinja2==3.1.6",
    "MarkupSafe==2.1.5",
    "numpy==1.26.2",
    "pandas==2.3.3",
    "Pillow==10.4.0",
    "uvicorn==0.54.0",
    "websockets==11.0.3",
)
PINS = {
    "3.41.2": (
        "gradio==3.41.2",
        "gradio_client==0.5.0",
        "fastapi==0.94.0",
        "pydantic==1.10.27",
        "huggingface_hub==0.25.2",
        *COMMON,
    ),
    "4.40.0": (
        "gradio==4.40.0",
        "gradio_client==1.2.0",
        "fastapi==0.104.1",
        "pydantic==2.8.2",
        "huggingface_hub==0.25.2",
        *COMMON,
    ),
}
PRESET = "SD 2.1 (authors)"


def door():
    """prism.py as a module."""
    spec = importlib.util.spec_from_file_location("prism_door", ROOT / "prism.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(version: str) -> Path:
    """The Python of a finished environment with this gradio; skips only where packages cannot be fetched."""
    folder = ROOT / f".venv-gradio-{version}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "prism-ready.json"
    wanted = hashlib.sha256(repr((PINS[version], sys.version_info[:2])).encode()).hexdigest()
    if ready.is_file() and json.loads(ready.read_text()) == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", *PINS[version]]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        reason = door().reason(installed.stderr)
        if "offline" in reason:
            pytest.skip(f"gradio {version} is not installed here: {reason}")
        pytest.fail(f"gradio {version} could not be installed:\n{installed.stderr}")
    ready.write_text(json.dumps(wanted))
    return python


@pytest.fixture(scope="module", params=PINS)
def served(request, tmp_path_factory):
    """The page, served with one gradio."""
    python = environment(request.param)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("gradio")
    log = folder / "log.txt"
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    command = [str(python), str(Path(__file__).with_name("panel_page.py")), str(port), str(folder / "presets")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=out, stderr=subprocess.STDOUT)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    try:
        wait_for(client, process, log)
        yield SimpleNamespace(
            version=request.param, client=client, log=log, address=str(client.base_url), presets=folder / "presets"
        )
    finally:
        client.close()
        process.kill()  # pages that are still open would keep it
        process.wait(20)


def wait_for(client, process, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.get("/facts").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"the page did not start:\n{log.read_text(errors='replace')[-4000:]}")


def opened(browser, served, path):
    """A page that is ready, and what it complained of; nothing outside this machine is asked."""
    page, errors = browser.new_page(), []
    page.set_default_timeout(15_000)
    page.route("**/*", lambda route: route.continue_() if served.address in route.request.url else route.abort())
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"{served.address}/{path}/")
    page.locator("#read").wait_for()
    return page, errors


def part(page, name, panel=FREEU):
    return page.locator(f"#script_txt2img_prism_{panel.name}_{name}")


def number(page, name):
    return part(page, name).locator("input[type=number]")


def read(page, served, panel=FREEU):
    """Press the button; what the server got."""
    before = len(served.client.get("/facts").json()["received"])
    page.locator("#read").click()
    expect(page.locator("#said textarea, #said input").first).to_have_value(f"read {before + 1}")
    return dict(zip(panel.names, served.client.get("/facts").json()["received"][-1], strict=True))


def choose(page, name, panel=FREEU):
    part(page, "preset", panel).locator("input").first.click()
    page.locator("ul.options li").filter(has_text=name).click()


def open_panel(page):
    part(page, "panel").get_by_text(FREEU.title).first.click()
    part(page, "advanced").get_by_text("Advanced").first.click()
    part(page, "b1").wait_for(state="visible")


def test_the_page_is_built_with_this_gradio_and_without_torch(served):
    facts = served.client.get("/facts").json()
    assert facts["gradio"] == served.version and facts["heavy"] == []
    assert "Error" not in served.log.read_text() and "Traceback" not in served.log.read_text()


def test_closed_it_gives_the_declarations_defaults(served, browser):
    page, _ = opened(browser, served, "panel")
    assert not part(page, "b1").is_visible()
    assert read(page, served) == FREEU.defaults()


def test_a_preset_fills_the_sliders_and_a_moved_slider_makes_it_custom(served, browser):
    page, errors = opened(browser, served, "panel")
    open_panel(page)
    part(page, "panel_enabled").get_by_role("checkbox").check()
    choose(page, PRESET)
    expect(number(page, "b1")).to_have_value("1.4")
    chosen = {**FREEU.defaults(), "enabled": True, "preset": PRESET, **FREEU.presets[PRESET]}
    assert read(page, served) == chosen

    number(page, "s2").fill("0.55")
    number(page, "s2").press("Tab")
    expect(part(page, "preset").locator("input").first).to_have_value(CUSTOM)
    moved = {**chosen, "preset": CUSTOM, "s2": 0.55}
    assert read(page, served) == moved
    assert FREEU.read(list(moved.values())) == moved  # the script takes what the page gives

    number(page, "s2").fill(str(FREEU.presets[PRESET]["s2"]))
    number(page, "s2").press("Tab")
    expect(part(page, "preset").locator("input").first).to_have_value(PRESET)
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_a_preset_is_saved_chosen_deleted_and_taken_back(served, browser):
    page, errors = opened(browser, served, "panel")
    open_panel(page)
    menu = part(page, "preset").locator("input").first
    line = part(page, "preset_told")
    expect(part(page, "preset_name")).to_be_hidden()
    number(page, "b1").fill("1.25")
    number(page, "b1").press("Tab")
    part(page, "preset_save").click()
    part(page, "preset_name").locator("input, textarea").first.fill("Mine")
    part(page, "preset_notes").locator("input, textarea").first.fill("for <trees>")
    part(page, "preset_write").click()
    expect(menu).to_have_value("Mine")
    expect(part(page, "preset_name")).to_be_hidden()
    (file,) = (served.presets / "freeu").iterdir()
    assert json.loads(file.read_text())["values"] == {"b1": 1.25}

    choose(page, PRESET)
    expect(number(page, "b1")).to_have_value("1.4")
    part(page, "preset_delete").click()
    expect(line).to_contain_text("is built in")
    choose(page, "Mine")
    expect(number(page, "b1")).to_have_value("1.25")
    assert read(page, served) == {**FREEU.defaults(), "preset": "Mine", "b1": 1.25}
    other, _ = opened(browser, served, "panel")
    open_panel(other)
    choose(other, "Mine")
    expect(number(other, "b1")).to_have_value("1.25")

    part(page, "preset_delete").click()
    expect(menu).to_have_value(CUSTOM)
    assert not file.exists()
    part(page, "preset_undo").click()
    expect(menu).to_have_value("Mine")
    menu.fill("no such preset")
    menu.press("Tab")
    expect(menu).to_have_value("Mine")

    (served.presets / "freeu" / "broken.json").write_text("{")
    part(page, "preset_files").click()
    expect(line).to_contain_text("broken.json")
    part(page, "preset_export").click()
    with page.expect_download() as handed:
        part(page, "preset_exported").locator("a[download]").first.click()
    assert json.loads(Path(handed.value.path()).read_text())["notes"] == "for <trees>"
    given = json.dumps({**json.loads(file.read_text()), "name": "Given"})
    (served.presets / "given.json").write_text(given)
    part(page, "preset_import").locator("input[type=file]").set_input_files(served.presets / "given.json")
    expect(line).to_contain_text('Imported: "Given" (freeu)')
    choose(page, "Given")
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_a_panel_whose_presets_are_something_else_saves_its_settings_too(served, browser):
    page, _ = opened(browser, served, "merge")
    part(page, "panel", MERGE).get_by_text(MERGE.title).first.click()
    part(page, "weights", MERGE).locator("textarea, input").first.fill("0.5 1")
    part(page, "preset_save", MERGE).click()
    part(page, "preset_name", MERGE).locator("input, textarea").first.fill("Halves")
    part(page, "preset_name", MERGE).locator("input, textarea").first.press("Enter")
    menu = part(page, "saved", MERGE).locator("input").first
    expect(menu).to_have_value("Halves")
    part(page, "weights", MERGE).locator("textarea, input").first.fill("0.25 1")
    expect(menu).to_have_value(CUSTOM)
    menu.click()
    page.locator("ul.options li").filter(has_text="Halves").click()
    expect(part(page, "weights", MERGE).locator("textarea, input").first).to_have_value("0.5 1")
    assert read(page, served, MERGE) == {**MERGE.defaults(), "weights": "0.5 1"}


def test_the_panel_of_namespaces_gives_its_values_and_tells_them_by_itself(served, browser):
    page, errors = opened(browser, served, "namespaces")
    assert read(page, served, NAMESPACES) == NAMESPACES.defaults()
    part(page, "panel", NAMESPACES).get_by_text(NAMESPACES.title).first.click()
    part(page, "panel_enabled", NAMESPACES).get_by_role("checkbox").check()
    choose(page, "Pony", NAMESPACES)
    expect(part(page, "dialect", NAMESPACES).locator("input").first).to_have_value("Pony")
    values = read(page, served, NAMESPACES)
    assert values == {**NAMESPACES.defaults(), "enabled": True, "preset": "Pony", **NAMESPACES.presets["Pony"]}
    assert NAMESPACES.read(list(values.values())) == values
    assert served.client.get("/facts").json()["told"] == list(values.values())
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_the_panel_of_block_merge_gives_its_values_and_bakes_them(served, browser):
    page, errors = opened(browser, served, "merge")
    assert read(page, served, MERGE) == MERGE.defaults()
    part(page, "panel", MERGE).get_by_text(MERGE.title).first.click()
    part(page, "panel_enabled", MERGE).get_by_role("checkbox").check()
    assert read(page, served, MERGE) == {**MERGE.defaults(), "enabled": True}

    def take(name, entry):
        part(page, name, MERGE).locator("input").first.click()
        part(page, name, MERGE).locator(f"li[aria-label='{entry}']").click()
        expect(part(page, name, MERGE).locator("input").first).to_have_value(entry)

    expect(part(page, "minus", MERGE)).to_be_hidden()
    take("mode", "Add difference")
    part(page, "refresh", MERGE).click()
    expect(part(page, "minus", MERGE)).to_be_visible()
    take("model", "neon")
    take("minus", "photo")
    part(page, "weights", MERGE).locator("textarea, input").first.fill("0.5 1")
    chosen = {"enabled": True, "model": "neon", "minus": "photo", "mode": "Add difference", "weights": "0.5 1"}
    assert read(page, served, MERGE) == {**MERGE.defaults(), **chosen}

    part(page, "bake", MERGE).get_by_text("Bake…").first.click()
    part(page, "bake_name", MERGE).locator("textarea, input").first.fill("made")
    part(page, "bake_write", MERGE).click()
    expect(part(page, "baked", MERGE)).to_contain_text("Written: made.safetensors")
    (given,) = served.client.get("/facts").json()["baked"]
    settings = {**MERGE.defaults(), **chosen}
    del settings["enabled"]
    assert given == {**settings, "name": "made", "dtype": ""}
    part(page, "bake_write", MERGE).click()
    expect(part(page, "baked", MERGE)).to_contain_text("exists already")

    field = part(page, "model", MERGE).locator("input").first
    field.fill("")
    field.press("Tab")
    assert MERGE.read(list(read(page, served, MERGE).values()))["model"] == ""
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_the_panel_of_cascade_sets_the_webuis_controls_and_fills_its_gallery(served, browser):
    page, errors = opened(browser, served, "cascade")
    assert read(page, served, CASCADE) == CASCADE.defaults()
    part(page, "panel", CASCADE).get_by_text(CASCADE.title).first.click()
    choose(page, "Official", CASCADE)
    expect(page.locator("#sampling input").first).to_have_value("Euler a")
    expect(page.locator("#cfg_scale input[type=number]")).to_have_value("4")
    expect(part(page, "cfg", CASCADE).locator("input[type=number]")).to_have_value("1.1")
    part(page, "refresh", CASCADE).click()
    menu = part(page, "decoder", CASCADE).locator("input").first
    read(page, served, CASCADE)  # the menu is filled anew by then, and not while it is open
    for name in ("wuerstchen-b", "wuerstchen-b-lite"):
        menu.click()
        page.locator(f"li[aria-label='{name}']").click()
        expect(menu).to_have_value(name)
        menu.press("Tab")
    chosen = {**CASCADE.defaults(), "preset": "Official", **CASCADE.presets["Official"], "decoder": "wuerstchen-b-lite"}
    assert read(page, served, CASCADE) == chosen == CASCADE.read(list(chosen.values()))

    part(page, "again", CASCADE).click()
    expect(page.locator("#html_info").first).to_contain_text("a fish")
    expect(page.locator("#gallery img").first).to_be_visible()
    assert served.client.get("/facts").json()["asked"][-1] == ["txt2img", chosen, ""]
    part(page, "steps", CASCADE).locator("input[type=number]").fill("3")
    part(page, "steps", CASCADE).locator("input[type=number]").press("Tab")
    part(page, "again", CASCADE).click()
    expect(part(page, "told", CASCADE)).to_contain_text("Nothing to decode again")
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_the_panel_of_cards_shows_applies_and_keeps_cards(served, browser):
    page, errors = opened(browser, served, "cards")
    assert read(page, served, CARDS) == CARDS.defaults()
    line = part(page, "panel", CARDS)
    line.get_by_text("Gigafractal Diffusion fits this model").first.click()
    part(page, "look", CARDS).click()
    view, menu = part(page, "view", CARDS), part(page, "card", CARDS).locator("input").first
    expect(view.locator("th[scope=row]")).to_have_text(["Sampling method", "CFG Scale", "Prompt"])
    expect(view.locator("tbody tr").first).to_contain_text("Default")
    part(page, "apply", CARDS).click()
    sampler = page.locator("#sampling input").first
    expect(sampler).to_have_value("Euler a")
    cfg, prompt = page.locator("#cfg_scale input[type=number]"), page.locator("#prompt").locator("textarea, input")
    expect(cfg).to_have_value("12.5")
    expect(prompt).to_have_value("gigafractal artstyle, a cat")
    expect(view).to_contain_text("Before")

    part(page, "preset_save", CARDS).click()
    part(page, "preset_name", CARDS).locator("input, textarea").first.fill("Mine")
    part(page, "preset_write", CARDS).click()
    expect(menu).to_have_value("Mine")
    (file,) = (served.presets / "card").iterdir()
    assert json.loads(file.read_text())["values"] == {
        "host": {"sampler": "Euler a", "steps": 20, "cfg": 12.5, "clip_skip": 1}
    }
    part(page, "preset_delete", CARDS).click()
    expect(menu).to_have_value(AUTOMATIC)
    part(page, "preset_undo", CARDS).click()
    expect(menu).to_have_value("Mine")
    part(page, "undo", CARDS).click()
    expect(sampler).to_have_value("Default")
    expect(cfg).to_have_value("7")
    expect(prompt).to_have_value("a cat")
    part(page, "enabled", CARDS).get_by_role("checkbox").check()
    expect(line).to_contain_text("pictures follow Mine")
    assert read(page, served, CARDS) == {"enabled": True, "card": "Mine"}
    _, usual = opened(browser, served, "bare")
    assert set(errors) <= set(usual)


def test_no_id_is_there_twice(served, browser):
    page, _ = opened(browser, served, "panel")
    open_panel(page)
    ids = page.evaluate("[...document.querySelectorAll('[id^=script_]')].map(x => x.id)")
    assert {f"script_txt2img_prism_freeu_{name}" for name in ("panel", *FREEU.names[1:])} <= set(ids)
    assert len(ids) == len(set(ids))
