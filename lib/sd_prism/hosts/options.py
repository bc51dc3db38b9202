"""The section "Prism" of the webui's settings: which panels a page has, what they start with, what a picture tells.

Values are names that no language changes. They are read with a default, because scripts load before any setting is
declared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from modules import script_callbacks, shared

from ..errors import PrismError
from ..settings import PANELS, Panel, Value
from . import data, presets

log = logging.getLogger("prism")

SECTION = ("prism", "Prism")
HIDDEN = "prism_hidden_panels"
INFOTEXT = "prism_infotext"
FULL, SHORT, NONE = "full", "short", "none"
WITH_PRESETS = tuple(panel for panel in PANELS if panel.presets)


@cache
def register() -> None:
    """Has the webui declare the settings; every panel asks for it, for any of them may be missing."""
    script_callbacks.on_ui_settings(_declare)


def start_key(panel: Panel) -> str:
    """The setting that names the preset which a panel starts with."""
    return f"prism_start_{panel.name}"


def is_hidden(panel: Panel) -> bool:
    return panel.title in _value(HIDDEN, ())


def start_of(panel: Panel) -> Mapping[str, Value]:
    """What a new page's panel has beside its defaults; nothing where the preset is no longer there."""
    default = panel["preset"].default if panel in WITH_PRESETS else None
    name = _value(start_key(panel), default)
    if name == default:
        return {}
    presets.refresh()
    try:
        values = panel.read({**panel.off, "preset": name})
    except PrismError as error:
        log.warning("Settings, Prism: %s starts with its defaults: %s", panel.title, error)
        return {}
    return {key: value for key, value in values.items() if value != panel[key].default}


def infotext_amount() -> str:
    """How much of a panel's settings a picture's infotext gets: FULL, SHORT or NONE."""
    return str(_value(INFOTEXT, SHORT))


def _value(key: str, default: Any) -> Any:
    return getattr(shared.opts, key, default)


def _declare() -> None:
    from ..panels.compat import gr

    info, titles = partial(shared.OptionInfo, section=SECTION), [panel.title for panel in PANELS]
    folder = info("", "Folder for Prism's own folder prism: saved presets and cards")
    folder.restrict_api = True  # over HTTP nobody may choose where files are written
    hidden = info([], "Hide panels", gr.CheckboxGroup, {"choices": titles})
    told = info(SHORT, "Settings of Prism in the text of a picture", gr.Radio, {"choices": [FULL, SHORT, NONE]})
    declared = {
        data.OPTION: folder.info("empty: the webui's data folder; --prism-data-dir and PRISM_DATA_DIR come first"),
        HIDDEN: hidden.info("they still answer the API, X/Y/Z grids and cards").needs_reload_ui(),
        **{start_key(panel): _start(panel, info, gr.Dropdown).needs_reload_ui() for panel in WITH_PRESETS},
        INFOTEXT: told.info("full: all; short: what is not at rest; none: nothing, so that nobody can repeat it"),
    }
    for key, one in declared.items():
        shared.opts.add_option(key, one)


def _start(panel: Panel, info: Callable[..., Any], menu: Any) -> Any:
    """The setting that names a panel's first preset; its list is the one of the moment."""
    label = f'Preset that "{panel.title}" starts with'

    def choices() -> dict[str, Any]:
        presets.refresh()
        return {"choices": list(panel["preset"].choices)}

    return info(panel["preset"].default, label, menu, choices)
