"""A card as HTML: what it is, and what it would change or has changed."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from ..cards.card import SET, Card, label
from ..cards.change import Change
from ..settings import Value

TEXTS = ("prompt", "negative")
UNCHANGED = '<p class="prism-card-line">All of this card\'s settings are on the page.</p>'
NO_CARD = (
    '<p class="prism-card-line">No card is known for this model. Choose one in the menu, or save one of your own.</p>'
)


def facts(card: Card, why: str, lacking: Iterable[str]) -> str:
    """Who made it, what it advises, and what it leaves open."""
    told = [f"by {_text(card.preset.author)}"] if card.preset.author else []
    name, address = card.licence
    if name:
        told.append(f"<span>Licence:</span> {_link(address, name)}")
    if card.link:
        told.append(_link(card.link, "The model's page"))
    told += [f"{_text(label(key))} {low:g} to {high:g} is advised" for key, (low, high) in card.advice.items()]
    parts = [
        _line(why and f"Offered, because {why}.", "prism-card-why"),
        _line(card.notes),
        f'<p class="prism-card-line">{" · ".join(told)}</p>' if told else "",
        *(_line(f"{text}. That setting stays as it is.", "prism-card-wrong") for text in lacking),
    ]
    return "".join(parts)


def left_open(card: Card) -> str:
    """What the author does not say."""
    titles = {panel.name: panel.title for panel in SET}
    names = ", ".join(titles.get(key) or label(key) for key in card.not_stated)
    return _line(names and f"Not stated by its author, and left as it is: {names}.", "prism-card-open")


def table(rows: Sequence[Change], *, done: bool) -> str:
    """One row for each change; of those that were made, what it was."""
    heads = ("Setting", "Before", "Now", "Source") if done else ("Setting", "Now", "Then", "Source")
    head = "".join(f'<th scope="col">{one}</th>' for one in heads)
    body = "".join(_row(one) for one in rows)
    name = "What the card has changed" if done else "What the card would change"
    return (
        f'<div class="prism-changes" tabindex="0" role="region" aria-label="{name}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def problem(text: str) -> str:
    return _line(text, "prism-card-wrong")


def _row(one: Change) -> str:
    before, after = shown(one.before), shown(one.after)
    new = _added(before, after) if one.key in TEXTS else _text(after)
    return (
        f'<tr><th scope="row">{_text(one.label)}</th><td>{_text(before) or "—"}</td>'
        f'<td class="prism-new">{new or "—"}</td><td class="prism-source">{_text(one.source)}</td></tr>'
    )


def _added(before: str, after: str) -> str:
    """A text with what is new in it marked."""
    if not before or before not in after:
        return f"<ins>{_text(after)}</ins>"
    head, _, tail = after.partition(before)
    marked = [f"<ins>{_text(part)}</ins>" if part else "" for part in (head, tail)]
    return f"{marked[0]}{_text(before)}{marked[1]}"


def shown(value: Value) -> str:
    """A value in words."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(text: str, kind: str = "prism-card-line") -> str:
    return f'<p class="{kind}">{_text(text)}</p>' if text else ""


def _link(address: str, text: str) -> str:
    if not address.startswith(("https://", "http://")):
        return _text(text)
    return f'<a href="{_text(address)}" target="_blank" rel="noopener noreferrer">{_text(text)}</a>'


def _text(text: str) -> str:
    return html.escape(text)
