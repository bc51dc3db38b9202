"""A page of the studio in this system's browser."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from sd_prism.studio.cli import BROWSERS

PATIENCE = 30_000  # milliseconds; a slow machine is no failure


def launch(playwright: Any) -> Any:
    """This system's browser, else Playwright's own; where there is none, only a person's machine may skip."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    try:
        return playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
    except Exception as error:
        if browser is None and not os.environ.get("CI"):
            pytest.skip(f"no Chromium, Chrome or Edge on this machine: {error}")
        raise


class Page:
    """One open page.

    Attributes:
        said: errors of its console.
        asked: every address that it fetched.
    """

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 1200})
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self._ready()

    def _ready(self) -> None:
        """Every tab is there, and the extension's script was called."""
        self.page.wait_for_selector("html:not(.opening) #txt2img_generate")
        self.wait("globalThis.panelSaw !== undefined && Object.keys(globalThis.opts).length > 0")

    def close(self) -> None:
        self.page.close()

    def reload(self) -> None:
        self.page.reload()
        self._ready()

    def reloads(self, act: Any) -> None:
        """Do what makes the page load itself again."""
        with self.page.expect_navigation():
            act()
        self._ready()

    def js(self, code: str) -> Any:
        return self.page.evaluate(code)

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(condition)

    def wait_for_file(self, path: Path, text: str) -> None:
        end = time.monotonic() + PATIENCE / 1000
        while not (path.is_file() and text in path.read_text(encoding="utf8")):
            assert time.monotonic() < end, f"{path} never had {text!r}"
            self.page.wait_for_timeout(20)

    def click(self, selector: str) -> None:
        self.page.click(selector)

    open = click

    def check(self, selector: str) -> None:
        self.page.check(selector)

    def fill(self, selector: str, text: str) -> None:
        self.page.locator(selector).first.fill(text)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def value(self, selector: str) -> str:
        return self.page.locator(selector).first.input_value()

    def visible(self, selector: str) -> bool:
        return self.page.locator(selector).first.is_visible()

    def upload(self, selector: str, path: str) -> None:
        self.page.locator(f"{selector} input[type=file]").first.set_input_files(path)
        self.page.wait_for_selector(f"{selector} img, {selector} canvas")

    def number(self, selector: str, value: float) -> None:
        """Type a number; a slider has taken it when its handle has moved."""
        field = self.page.locator(f"{selector} input[type=number]").first
        field.fill(str(value))
        field.press("Tab")
        self.wait(f"[undefined, '{value:g}'].includes(document.querySelector('{selector} input[type=range]')?.value)")

    def numbers(self, tab: str, **values: float) -> None:
        for name, value in values.items():
            self.number(f"#{tab}_{name}", value)

    def paint(self, selector: str) -> None:
        """A stroke across the middle."""
        box = self.page.locator(selector).first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x - 30, y)
        self.page.mouse.down()
        self.page.mouse.move(x + 30, y, steps=5)
        self.page.mouse.up()

    def start(self, tab: str) -> None:
        """Click Generate."""
        self.js(f"document.querySelectorAll('#html_info_{tab} p').forEach((p) => {{ p.className = 'old'; }})")
        self.click(f"#{tab}_generate")

    def result(self, tab: str) -> str:
        """Wait for the started job's end; the infotext of its first picture."""
        self.page.wait_for_selector(f"#html_info_{tab} p:not(.old)")
        self.page.wait_for_selector(f"#{tab}_interrupt", state="hidden")
        return self.text(f"#html_info_{tab} p")

    def generate(self, tab: str) -> str:
        """One job; the infotext of its first picture."""
        self.start(tab)
        return self.result(tab)
