"""Errors that finish the sentence: what is wrong, which value, what was expected, what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class PrismError(Exception):
    """An error meant for the user; its text is complete as it stands."""


class UnknownName(PrismError):
    """A name that is not in a known set, with the nearest valid one; of a large set the `most` nearest are told."""

    def __init__(self, kind: str, given: object, known: Iterable[str], most: int = 40) -> None:
        names = list(known)
        self.kind, self.given, self.known = kind, given, names
        written = "" if given is None else str(given).casefold()[:200]
        near = _nearest(written, names)
        hint = f'; did you mean "{near[0]}"?' if near else "."
        shown = str(given) if len(str(given)) <= 80 else f"{str(given)[:77]}..."
        listed = ", ".join(names if len(names) <= most else [*near, *(one for one in names if one not in near)][:most])
        more = f", and {len(names) - most} more" if len(names) > most else ""
        super().__init__(f'{kind} "{shown}" does not exist{hint} Known: {listed}{more}')


def _nearest(written: str, names: list[str]) -> list[str]:
    """Names that are written much alike, then those of which the one stands in the other."""
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(written, folded, n=5, cutoff=0.6)
    within = [name for name in folded if min(len(written), len(name)) > 2 and (written in name or name in written)]
    return [folded[name] for name in dict.fromkeys((*near, *sorted(within, key=len)))]


def decimal(text: str) -> str:
    """How a number such as "0,5" or "50%" is to be written, as the end of a sentence; empty for any other text."""
    found = re.fullmatch(r"\s*([+-]?\d*)[,.]?(\d*)\s*(%?)\s*", text)
    if found is None or not (found[1] + found[2]).strip("+-") or not ("," in text or found[3]):
        return ""
    number = float(f"{found[1] or 0}.{found[2] or 0}")
    return f"; write {number / 100 if found[3] else number:g}"


class OutOfRange(PrismError):
    """A number outside its range, with the nearest valid one."""

    def __init__(self, field: str, given: float, low: float, high: float, where: str) -> None:
        nearest = low if given < low else high
        shown, low_, high_, near = (_number(value) for value in (given, low, high, nearest))
        super().__init__(f"{field} is {shown}; it must lie between {low_} and {high_} ({where}). Nearest: {near}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 10**20 else f"{value:g}"
