"""Tabs whose content is in the page from the start, as in the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gradio as gr


@contextlib.contextmanager
def place(label: str, ident: str, elem_id: str) -> Iterator[gr.Column]:
    """A tab with one column, which is its content. `places.js` opens each once, which has gradio make the content."""
    with gr.Tab(label, id=ident, elem_id=elem_id), gr.Column(elem_classes=["place"]) as content:
        yield content
