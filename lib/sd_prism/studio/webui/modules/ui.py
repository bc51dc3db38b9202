"""What the page shows beside a prompt while it is being typed."""

from __future__ import annotations

from typing import Any

from sd_prism.errors import PrismError

from modules import extra_networks, prompt_parser, script_callbacks, shared
from modules.sd_hijack import model_hijack


def update_token_counter(text: str, steps: int, styles: list[str], *, is_positive: bool = True) -> str:
    """The HTML of "tokens/room" for a prompt: tags cut out, styles put in, the longest of AND parts and schedules."""
    params = script_callbacks.BeforeTokenCounterParams(text, steps, styles, is_positive=is_positive)
    script_callbacks.before_token_counter_callback(params)
    texts = _texts(params.prompt, params.steps, params.styles, params.is_positive)
    try:
        count, room = max((model_hijack.get_prompt_lengths(text) for text in texts), key=lambda lengths: lengths[0])
    except PrismError:  # half a weight is no error while it is being typed
        count, room = "-", "-"
    return f"<span class='gr-box gr-text-input'>{count}/{room}</span>"


def update_negative_prompt_token_counter(*args: Any) -> str:
    """As `update_token_counter`, for the negative prompt."""
    return update_token_counter(*args, is_positive=False)


def _texts(text: str, steps: int, styles: list[str], is_positive: bool) -> list[str]:
    """Every text that a prompt becomes in the course of a run."""
    if shared.opts.include_styles_into_token_counters:
        known = shared.prompt_styles
        text = (known.apply_styles_to_prompt if is_positive else known.apply_negative_styles_to_prompt)(text, styles)
    try:
        text, _ = extra_networks.parse_prompt(text)
        parts = prompt_parser.get_multicond_prompt_list([text])[1] if is_positive else [text]
        schedules = prompt_parser.get_learned_conditioning_prompt_schedules(parts, steps)
    except PrismError:  # nor is half a tag
        return [text]
    return [part for schedule in schedules for _, part in schedule]
