"""The panel "Prism Cards": a card and what it would change, Apply and Undo; the user's own cards below.

Every event gets what the page has, and answers with a dictionary of what is to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import gradio as gr

from ..cards import Store
from ..cards.card import Card
from ..cards.change import Change, changes
from ..cards.match import Match
from ..errors import PrismError
from ..settings import AUTOMATIC, CARDS, Value
from . import card_view
from .card_files import CardFiles
from .compat import LATEST, QUICK, on_load, unsaved
from .controls import ElemId, control
from .page_values import PageValues, Values

STEPS_BACK = 20
Answer = dict[Any, Any]


class Host(Protocol):
    """What the panel asks of a webui."""

    def store(self) -> Store:
        """The presets of this webui."""

    def cards(self, search: str = "") -> Mapping[str, Card]:
        """Cards by name."""

    def find(self, name: str) -> Card:
        """The card of that name; raises PrismError."""

    def offered(self, checkpoint: str | None) -> Match | None:
        """The card of a checkpoint by its title, or of the chosen one."""

    def lacking(self, card: Card) -> Mapping[str, str]:
        """What of a card this webui cannot do, by flat name, and why."""

    def option(self, name: str) -> Value:
        """One of the webui's options."""

    def recognised(self) -> dict[str, Any]:
        """What a card of the chosen checkpoint says of it: its families ("base") and "match"."""


class Page(NamedTuple):
    """What stands on the page.

    Attributes:
        done: what was applied and can be undone, the newest last.
        values: of the tab's controls.
    """

    chosen: str
    following: bool
    done: list[dict[str, Any]]
    values: Values

    @property
    def current(self) -> dict[str, Value]:
        return self.values.flat


class Cards:
    """The panel of one tab."""

    def __init__(self, elem_id: ElemId, host: Host) -> None:
        self.elem_id, self.host = elem_id, host
        self.values = PageValues({}, host.option)
        with gr.Accordion(CARDS.title, open=False, elem_id=elem_id("panel"), elem_classes=["prism-cards"]) as self.line:
            with gr.Row(elem_classes=["prism"]):
                self.menu = self._menu()
                self.search = unsaved(gr.Textbox("", label="Search", elem_id=elem_id("search"), max_lines=1))
                self.files = CardFiles(elem_id)
            with gr.Column(elem_id=elem_id("view")):  # gradio 3 writes the id of an HTML component twice
                self.view = gr.HTML("")
            with gr.Row(elem_classes=["prism", "prism-card-acts"]):
                self.apply = gr.Button("Apply", variant="primary", interactive=False, elem_id=elem_id("apply"))
                self.undo = gr.Button("Undo", interactive=False, elem_id=elem_id("undo"))
                self.follow = control(CARDS["enabled"], elem_id)
            self.files.draw()
            self.look = gr.Button("Look again", elem_id=elem_id("look"), elem_classes=["prism-unseen"])
        self.done = gr.State([])

    @property
    def components(self) -> list[Any]:
        """In the order of the declaration."""
        return [self.follow, self.menu]

    def _menu(self) -> Any:
        one = CARDS["card"]
        menu = gr.Dropdown(
            self.names(),
            value=one.default,
            label=one.label,
            elem_id=self.elem_id(one.name),
            allow_custom_value=True,  # gradio would refuse one that was saved on another page
            scale=2,
        )
        return unsaved(menu)

    def names(self, search: str = "") -> list[str]:
        return [AUTOMATIC, *self.host.cards(search)]

    def _found(self, words: str, chosen: str | None) -> Any:
        """The menu with the cards that have these words, and the chosen one, which a menu must offer."""
        names = self.names(words)
        return gr.update(choices=names if chosen in (None, *names) else [*names, chosen], value=chosen)

    # --- what happens

    def connect(self, found: Mapping[str, Any]) -> None:
        """Once the tab has its controls, by flat name."""
        self.values = PageValues(found, self.host.option)
        self._on(self.apply.click, self._apply, sets=True)
        self._on(self.undo.click, self._undo, sets=True)
        for event in (self.menu.change, self.follow.input, self.look.click):
            self._on(event, self.shown, **LATEST)
        on_load(self._heading, [self.menu, self.follow], [self.line])
        search = {"inputs": [self.search, self.menu], "outputs": [self.menu], **QUICK}
        self.search.change(self._found, **search)
        self.files.connect(self)

    def connect_checkpoint(self, menu: Any) -> None:
        """Where the page has a menu of checkpoints: the offer follows it, and the page's script sees to the rest."""
        menu.change(self._heading, [self.menu, self.follow, menu], [self.line], **QUICK)

    def _on(
        self, event: Callable[..., Any], act: Callable[..., Answer], *extra: Any, sets: bool = False, **how: Any
    ) -> None:
        """Has an event answered by `act(page, *extra values)`, which may set the tab's controls."""
        outputs = [*self._outputs(), self.done, *self.values.components] if sets else self._outputs()
        event(self.handler(act), self.inputs(*extra), outputs, **QUICK, **how)

    def inputs(self, *extra: Any) -> list[Any]:
        return [self.menu, self.follow, self.done, *extra, *self.values.components]

    def _outputs(self) -> list[Any]:
        return [self.line, self.view, self.apply, self.undo]

    def handler(self, act: Callable[..., Answer]) -> Callable[..., Answer]:
        """`act` with the values of `inputs` as a page."""

        def handle(chosen: str | None, following: bool, done: list[dict[str, Any]], *rest: Any) -> Answer:
            extra = len(rest) - len(self.values.keys)
            page = Page(chosen or AUTOMATIC, following, done, self.values.read(rest[extra:]))
            return act(page, *rest[:extra])

        return handle

    def shown(self, page: Page) -> Answer:
        """Line, view and buttons for what the page has."""
        line = {self.line: self._heading(page.chosen, page.following)}
        try:
            card, offer = self._card(page.chosen)
        except PrismError as error:
            return {**line, self.view: card_view.problem(str(error)), self.apply: gr.update(interactive=False)}
        rows = self._changes(card, page.current) if card else []
        buttons = {
            self.apply: gr.update(interactive=bool(rows)),
            self.undo: gr.update(interactive=bool(page.done)),
        }
        return {**line, self.view: self._view(card, offer, rows, page.done), **buttons}

    def _card(self, chosen: str) -> tuple[Card | None, Match | None]:
        """The chosen card, or the offered one and why it is."""
        if chosen != AUTOMATIC:
            return self.host.find(chosen), None
        offer = self.host.offered(None)
        return (offer.card, offer) if offer else (None, None)

    def _changes(self, card: Card, current: Mapping[str, Value]) -> list[Change]:
        lacking = self.host.lacking(card)
        return changes(card, {key: value for key, value in current.items() if key not in lacking})

    def _heading(self, chosen: str | None, following: bool, checkpoint: str | None = None) -> Any:
        """The panel's line: what is offered or followed. A page gets no more of a closed panel, which is slow there."""
        offer = self.host.offered(checkpoint)
        followed = chosen if chosen not in (None, AUTOMATIC) else offer.card.name if offer and offer.sure else None
        if following:
            told = f"pictures follow {followed}" if followed else "no card to follow is known"
        else:
            told = f"{offer.card.name} fits this model" if offer and offer.sure else ""
        return gr.update(label=" · ".join(filter(None, (CARDS.title, told))))

    def _view(self, card: Card | None, offer: Match | None, rows: list[Change], done: list[dict[str, Any]]) -> str:
        if card is None:
            return card_view.NO_CARD
        before = done[-1]["before"] if done and done[-1]["card"] == card.name else {}
        if rows:
            told = card_view.table(rows, done=False)
        elif before:
            told = card_view.table(changes(card, before), done=True)
        else:
            told = card_view.UNCHANGED
        return f"{card_view.facts(card, offer, self.host.lacking(card).values())}{told}{card_view.left_open(card)}"

    def _apply(self, page: Page) -> Answer:
        card, _ = self._card(page.chosen)
        rows = self._changes(card, page.current) if card else []
        if not (card and rows):
            return self.shown(page)
        new = {one.key: one.after for one in rows}
        step = {"card": card.name, "before": {one.key: one.before for one in rows}}
        return self._set(page, new, [*page.done, step][-STEPS_BACK:])

    def _undo(self, page: Page) -> Answer:
        if not page.done:
            return self.shown(page)
        return self._set(page, page.done[-1]["before"], page.done[:-1])

    def _set(self, page: Page, new: Mapping[str, Value], done: list[dict[str, Any]]) -> Answer:
        after = page._replace(done=done, values=page.values._replace(flat={**page.current, **new}))
        return {**self.values.updates(new, page.values), self.done: done, **self.shown(after)}
