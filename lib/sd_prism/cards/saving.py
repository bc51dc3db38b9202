"""A card of what stands on a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..settings import Panel, Value
from .card import HOST, SET
from .match import Loaded, plain


def groups_of(current: Mapping[str, Value], texts: Iterable[str]) -> dict[str, Any]:
    """A card's values, from flat ones.

    Args:
        texts: of "prompt" and "negative" those that the card is to put in front of others.

    Raises PrismError for a value that its setting cannot have.
    """
    host = {one.name: one.check(current[key], "the page") for one in HOST if (key := f"host.{one.name}") in current}
    groups: dict[str, Any] = {"host": host}
    groups |= {side: {"before": text} for side in texts if (text := str(current.get(side, "")).strip())}
    panels = [panel for panel in SET if any(key.startswith(f"{panel.name}.") for key in current)]
    return groups | {panel.name: part_of(panel, _of(panel, current)) for panel in panels}


def _of(panel: Panel, current: Mapping[str, Value]) -> dict[str, Value]:
    return {name: current[key] for name in panel.names if (key := f"{panel.name}.{name}") in current}


def part_of(panel: Panel, given: Mapping[str, Value]) -> dict[str, Value]:
    """A panel's settings, all by value, for the user's names are of this machine; only its switch if that is off."""
    if not given.get("enabled", True):
        return panel.off
    values = panel.read(given)
    is_mine = values["preset"] in panel.saved and values["preset"] not in panel.presets
    named = {} if is_mine else {"preset": values["preset"]}
    return {**panel.on, **named, **{name: values[name] for name in panel.kept}}


def match_of(loaded: Loaded) -> dict[str, list[str]]:
    """What a card recognises this checkpoint by."""
    told = {"names": plain(loaded.name), "hashes": loaded.shorthash, "sha256": loaded.sha256}
    return {key: [one] for key, one in told.items() if one}
