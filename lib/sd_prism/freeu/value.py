"""The FreeU settings as a value. No torch here: a settings page and `--help` read this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import OutOfRange, UnknownName

Rule = Literal["channels", "resolution"]
RULES: tuple[str, ...] = get_args(Rule)
VERSIONS = (1, 2)
LOW, HIGH = -4.0, 10.0


@dataclass(frozen=True)
class FreeU:
    """Backbone factors b, skip factors s of the two stages; 1 leaves as is. The defaults are the authors' for SD 1.5.

    `version` 1 scales half of the backbone evenly, 2 where the features are strong; the numbers of one mean nothing to
    the other. `rule` tells the stages: `channels` by width as the authors, A1111 and Comfy do, `resolution` by the
    first two levels of the decoder as diffusers does.
    """

    b1: float = 1.5
    b2: float = 1.6
    s1: float = 0.9
    s2: float = 0.2
    version: int = 2
    rule: Rule = "channels"

    def __post_init__(self) -> None:
        for name in ("b1", "b2", "s1", "s2"):
            factor = float(getattr(self, name))
            if not LOW <= factor <= HIGH:  # NaN fails as well
                raise OutOfRange(name, factor, LOW, HIGH, "Prism FreeU")
            object.__setattr__(self, name, factor)
        if self.version not in VERSIONS:
            raise UnknownName("FreeU version", self.version, map(str, VERSIONS))
        object.__setattr__(self, "version", int(self.version))
        if self.rule not in RULES:
            raise UnknownName("FreeU stage rule", self.rule, RULES)

    @property
    def stages(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(b, s) of stage 1 and of stage 2."""
        return (self.b1, self.s1), (self.b2, self.s2)

    @property
    def identity(self) -> bool:
        """Whether nothing would change."""
        return self.b1 == self.b2 == self.s1 == self.s2 == 1

    def __str__(self) -> str:
        """One line: `v2 b 1.5/1.6 s 0.9/0.2`."""
        rule = "" if self.rule == "channels" else f" by {self.rule}"
        return f"v{self.version} b {self.b1:g}/{self.b2:g} s {self.s1:g}/{self.s2:g}{rule}"
