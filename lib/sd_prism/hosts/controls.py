"""What stands on a webui's generation tabs: the controls of its own, and those of Prism's panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..settings import Panel

TABS = ("txt2img", "img2img")
LAST = "generation_info_{tab}"  # of a tab's components; by then all others are there

Found = dict[str, Any]
panels: dict[str, dict[str, Found]] = {tab: {} for tab in TABS}
"""Each tab's panels by name, with their components by setting."""


def tab_of(script: Any) -> str:
    return "img2img" if script.is_img2img else "txt2img"


def keep(script: Any, panel: Panel, components: Sequence[Any]) -> None:
    """Remembers a panel's components; a webui asks for them more than once, and the first ones are on the page."""
    panels[tab_of(script)].setdefault(panel.name, dict(zip(panel.names, components)))


def watch(script: Any, ids: Mapping[str, str], act: Callable[[str, Found], None]) -> None:
    """Has `act(tab, found)` called, where events can still be added, once a tab has all its controls.

    Args:
        script: one that is being made; a webui asks it for its wishes before it draws anything.
        ids: element ids by the names of `found`, with "{tab}" for the tab's name. What a page lacks is not found.
    """
    for tab in TABS:
        found: Found = {}
        for name, elem_id in ids.items():
            _listen(script, partial(_take, found, name), elem_id.format(tab=tab))
        _listen(script, partial(_act, act, tab, found), LAST.format(tab=tab))


def _listen(script: Any, act: Callable[[Any], None], elem_id: str) -> None:
    if hasattr(script, "on_after_component"):
        script.on_after_component(act, elem_id=elem_id)
    else:  # SD.Next: the list itself, which all scripts have in common until they have their own
        script.on_after_component_elem_id = [*script.on_after_component_elem_id, (elem_id, act)]


def _take(found: Found, name: str, told: Any) -> None:
    found[name] = told.component


def _act(act: Callable[[str, Found], None], tab: str, found: Found, told: Any) -> None:
    from ..panels.compat import drawing

    if drawing():
        act(tab, found)
