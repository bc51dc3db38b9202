"""The FreeU settings as a value. No torch here: a settings page and `--help` read this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from ..errors import OutOfRange, PrismError, UnknownName
from ..schedule import ALWAYS, Curve, short

Rule = Literal["channels", "resolution"]
Domain = Literal["steps", "sigma"]
VERSIONS = (1, 2)
LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **dict.fromkeys(("b", "s", "high"), (-4.0, 10.0)),
        **dict.fromkeys(("offset", "width", "cutoff"), (0.0, 1.0)),
        "strength": (0.0, 2.0),
    }
)
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({"rule": get_args(Rule), "domain": get_args(Domain)})
BLOCK = re.compile(r"(?:OUT)?(\d{1,3})=([^/\s]+)/([^/\s]+)", re.IGNORECASE)


class Stage(NamedTuple):
    """What happens at one concatenation: factors of the backbone, of the skip's lowest waves, of its other waves.

    `offset` and `width` say which part of the backbone's channels is scaled, `cutoff` how far the lowest waves reach.
    """

    b: float = 1.0
    s: float = 1.0
    offset: float = 0.0
    width: float = 0.5
    cutoff: float = 0.0
    high: float = 1.0

    @property
    def identity(self) -> bool:
        """Whether nothing would change."""
        return self.b == self.s == self.high == 1

    def at(self, strength: float) -> Stage:
        """The factors moved to 1 (strength 0), kept (1) or driven beyond (2)."""
        if strength == 1:
            return self
        b, s, high = (1 + strength * (factor - 1) for factor in (self.b, self.s, self.high))
        return self._replace(b=b, s=s, high=high)


@dataclass(frozen=True)
class FreeU:
    """Backbone factors b, skip factors s of the stages; 1 leaves as is. The defaults are the authors' for SD 1.5.

    Attributes:
        version: 1 scales the backbone evenly, 2 where the features are strong; the numbers of one mean nothing to the
            other.
        rule: `channels` tells stages by width as the authors, A1111 and Comfy do, `resolution` by the first levels of
            the decoder as diffusers does.
        strength: master factor on the distance of all factors from 1.
        schedule, hires_schedule: strength over the run, as a Curve or its text; without the second the first holds in
            both passes.
        domain: what the curve runs over, `steps` or `sigma` (the logarithm of the noise level).
        offset, width, cutoff, high: see `Stage`, by number of the stage.
        symmetric: also treat the diagonal waves that the authors' lopsided box leaves out.
        keep_mean: leave every skip channel's mean alone, which guards brightness and colour.
        hires_radius: let the skip's lowest waves grow with the hires pass, so that they mean the same in the picture.
        blocks: overrides of single concatenations, `OUT03=1.2/0.5` for b and s of the fourth.
        compatible: repeat the pictures of sd-webui-freeu, whose half of 1280 channels is 641 and whose schedule counts
            model calls through all passes.
    """

    b1: float = 1.5
    b2: float = 1.6
    s1: float = 0.9
    s2: float = 0.2
    version: int = 2
    rule: Rule = "channels"
    b3: float = 1.0
    s3: float = 1.0
    strength: float = 1.0
    schedule: Curve | str = ALWAYS
    hires_schedule: Curve | str | None = None
    domain: Domain = "steps"
    offset1: float = 0.0
    width1: float = 0.5
    cutoff1: float = 0.0
    high1: float = 1.0
    offset2: float = 0.0
    width2: float = 0.5
    cutoff2: float = 0.0
    high2: float = 1.0
    offset3: float = 0.0
    width3: float = 0.5
    cutoff3: float = 0.0
    high3: float = 1.0
    symmetric: bool = False
    keep_mean: bool = False
    hires_radius: bool = False
    blocks: str = ""
    compatible: bool = False

    def __post_init__(self) -> None:
        for name in NUMBERS:
            low, high = LIMITS[name.rstrip("123")]
            number = _number(name, getattr(self, name))
            if not low <= number <= high:  # NaN fails as well
                raise OutOfRange(name, number, low, high, "Prism FreeU")
            object.__setattr__(self, name, number)
        if str(self.version) not in map(str, VERSIONS):
            raise UnknownName("FreeU version", self.version, map(str, VERSIONS))
        object.__setattr__(self, "version", int(self.version))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownName(f"FreeU {name}", getattr(self, name), known)
        for name in ("schedule", "hires_schedule"):
            given = getattr(self, name)
            if not isinstance(given, Curve) and not (given is None and name == "hires_schedule"):
                object.__setattr__(self, name, Curve.parse(str(given)))
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise PrismError(f"{name} is {getattr(self, name)!r}; it must be True or False (Prism FreeU)")
        object.__setattr__(self, "blocks", _blocks_text(read_blocks(str(self.blocks or ""))))

    @classmethod
    def of(cls, values: Mapping[str, Any], steps: int = 0) -> FreeU:
        """From a panel's values, where `start`, `stop` and `smoothness` stand for an empty `schedule`.

        `steps`, those of the pass, round start and stop down to whole steps as sd-webui-freeu does, if `compatible`.
        """
        given = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        given["version"] = int(given["version"])
        given["hires_schedule"] = given["hires_schedule"] or None
        if not given["schedule"]:
            start, stop = (
                int(values[edge] * steps) / steps if given["compatible"] and steps else values[edge]
                for edge in ("start", "stop")
            )
            given["schedule"] = Curve.window(start, stop, values["smoothness"])
        return cls(**given)

    @property
    def stages(self) -> tuple[Stage, Stage, Stage]:
        """Stages 1 to 3."""
        first, second, third = (Stage(*(getattr(self, f"{name}{k}") for name in Stage._fields)) for k in "123")
        return first, second, third

    @property
    def overrides(self) -> dict[int, tuple[float, float]]:
        """(b, s) by index of the concatenation."""
        return read_blocks(self.blocks)

    def curve(self, hires: bool = False) -> Curve:
        """The strength over one pass, the master strength not yet in it."""
        chosen = self.hires_schedule if hires and self.hires_schedule is not None else self.schedule
        assert isinstance(chosen, Curve)
        return chosen

    @property
    def identity(self) -> bool:
        """Whether nothing would change in any pass."""
        neutral = all(stage.identity for stage in self.stages) and not any(
            (b, s) != (1, 1) for b, s in self.overrides.values()
        )
        return neutral or self.strength == 0 or (self.curve().constant == 0 == self.curve(hires=True).constant)

    def __str__(self) -> str:
        """One line: `v2 b 1.5/1.6 s 0.9/0.2`, then whatever else is not its default."""
        parts = [f"v{self.version} b {self.b1:g}/{self.b2:g} s {self.s1:g}/{self.s2:g}"]
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in ("version", "b1", "b2", "s1", "s2") and value != one.default:
                parts.append(f"{one.name} {value:g}" if one.name in NUMBERS else f"{one.name} {value}")
        return " ".join(parts)


NUMBERS = tuple(one.name for one in fields(FreeU) if one.name.rstrip("123") in LIMITS)
FLAGS = tuple(one.name for one in fields(FreeU) if one.default is False)


def _number(name: str, given: object) -> float:
    try:
        return float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise PrismError(f"{name} is {given!r}; it must be a number (Prism FreeU)") from None


def read_blocks(text: str) -> dict[int, tuple[float, float]]:
    """`OUT03=1.2/0.5, OUT07=1/0.9` as {3: (1.2, 0.5), 7: (1.0, 0.9)}."""
    found = {}
    for item in text.replace(",", " ").split():
        match = BLOCK.fullmatch(item)
        try:
            index, b, s = int(match[1]), float(match[2]), float(match[3])  # type: ignore[index]
        except (TypeError, ValueError):
            raise PrismError(
                f'"{item[:40]}" is no block; write its name, backbone and skip factor, such as OUT03=1.2/0.5'
            ) from None
        low, high = LIMITS["b"]
        for name, factor in (("backbone", b), ("skip", s)):
            if not low <= factor <= high:
                raise OutOfRange(f"OUT{index:02d} {name}", factor, low, high, "Prism FreeU")
        found[index] = (b, s)
    return found


def _blocks_text(blocks: Mapping[int, tuple[float, float]]) -> str:
    return " ".join(f"OUT{index:02d}={short(b)}/{short(s)}" for index, (b, s) in sorted(blocks.items()))
