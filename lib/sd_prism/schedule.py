"""Strength as a curve over a sampling run: `0@0 1@0.3 0@1` reads "value at position", straight lines between.

Two points at one position are a jump; the later one holds from there on. No torch here.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass

from .errors import OutOfRange, PrismError

LOW, HIGH = 0.0, 2.0
POINT = re.compile(r"\s*([^\s@,]+)\s*(?:@\s*([^\s@,]+))?\s*,?")


@dataclass(frozen=True)
class Curve:
    """Points (position, value) with positions from 0 to 1, never falling; before the first and after the last: flat."""

    points: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    def __post_init__(self) -> None:
        if not self.points:
            raise PrismError('A curve needs a point; write values as value@position, such as "0@0, 1@0.3, 0@1"')
        last = 0.0
        for position, value in self.points:
            if not 0 <= position <= 1:
                raise OutOfRange("a curve's position", position, 0, 1, "value@position")
            if not LOW <= value <= HIGH:
                raise OutOfRange("a curve's value", value, LOW, HIGH, "value@position")
            if position < last:
                raise PrismError(f"A curve's positions must rise, but {position:g} stands after {last:g}")
            last = position

    @classmethod
    def parse(cls, text: str) -> Curve:
        """A curve from `value@position` points, divided by commas or spaces; a lone number is constant."""
        points: list[tuple[float, float]] = []
        end = 0
        while end < len(text.rstrip()):
            match = POINT.match(text, end)
            if match is None:
                raise _unreadable(text[end:], text)
            value, position = _number(match[1], text), match[2]
            if position is None and (points or text[match.end() :].strip()):
                raise PrismError(
                    f'The curve "{text}" says no position for {match[1]}; write {match[1]}@0.5, for example'
                )
            points.append((_number(position, text) if position else 0.0, value))
            end = match.end()
        return cls(tuple(points))

    @classmethod
    def window(cls, start: float = 0.0, stop: float = 1.0, smoothness: float = 0.0) -> Curve:
        """Full strength from `start` to `stop`; `smoothness` (0..1) blends in a triangle whose peak is at `start`.

        The three numbers mean what they mean in sd-webui-freeu, but positions are not rounded to whole steps.
        """
        for name, given in (("start", start), ("stop", stop), ("smoothness", smoothness)):
            if not 0 <= given <= 1:
                raise OutOfRange(name, given, 0, 1, "schedule")
        if start == stop:
            return cls(((0.0, 0.0),))
        if start > stop:
            raise PrismError(f"The schedule starts at {start:g}, after it stops at {stop:g}; exchange the two")
        rise = ((0.0, 0.0), (start, smoothness)) if start > 0 else ()
        return cls((*rise, (start, 1.0), (stop, 1.0 - smoothness), (stop, 0.0)))

    @property
    def constant(self) -> float | None:
        """The value of a flat curve, None for any other."""
        values = {value for _, value in self.points}
        return values.pop() if len(values) == 1 else None

    def __call__(self, position: float) -> float:
        """The value at `position`; positions outside 0..1 are taken as 0 or 1, and NaN as 0."""
        at = min(max(position, 0.0), 1.0) if not math.isnan(position) else 0.0
        i = bisect_right(self.points, at, key=lambda point: point[0])
        if i == 0:
            return self.points[0][1]
        if i == len(self.points):
            return self.points[-1][1]
        (left, before), (right, after) = self.points[i - 1], self.points[i]
        return before + (after - before) * (at - left) / (right - left)

    def __str__(self) -> str:
        """The form that `parse` reads, without commas."""
        if self.constant is not None:
            return short(self.constant)
        return " ".join(f"{short(value)}@{short(position)}" for position, value in self.points)


ALWAYS = Curve()


def short(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(number).removesuffix(".0")


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _unreadable(text, whole) from None
    if not math.isfinite(number):
        raise _unreadable(text, whole)
    return number


def _unreadable(part: str, whole: str) -> PrismError:
    return PrismError(
        f'"{part.strip()[:40]}" of the curve "{whole[:80]}" is no point; '
        'write value@position, such as "0@0, 1@0.3, 0@1"'
    )
