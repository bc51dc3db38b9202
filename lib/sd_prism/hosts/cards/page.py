"""The panel of "Prism Cards" on the webui's page: what it asks of the webui, see `panels.cards.Host`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import shared

from ...cards import Store
from ...cards.card import HOST, SET, Card
from ...cards.match import Match
from ...cards.saving import match_of
from ...panels import cards as panel
from ...panels.compat import drawing
from ...settings import Value
from .. import controls, presets
from . import catalogue
from .job import SIZE

OVERRIDES = "override_settings"
CHECKPOINT = "setting_sd_model_checkpoint"  # the webui's menu of checkpoints, by its id
CHECKPOINT_CLASS = "model_selection"  # or where it has none, by its class, which other menus with an id may have too
IDS = {f"host.{one.name}": "{tab}_" + (one.element or OVERRIDES) for one in HOST}
IDS |= {"prompt": "{tab}_prompt", "negative": "{tab}_neg_prompt"}


class Host:
    """See `panels.cards.Host`."""

    def store(self) -> Store:
        return presets.store()

    def cards(self, search: str = "") -> Mapping[str, Card]:
        return catalogue.cards(search)

    def find(self, name: str) -> Card:
        return catalogue.find(name)

    def offered(self, checkpoint: str | None) -> Match | None:
        return catalogue.offered(catalogue.named(checkpoint))

    def lacking(self, card: Card) -> Mapping[str, str]:
        return catalogue.lacking(card)

    def option(self, name: str) -> Value:
        return getattr(shared.opts, name)

    def recognised(self) -> dict[str, Any]:
        info = catalogue.chosen()
        if info is None:
            return {}
        loaded = catalogue.described(info)
        return {"base": [loaded.family] if loaded.family else [], "match": match_of(loaded)}


host = Host()
pages: dict[str, panel.Cards] = {}  # by tab


def watch(script: Any) -> None:
    """Has the webui tell of its components as it makes them."""
    controls.watch(script, IDS, _connect)


def build(script: Any) -> list[Any]:
    """The panel's components; a webui asks for them more than once, and the first ones are on the page."""
    drawn = panel.Cards(script.elem_id, host)
    pages.setdefault(controls.tab_of(script), drawn)
    return drawn.components


def _connect(tab: str, found: controls.Found) -> None:
    """A picture to start from has its own size, so cards leave that of img2img alone."""
    if tab not in pages:
        return
    left_out = [] if tab == "txt2img" else [f"host.{name}" for name in SIZE]
    own = {key: one for key, one in found.items() if key not in left_out}
    drawn = controls.panels[tab]
    ours = {f"{one.name}.{name}": part for one in SET for name, part in drawn.get(one.name, {}).items()}
    pages[tab].connect({**own, **ours})


def connect_checkpoint(component: Any, **made: Any) -> None:
    """The webui's menu of checkpoints belongs to no tab, and comes after them."""
    elem_id = made.get("elem_id")
    is_menu = elem_id == CHECKPOINT or (elem_id is None and CHECKPOINT_CLASS in (made.get("elem_classes") or ()))
    if is_menu and drawing():
        for page in pages.values():
            page.connect_checkpoint(component)
