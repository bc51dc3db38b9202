"""One namespace: what it is called, and what its values are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Namespace:
    """One namespace.

    Attributes:
        aliases: other ways to write its name, in any language.
        type: "text", "number" or "enum".
        multi: whether a prompt may hold several of its tags.
        order, group: where dialects that sort put it.
        color: CSS colour of its chips.
        parens, brackets: "literal" where a value such as `name (series)` holds them as text.
        domain: the bare numbers, from low to high, that are values; None where a bare number is the host's weight.
        ratio: whether `16:9` is a value.
        values: the words of an enum.
        template: dialect (or "*") -> text with {v}, or {a} for the value with its article.
        anti: value -> the wrong senses that go to the negative prompt.
        bind, strength: defaults of these settings.
        lexicon: name of a CSV file with more values than those of `<name>.csv`.
    """

    name: str
    aliases: tuple[str, ...] = ()
    type: str = "text"
    multi: bool = True
    order: int = 100
    group: str = "rest"
    color: str = ""
    parens: str = "host"
    brackets: str = "host"
    domain: tuple[float, float] | None = None
    ratio: bool = False
    values: tuple[str, ...] = ()
    template: Mapping[str, str] = field(default_factory=dict, hash=False)
    anti: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    bind: float = 0.0
    strength: float = 1.0
    lexicon: str = ""

    def takes(self, number: float) -> bool:
        """Whether a bare number is one of its values."""
        return self.domain is not None and self.domain[0] <= number <= self.domain[1]
