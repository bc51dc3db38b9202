"""The panel of "Prism Cascade" on the webui's page: what it asks of the webui, see `panels.cascade.Host`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from modules import sd_models, ui_common

from ...panels import cascade as panel
from . import again, decoding
from .latents import read

IDS = {name: "{tab}_" + name for name in panel.OF_THE_HOST}
IDS |= {name: name + "_{tab}" for name in ("generation_info", "html_info")}
LAST = "generation_info"  # of a tab's components; by then all others are there
TABS = ("txt2img", "img2img")


class Host:
    """See `panels.cascade.Host`."""

    def decoders(self) -> list[str]:
        return decoding.names()

    def refresh(self) -> None:
        sd_models.list_models()

    def again(self, tab: str, given: Mapping[str, object], file: str) -> panel.Shown:
        kept = again.Kept([read(Path(file).read_bytes(), Path(file).name)]) if file else again.last(tab)
        done = again.again(kept, given, tab)
        return panel.Shown(done.images, done.js(), ui_common.plaintext_to_html(done.infotexts[0]))


@dataclass
class Page:
    """A tab's panel, and the webui's components that it works with."""

    drawn: panel.Drawn | None = None
    found: dict[str, Any] = field(default_factory=dict)


host = Host()
pages = {tab: Page() for tab in TABS}


def watch(script: Any) -> None:
    """Has the webui tell of its components as it makes them."""
    for tab in TABS:
        for name, elem_id in IDS.items():
            script.on_after_component(partial(_seen, tab, name), elem_id=elem_id.format(tab=tab))


def build(script: Any) -> list[Any]:
    """The panel's components; a webui asks for them more than once, and the first ones are on the page."""
    page = pages["img2img" if script.is_img2img else "txt2img"]
    drawn = panel.build(script.elem_id, host)
    if page.drawn is None:
        page.drawn = drawn
    return drawn.components


def _seen(tab: str, name: str, told: Any) -> None:
    page = pages[tab]
    page.found[name] = told.component
    if name == LAST and page.drawn is not None and len(page.found) == len(IDS):
        panel.connect(page.drawn, page.found, tab, host)
