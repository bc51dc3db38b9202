"""A pasted prompt whose last line is all tags: a host takes them for generation parameters and empties the prompt."""

from __future__ import annotations

import re
from typing import Any

from ..namespaces.registry import DEFAULT_SETS, Registry
from ..namespaces.scanner import scan
from .rendering import user_files

NEGATIVE = "Negative prompt:"
PARAMETERS = "\nPrism a: 1, Prism b: 1, Prism c: 1"  # a last line of three, which is what hosts look for
KEY = re.compile(r"\w\s*[:：]")


def repair(text: str, params: dict[str, Any]) -> None:
    """Gives a prompt back what the host took for parameters, from the text: some of it is nowhere in `params`."""
    if not all_tags(text.strip().rpartition("\n")[2]) or {"Steps", "Sampler"} <= params.keys():
        return
    from modules.infotext_utils import parse_generation_parameters

    params.clear()
    params.update(parse_generation_parameters(text.strip() + PARAMETERS))
    for name in "abc":
        params.pop(f"Prism {name}", None)


def all_tags(line: str) -> bool:
    """Whether a line has tags, and nothing else that looks like `key: value`."""
    line = line.strip().removeprefix(NEGATIVE)
    tags = scan(line, Registry.of(*DEFAULT_SETS, "sote", files=user_files())).tags
    rest, end = [], 0
    for tag in tags:
        rest.append(line[end : tag.start])
        end = tag.end
    return bool(tags) and not KEY.search("".join([*rest, line[end:]]))
