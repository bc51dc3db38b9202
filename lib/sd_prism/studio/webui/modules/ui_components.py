"""Components that the host adds to gradio's. None is a gradio subclass, so that gradio writes no stub files."""

from __future__ import annotations

from typing import Any

import gradio as gr


def ToolButton(*args: Any, **kwargs: Any) -> gr.Button:
    """A small button with an emoji as its label; the page shows `tooltip` as its title."""
    tooltip = kwargs.pop("tooltip", None)
    classes = ["tool", *(kwargs.pop("elem_classes", None) or [])]
    button = gr.Button(*args, elem_classes=classes, size="sm", min_width=40, scale=0, **kwargs)
    button.webui_tooltip = tooltip  # type: ignore[attr-defined]
    return button


def FormRow(**kwargs: Any) -> gr.Row:
    """A row inside a form."""
    return gr.Row(**kwargs)


def FormColumn(**kwargs: Any) -> gr.Column:
    """A column inside a form."""
    return gr.Column(**kwargs)


def FormGroup(**kwargs: Any) -> gr.Group:
    """A group inside a form."""
    return gr.Group(**kwargs)


def FormHTML(*args: Any, **kwargs: Any) -> gr.HTML:
    """HTML inside a form."""
    return gr.HTML(*args, **kwargs)


def DropdownMulti(**kwargs: Any) -> gr.Dropdown:
    """A dropdown for several values."""
    return gr.Dropdown(multiselect=True, **kwargs)


def DropdownEditable(**kwargs: Any) -> gr.Dropdown:
    """A dropdown that also takes other values."""
    return gr.Dropdown(allow_custom_value=True, **kwargs)


class InputAccordion:
    """A panel that is on while it is open: `with InputAccordion(False, label=..., elem_id=...) as enabled:`.

    `enabled` is the checkbox in the header; its id is "<elem_id>-checkbox". The body is shown and hidden by
    `page.css`, so that its components are always in the page for scripts to find.
    """

    global_index = 0

    def __init__(self, value: bool, *, label: str = "Accordion", elem_id: str | None = None, **kwargs: Any) -> None:
        if elem_id is None:
            elem_id = f"input-accordion-{InputAccordion.global_index}"
            InputAccordion.global_index += 1
        self.accordion_id = elem_id
        visible = kwargs.pop("visible", True)
        # gradio 6.31 writes a Group's id into the page twice, a Column's once.
        self.accordion = gr.Column(elem_id=elem_id, elem_classes=["input-accordion"], visible=visible)
        with self.accordion:
            self.checkbox = gr.Checkbox(
                bool(value),
                label=label,
                elem_id=f"{elem_id}-checkbox",
                elem_classes=["input-accordion-header"],
                container=False,
                **kwargs,
            )
            self.body = gr.Column(elem_classes=["input-accordion-body"])
        self.checkbox.extra = self.extra  # type: ignore[attr-defined]
        self.checkbox.accordion_id = elem_id  # type: ignore[attr-defined]

    def extra(self) -> gr.Column:
        """A place for something beside the label."""
        with self.accordion:
            return gr.Column(elem_id=f"{self.accordion_id}-extra", elem_classes=["input-accordion-extra"], min_width=0)

    def __enter__(self) -> gr.Checkbox:
        self.body.__enter__()
        return self.checkbox

    def __exit__(self, *exc: Any) -> None:
        self.body.__exit__(*exc)

    def __getattr__(self, name: str) -> Any:
        # Only for what the class lacks: `.value`, `.change` and the like are the checkbox's.
        if name == "checkbox":
            raise AttributeError(name)
        return getattr(self.checkbox, name)
