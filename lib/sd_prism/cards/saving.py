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
    groups |= {panel.name: part for panel in SET if (part := _part(panel, current))}
    return groups


def _part(panel: Panel, current: Mapping[str, Value]) -> dict[str, Value]:
    """A panel's settings; only its switch if that is off."""
    given = {name: current[key] for name in panel.names if (key := f"{panel.name}.{name}") in current}
    if not given or not given.get("enabled", True):
        return {name: False for name in panel.off if name in given}
    values = panel.read(given)
    return {**panel.on, **{name: values[name] for name in panel.kept if values[name] != panel[name].default}}


def match_of(loaded: Loaded) -> dict[str, list[str]]:
    """What a card recognises this checkpoint by."""
    told = {"names": plain(loaded.name), "hashes": loaded.shorthash, "sha256": loaded.sha256}
    return {key: [one] for key, one in told.items() if one}
