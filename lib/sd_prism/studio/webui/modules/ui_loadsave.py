"""The user's own defaults for the page's components: ui-config.json in the data folder."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from sd_prism import files

from modules import errors

WITH_VISIBILITY = (gr.Slider, gr.Radio, gr.Checkbox, gr.Textbox, gr.Number, gr.Dropdown, gr.Button)
WITH_VALUE = (gr.Slider, gr.Radio, gr.Checkbox, gr.Textbox, gr.Number, gr.Dropdown)


def radio_choices(comp: Any) -> list:
    """The names of a component's choices."""
    return [
        choice[0] if isinstance(choice, (tuple, list)) else choice for choice in getattr(comp, "choices", None) or []
    ]


class UiLoadsave:
    """Sets components to what the file says, and writes into it what it does not say yet.

    Keys are `<path>/<label>/<field>`, for components of scripts `customscript/<file>/<path>/<label>/<field>`. A
    component with `do_not_save_to_config` is passed over.
    """

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.ui_settings: dict[str, Any] = {}
        self.component_mapping: dict[str, Any] = {}
        self.error_loading = False
        try:
            self.ui_settings = self.read_from_file()
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self.error_loading = True
            errors.report(f"{filename} could not be read ({error}); the page has its own defaults. It was left alone.")
        self.read = dict(self.ui_settings)

    # --- while the page is built ------------------------------------------------------------------------------------

    def add_block(self, x: Any, path: str = "") -> None:
        """Every labelled component inside `x`."""
        if hasattr(x, "children"):
            if isinstance(x, gr.Tabs) and x.elem_id is not None:
                self.add_component(f"{path}/Tabs@{x.elem_id}", x)
            for child in x.children:
                self.add_block(child, path)
        elif getattr(x, "label", None) is not None:
            self.add_component(f"{path}/{x.label}", x)
        elif isinstance(x, gr.Button) and x.value is not None:
            self.add_component(f"{path}/{x.value}", x)

    def add_component(self, path: str, x: Any) -> None:
        """One component; only gradio's own classes are known, as in the host."""
        if type(x) in WITH_VISIBILITY and x.visible is True:
            self._apply(path, x, "visible", lambda value: isinstance(value, bool))
        if type(x) in WITH_VALUE:
            self._apply(path, x, "value", self._fits(x))
        if type(x) is gr.Slider:
            for field in ("minimum", "maximum", "step"):
                self._apply(path, x, field, _is_number)
        if type(x) is gr.Tabs:
            ids = [child.id for child in x.children if isinstance(child, gr.Tab)]
            self._apply(path, x, "selected", lambda value: value in ids)

    @staticmethod
    def _fits(x: Any) -> Callable[[Any], bool]:
        """Whether a saved value can be this component's."""
        if type(x) is gr.Dropdown and x.multiselect:
            return lambda value: isinstance(value, list) and set(value) <= set(radio_choices(x))
        if type(x) in (gr.Dropdown, gr.Radio):
            return lambda value: value in radio_choices(x)
        if type(x) in (gr.Number, gr.Slider):
            return _is_number
        if type(x) is gr.Checkbox:
            return lambda value: isinstance(value, bool)
        return lambda value: isinstance(value, (str, int, float))

    def _apply(self, path: str, x: Any, field: str, fits: Callable[[Any], bool]) -> None:
        if getattr(x, "do_not_save_to_config", False):
            return
        source = getattr(x, "custom_script_source", None)
        key = f"customscript/{source}/{path}/{field}" if source else f"{path}/{field}"
        saved = self.ui_settings.get(key)
        if saved is None:
            self.ui_settings[key] = getattr(x, field)
        elif fits(saved):
            setattr(x, field, str(saved) if type(x) is gr.Textbox and field == "value" else saved)
        if field == "value":
            self.component_mapping.setdefault(key, x)

    # --- the file ---------------------------------------------------------------------------------------------------

    def read_from_file(self) -> dict[str, Any]:
        """The file's content; raises ValueError for one that is no JSON object."""
        found = json.loads(Path(self.filename).read_text(encoding="utf8"))
        if not isinstance(found, dict):
            raise ValueError(f"{self.filename} is no JSON object")
        return found

    def write_to_file(self, current_ui_settings: dict[str, Any]) -> None:
        """Replace the file as a whole, so that it is never half written."""
        files.write_whole(self.filename, json.dumps(current_ui_settings, indent=4, ensure_ascii=False))

    def dump_defaults(self) -> None:
        """Write what the file did not say yet; a file that could not be read is left alone."""
        if not self.error_loading and self.ui_settings != self.read:
            try:
                self.write_to_file(self.ui_settings)
            except OSError as error:
                errors.report(f"{self.filename} could not be written: {error}")

    # --- the settings page's "Defaults" -----------------------------------------------------------------------------

    def create_ui(self) -> None:
        """The buttons and the table of changes."""
        gr.HTML(
            "New defaults for the fields of the other tabs: change the fields there, press View changes to see what "
            f"would be kept, then Apply to write it to {html.escape(self.filename)}. They take effect after Reload UI."
        )
        with gr.Row():
            self.ui_defaults_view = gr.Button("View changes", elem_id="ui_defaults_view")
            self.ui_defaults_apply = gr.Button("Apply", elem_id="ui_defaults_apply", variant="primary")
        self.ui_defaults_review = gr.HTML("", elem_id="ui_defaults_review")

    def setup_ui(self) -> None:
        """Connect the buttons; all components must have been added."""
        inputs = list(self.component_mapping.values())
        for button, function in ((self.ui_defaults_view, self.ui_view), (self.ui_defaults_apply, self.ui_apply)):
            button.click(function, inputs, [self.ui_defaults_review], show_progress="hidden", api_visibility="private")

    def iter_changes(self, current_ui_settings: dict[str, Any], values: tuple) -> Iterator[tuple[str, Any, Any]]:
        """(key, old value, new value) of each component that differs from the file."""
        for (key, component), value in zip(self.component_mapping.items(), values):
            choices, old = radio_choices(component), current_ui_settings.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and choices:
                value = choices[value] if value < len(choices) else old
            if value != old and not (old is None and value in ("", [])):
                yield key, old, value

    def ui_view(self, *values: Any) -> str:
        """The changes as a table."""
        changes = list(self.iter_changes(self._current(), values))
        rows = ["<tr>" + "".join(f"<td>{html.escape(str(x))}</td>" for x in change) + "</tr>" for change in changes]
        body = "".join(rows) or "<tr><td colspan=3>No changes</td></tr>"
        return f"<table><thead><tr><th>Path</th><th>Old value</th><th>New value</th></tr></thead>{body}</table>"

    def ui_apply(self, *values: Any) -> str:
        """Write the changes."""
        if self.error_loading:
            return f"{html.escape(self.filename)} could not be read and was left alone; mend or remove it first."
        current = self._current()
        changes = {key: new for key, _, new in self.iter_changes(current, values)}
        if not changes:
            return "No changes."
        self.write_to_file({**current, **changes})
        return f"Wrote {len(changes)} changes."

    def _current(self) -> dict[str, Any]:
        try:
            return self.read_from_file()
        except (OSError, ValueError):
            return dict(self.ui_settings)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
