"""Settings with declared defaults; unknown names raise AttributeError."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_prism.files import write_whole

from modules import errors


class OptionInfo:
    """One setting's declaration; the chained methods add texts for the settings page."""

    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: Any = None,
        onchange: Callable[[], None] | None = None,
        section: tuple | None = None,
        refresh: Any = None,
        comment_before: str = "",
        comment_after: str = "",
        infotext: str | None = None,
        restrict_api: bool = False,
        category_id: str | None = None,
    ) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.onchange, self.section, self.category_id, self.refresh = onchange, section, category_id, refresh
        self.do_not_save = False
        self.comment_before, self.comment_after = comment_before, comment_after
        self.infotext, self.restrict_api = infotext, restrict_api

    def link(self, label: str, url: str) -> OptionInfo:
        """Add a link before the label."""
        self.comment_before += f"[<a href='{url}' target='_blank'>{label}</a>]"
        return self

    def info(self, info: str) -> OptionInfo:
        """Add a remark in brackets."""
        return self.html(f"<span class='info'>({info})</span>")

    def html(self, html: str) -> OptionInfo:
        """Add HTML after the label."""
        self.comment_after += html
        return self

    def js(self, label: str, js_func: str) -> OptionInfo:
        """Add a link that calls a page function."""
        self.comment_before += f"[<a onclick='{js_func}(); return false'>{label}</a>]"
        return self

    def needs_restart(self) -> OptionInfo:
        """Say that a change takes effect after a restart."""
        return self.info("requires restart")

    def needs_reload_ui(self) -> OptionInfo:
        """Say that a change takes effect after Reload UI."""
        return self.info("requires Reload UI")


class OptionHTML(OptionInfo):
    """Text on the settings page, without a value."""

    def __init__(self, text: str) -> None:
        super().__init__(str(text).strip())
        self.do_not_save = True


def options_section(section_identifier: tuple, options_dict: dict[str, OptionInfo]) -> dict[str, OptionInfo]:
    """Put every option of the dictionary into one section: (id, title) or (id, title, category)."""
    for info in options_dict.values():
        info.section = section_identifier[:2]
        if len(section_identifier) == 3:
            info.category_id = section_identifier[2]
    return options_dict


@dataclass
class OptionsCategory:
    """A heading above sections of the settings page."""

    id: str
    label: str


class OptionsCategories:
    """The categories by id."""

    def __init__(self) -> None:
        self.mapping: dict[str, OptionsCategory] = {}

    def register_category(self, category_id: str, label: str) -> str:
        """Add a category unless it exists."""
        self.mapping.setdefault(category_id, OptionsCategory(category_id, label))
        return category_id


categories = OptionsCategories()
_OWN_FIELDS = {"data_labels", "data", "restricted_opts"}


class Options:
    """Setting values as attributes; `data` holds the values, `data_labels` the declarations."""

    data: dict[str, Any]
    data_labels: dict[str, OptionInfo]

    def __init__(self, data_labels: dict[str, OptionInfo], restricted_opts: set[str] | None = None) -> None:
        self.data_labels = data_labels
        self.data = {key: info.default for key, info in data_labels.items() if not info.do_not_save}
        self.restricted_opts = restricted_opts or set()

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _OWN_FIELDS or (key not in self.data and key not in self.data_labels):
            super().__setattr__(key, value)
        elif not (key in self.data_labels and self.data_labels[key].do_not_save):
            self.data[key] = value

    def __getattr__(self, item: str) -> Any:
        if item not in _OWN_FIELDS:
            if item in self.data:
                return self.data[item]
            if item in self.data_labels:
                return self.data_labels[item].default
        raise AttributeError(f"there is no setting {item!r}")

    def set(self, key: str, value: Any, is_api: bool = False, run_callbacks: bool = True) -> bool:
        """Set an option and call its onchange; True if the value changed."""
        info = self.data_labels[key]
        previous = self.data.get(key)
        if previous == value or info.do_not_save or (is_api and info.restrict_api):
            return False
        setattr(self, key, value)
        if run_callbacks and info.onchange is not None:
            try:
                info.onchange()
            except Exception as e:
                errors.display(e, f"changing setting {key} to {value}")
                setattr(self, key, previous)
                return False
        return True

    def get_default(self, key: str) -> Any:
        """The declared default, None for an unknown key."""
        info = self.data_labels.get(key)
        return None if info is None else info.default

    def add_option(self, key: str, info: OptionInfo) -> None:
        """Declare an option; a value loaded earlier is kept."""
        self.data_labels[key] = info
        if not info.do_not_save:
            self.data.setdefault(key, info.default)

    def onchange(self, key: str, func: Callable[[], None], call: bool = True) -> None:
        """Register the function to call when `key` changes, and call it now unless `call` is false."""
        self.data_labels[key].onchange = func
        if call:
            func()

    def cast_value(self, key: str, value: Any) -> Any:
        """`value` in the type of the setting's default."""
        default = self.data_labels[key].default
        default = self.data.get(key) if default is None else default
        if value is None or default is None:
            return None
        kind = type(default)
        return False if kind is bool and value == "False" else kind(value)

    def load(self, filename: str | Path) -> None:
        """Read values from a JSON file; one that cannot be read is reported and kept under another name."""
        try:
            values = json.loads(Path(filename).read_text(encoding="utf8"))
            if not isinstance(values, dict):
                raise ValueError("it is no JSON object")
            self.data.update(values)
        except FileNotFoundError:
            pass
        except (ValueError, RecursionError, OSError) as error:
            errors.report_damaged(filename, error)

    def save(self, filename: str | Path) -> None:
        """Write every value as JSON; the file is the old or the new one, whole."""
        write_whole(filename, json.dumps(self.data, indent=4, ensure_ascii=False))
