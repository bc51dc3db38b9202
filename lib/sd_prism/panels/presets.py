"""A panel's presets on the page: the menu, the buttons beside it, and what these open below.

The menu is the panel's setting "preset". A panel without presets of its own has a menu that is no setting of its.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from ..cards import Preset, Store, live
from ..cards.preset import USER
from ..errors import PrismError
from ..settings import AUTOMATIC, CUSTOM, Panel, Value
from .compat import CHECKED, LATEST, QUICK, on_load, tool_button, unsaved
from .controls import ElemId, said

SIGNS = {"save": "\U0001f4be", "delete": "\U0001f5d1\ufe0f", "undo": "\u21a9\ufe0f", "files": "\U0001f4c1"}
"""Of the buttons; the page's script says what they do."""
SHADOWS = "It takes the place of the built-in preset of that name until you delete it."
RESTORES = "The button beside brings it back."
DROP = 160  # pixels, of the field for files
NO_PRESET = (CUSTOM, AUTOMATIC)
Answer = list[Any]
Line = tuple[str, ...]
"""Texts and values of what is told below the menu."""


class Presets:
    """A panel's presets. The menu and its buttons are drawn at once, into the row that is open.

    Then `draw` draws what the buttons open, below that row, and `wire` connects all once the settings are there.

    Args:
        store: the presets of this webui.
    """

    def __init__(self, panel: Panel, elem_id: ElemId, store: Callable[[], Store]) -> None:
        self.panel, self.store = panel, store
        self.elem_id: ElemId = lambda name: elem_id(f"preset_{name}")
        own = bool(panel.presets)
        menu = gr.Dropdown(
            self._names(),
            value=CUSTOM,
            label=panel["preset"].label if own else "Saved preset",
            elem_id=elem_id("preset" if own else "saved"),
            allow_custom_value=CHECKED,  # a preset may have been saved on another page
        )
        self.menu = unsaved(menu)
        self.known = gr.State(self._names())  # what the page's menu offers
        self.buttons = buttons(self.elem_id)

    def draw(self) -> None:
        """What the buttons open; all of it closed."""
        with gr.Column(visible=False, elem_id=self.elem_id("form")) as self.form:
            with gr.Row(elem_classes=["prism"]):
                self.name = self._text("name", "Name of the preset")
                self.author = self._text("author", "Author of the preset")
            self.notes = self._text("notes", "Notes on the preset")
            with gr.Row(elem_classes=["prism"]):
                self.write = self._button("write", "Save the preset")
                self.cancel = self._button("cancel", "Cancel")
        with gr.Column(visible=False, elem_id=self.elem_id("exchange")) as self.exchange:
            label = "Import presets from a file of Prism or of another program, or from a picture"
            self.given = unsaved(gr.File(label=label, height=DROP, elem_id=self.elem_id("import")))
            with gr.Row(elem_classes=["prism"]):
                self.export = self._button("export", "Export this one")
                self.export_all = self._button("export_all", "Export all saved")
                self.close = self._button("close", "Close")
            file = gr.File(label="Exported presets", visible=False, interactive=False, elem_id=self.elem_id("exported"))
            self.exported = unsaved(file)
        with gr.Column(visible=False, elem_id=self.elem_id("told")) as self.told:
            self.line = gr.HTML("")

    def _text(self, name: str, label: str) -> Any:
        return unsaved(gr.Textbox("", label=label, elem_id=self.elem_id(name), max_lines=1))

    def _button(self, name: str, text: str) -> Any:
        return unsaved(gr.Button(text, size="sm", elem_id=self.elem_id(name)))

    # --- what happens

    def wire(self, made: dict[str, Any]) -> None:
        """A chosen preset fills its settings; a setting moved by hand makes the preset "Custom".

        `input` fires for the user's hand only, so neither answers the other, nor a paste.
        """
        settings = [made[name] for name in self.panel.kept]
        self._on(self.menu.input, self._fill, [self.menu, *settings], [self.menu, self.known, *settings], **LATEST)
        typed = {**LATEST, "preprocess": False}  # gradio 6 would refuse what is half typed
        for name, setting in zip(self.panel.kept, settings):
            self._on(setting.input, self._namer(name), [self.menu, *settings], [self.menu], **typed)
        self._on(self.menu.focus, self._seen, [self.known], [self.menu, self.known])
        on_load(self._seen, [self.known], [self.menu, self.known])
        self._wire_form(settings)
        self._wire_files()
        for button, act in (("delete", self._delete), ("undo", self._undo)):
            self._on(self.buttons[button].click, act, [self.menu, *settings], self._line())

    def _wire_form(self, settings: list[Any]) -> None:
        texts = [self.name, self.author, self.notes]
        self._on(self.buttons["save"].click, self._ask, [self.menu], [self.form, self.exchange, *texts])
        for event in (self.write.click, self.name.submit):
            self._on(event, self._save, [*texts, *settings], [*self._line(), self.form])
        self._on(self.cancel.click, lambda: _hidden(), [], [self.form])

    def _wire_files(self) -> None:
        shown = [self.form, self.exchange, self.told, self.line]
        self._on(self.buttons["files"].click, self._show_files, [], shown)
        self._on(self.given.upload, self._import, [self.given], [*self._line(), self.given])
        for button, act in ((self.export, self._export), (self.export_all, self._export_all)):
            self._on(button.click, act, [self.menu], [self.told, self.line, self.exported])
        self._on(self.close.click, lambda: [_hidden(), _hidden()], [], [self.exchange, self.exported])

    def _line(self) -> list[Any]:
        """What most buttons change: the menu, and the line below."""
        return [self.menu, self.known, self.told, self.line]

    def _on(
        self, event: Callable[..., Any], act: Callable[..., Any], inputs: list[Any], outputs: list[Any], **how: Any
    ) -> None:
        event(act, inputs, outputs, **QUICK, **how)

    # --- the menu

    def _names(self) -> list[str]:
        return list(self.panel["preset"].choices) if self.panel.presets else [CUSTOM, *self.panel.saved]

    def _name_of(self, current: tuple[Value, ...]) -> str:
        """The preset that these settings are."""
        try:
            values = self.panel.read({**self.panel.off, **dict(zip(self.panel.kept, current))})
        except PrismError:
            return CUSTOM
        return self.panel.preset_of(values)

    def _fill(self, name: str, *current: Value) -> Answer:
        live.refresh(self.store())
        known = name in self._names()  # else typed by hand, or deleted elsewhere
        preset = self.panel.all_presets.get(name, {})
        wanted = [preset.get(key, now) for key, now in zip(self.panel.kept, current)]
        if known and wanted == [*current]:  # nothing is told of what somebody may be typing over by now
            return [*self._looked(), *[gr.update()] * len(wanted)]
        return [*self._looked(value=name if known else self._name_of(current)), *wanted]

    def _namer(self, moved: str) -> Callable[..., str]:
        def name_of(name: str, *current: Value) -> str:
            is_apart = name != CUSTOM and moved not in self.panel.sets(name)
            return name if is_apart else self._name_of(current)

        return name_of

    def _looked(self, **more: Any) -> Answer:
        """The menu as the folder is now."""
        live.refresh(self.store())
        return [gr.update(choices=self._names(), **more), self._names()]

    def _seen(self, known: list[str]) -> Answer:
        """The page is opened, or the menu is; it would close again if it were told what it offers already."""
        live.refresh(self.store())
        return [gr.update(), known] if known == self._names() else self._looked()

    def _changed(self, act: Callable[[], Line], current: tuple[Value, ...] | None = None) -> Answer:
        """What the menu and the line below say once something is done, or why it cannot be done."""
        try:
            line = act()
        except PrismError as error:
            return [*self._looked(), *_told(str(error))]
        live.refresh(self.store())
        named = {} if current is None else {"value": self._name_of(current)}
        return [*self._looked(**named), *_told(*line)]

    # --- the buttons

    def _ask(self, chosen: str) -> Answer:
        """The form with the name of the chosen preset; the author stays who it was."""
        mine = next((one for one in self._saved() if one.name == chosen), None)
        name = "" if chosen in NO_PRESET else chosen if mine else f"My {chosen}"
        notes = mine.notes if mine else ""
        return [gr.update(visible=True), _hidden(), name, mine.author if mine else gr.update(), notes]

    def _save(self, name: str, author: str, notes: str, *current: Value) -> Answer:
        values = dict(zip(self.panel.kept, current))
        try:
            saved = self.store().save(Preset(self.panel.name, name, values, author.strip(), notes.strip())).name
        except PrismError as error:
            return [*self._looked(), *_told(str(error)), gr.update()]
        shadows = [SHADOWS] if saved in self.panel.presets else []
        return [*self._looked(value=saved), *_told("Saved:", quoted(saved), *shadows), _hidden()]

    def _delete(self, name: str, *current: Value) -> Answer:
        def delete() -> Line:
            if name in NO_PRESET:
                raise PrismError("No preset is chosen; choose one of yours in the menu, then delete it")
            self.store().delete(self.panel.name, name)
            return "Deleted:", quoted(name), RESTORES

        return self._changed(delete, current)

    def _undo(self, name: str, *current: Value) -> Answer:
        return self._changed(lambda: ("Taken back:", self.store().undo()), current)

    def _show_files(self) -> Answer:
        return [_hidden(), gr.update(visible=True), *_told(*left_out(self.store(), self.panel.name))]

    def _import(self, file: Any) -> Answer:
        def read() -> Line:
            path = Path(getattr(file, "name", file))  # gradio 3 gives a file, later ones its path
            return imported(self.store().import_(path))

        return [*self._changed(read), None]

    def _export(self, name: str) -> Answer:
        def export() -> str:
            if name in NO_PRESET:
                raise PrismError("No preset is chosen; choose one in the menu, then export it")
            return file_of(self.store(), [self.store().get(self.panel.name, name)], name)

        return self._handed(export)

    def _export_all(self, name: str) -> Answer:
        def export() -> str:
            if not self._saved():
                raise PrismError("Nothing is saved here yet; save a preset first")
            return file_of(self.store(), self._saved(), self.panel.name)

        return self._handed(export)

    def _saved(self) -> list[Preset]:
        return [one for one in self.store().list(self.panel.name) if one.origin == USER]

    def _handed(self, export: Callable[[], str]) -> Answer:
        try:
            return [*_told(), gr.update(value=export(), visible=True)]
        except PrismError as error:
            return [*_told(str(error)), _hidden()]


def buttons(elem_id: ElemId) -> dict[str, Any]:
    """The small buttons beside a menu of presets, which stay together where a line is too short for all."""
    with gr.Row(elem_classes=["prism-tools"]):
        return {name: unsaved(tool_button(sign, elem_id(name))) for name, sign in SIGNS.items()}


def file_of(store: Store, presets: list[Preset], name: str) -> str:
    """A file for the page to hand over, which copies it."""
    plain = re.sub(r"[^\w-]+", "-", name)[:60].strip("-") or "presets"
    file = Path(tempfile.mkdtemp(prefix="prism-")) / f"{plain}.json"
    file.write_text(store.export(presets), encoding="utf-8")
    return str(file)


def quoted(name: str) -> str:
    return f'"{name}"'


def imported(found: Iterable[Preset]) -> Line:
    """Tells what was read from a file."""
    return "Imported:", ", ".join(f"{quoted(one.name)} ({one.feature})" for one in found)


def left_out(store: Store, feature: str) -> Line:
    """Tells of the files that cannot be read."""
    files = [one for one in store.unreadable if one.file.parent.name == feature]
    return tuple(part for one in files for part in ("Left out:", f"{one.file}: {one.reason}"))


def _told(*line: str) -> Answer:
    """The line below, and whether it is there."""
    return [gr.update(visible=bool(line)), said(*line)]


def _hidden() -> Any:
    return gr.update(visible=False)
