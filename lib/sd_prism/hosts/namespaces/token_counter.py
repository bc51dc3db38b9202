"""The host's token counter counts what will be encoded: prompts as the page's panel would have them rendered.

A host does not say for which tab it counts, so the panel that was moved last stands for both.
"""

from __future__ import annotations

import contextlib
from typing import Any

from modules import script_callbacks, shared

from ...errors import PrismError
from ...namespaces.render import render_pair
from . import comments, rendering


def register() -> None:
    """Once before and once after the host's own, which cuts comments out and is registered after all extensions'."""
    if not hasattr(script_callbacks, "on_before_token_counter"):
        return  # SD.Next's counter asks nobody
    script_callbacks.on_before_token_counter(before_comments)
    script_callbacks.on_before_ui(lambda: script_callbacks.on_before_token_counter(after_comments))


def before_comments(params: Any) -> None:
    with contextlib.suppress(PrismError):  # the job tells
        values = rendering.panel()
        if values["enabled"]:
            params.prompt = comments.hide(params.prompt, rendering.registry_of(rendering.resolved(values)))


def after_comments(params: Any) -> None:
    """Renders the prompt with its styles, which the host would add later."""
    values = rendering.panel()
    if not values["enabled"]:
        return
    if shared.opts.include_styles_into_token_counters:
        known = shared.prompt_styles
        add = known.apply_styles_to_prompt if params.is_positive else known.apply_negative_styles_to_prompt
        params.prompt, params.styles = add(params.prompt, params.styles), []
    params.prompt = _shown(params.prompt)
    try:
        options = rendering.options_of(rendering.resolved(values))
    except PrismError:
        return
    if params.is_positive:
        params.prompt = render_pair(params.prompt, "", options).prompt
    else:
        params.prompt = render_pair("", params.prompt, options).negative


def _shown(prompt: str) -> str:
    """With the marks of comments; others of as many tokens where the host's counter cuts comments itself (Forge)."""
    from modules import ui

    return comments.counted(prompt) if hasattr(ui, "comments") else comments.show(prompt)
