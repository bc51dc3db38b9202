"""The cards of this webui, and which of them is a checkpoint's."""

from __future__ import annotations

from typing import Any

from modules import sd_models, sd_samplers

from ...cards.card import Card, cards_of
from ...cards.match import Loaded, Match, match
from ...cards.preset import CARD
from ...errors import UnknownName
from .. import presets
from ..checkpoints import chosen, texts
from ..webui import family, loaded_model


def cards(search: str = "") -> dict[str, Card]:
    """All cards by name, or those of a search."""
    return {card.name: card for card in cards_of(presets.store().list(CARD, search))}


def find(name: str) -> Card:
    """The card of that name in any case; UnknownName tells the nearest."""
    known = cards()
    folded = {one.casefold(): one for one in known}
    if name.casefold() not in folded:
        raise UnknownName("card", name, known)
    return known[folded[name.casefold()]]


def named(title: str | None) -> Any:
    """The checkpoint of that title, else the chosen one."""
    return (sd_models.get_closet_checkpoint_match(title) if title else None) or chosen()


def offered(info: Any) -> Match | None:
    """The card that fits a checkpoint best, if any does."""
    return next(iter(match(described(info), cards().values())), None) if info else None


def described(info: Any) -> Loaded:
    """A checkpoint as cards recognise it."""
    return Loaded(
        info.name,
        file=str(info.filename),
        shorthash=info.shorthash or "",
        oldhash=info.hash or "",
        sha256=info.sha256 or "",
        metadata=texts(info),
        family=_family(info),
    )


def _family(info: Any) -> str:
    """Only the loaded model's is known."""
    model = loaded_model()
    if model is None or model.sd_checkpoint_info.filename != info.filename:
        return ""
    return "cascade" if getattr(model, "is_cascade", False) else family()


def samplers() -> list[str]:
    """The samplers that the webui's menu shows."""
    if hasattr(sd_samplers, "visible_samplers"):
        return [str(one.name) for one in sd_samplers.visible_samplers()]
    return [str(one.name) for one in sd_samplers.visible_sampler_names()]  # SD.Next, whose names these are not


def schedules() -> list[str]:
    """The schedules of noise that may be chosen; none where a sampler has one of its own."""
    try:
        from modules import sd_schedulers
    except ImportError:
        return []
    return [str(one.label) for one in sd_schedulers.schedulers]


def lacking(card: Card) -> dict[str, str]:
    """What of a card this webui cannot do, by flat name, and why."""
    known = {
        "host.sampler": ("sampler", samplers()),
        "host.scheduler": ("schedule", schedules()),
    }
    return {
        key: f"{UnknownName(kind, card.values[key], names)}" if names else f"This webui has no menu of {kind}s"
        for key, (kind, names) in known.items()
        if key in card.values and card.values[key] not in names
    }
