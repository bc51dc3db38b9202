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
    need_inner_model: bool = True
    aliases: list[str] | None = None


schedulers = [Scheduler(label.lower().replace(" ", "_"), label, function) for label, function in SCHEDULES.items()]
schedulers_map = {**{x.name: x for x in schedulers}, **{x.label: x for x in schedulers}}
