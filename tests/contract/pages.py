"""A host's page in a browser: what a user does in it, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from browser import PATIENCE
from contract.hosts import Host
from contract.jobs import JOB

# A host's page has these of its own, without any extension.
# logMonitor: SD.Next's server log, our errors in it too
# reading '0': gradio 6's menu, where it gets fewer entries than before its chosen one; it shows the right ones then
HOSTS_OWN = (
    "iframeResizer",
    "cdnjs",
    "reading 'props'",
    "reading '0'",
    "Failed to load resource",
    "ERR_",
    "logMonitor",
)
# Opens an accordion; a page that is still being built may swallow a click.
OPEN = """(selector) => {
  const label = document.querySelector(selector);
  if (label && !label.classList.contains("open")) label.click();
  return Boolean(label?.classList.contains("open"));
}"""
SEEDS = "#txt2img_seed_group"  # where a host folds them away
# Each piece of the infotext under the pictures, without what tells how far the job is. Of one that was seen, gradio 6
# puts the paragraph's own attributes back for the next, gradio 3 and 4 make another.
PIECES = """() => {
  const pieces = [];
  const walk = document.createTreeWalker(document.querySelector("#html_info_txt2img"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) if (walk.currentNode.parentElement.closest("p, .prose")) pieces.push(walk.currentNode);
  return pieces.filter((piece) => piece.data.trim());
}"""
SEEN = f"""() => ({PIECES})().forEach((piece) => {{
  piece.seen = true;
  piece.parentElement.closest("p")?.setAttribute("seen", "");
}})"""
UNSEEN = f"() => ({PIECES})().some((piece) => !piece.seen || piece.parentElement.closest('p:not([seen])'))"


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
    asked: set[Any] = set()
    page.on("websocket", lambda one: (asked.add(one), one.on("close", lambda gone: asked.discard(gone))))
    page.route(lambda url: not url.startswith(str(host.client.base_url)), lambda route: route.abort())
    page.goto(str(host.client.base_url), wait_until="commit")
    page.wait_for_selector("html:not(.opening) #txt2img_generate", timeout=4 * PATIENCE)
    page.wait_for_selector(f"{panel}{switch}", state="attached")
    yield page
    for _ in range(50):  # gradio 3 would keep what a page that leaves has asked for, and Reload UI wait for that
        if not asked:
            break
        page.wait_for_timeout(100)
    page.close()
    ours = [text for text in said if not any(own in text for own in HOSTS_OWN)]
    assert not ours, ours


def unfold(page: Any, elem_id: str) -> None:
    page.wait_for_function(OPEN, arg=f"{elem_id} .label-wrap", polling=500)


def field(page: Any, elem_id: str) -> Any:
    return page.locator(f"{elem_id} input[type=number], {elem_id} textarea, {elem_id} input").first


def fill(page: Any, elem_id: str, text: str) -> None:
    field(page, elem_id).fill(text)
    field(page, elem_id).press("Tab")


def choose(page: Any, elem_id: str, text: str) -> None:
    """Takes the first entry of a menu that begins with a text, as a user does."""
    field(page, elem_id).click()
    page.locator(f"li[aria-label^='{text}']").first.click()
    field(page, elem_id).press("Tab")


def wait(page: Any, elem_id: str, text: str) -> None:
    page.wait_for_function(
        "([ids, text]) => [...document.querySelectorAll(ids)].some((one) => one.value === text)",
        arg=[f"{elem_id} textarea, {elem_id} input", text],
    )


def paste(page: Any, text: str) -> None:
    """An infotext, by the button that reads it."""
    field(page, "#txt2img_prompt").fill(text)
    page.locator("#paste, #txt2img_paste").first.click()


def told(page: Any, act: Callable[[], object]) -> str:
    """The infotext that stands under the pictures after something was done."""
    page.evaluate(SEEN)
    act()
    page.wait_for_function(UNSEEN)
    return str(page.evaluate(f"({PIECES})().map((piece) => piece.data).join('\\n')"))


def generate(page: Any, click: str = "#txt2img_generate", **fields: int) -> str:
    """One small job; its infotext."""
    for name in ("steps", "width", "height"):
        fill(page, f"#txt2img_{name}", str(fields.get(name, JOB[name])))
    if page.locator(SEEDS).count():
        unfold(page, SEEDS)
    page.locator("#txt2img_seed input").first.fill(str(JOB["seed"]))
    return told(page, lambda: page.click(click))
