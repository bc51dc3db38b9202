"""What a paste may get wrong: a prompt of tags taken for generation parameters, a picture of other namespaces."""

from __future__ import annotations

import re
from typing import Any

from ... import infotext
from ...errors import PrismError
from ...namespaces.registry import DEFAULT_SETS, Registry
from ...namespaces.scanner import scan
from ...settings import NAMESPACES
from ..webui import log
from .rendering import registry_of, user_files

NEGATIVE = "Negative prompt:"
PARAMETERS = "\nPrism a: 1, Prism b: 1, Prism c: 1"  # a last line of three, which is what hosts look for
DIGEST = re.compile(r"; registry=([0-9a-f]{8})")
SIZE = "Size"  # how hosts write their own parameter; a shipped namespace has the same name
REAL = re.compile(r"(?:^|,)\s*(?:Steps|Sampler):")


def on_paste(text: str, params: dict[str, Any]) -> None:
    """The host's callback; `params` is what it read in the text."""
    try:
        repair(text, params)
        compare(params)
    except PrismError as error:
        log.warning("%s: %s", NAMESPACES.title, error)


def repair(text: str, params: dict[str, Any]) -> None:
    """Gives a prompt back what a host empties it of where its last line has tags.

    From the text itself, because words between those tags are nowhere in `params`.
    """
    if {"Steps", "Sampler"} <= params.keys() or not is_prompt(text.strip().rpartition("\n")[2]):
        return
    params.clear()
    params.update(_read(text.strip()))


def _read(text: str) -> dict[str, Any]:
    """What the webui reads in an infotext without parameters."""
    try:
        from modules.infotext_utils import parse_generation_parameters
    except ImportError:  # SD.Next's own wants a sampler, steps or so to see where a prompt ends
        prompt, _, negative = text.partition(f"\n{NEGATIVE}")
        return {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    found: dict[str, Any] = parse_generation_parameters(text + PARAMETERS)
    for name in "abc":
        found.pop(f"Prism {name}", None)
    return found


def compare(params: dict[str, Any]) -> None:
    """Warns where the picture's namespaces are not those that its settings mean here."""
    written = params.get(NAMESPACES.title, "")
    digest = DIGEST.search(written)
    if digest and registry_of(infotext.loads(NAMESPACES, written)).digest != digest[1]:
        log.warning("%s: the pasted picture was made with other namespaces; it may differ", NAMESPACES.title)


def is_prompt(line: str) -> bool:
    """Whether a line has tags, and besides them neither steps nor a sampler."""
    line = line.strip().removeprefix(NEGATIVE)
    registry = Registry.of(*DEFAULT_SETS, "sote", files=user_files())
    tags = [tag for tag in scan(line, registry).tags if tag.written != SIZE]
    rest, end = [], 0
    for tag in tags:
        rest.append(line[end : tag.start])
        end = tag.end
    return bool(tags) and not REAL.search("".join([*rest, line[end:]]))
