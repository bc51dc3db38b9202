"""What a card changes: nothing is applied that was not shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..settings import Value
from .card import SIDES, Card, label

OPENING, CLOSING = "([{<", ")]}>"


class Change(NamedTuple):
    """One setting that a card changes; `key` is flat ("host.steps", "prompt", "freeu.enabled")."""

    key: str
    label: str
    before: Value
    after: Value
    source: str


def applied(card: Card, current: Mapping[str, Value]) -> dict[str, Value]:
    """The new values of all that the card sets and that `current` has.

    Args:
        current: flat values as on the page, with the texts under "prompt" and "negative".
    """
    found = {key: value for key, value in card.values.items() if key in current}
    for side in SIDES:
        before, after = (str(card.values.get(f"{side}.{place}", "")) for place in ("before", "after"))
        if side in current and (before or after):
            found[side] = joined(before, str(current[side]), after)
    return found


def changes(card: Card, current: Mapping[str, Value]) -> list[Change]:
    """What `applied` would make different, in the card's order."""
    return [
        Change(key, label(key), current[key], value, card.source(key))
        for key, value in applied(card, current).items()
        if current[key] != value
    ]


def joined(before: str, text: str, after: str) -> str:
    """A prompt with those words of a card around it that it does not hold yet; done twice it is as done once."""
    first = [one for one in _items(before) if not _holds(text, one)]
    last = [one for one in _items(after) if not _holds(text, one) and not _holds(", ".join(first), one)]
    if not first and not last:
        return text
    own = [text.rstrip(" ,") if last else text] if text.strip(" ,") else []
    whole = ", ".join([*first, *own, *last])
    return f"{whole}," if not own and not last and before.rstrip().endswith(",") else whole


def _items(text: str) -> list[str]:
    """Parts between commas, those in brackets left alone."""
    parts, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter in OPENING) - (letter in CLOSING))
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    items = (part.strip().rstrip(" ,") for part in parts)
    return list(dict.fromkeys(item for item in items if item))


def _holds(text: str, item: str) -> bool:
    """Whether a text has the item as whole words, in whatever case, spacing and weight."""
    return re.search(rf"(?<!\w){re.escape(_plain(item))}(?!\w)", _plain(text)) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
