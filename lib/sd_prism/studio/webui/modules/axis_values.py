"""What the value fields of an X/Y/Z plot mean: lists, ranges and numbers of steps between two ends."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from sd_prism.errors import PrismError

MOST = 10_000  # values of one range
WHOLE, BROKEN = r"[+-]?\s*\d+", r"[+-]?\s*\d+(?:\.\d*)?"


def _forms(number: str, step: str) -> tuple[re.Pattern, re.Pattern]:
    ends = rf"\s*({number})\s*-\s*({number})"
    return re.compile(rf"{ends}(?:\s*\(([+-]{step})\s*\))?\s*"), re.compile(rf"{ends}(?:\s*\[(\d+)\s*\])?\s*")


FORMS: dict[type, tuple[re.Pattern, re.Pattern]] = {
    int: _forms(WHOLE, r"\d+"),
    float: _forms(BROKEN, r"\d+(?:\.\d*)?"),
}


def list_to_csv_string(data_list: Iterable[Any]) -> str:
    """One line of comma-separated values, quoted where needed."""
    line = io.StringIO()
    csv.writer(line).writerow(data_list)
    return line.getvalue().strip()


def csv_string_to_list_strip(data_str: str) -> list[str]:
    """The values of comma-separated text; quoted ones may hold commas and line breaks."""
    return [value.strip() for value in chain.from_iterable(csv.reader(io.StringIO(data_str), skipinitialspace=True))]


def numbers(kind: type, texts: Sequence[str], where: str) -> list[Any]:
    """Whole (`int`) or broken (`float`) numbers.

    `1-5` counts by 1, `1-5 (+2)` by 2, `10-5 (-3)` down, and `1-10 [5]` gives five numbers from end to end. As in the
    host, a range of broken numbers may go past its end by less than a step.
    """
    found: list[Any] = []
    for text in map(str, texts):
        if text.strip():
            found += _range(kind, text, where) or [_number(kind, text, where)]
    return found


def _number(kind: type, text: str, where: str) -> Any:
    try:
        return kind(text.replace(" ", ""))
    except ValueError:
        name = "a whole number" if kind is int else "a number"
        raise PrismError(
            f'{where} has "{text}", which is not {name}, nor a range such as 1-5, 1-5 (+2) or 1-10 [5]'
        ) from None


def _range(kind: type, text: str, where: str) -> list[Any]:
    stepped, counted = (form.fullmatch(text) for form in FORMS[kind])
    ends = stepped or counted
    if ends is None:
        return []
    start, end = _number(kind, ends[1], where), _number(kind, ends[2], where)
    step = _number(kind, stepped[3] or "1", where) if stepped else 0
    count = (end - start) / step + 1 if step else int(counted[3]) if counted else 0
    if not 1 <= count <= MOST:
        raise PrismError(
            f'{where} has the range "{text}" of {max(0, int(count))} values; it must give 1 to {MOST}. '
            "To count down use a step such as 10-5 (-3)"
        )
    if counted and not stepped:
        return [kind(value) for value in np.linspace(start, end, int(count)).tolist()]
    return list(range(start, end + 1, step)) if kind is int else np.arange(start, end + step, step).tolist()
