"""Cards of extra networks beside the fields of a generation tab: a click puts the network into the prompt."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr

from sd_prism.studio.page.events import QUIET
from sd_prism.studio.page.places import place
from sd_prism.studio.page.tab import Tab


def build(tab: Tab) -> None:
    """A page for each kind of network; call inside the tab's own Tabs."""
    from modules import ui_extra_networks
    from modules.ui_components import ToolButton

    for page in ui_extra_networks.extra_pages:
        ident = tab.id(page.extra_networks_tabname)
        with place(page.title, ident, ident):
            with gr.Row(elem_classes=["tools"]):
                gr.Textbox(
                    placeholder="Search...",
                    show_label=False,
                    container=False,
                    elem_id=f"{ident}_extra_search",
                    elem_classes=["extra-network-search"],
                )
                refresh = ToolButton("🔄", elem_id=f"{ident}_extra_refresh", tooltip=f"Refresh {page.title}")
            cards = gr.HTML(_cards(page, tab.name))
        refresh.click(_refresher(page, tab.name), None, [cards], **QUIET)


def _refresher(page: Any, tabname: str) -> Any:
    def refresh() -> str:
        page.refresh()
        return _cards(page, tabname)

    return refresh


def _cards(page: Any, tabname: str) -> str:
    """All items as HTML; a failing page is reported and empty."""
    from modules import errors

    try:
        cards = "".join(_card(item, tabname, page.allow_negative_prompt) for item in page.list_items())
    except Exception:
        errors.report(f"Error listing {page.title}", exc_info=True)
        cards = ""
    folders = " or ".join(page.allowed_directories_for_previews())
    nothing = f"Nothing here. Put files into {folders}." if folders else "Nothing here."
    return f'<div class="extra-network-cards">{cards or html.escape(nothing)}</div>'


def _card(item: dict[str, Any], tabname: str, either: bool) -> str:
    """`prompt` and `negative_prompt` of an item are JavaScript expressions, as in the host."""
    prompt, negative = item.get("prompt") or '""', item.get("negative_prompt") or '""'
    onclick = item.get("onclick") or f"cardClicked('{tabname}', {prompt}, {negative}, {json.dumps(either)})"
    name, description = html.escape(str(item["name"])), html.escape(item.get("description") or "")
    terms = html.escape(" ".join([str(item["name"]), *map(str, item.get("search_terms") or [])]).lower())
    return (
        f'<button type="button" class="card" data-terms="{terms}" onclick="{html.escape(onclick)}">'
        f'<span class="name">{name}</span><span class="description">{description}</span></button>'
    )
