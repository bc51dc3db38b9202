"""Errors that finish the sentence: what is wrong, which value, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrismError(Exception):
    """An error meant for the user; its text is complete as it stands."""


class UnknownName(PrismError):
    """A name that is not in a known set, with the nearest valid one."""

    def __init__(self, kind: str, given: object, known: Iterable[str]) -> None:
        names = list(known)
        self.kind, self.given, self.known = kind, given, names
        folded = {name.casefold(): name for name in names}
        written = "" if given is None else str(given).casefold()[:200]
        near = difflib.get_close_matches(written, folded, n=1, cutoff=0.4)
        hint = f'; did you mean "{folded[near[0]]}"?' if near else "."
        shown = str(given) if len(str(given)) <= 80 else f"{str(given)[:77]}..."
        listed = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
        super().__init__(f'{kind} "{shown}" does not exist{hint} Known: {listed}')


class OutOfRange(PrismError):
    """A number outside its range, with the nearest valid one."""

    def __init__(self, field: str, given: float, low: float, high: float, where: str) -> None:
        nearest = low if given < low else high
        shown, low_, high_, near = (_number(value) for value in (given, low, high, nearest))
        super().__init__(f"{field} is {shown}; it must lie between {low_} and {high_} ({where}). Nearest: {near}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 10**20 else f"{value:g}"
