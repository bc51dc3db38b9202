"""A FreeU measurement as HTML: spectra as lines on a logarithmic scale, maps as squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .controls import apart

WIDTH, HEIGHT, SIDE = 300, 100, 100
NOTHING = '<p>Nothing measured yet: switch on "Measure", then generate.</p>'


def html(found: Mapping[int, Any]) -> str:
    """All stages, one below the other; `found` maps a stage to a `freeu.measure.Measured`."""
    return "".join(_stage(number, found[number]) for number in sorted(found)) or NOTHING


def _stage(number: int, one: Any) -> str:
    floor = 1e-6
    levels = [math.log10(max(value, floor)) for value in (*one.before, *one.after)]
    low, span = min(levels), max(max(levels) - min(levels), 1e-9)

    def line(values: Any, kind: str) -> str:
        step = WIDTH / max(len(values) - 1, 1)
        heights = [HEIGHT * (1 - (math.log10(max(value, floor)) - low) / span) for value in values]
        points = " ".join(f"{i * step:.1f},{y:.1f}" for i, y in enumerate(heights))
        return f'<polyline class="prism-line {kind}" points="{points}"><title>{_numbers(values)}</title></polyline>'

    curves = line(one.before, "prism-derived") + line(one.after, "")
    drawing = f'<svg class="prism-drawing" viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 8}" role="img">{curves}</svg>'
    flat = [gain for row in one.gain for gain in row]
    gain = "Backbone gain:", f"{min(flat):.2f} – {max(flat):.2f}"
    text = " · ".join(map(apart, (("Stage", str(number)), gain, ("Skip spectrum before (dashed) and after",))))
    return f"<figure><figcaption>{text}</figcaption>{drawing}{_map(one.gain)}</figure>"


def _map(gain: Any) -> str:
    flat = [value for row in gain for value in row]
    low, span = min(flat), max(max(flat) - min(flat), 1e-9)
    size = SIDE / max(len(gain), len(gain[0]))
    squares = "".join(
        f'<rect x="{column * size:.1f}" y="{row * size:.1f}" width="{size:.1f}" height="{size:.1f}" '
        f'fill-opacity="{(value - low) / span:.2f}"/>'
        for row, values in enumerate(gain)
        for column, value in enumerate(values)
    )
    return f'<svg class="prism-drawing prism-map" viewBox="0 0 {SIDE} {SIDE}" role="img">{squares}</svg>'


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
