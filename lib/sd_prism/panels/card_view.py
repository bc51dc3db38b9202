"""A card as HTML: what it is, and what it would change or has changed; texts and values apart, see `controls.said`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from ..cards.card import SET, Card, labels
from ..cards.change import Change
from ..cards.match import Match
from ..settings import Value
from .controls import apart

TEXTS = ("prompt", "negative")
UNCHANGED = '<p class="prism-card-line">All of this card\'s settings are on the page.</p>'
NO_CARD = (
    '<p class="prism-card-line">No card is known for this model. Choose one in the menu, or save one of your own.</p>'
)


OFFERED = {
    "hash": "Offered for its hash:",
    "title": "Offered for the title in its file:",
    "name": "Offered for its name:",
    "parent": "A guess, for the model that its file says it was made from:",
    "family": "A guess, for the kind of model alone:",
}


def facts(card: Card, offer: Match | None, lacking: Iterable[str]) -> str:
    """Who made it, what it advises, and what it leaves open."""
    told = [apart(["Author:", card.preset.author])] if card.preset.author else []
    name, address = card.licence
    if name:
        told.append(f"<span>Licence:</span> {_link(address, name)}")
    if card.link:
        told.append(_link(card.link, "The model's page"))
    told += [apart(["Advised:", *labels(key), f"{low:g} – {high:g}"]) for key, (low, high) in card.advice.items()]
    parts = [
        _line(apart([OFFERED[offer.by], offer.what]), "prism-card-why") if offer else "",
        _line(_text(card.notes)),
        _line(" · ".join(told)),
        *(_line(apart([f"{text}.", "That setting stays as it is."]), "prism-card-wrong") for text in lacking),
    ]
    return "".join(parts)


def left_open(card: Card) -> str:
    """What the author does not say."""
    titles = {panel.name: panel.title for panel in SET}
    names = apart((titles.get(key) or ": ".join(labels(key)) for key in card.not_stated), ", ")
    head = apart(["Not stated by its author, and left as it is:"])
    return _line(names and f"{head} {names}", "prism-card-open")


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
    return _line(_text(text), "prism-card-wrong")


def _row(one: Change) -> str:
    before, after = shown(one.before), shown(one.after)
    new = _added(before, after) if one.key in TEXTS else _text(after)
    return (
        f'<tr><th scope="row">{apart(labels(one.key), ": ")}</th><td>{_text(before) or "—"}</td>'
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


def _line(content: str, kind: str = "prism-card-line") -> str:
    """A paragraph of HTML, if there is anything to say."""
    return f'<p class="{kind}">{content}</p>' if content else ""


def _link(address: str, text: str) -> str:
    if not address.startswith(("https://", "http://")):
        return _text(text)
    return f'<a href="{_text(address)}" target="_blank" rel="noopener noreferrer">{_text(text)}</a>'


def _text(text: str) -> str:
    return html.escape(text)
