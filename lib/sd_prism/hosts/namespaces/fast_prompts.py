"""A way around the host's schedule parser for prompts that hold no schedule, by one of the host's settings.

AUTOMATIC1111's grammar takes time with the square of a prompt's brackets, and gives the text itself where nothing is
scheduled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modules import prompt_parser, script_callbacks, shared

from .. import options
from ..undo import undo

OPTION = "prism_fast_prompts"
PARSER = "get_learned_conditioning_prompt_schedules"


def register() -> None:
    """Only where the host's parser is the slow one."""
    if hasattr(prompt_parser, "schedule_parser"):
        script_callbacks.on_ui_settings(_add_option)


def scheduled(prompt: str) -> bool:
    """Whether the host's grammar may find more than one text in a prompt."""
    return "[" in prompt and (":" in prompt or "|" in prompt)


def _add_option() -> None:
    text = "Read prompts without [a:b:0.5] and [a|b] at once (the same pictures, seconds sooner for long prompts)"
    shared.opts.add_option(OPTION, shared.OptionInfo(False, text, section=options.SECTION))
    shared.opts.onchange(OPTION, _switch, call=True)


def _switch() -> None:
    if getattr(shared.opts, OPTION):
        undo.enter(OPTION, _around())
    else:
        undo.close(OPTION)


@contextmanager
def _around() -> Iterator[None]:
    original = getattr(prompt_parser, PARSER)
    on = True

    def schedules(
        prompts: Sequence[str], base_steps: int, hires_steps: int | None = None, *old: bool, **named: bool
    ) -> list[list[list[Any]]]:
        """`old` is whether steps are counted the old way, where the host has one."""
        slow = [prompt for prompt in prompts if not on or scheduled(prompt)]
        read = dict(zip(slow, original(slow, base_steps, hires_steps, *old, **named))) if slow else {}
        steps = base_steps if hires_steps is None or any((*old, *named.values())) else hires_steps
        return [read.get(prompt, [[steps, prompt]]) for prompt in prompts]

    setattr(prompt_parser, PARSER, schedules)
    try:
        yield
    finally:
        on = False  # somebody else may hold it by now
        if getattr(prompt_parser, PARSER) is schedules:
            setattr(prompt_parser, PARSER, original)
