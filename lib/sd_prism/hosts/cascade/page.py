"""The panel of "Prism Cascade" on the webui's page: what it asks of the webui, see `panels.cascade.Host`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import ui_common

from ...panels import cascade as panel
from .. import checkpoints, controls, presets
from . import again, decoders
from .latents import read
from .pictures import pictures

IDS = {name: "{tab}_" + name for name in panel.OF_THE_HOST}
IDS |= {name: name + "_{tab}" for name in ("generation_info", "html_info")}


class Host:
    """See `panels.cascade.Host`."""

    def decoders(self) -> list[str]:
        return decoders.names()

    def refresh(self) -> None:
        checkpoints.refresh()

    def keep(self, file: str) -> str:
        return pictures.keep(Path(file).read_bytes())

    def again(self, tab: str, given: Mapping[str, object], file: str) -> panel.Shown:
        kept = again.Kept([read(Path(file).read_bytes(), Path(file).name)]) if file else again.last(tab)
        done = again.again(kept, given, tab)
        return panel.Shown(done.images, done.js(), ui_common.plaintext_to_html(done.infotexts[0]))


host = Host()
pages: dict[str, panel.Drawn] = {}  # by tab


def watch(script: Any) -> None:
    """Has the webui tell of its components as it makes them."""
    controls.watch(script, IDS, _connect)


def build(script: Any) -> list[Any]:
    """The panel's components; a webui asks for them more than once, and the first ones are on the page."""
    drawn = panel.build(script.elem_id, presets.store, host)
    pages.setdefault(controls.tab_of(script), drawn)
    return drawn.components


def _connect(tab: str, found: controls.Found) -> None:
    if tab in pages and len(found) == len(IDS):
        panel.connect(pages[tab], found, tab, host)
