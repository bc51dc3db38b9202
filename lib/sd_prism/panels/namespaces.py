"""The panel "Prism Namespaces": a dialect and the tags' strength in sight, everything else under "Advanced"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..cards import Store
from ..settings import NAMESPACES
from .compat import QUICK, on_load, switch
from .controls import ElemId, control
from .presets import Presets

ADVANCED = ("anti", "show_rendered"), ("order",), ("bind", "bind_schedule"), ("window", "isolate"), ("replace", "sets")


def build(
    elem_id: ElemId,
    store: Callable[[], Store],
    loaded: Callable[..., None],
    moved: Callable[..., None],
) -> list[Any]:
    """Draws the panel; the components in the order of the declaration.

    `loaded` hears all their values when a page opens, `moved` at any change.
    """
    made: dict[str, Any] = {}
    with switch(NAMESPACES.title, elem_id("panel")) as made["enabled"]:
        with gr.Row(elem_classes=["prism"]):
            presets = Presets(NAMESPACES, elem_id, store)
            made["preset"] = presets.menu
        presets.draw()
        with gr.Row(elem_classes=["prism"]):
            made["dialect"] = control(NAMESPACES["dialect"], elem_id)
            made["strength"] = control(NAMESPACES["strength"], elem_id)
        with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
            for names in ADVANCED:
                with gr.Row(elem_classes=["prism"]):
                    for name in names:
                        made[name] = control(NAMESPACES[name], elem_id)
        presets.wire(made)
    components = [made[name] for name in NAMESPACES.names]
    for component in components:
        component.change(moved, components, [], **QUICK)
    on_load(loaded, components)
    return components
