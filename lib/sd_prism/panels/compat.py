"""What differs between gradio 3, 4.40 and 6, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

JS = "_js" if gr.__version__.startswith("3.") else "js"
"""What events call the function that the page runs before the server's."""

QUICK: dict[str, Any] = {"show_progress": "hidden", **({"queue": False} if gr.__version__.startswith("3.") else {})}
"""For events that are answered at once.

gradio 3 never lets go of an event in its queue whose page has left, and the webui's Reload UI waits for it for ever.
"""

LATEST: dict[str, Any] = {} if gr.__version__.startswith("3.") else {"trigger_mode": "always_last"}
"""For events of a hand that may go on: later gradio drops those that come while one is being answered."""

CHECKED = not gr.__version__.startswith(("3.", "4."))
"""Whether gradio refuses a menu's value that was not among its choices when the page was built."""


@contextmanager
def switch(label: str, elem_id: str) -> Iterator[Any]:
    """A panel that is one closed line with its on/off state on it; yields the component that is the state.

    The hosts' own InputAccordion where there is one, else an accordion with a checkbox in it.
    """
    try:
        from modules.ui_components import InputAccordion
    except ImportError:
        with gr.Accordion(label, open=False, elem_id=elem_id):
            yield gr.Checkbox(False, label=label, elem_id=f"{elem_id}_enabled")
    else:
        with InputAccordion(False, label=label, elem_id=elem_id) as enabled:
            yield enabled


NO_PIPELINES = (
    "Prism works with this webui's diffusers backend only: choose it as \"Execution backend\" in the webui's settings, "
    "then restart the webui."
)


def unavailable(label: str, elem_id: str, why: str) -> list[Any]:
    """A panel of a line that says why it is not offered, without components."""
    with gr.Accordion(label, open=False, elem_id=elem_id):
        gr.HTML(f"<p>{why}</p>")
    return []


def drawing() -> bool:
    """Whether a page is being drawn: gradio 4 makes a component anew for an update, too, and webuis tell of that."""
    from gradio.context import Context

    return Context.root_block is not None


def on_load(act: Callable[..., Any], components: list[Any], outputs: list[Any] | None = None) -> None:
    """Has a page that opens tell the values of components, and set others.

    Past gradio's queue, which a slow page may leave before it is its turn.
    """
    from gradio.context import Context

    assert Context.root_block is not None, "components are drawn on a page"
    Context.root_block.load(act, components, outputs or [], show_progress="hidden", queue=False)


def tool_button(text: str, elem_id: str) -> Any:
    """A small button beside a field, in the hosts' own look where there is one."""
    try:
        from modules.ui_components import ToolButton
    except ImportError:
        return gr.Button(text, elem_id=elem_id, elem_classes=["tool"], size="sm", min_width=40, scale=0)
    return ToolButton(text, elem_id=elem_id)


def hide_group() -> None:
    """Hides the group that a webui has drawn for a script, if it is that and still empty."""
    from gradio.context import Context

    block = Context.block
    if isinstance(block, gr.Group) and not block.children:
        block.visible = False


def unsaved(component: Any) -> Any:
    """Keeps a component out of the host's ui-config.json, which would freeze its default for ever."""
    component.do_not_save_to_config = True
    return component
