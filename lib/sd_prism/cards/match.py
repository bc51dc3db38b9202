"""Which cards fit a checkpoint, and why: its hash, its file's own words, its name, and at last its family."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from .card import Card

OWN_TITLES = ("modelspec.title", "ss_output_name")
PARENT_TITLES = ("ss_sd_model_name",)
FAMILIES = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
    "cascade": "Stable Cascade",
}
WHY = {
    "hash": "its hash is {}",
    "title": 'the file calls itself "{}"',
    "name": 'it is named "{}"',
    "parent": 'a guess: the file says it was made from "{}"',
    "family": "a guess: it is a {} model, of which nothing else is known",
}
"""Reasons in words, the best first."""
SHORT = 10  # digits of a SHA-256 that webuis show
ENDING = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf)$", re.IGNORECASE)
SHOWN_HASH = re.compile(r"\s*\[[0-9a-fA-F]{8,10}\]$")
COPY = re.compile(r"\s*\(\d+\)$")  # what browsers add to a file that is there already
# What a file's name says of its format, not of its model.
FORMAT = re.compile(r"(pruned|full|nonema|noema|emaonly|ema|fp16|fp32|bf16|fp8|half|inpainting)+$")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint as a webui knows it; all but the name may be empty.

    Attributes:
        name: its title or file name; folders, ending and a `[hash]` behind it do not matter.
        shorthash: ten digits of its SHA-256.
        oldhash: the eight digits that webuis showed before.
        metadata: the safetensors header's `__metadata__`.
        family: "sd1", "sdxl", "cascade", ...
    """

    name: str
    file: str = ""
    shorthash: str = ""
    oldhash: str = ""
    sha256: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str = ""


class Match(NamedTuple):
    """A card that fits; one that is not `sure` is an offer, never taken by itself.

    Attributes:
        by: what it was recognised by, a key of `WHY`.
        what: that hash, title, name or family.
    """

    card: Card
    by: str
    what: str
    sure: bool = True

    @property
    def why(self) -> str:
        """In words."""
        return WHY[self.by].format(self.what)


def match(loaded: Loaded, cards: Iterable[Card]) -> list[Match]:
    """The cards that fit, best first; the user's own before the built-in ones where they fit as well."""
    found = []
    for card in cards:
        reasons = (_by_hash, _by_title, _by_name, _by_parent, _by_family)
        for rank, (by, reason) in enumerate(zip(WHY, reasons)):
            if what := reason(loaded, card):
                found.append((rank, card.preset.origin == "built-in", Match(card, by, what, rank < 3)))
                break
    return [one for *_, one in sorted(found, key=lambda entry: entry[:2])]


def plain(name: str) -> str:
    """A name's letters and digits alone, small, without folders, ending, hash and words for a format."""
    squeezed = _squeezed(_bare(name))
    return FORMAT.sub("", squeezed) or squeezed


def _squeezed(text: str, kept: str = "") -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in folded if letter.isalnum() or letter in kept)


def _bare(name: str) -> str:
    """A name as the user knows it, without folders, ending and hash."""
    last = re.split(r"[\\/]", SHOWN_HASH.sub("", name.strip()).rstrip("/\\"))[-1]
    return COPY.sub("", ENDING.sub("", last))


def _by_hash(loaded: Loaded, card: Card) -> str:
    known = [one.casefold() for key in ("hashes", "sha256") for one in card.match.get(key, ())]
    told = {one.casefold() for one in (loaded.sha256, loaded.shorthash, loaded.sha256[:SHORT], loaded.oldhash) if one}
    return next((one for one in known if one in told or one[:SHORT] in told), "")[:SHORT]


def _by_title(loaded: Loaded, card: Card) -> str:
    wanted = card.match.get("metadata", {})
    for key in dict.fromkeys((*wanted, *OWN_TITLES)):
        title = str(loaded.metadata.get(key) or "")
        names = (wanted[key],) if key in wanted else _names(card)
        if _named(title, names) and _may_be(loaded, card):
            return title
    return ""


def _by_name(loaded: Loaded, card: Card) -> str:
    named = next((one for one in (loaded.file, loaded.name) if _named(one, _names(card))), "")
    return _bare(named) if named and _may_be(loaded, card) else ""


def _by_parent(loaded: Loaded, card: Card) -> str:
    titles = (str(loaded.metadata.get(key) or "") for key in PARENT_TITLES)
    found = next((one for one in titles if one and _named(one, _names(card))), "")
    return found if found and _may_be(loaded, card) else ""


def _by_family(loaded: Loaded, card: Card) -> str:
    if loaded.family and loaded.family in card.match.get("families", ()):
        return FAMILIES.get(loaded.family, loaded.family)
    return ""


def _names(card: Card) -> tuple[str, ...]:
    return card.match.get("names", ())


def _named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of these, written in whatever way, or fits one with `*`, `?` or `[...]` in it."""
    form = plain(name)
    return bool(form) and any(form == plain(one) or fnmatchcase(form, _pattern(one)) for one in patterns)


def _pattern(text: str) -> str:
    """A pattern for names in their plain form."""
    parts = re.split(r"(\[[^\]]*\])", text.casefold())
    return "".join(part if part.startswith("[") else _squeezed(part, "*?") for part in parts)


def _may_be(loaded: Loaded, card: Card) -> bool:
    """Whether the model's family, where it is known, is one of the card's."""
    return not loaded.family or not card.families or loaded.family in card.families
