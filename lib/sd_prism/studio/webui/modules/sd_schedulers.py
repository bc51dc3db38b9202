"""Noise schedules by label; the engine computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sd_prism.studio.schedules import SCHEDULES


@dataclass
class Scheduler:
    """One entry of the Schedule type menu."""

    name: str
    label: str
    function: Any
    default_rho: float = -1
    need_inner_model: bool = False
    aliases: list[str] | None = None


_RHO = {"Karras": 7.0, "Polyexponential": 1.0}
_NEED_MODEL = ("Uniform", "SGM Uniform", "Simple", "Normal", "DDIM", "Beta")
_ALIASES = {"SGM Uniform": ["SGMUniform"]}
schedulers = [
    Scheduler(
        label.lower().replace(" ", "_"),
        label,
        function,
        default_rho=_RHO.get(label, -1),
        need_inner_model=label in _NEED_MODEL,
        aliases=_ALIASES.get(label),
    )
    for label, function in SCHEDULES.items()
]
schedulers_map = {**{x.name: x for x in schedulers}, **{x.label: x for x in schedulers}}
