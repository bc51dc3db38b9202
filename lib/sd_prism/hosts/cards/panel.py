""" "Prism Cards" in a webui: the panel above the others, and jobs that follow a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modules import script_callbacks

from ...errors import PrismError
from ...settings import AUTOMATIC, CARDS, Field, Value
from ..webui import PanelHost
from . import catalogue, http, job, page


class CardsHost(PanelHost):
    """A card is named in the infotext; its values are there as the job's own."""

    cost = 0.2  # an axis of cards changes less often than one of seeds

    def pasted(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """A picture has all its values by itself, so a card must not come between."""
        return {**super().pasted(params), **self.panel.off}

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        values = super()._values(p, args, family)
        if not values["enabled"]:
            return values
        if values["card"] != AUTOMATIC:
            return {**values, "card": catalogue.find(str(values["card"])).name}
        fitting = catalogue.offered(catalogue.named(p.override_settings.get("sd_model_checkpoint")))
        if fitting is None or not fitting.sure:
            raise PrismError(
                "No card is known for this model, so the job keeps its own settings; choose a card by name"
            )
        return {**values, "card": fitting.card.name}

    def choices(self, one: Field) -> Callable[[], list[str]] | None:
        return (lambda: [AUTOMATIC, *catalogue.cards()]) if one.name == "card" else super().choices(one)


host = CardsHost(CARDS)


def register() -> None:
    host.register()
    http.register()
    script_callbacks.on_after_component(page.connect_checkpoint)


def watch(script: Any) -> None:
    """Has the page's own controls found, which a card sets."""
    page.watch(script)


def ui(script: Any) -> list[Any]:
    return host.drawn(script, lambda: page.build(script))


def before_process(p: Any, args: Sequence[object]) -> None:
    """Start of a job, before its own settings are used by anybody."""
    if args and args[0] == job.DONE:
        return
    values = host.begin(p, args)
    if values is None:
        return
    try:
        for text in job.follow(p, catalogue.find(str(values["card"]))):
            host.remark(p, text)
    except PrismError as error:
        host.fail(p, error)
