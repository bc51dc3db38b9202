"""The user's own cards on the page: saved, deleted and brought back, read from files and pictures, handed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..cards import Preset
from ..cards.preset import CARD, USER
from ..cards.saving import groups_of
from ..errors import PrismError
from ..settings import AUTOMATIC
from .compat import QUICK, unsaved
from .controls import ElemId, said
from .presets import DROP, RESTORES, buttons, file_of, imported, left_out, quoted

if TYPE_CHECKING:
    from .cards import Answer, Cards, Page
    from .presets import Line

FOR_MODEL = "Offer it for the loaded checkpoint"
KEPT = {"Keep the prompt": "prompt", "Keep the negative prompt": "negative"}


class CardFiles:
    """Buttons beside the menu of cards, drawn at once; `draw` draws what they open."""

    def __init__(self, elem_id: ElemId) -> None:
        self.elem_id: ElemId = lambda name: elem_id(f"preset_{name}")
        self.buttons = buttons(self.elem_id)

    def draw(self) -> None:
        with gr.Column(visible=False, elem_id=self.elem_id("form")) as self.form:
            with gr.Row(elem_classes=["prism"]):
                self.name = self._text("name", "Name of the card")
                self.author = self._text("author", "Author of the card")
            self.notes = self._text("notes", "Notes on the card")
            choices = [FOR_MODEL, *KEPT]
            kept = gr.CheckboxGroup(choices, value=[FOR_MODEL], label="Of this page", elem_id=self.elem_id("kept"))
            self.kept = unsaved(kept)
            with gr.Row(elem_classes=["prism"]):
                self.write = self._button("write", "Save these settings as a card")
                self.cancel = self._button("cancel", "Cancel")
        with gr.Column(visible=False, elem_id=self.elem_id("exchange")) as self.exchange:
            label = "Import cards from a file, or from a picture with its settings in it"
            self.given = unsaved(gr.File(label=label, height=DROP, elem_id=self.elem_id("import")))
            with gr.Row(elem_classes=["prism"]):
                self.export = self._button("export", "Export this card")
                self.export_all = self._button("export_all", "Export all saved cards")
                self.close = self._button("close", "Close")
            file = gr.File(label="Exported cards", visible=False, interactive=False, elem_id=self.elem_id("exported"))
            self.exported = unsaved(file)
        with gr.Column(visible=False, elem_id=self.elem_id("told")) as self.place:
            self.line = gr.HTML("")

    def _text(self, name: str, label: str) -> Any:
        return unsaved(gr.Textbox("", label=label, elem_id=self.elem_id(name), max_lines=1))

    def _button(self, name: str, text: str) -> Any:
        return unsaved(gr.Button(text, size="sm", elem_id=self.elem_id(name)))

    # --- what happens

    def connect(self, panel: Cards) -> None:
        self.panel, self.store = panel, panel.host.store
        chosen, told = [panel.menu], [self.place, self.line]
        parts = [self.form, self.exchange, self.exported, *told]
        texts = [self.name, self.author, self.notes]
        self._on(self.buttons["save"].click, self._ask, chosen, [*parts, *texts])
        self._on(self.buttons["files"].click, self._show, [], parts)
        self._on(self.buttons["delete"].click, self._delete, chosen, [*told, panel.menu])
        self._on(self.buttons["undo"].click, self._restore, chosen, [*told, panel.menu])
        for event in (self.write.click, self.name.submit):
            save = panel.handler(self._save)
            self._on(event, save, panel.inputs(*texts, self.kept), [*parts, panel.menu])
        self._on(self.given.upload, self._import, [panel.menu, self.given], [*told, panel.menu, self.given])
        self._on(self.export.click, self._export, chosen, [*told, self.exported])
        self._on(self.export_all.click, self._export_all, [], [*told, self.exported])
        for event in (self.cancel.click, self.close.click):
            self._on(event, self._closed, [], parts)

    def _on(self, event: Callable[..., Any], act: Callable[..., Answer], inputs: list[Any], outputs: list[Any]) -> None:
        def answer(*given: Any) -> dict[Any, Any]:  # gradio 4 reads hints, and would not find `Answer`
            try:
                return act(*given)
            except PrismError as error:
                return self._told(str(error))

        event(answer, inputs, outputs, **QUICK)

    def _told(self, *line: str) -> Answer:
        return {self.place: gr.update(visible=bool(line)), self.line: said(*line)}

    def _done(self, line: Line, *names: str | None) -> Answer:
        """What was done, and the menu as it is now with the first of these cards that is there."""
        known = self.panel.names()
        chosen = next((one for one in names if one in known), AUTOMATIC)
        return {**self._told(*line), self.panel.menu: gr.update(choices=known, value=chosen)}

    def _closed(self) -> Answer:
        return {one: gr.update(visible=False) for one in (self.form, self.exchange, self.exported, self.place)}

    def _ask(self, chosen: str) -> Answer:
        """The form with the chosen card's name; the author stays who it was."""
        mine = next((one for one in self._saved() if one.name == chosen), None)
        name = "" if chosen == AUTOMATIC else chosen if mine else f"My {chosen}"
        author = {self.author: mine.author} if mine else {}
        texts = {self.name: name, self.notes: mine.notes if mine else "", **author}
        return {**self._closed(), **texts, self.form: gr.update(visible=True)}

    def _save(self, page: Page, name: str, author: str, notes: str, kept: list[str]) -> Answer:
        values = groups_of(page.current, [side for text, side in KEPT.items() if text in kept])
        told = self.panel.host.recognised() if FOR_MODEL in kept else {}
        families = tuple(told.pop("base", ()))
        saved = self.store().save(Preset(CARD, name, values, author.strip(), notes.strip(), families, told))
        return {**self._closed(), **self._done(("Saved:", quoted(saved.name)), saved.name)}

    def _delete(self, chosen: str) -> Answer:
        if chosen == AUTOMATIC:
            raise PrismError("No card is chosen; choose one of yours in the menu, then delete it")
        self.store().delete(CARD, chosen)
        return self._done(("Deleted:", quoted(chosen), RESTORES), chosen)

    def _restore(self, chosen: str) -> Answer:
        name = self.store().undo()
        return self._done(("Taken back:", name), name, chosen)

    def _show(self) -> Answer:
        return {**self._closed(), **self._told(*left_out(self.store(), CARD)), self.exchange: gr.update(visible=True)}

    def _import(self, chosen: str, file: Any) -> Answer:
        path = Path(getattr(file, "name", file))  # gradio 3 gives a file, later ones its path
        try:
            found = self.store().import_(path)
        except PrismError as error:
            return {**self._told(str(error)), self.given: None}
        card = next((one.name for one in found if one.feature == CARD), None)
        return {**self._done(imported(found), card, chosen), self.given: None}

    def _export(self, chosen: str) -> Answer:
        if chosen == AUTOMATIC:
            raise PrismError("No card is chosen; choose one in the menu, then export it")
        return self._handed([self.store().get(CARD, chosen)], chosen)

    def _export_all(self) -> Answer:
        if not self._saved():
            raise PrismError("No card is saved yet; save one first")
        return self._handed(self._saved(), "cards")

    def _handed(self, presets: list[Preset], name: str) -> Answer:
        file = file_of(self.store(), presets, name)
        return {**self._told(), self.exported: gr.update(value=file, visible=True)}

    def _saved(self) -> list[Preset]:
        return [one for one in self.store().list(CARD) if one.origin == USER]
