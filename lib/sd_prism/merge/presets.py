"""The block presets of merge-block-weighted-gui (bbc-mc and contributors, December 2022) as functions. No torch here.

A preset runs over IN00.., M00, OUT00.. from first to last; t is 0 at the first block and 1 at the last, so that one
formula serves any number of blocks. Windows count blocks instead: as published for 25 (SD 1 and 2) and 19 (SDXL), as
the nearest of the 25 for any other number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Curve = Callable[[float], float]
Spans = tuple[tuple[int, int, float], ...]  # first block, last block, weight
SD, SDXL = 25, 19  # blocks of a UNet without those of its own


@dataclass(frozen=True)
class Preset:
    """Weights of all blocks under a name; `base` is the text encoder's.

    Attributes:
        curve: the weight at t.
        spans: windows in their place, for 25 and for 19 blocks.
    """

    name: str
    curve: Curve | None = None
    spans: Mapping[int, Spans] | None = None
    base: float = 0.0

    def weights(self, count: int) -> tuple[float, ...]:
        """The weights of `count` blocks, first to last."""
        if self.spans is None:
            assert self.curve is not None
            return tuple(self.curve(i / max(count - 1, 1)) for i in range(count))
        if count in self.spans:
            return _filled(self.spans[count], count)
        model = _filled(self.spans[SD], SD)
        return tuple(model[round(i / max(count - 1, 1) * (SD - 1))] for i in range(count))


def _filled(spans: Spans, count: int) -> tuple[float, ...]:
    weights = [0.0] * count
    for first, last, weight in spans:
        weights[first : last + 1] = [weight] * (last + 1 - first)
    return tuple(weights)


def _step(t: float) -> float:
    return t * t * (3 - 2 * t)


def _zigzag(x: float) -> float:
    """Up from 0 to 1, down to 0, up again, one unit each."""
    return 1 - abs(x % 2 - 1)


def _fake_hermite(t: float) -> float:
    return ((38 * t - 57) * t + 25) * t / 6


def _true_hermite(t: float) -> float:
    return (((154 * t - 231) * t + 100) * t + 1) / 24 if t else 0.0


def _pair(name: str, opposite: str, curve: Curve) -> tuple[Preset, Preset]:
    """A curve and its complement."""
    return Preset(name, curve), Preset(opposite, lambda t: 1 - curve(t))


def _ends(count: int) -> Mapping[int, Spans]:
    return {n: ((0, count - 1, 1.0), (n - count, n - 1, 1.0)) for n in (SD, SDXL)}


def _rings(*rings: tuple[int, int, float]) -> Mapping[int, Spans]:
    """The same at 19 blocks, which lack three in each half."""
    return {SD: rings, SDXL: tuple((first - 3, last - 3, weight) for first, last, weight in rings)}


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            *_pair("GRAD_V", "GRAD_A", lambda t: abs(1 - 2 * t)),
            Preset("FLAT_25", lambda t: 0.25),
            Preset("FLAT_75", lambda t: 0.75),
            Preset("WRAP08", spans=_ends(4)),
            Preset("WRAP12", spans=_ends(6)),
            Preset("WRAP14", spans=_ends(7)),
            Preset("WRAP16", spans=_ends(8)),
            Preset("MID12_50", spans={SD: ((5, 18, 0.5),), SDXL: ((3, 15, 0.5),)}),
            Preset("OUT07", spans={SD: ((18, 24, 1.0),), SDXL: ((12, 18, 1.0),)}),
            Preset("OUT12", spans={SD: ((13, 24, 1.0),), SDXL: ((10, 18, 1.0),)}),
            Preset("OUT12_5", spans={SD: ((12, 12, 0.5), (13, 24, 1.0)), SDXL: ((9, 9, 0.5), (10, 18, 1.0))}),
            Preset("RING08_SOFT", spans=_rings((5, 9, 0.5), (6, 8, 1.0), (15, 19, 0.5), (16, 18, 1.0))),
            Preset("RING08_5", spans=_rings((6, 9, 1.0), (15, 18, 1.0))),
            Preset("RING10_5", spans=_rings((5, 9, 1.0), (15, 19, 1.0))),
            Preset("RING10_3", spans=_rings((6, 10, 1.0), (14, 18, 1.0))),
            *_pair("SMOOTHSTEP", "REVERSE-SMOOTHSTEP", _step),
            *_pair("SMOOTHSTEP*2", "R_SMOOTHSTEP*2", lambda t: _zigzag(2 * _step(t))),
            *_pair("SMOOTHSTEP*3", "R_SMOOTHSTEP*3", lambda t: _zigzag(3 * _step(t))),
            *_pair("SMOOTHSTEP*4", "R_SMOOTHSTEP*4", lambda t: _zigzag(4 * _step(t))),
            *_pair("SMOOTHSTEP/2", "R_SMOOTHSTEP/2", lambda t: _step(_zigzag(2 * t))),
            *_pair("SMOOTHSTEP/3", "R_SMOOTHSTEP/3", lambda t: _step(_zigzag(3 * t))),
            *_pair("SMOOTHSTEP/4", "R_SMOOTHSTEP/4", lambda t: _step(_zigzag(4 * t))),
            *_pair("COSINE", "REVERSE_COSINE", lambda t: (1 + math.cos(math.pi * t)) / 2),
            *_pair("FAKE_CUBIC_HERMITE", "FAKE_REVERSE_CUBIC_HERMITE", _fake_hermite),
            *_pair("TRUE_CUBIC_HERMITE", "TRUE_REVERSE_CUBIC_HERMITE", _true_hermite),
            Preset("ALL_A", lambda t: 0.0),
            Preset("ALL_B", lambda t: 1.0, base=1.0),
        )
    }
)

# meh's and SD.Next's spellings; those of runtime-block-merge, supermerger and model-mixer are the names above.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "REVERSE_SMOOTHSTEP": "REVERSE-SMOOTHSTEP",
        "CUBIC_HERMITE": "FAKE_CUBIC_HERMITE",
        "REVERSE_CUBIC_HERMITE": "FAKE_REVERSE_CUBIC_HERMITE",
        "OUT09": "OUT12",
        "OUT09_5": "OUT12_5",
        **{f"{n}{r}SMOOTHSTEP": f"{r}SMOOTHSTEP*{n}" for n in (2, 3, 4) for r in ("", "R_")},
        **{
            f"{part}_{r}SMOOTHSTEP": f"{r}SMOOTHSTEP/{n}"
            for n, part in ((2, "HALF"), (3, "ONE_THIRD"), (4, "ONE_FOURTH"))
            for r in ("", "R_")
        },
    }
)


def find(written: str) -> str | None:
    """The classic name of a preset in any known spelling and case, None for any other text."""
    name = written.strip().upper()
    name = ALIASES.get(name, name)
    return name if name in PRESETS else None
