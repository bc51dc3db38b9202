"""The settings of "Prism Cards". New fields go to the end: their order is the order of the script's arguments."""

from __future__ import annotations

from .base import AUTOMATIC, Field, Panel


def _card(text: str) -> str:
    return AUTOMATIC if text.casefold() in (AUTOMATIC.casefold(), "automatic", "auto") else text


CARDS = Panel(
    title="Prism Cards",
    name="cards",
    doc="What the model's author says about running it: one card sets sampler, steps, CFG, size, prompts and panels.",
    fields=(
        Field(
            "enabled",
            "Follow the card",
            False,
            "Draw with the card's values, whatever the controls say; panels that are on keep their own.",
        ),
        Field(
            "card",
            "Card",
            AUTOMATIC,
            "The card's name; Automatic takes the one of the loaded model, and none where nothing is known of it.",
            normal=_card,
        ),
    ),
)
