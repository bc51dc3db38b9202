"""The studio as a process and its page in a browser."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from sd_prism.errors import PrismError
from sd_prism.studio import server
from sd_prism.studio.cli import BROWSERS

SERVE = Path(__file__).with_name("serve.py")
PANEL = """
import gradio as gr
from modules import scripts
from modules.ui_components import InputAccordion

class Panel(scripts.Script):
    def title(self):
        return "Test Panel"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        with InputAccordion(False, label="Test Panel", elem_id=self.elem_id("enabled")) as enabled:
            amount = gr.Slider(0, 10, 3, step=1, label="Amount", elem_id=self.elem_id("amount"))
        self.infotext_fields = [(enabled, lambda params: "Panel" in params), (amount, "Panel")]
        return [enabled, amount]

    def process(self, p, enabled, amount):
        if enabled:
            p.extra_generation_params["Panel"] = amount
"""


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A served studio on the port after a taken one."""
    folder = tmp_path_factory.mktemp("studio")
    extension = folder / "panel"
    (extension / "scripts").mkdir(parents=True)
    (extension / "scripts" / "panel.py").write_text(PANEL)
    (extension / "javascript").mkdir()
    (extension / "javascript" / "panel.mjs").write_text("onUiLoaded(() => { globalThis.panelSaw = gradioApp(); });")
    (extension / "style.css").write_text(".panel {}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(SERVE), str(port), str(folder / "data"), str(extension)]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        first, second = process.stdout.readline(), process.stdout.readline()
    yield SimpleNamespace(process=process, port=port, lines=(first, second), address=second.split()[-1], folder=folder)
    if process.poll() is None:
        process.kill()
    process.stdout.close()


def test_a_taken_port_gives_the_next_free_one(studio):
    assert re.fullmatch(rf"Port {studio.port} is taken; using \d+ instead\.\n", studio.lines[0]), studio.lines
    assert studio.lines[1].startswith("Prism studio: http://127.0.0.1:")
    assert httpx.get(f"{studio.address}/sdapi/v1/samplers").status_code == 200


def test_all_ports_taken_is_said(monkeypatch):
    monkeypatch.setattr(server, "PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PrismError, match="all taken"):
            server.free_socket("127.0.0.1", taken.getsockname()[1])


def test_two_starts_at_once_take_two_ports():
    with server.free_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.free_socket("127.0.0.1", port) as second:
            assert second.getsockname()[1] > port


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_an_impossible_port_is_told(port):
    with pytest.raises(PrismError, match=rf"--port is {port}; it must lie between 0 .* and 65535"):
        server.free_socket("127.0.0.1", port)


def test_the_network_address_is_one_of_this_machine():
    address = server.network_address()
    if address is not None:
        with socket.socket() as bound:
            bound.bind((address, 0))


def launch(playwright):
    """This system's browser, else Playwright's own; where there is none, only a person's machine may skip."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    try:
        return playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
    except Exception as error:
        if browser is None and not os.environ.get("CI"):
            pytest.skip(f"no Chromium, Chrome or Edge on this machine: {error}")
        raise


@pytest.fixture(scope="module")
def page(studio):
    """The studio's page in a browser, and what its console said."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        page = chromium.new_page(viewport={"width": 1280, "height": 1200})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(studio.address)
        page.wait_for_selector("#txt2img_generate", timeout=30_000)
        page.wait_for_function("globalThis.panelSaw !== undefined", timeout=10_000)
        yield SimpleNamespace(page=page, said=said, asked=asked)
        chromium.close()


def set_number(page, name, value):
    field = page.locator(f"#txt2img_{name} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def test_a_prompt_becomes_a_picture_with_its_infotext(page, studio):
    browser = page.page
    browser.fill("#txt2img_prompt textarea", "a <b>blue</b> bird")
    set_number(browser, "steps", 4)
    set_number(browser, "seed", 7)
    browser.click("#txt2img_generate")
    browser.wait_for_selector("#html_info_txt2img .infotext", timeout=30_000)
    text = browser.inner_text("#html_info_txt2img .infotext")
    assert text.startswith("a <b>blue</b> bird\nSteps: 4, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7")
    assert "Seed: 7, Size: 64x64" in text and "Panel" not in text
    browser.wait_for_function("document.querySelector('#txt2img_gallery img')?.naturalWidth === 64", timeout=10_000)
    (saved,) = (studio.folder / "data" / "outputs").rglob("*.png")
    assert saved.name == "00001-7.png"


def test_a_panel_opens_by_keyboard_and_its_values_reach_the_job(page):
    browser = page.page
    amount = browser.locator("#script_txt2img_test_panel_amount")
    header = browser.locator("#script_txt2img_test_panel_enabled-checkbox input[type=checkbox]")
    assert not amount.is_visible() and not header.is_checked()
    header.focus()
    browser.keyboard.press("Space")
    amount.wait_for(state="visible", timeout=5_000)
    assert header.is_checked()
    browser.click("#txt2img_generate")
    browser.wait_for_function(
        "document.querySelector('#html_info_txt2img').innerText.includes('Panel: 3')", timeout=30_000
    )


def test_paste_reads_an_infotext_into_all_fields_and_switches_panels_off(page):
    browser = page.page
    text = "a pear\nNegative prompt: dark\nSteps: 3, Sampler: Euler, Schedule type: Karras, "
    text += "CFG scale: 4.5, Seed: 99, Size: 72x80"
    browser.fill("#txt2img_prompt textarea", text)
    browser.click("#paste")
    browser.wait_for_function("document.querySelector('#txt2img_prompt textarea').value === 'a pear'", timeout=10_000)
    value = lambda selector: browser.locator(selector).first.input_value()  # noqa: E731
    assert value("#txt2img_neg_prompt textarea") == "dark"
    assert value("#txt2img_sampling input") == "Euler" and value("#txt2img_scheduler input") == "Karras"
    numbers = [
        value(f"#txt2img_{name} input[type=number]") for name in ("steps", "cfg_scale", "seed", "width", "height")
    ]
    assert numbers == ["3", "4.5", "99", "72", "80"]
    browser.locator("#script_txt2img_test_panel_amount").wait_for(state="hidden", timeout=5_000)


def test_errors_are_shown_and_the_page_goes_on(page):
    browser = page.page
    browser.fill("#txt2img_prompt textarea", "x" * 30_000)
    browser.click("#txt2img_generate")
    browser.wait_for_selector("#html_info_txt2img .studio-error", timeout=10_000)
    assert "prompt has 30000 characters" in browser.inner_text("#html_info_txt2img")
    assert "prompt has 30000 characters" in browser.inner_text(".toast-body")
    browser.fill("#txt2img_prompt textarea", "")
    browser.keyboard.press("Control+Enter")
    browser.wait_for_selector("#html_info_txt2img .infotext", timeout=30_000)
    browser.click("#setting_sd_model_checkpoint input")
    browser.get_by_role("option", name="zdamaged").click()
    browser.wait_for_function("document.body.innerText.includes('header is damaged')", timeout=10_000)
    browser.wait_for_function(
        "document.querySelector('#setting_sd_model_checkpoint input').value.startsWith('tiny')", timeout=10_000
    )


def test_the_page_is_clean(page, studio):
    named = "[...document.querySelectorAll('[id]:not([id=\"\"])')].map(x => x.id)"
    repeated = f"{named}.filter((id, i, all) => all.indexOf(id) !== i)"
    assert page.page.evaluate(repeated) == []
    assert page.said == []
    strangers = [url for url in page.asked if not url.startswith((studio.address, "data:", "blob:"))]
    assert strangers == []


@pytest.mark.skipif(os.name != "posix", reason="Ctrl+C is sent as a POSIX signal here")
def test_ctrl_c_ends_the_studio_within_two_seconds_in_the_middle_of_a_job(studio):
    def job():
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{studio.address}/sdapi/v1/txt2img", json={"prompt": "long", "steps": 1000}, timeout=30)

    threading.Thread(target=job, daemon=True).start()
    while not httpx.get(f"{studio.address}/sdapi/v1/progress").json()["progress"]:
        time.sleep(0.05)
    started = time.perf_counter()
    studio.process.send_signal(signal.SIGINT)
    assert studio.process.wait(timeout=5) == 0
    assert time.perf_counter() - started < 2
    rest = studio.process.stdout.read()
    assert "Traceback" not in rest, rest
