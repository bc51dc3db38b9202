"""Hosts cut comments out of prompts, `# ...` and some `// ...` too: inside a quoted value these marks are hidden."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...namespaces.registry import Registry
from ...namespaces.scanner import scan
from ..undo import around, undo

HIDDEN = str.maketrans({"#": "\U0010f023", "/": "\U0010f02f"})  # of the last private-use plane, which no text holds
SHOWN = {ord(hidden): mark for mark, hidden in HIDDEN.items()}
COUNTED = dict.fromkeys(SHOWN, "+")
GIVEN = "prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"
STYLED = "main_prompt", "main_negative_prompt", *(f"all_{name}s" for name in GIVEN)
UNCUT = "_all_prompts_c", "_all_negative_prompts_c"  # of these, where a host writes comments into infotexts (Forge Neo)

CUTTING, SPARED = "modules.processing_scripts.comments", "namespaces comments"


def hide(text: str, registry: Registry) -> str:
    """The text with the marks of comments in quoted values as characters that no host knows."""
    if '"' not in text:
        return text
    parts, end = [], 0
    for tag in scan(text, registry).tags:
        if tag.quoted:
            parts += [text[end : tag.start], text[tag.start : tag.end].translate(HIDDEN)]
            end = tag.end
    return "".join([*parts, text[end:]])


def show(text: str) -> str:
    """What `hide` was given."""
    return text.translate(SHOWN)


def counted(text: str) -> str:
    """The text with marks that are no comment's, as many tokens long."""
    return text.translate(COUNTED)


def each_prompt(p: Any, names: Iterable[str], change: Callable[[str], str]) -> None:
    """Changes these prompts of a job, be they texts or lists of texts; lists in place."""
    for name in names:
        found = getattr(p, name, None)
        if isinstance(found, str):
            setattr(p, name, change(found))
        elif isinstance(found, list):
            found[:] = [change(text) for text in found]


def spare(registry: Registry) -> None:
    """Some hosts cut comments out elsewhere, too: as they join styles to prompts, or as they write an infotext."""
    module = sys.modules.get(CUTTING)
    if module is not None:
        undo.enter(SPARED, around(module, "strip_comments", partial(_spared, registry)))


def spare_nothing() -> None:
    undo.close(SPARED)


def _spared(registry: Registry, original: Callable[[str], str], text: str) -> str:
    return show(original(hide(text, registry)))
