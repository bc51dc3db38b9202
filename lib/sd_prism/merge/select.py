"""Which tensors a rule is about: blocks, a piece of a tensor's name, or a piece within blocks. No torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..errors import PrismError, UnknownName
from .blocks import BASE, LABEL, VAE, Layout

WRITTEN = re.compile(r"([^/]*)(?:/([\w.*]+))?")
ALIASES = {"TE": "BASE", "MID": "M00", "MID00": "M00", "TIME": "TIME_EMBED", "LABEL": "LABEL_EMB"}
USUAL = ("BASE", *(f"IN{i:02d}" for i in range(12)), "M00", *(f"OUT{i:02d}" for i in range(12)))
KNOWN = (*USUAL, "TIME_EMBED", "LABEL_EMB", "OUT", "VAE")


@dataclass(frozen=True)
class Selector:
    """`IN04`, `IN04-OUT02`, `/attn2` or `M00/to_k*weight`: blocks from `first` to `last`, and a piece of a name.

    A piece may stand anywhere in a tensor's name; `*` is any text.
    """

    first: str = ""
    last: str = ""
    piece: str = ""

    def __post_init__(self) -> None:
        first = label(self.first) if self.first.strip() else ""
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "last", label(self.last) if self.last.strip() else first)

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Raises PrismError; the name of a block that no model has is told with the nearest one."""
        found = WRITTEN.fullmatch(text.strip())
        if found is None or not found[0]:
            raise PrismError(
                f'"{text}" selects nothing; write a block (IN04), blocks (IN04-OUT02), or /attn2 for names'
            )
        first, dash, last = found[1].partition("-")
        if dash and not (first.strip() and last.strip()):
            raise PrismError(f'"{text}" lacks a block; write IN04-OUT02')
        return cls(first, last, found[2] or "")

    def blocks(self, layout: Layout) -> tuple[str, ...]:
        """The blocks of a model that are meant; raises UnknownName for one that it lacks.

        A file may well come without text encoder or VAE: these then are no blocks.
        """
        if not self.first:
            return layout.blocks
        if self.first == self.last and self.first in (BASE, VAE) and self.first not in layout.blocks:
            return ()
        for block in (self.first, self.last):
            if block not in layout.blocks:
                raise UnknownName(f"block of {layout.title}", block, layout.blocks)
        start, stop = layout.blocks.index(self.first), layout.blocks.index(self.last)
        return layout.blocks[min(start, stop) : max(start, stop) + 1]

    def matches(self, name: str) -> bool:
        """Whether the piece stands in a tensor's name."""
        return self._pattern.search(name) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(".*".join(re.escape(part) for part in self.piece.split("*")))

    def __str__(self) -> str:
        blocks = self.first if self.first == self.last else f"{self.first}-{self.last}"
        return f"{blocks}/{self.piece}" if self.piece else blocks


def label(written: str) -> str:
    """A block's label from any case, with or without leading zeros; raises UnknownName."""
    name = written.strip().upper()
    name = ALIASES.get(name, name)
    name = re.sub(r"^(IN|OUT|M)(\d)$", r"\g<1>0\2", name)
    if not LABEL.fullmatch(name):
        raise UnknownName("block", written.strip(), KNOWN)
    return name
