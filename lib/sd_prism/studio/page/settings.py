"""The settings page, made from the declared options, and the quicksettings above the tabs."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from sd_prism.errors import PrismError
from sd_prism.studio import host
from sd_prism.studio.page.events import AT_ONCE, QUIET
from sd_prism.studio.page.places import place
from sd_prism.studio.page.tab import Tab, native_size

CATEGORIES = ("saving", "sd", "ui", "system", "postprocessing", "training")


class Settings:
    """The components of all options; those of the quicksettings are not repeated in the tab.

    Attributes:
        components: by option key.
    """

    def __init__(self) -> None:
        from modules import shared

        self.components: dict[str, Any] = {}
        known = shared.opts.data_labels
        self.quick = [key for key in shared.opts.quicksettings_list if key in known and not known[key].do_not_save]

    def quicksettings(self) -> None:
        """The row above the tabs."""
        with gr.Row(elem_id="quicksettings"):
            for key in self.quick:
                self._add(key)

    def build(self, loadsave: Any) -> None:
        """The tab: a page per section, and the defaults of the other tabs' fields."""
        with gr.Row(elem_id="settings_header"):
            self.submit = gr.Button("Apply settings", variant="primary", elem_id="settings_submit")
            self.restart = gr.Button("Reload UI", elem_id="settings_restart_gradio")
        self.result = gr.HTML(elem_id="settings_result")
        gr.Textbox(elem_id="settings_search", max_lines=1, placeholder="Search...", show_label=False, container=False)
        with gr.Tabs(elem_id="settings", overflow_behavior="wrap"):
            for (ident, title), keys in sections().items():
                with place(title, ident, f"settings_{ident}"), gr.Column(elem_id=f"column_settings_{ident}"):
                    for key in keys:
                        if key not in self.quick:
                            self._add(key)
            with place("Defaults", "defaults", "settings_tab_defaults"):
                loadsave.create_ui()

    def _add(self, key: str) -> None:
        """One option; one that cannot be shown is reported and left out."""
        from modules import errors, shared, ui_common

        info = shared.opts.data_labels[key]
        try:
            if info.refresh is None:
                made = component(key)
            else:
                with gr.Row(elem_classes=["setting-row"]):
                    made = component(key)
                    ui_common.create_refresh_button(made, info.refresh, info.component_args, f"refresh_{key}")
        except Exception:
            errors.report(f"Error creating the setting {key}", exc_info=True)
            return
        if (info.comment_before or info.comment_after) and key not in self.quick:
            gr.HTML(f"{info.comment_before} {info.comment_after}", elem_classes=["settings-comment"])
        if not info.do_not_save:
            self.components[key] = made

    def connect(self, demo: gr.Blocks, tabs: list[Tab]) -> None:
        """Apply, Reload UI, the quicksettings, and today's values whenever the page is opened."""
        keys, made = list(self.components), list(self.components.values())
        self.submit.click(lambda *values: apply(dict(zip(keys, values))), made, [self.result], **QUIET)
        self.restart.click(None, None, None, js="reloadUi")
        for key in self.quick:
            if key in self.components:
                self._connect_quick(key, [tab.fields[side] for tab in tabs for side in ("width", "height")])
        demo.load(lambda: [update(key) for key in keys], None, made, **AT_ONCE)

    def _connect_quick(self, key: str, sizes: list[Any]) -> None:
        shown = self.components[key]
        if key == "sd_model_checkpoint":
            shown.input(_choose_checkpoint, [shown, *sizes], [shown, *sizes], show_progress="minimal")
            wanted = gr.Textbox(visible=False)
            card = gr.Button("Change checkpoint", elem_id="change_checkpoint", visible="hidden")
            card.click(_choose_checkpoint, [wanted, *sizes], [shown, *sizes], js="withDesiredCheckpoint", **QUIET)
            return
        events = [shown.submit, shown.blur] if isinstance(shown, gr.Textbox) else [_event(shown)]
        gr.on(events, lambda value: _set_one(key, value), [shown], [shown], **QUIET)


def _event(shown: Any) -> Any:
    """The event of a hand that is done with a component."""
    return next(getattr(shown, name) for name in ("release", "input", "change") if hasattr(shown, name))


def sections() -> dict[tuple[str, str], list[str]]:
    """(id, title) of each section with its options' keys, in the order of the host's categories."""
    from modules import shared

    found: dict[tuple[str, str], list[str]] = {}
    category: dict[str, str] = {}
    for key, info in shared.opts.data_labels.items():
        ident, title = info.section or ("uncategorized", "Uncategorized")
        if ident is None:
            continue
        category.setdefault(ident, info.category_id or "")
        found.setdefault((ident, title), []).append(key)
    rank = {name: place for place, name in enumerate(CATEGORIES)}
    return dict(sorted(found.items(), key=lambda item: rank.get(category[item[0][0]], len(rank))))


def component(key: str) -> Any:
    """The component that an option declares, else the one for its default's type."""
    from modules import shared

    info = shared.opts.data_labels[key]
    if info.component is None and info.do_not_save:
        return gr.HTML(info.default, elem_id=f"setting_{key}", elem_classes=["settings-info"])
    kind = info.component or _for_choices(key) or _for_type(info.default)
    return kind(value=_value(key), label=info.label, elem_id=f"setting_{key}", **arguments(info))


def _value(key: str) -> Any:
    """An option's value; before a checkpoint is loaded, the one that will be."""
    from modules import sd_models, shared

    value = getattr(shared.opts, key)
    if key == "sd_model_checkpoint" and value is None and sd_models.checkpoint_tiles():
        return sd_models.select_checkpoint().title
    return value


def arguments(info: Any) -> dict[str, Any]:
    """The component's arguments as they are now."""
    return (info.component_args() if callable(info.component_args) else info.component_args) or {}


def _for_choices(key: str) -> Callable | None:
    """A choice of what the studio can do of this option, if it has such a list."""
    from modules import shared_options

    known = shared_options.CHOICES.get(key)
    return None if known is None else lambda **kwargs: gr.Radio(list(known), **kwargs)


def _for_type(default: Any) -> Callable:
    if isinstance(default, bool):
        return gr.Checkbox
    if isinstance(default, int):
        return lambda **kwargs: gr.Number(**{"precision": 0, **kwargs})
    if isinstance(default, float):
        return gr.Number
    if isinstance(default, list):
        return lambda **kwargs: gr.Dropdown(
            **{"choices": kwargs["value"], "multiselect": True, "allow_custom_value": True, **kwargs}
        )
    return gr.Textbox


def update(key: str) -> Any:
    """An option's component as it is to be shown now."""
    from modules import shared

    args = {k: v for k, v in arguments(shared.opts.data_labels[key]).items() if k != "precision"}
    return gr.update(value=_value(key), **args)


def apply(values: dict[str, Any]) -> str:
    """Set and save all values; nothing is set while one of them is not valid. Returns what to tell, as HTML."""
    from modules import shared

    opts = shared.opts
    before = {key: getattr(opts, key) for key in values}
    try:
        host.change_settings(values)
    except PrismError as error:
        return _complaint(f"Nothing was changed: {error}")
    changed = [key for key, old in before.items() if getattr(opts, key) != old]
    told = f"{len(changed)} settings changed{': ' if changed else ''}{', '.join(changed)}."
    return html.escape(told)


def _complaint(text: str) -> str:
    return f'<p class="studio-error" role="alert">{html.escape(text)}</p>'


def _set_one(key: str, value: Any) -> Any:
    """A quicksetting was moved."""
    try:
        host.change_settings({key: value})
    except PrismError as error:
        gr.Warning(html.escape(str(error)), title="Setting not changed")
    return update(key)


def _choose_checkpoint(title: str, *sizes: int) -> tuple:
    """A size that the user chose stays; the old model's own size becomes the new one's."""
    old = native_size()
    shown = _set_one("sd_model_checkpoint", title)
    new = native_size()
    return shown, *(new if size == old else gr.update() for size in sizes)
