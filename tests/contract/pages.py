"""A host's page in a browser, and what may go wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from browser import PATIENCE
from contract.hosts import Host

# A host's page has these of its own, without any extension.
# reading '0': gradio 6's menu, where it gets fewer entries than before its chosen one; it shows the right ones then
HOSTS_OWN = ("iframeResizer", "cdnjs", "reading 'props'", "reading '0'", "Failed to load resource", "ERR_")


@contextmanager
def opened(browser: Any, host: Host, panel: str, switch: str = "-checkbox input") -> Iterator[Any]:
    """A fresh page, as soon as it has a panel, its switch if there is one; our scripts say nothing in its console.

    It gets nothing of other sites: gradio asks one for a script, and the page waits for it where there is no network.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.route(lambda url: not url.startswith(str(host.client.base_url)), lambda route: route.abort())
    page.goto(str(host.client.base_url), wait_until="commit")
    page.wait_for_selector("html:not(.opening) #txt2img_generate", timeout=4 * PATIENCE)
    page.wait_for_selector(f"{panel}{switch}", state="attached")
    yield page
    page.close()
    ours = [text for text in said if not any(own in text for own in HOSTS_OWN)]
    assert not ours, ours
