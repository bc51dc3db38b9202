"""Cascade's noise schedule, a cosine in closed form, and the noise levels that a run visits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import PrismError, UnknownName

S = 0.008  # the cosine's offset (Nichol and Dhariwal 2021)
LOWEST, HIGHEST = 1e-4, 0.9999  # bounds of alpha
START = math.cos(S / (1 + S) * math.pi / 2) ** 2
SHIFT_C, SHIFT_B = 2.0, 1.0
LEVELS = 10_000  # of a table


def in_float64(formula: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    """A method of one number: a float gives a float; a tensor gives one of its shape, in float32 or wider."""

    @wraps(formula)
    def method(self: Any, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return float(formula(self, torch.tensor(float(value), dtype=torch.float64)))
        place = "cpu" if value.device.type == "mps" else value.device  # MPS has no float64
        result = formula(self, value.detach().to(place, torch.float64))
        return result.to(torch.promote_types(value.dtype, torch.float32)).to(value.device)

    return method


@dataclass(frozen=True)
class Schedule:
    """Noise levels of time t in 0..1, where 1 is noise; x = x0 + sigma * noise.

    Args:
        shift: factor of the noise levels; the models' own are `SHIFT_C` and `SHIFT_B`.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise PrismError(f"shift is {self.shift}; it must be a number above 0, such as {SHIFT_C} or {SHIFT_B}")

    @property
    def sigma_min(self) -> float:
        return math.sqrt((1 - HIGHEST) / HIGHEST)

    @property
    def sigma_max(self) -> float:
        return math.sqrt((1 - LOWEST) / LOWEST)

    @in_float64
    def sigma(self, t: Tensor) -> Tensor:
        """The noise level at t, held within the bounds after the shift."""
        alpha = torch.cos((t.clamp(0, 1) + S) / (1 + S) * math.pi / 2) ** 2 / START
        return (self.shift * ((1 - alpha) / alpha).sqrt()).clamp(self.sigma_min, self.sigma_max)

    @in_float64
    def r(self, sigma: Tensor) -> Tensor:
        """What the network is told: the time at which the schedule without shift has this noise level.

        It is also the `sigma_to_t` that ComfyUI's and A1111's schedules space their levels by.
        """
        return (1 + S) * torch.acos((START / (1 + sigma**2)).sqrt()) / (math.pi / 2) - S

    @in_float64
    def t(self, sigma: Tensor) -> Tensor:
        """The inverse of `sigma` within its bounds."""
        return self.r(sigma / self.shift)

    def table(self, n: int = LEVELS) -> Tensor:
        """(n,) float64 noise levels at t = 1/n, 2/n ... 1, rising strictly."""
        return self.apart(self.sigma(torch.arange(1, n + 1, dtype=torch.float64) / n).flip(0)).flip(0)

    def alphas_cumprod(self, n: int = 1000) -> Tensor:
        """(n,) float64 share of the picture in the variance, falling; 1 / (1 + table^2)."""
        return 1 / (1 + self.table(n) ** 2)

    def apart(self, levels: Tensor) -> Tensor:
        """Falling levels of which several lie on a bound, with these spread evenly in log towards their neighbour.

        Equal levels would be steps of no length, by which solvers of second order divide.
        """
        log, ends = levels.log().numpy(), (self.sigma_min, self.sigma_max)
        at = np.arange(len(log))
        known = (levels > ends[0] * (1 + 1e-9)) & (levels < ends[1] * (1 - 1e-9))
        known[0] = known[-1] = True
        return torch.from_numpy(np.interp(at, at[known.numpy()], log[known.numpy()])).exp()


def karras(n: int, schedule: Schedule, rho: float = 7.0) -> Tensor:
    """Even in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    return (
        torch.linspace(schedule.sigma_max ** (1 / rho), schedule.sigma_min ** (1 / rho), n, dtype=torch.float64) ** rho
    )


def exponential(n: int, schedule: Schedule) -> Tensor:
    """Even in log sigma."""
    return torch.linspace(math.log(schedule.sigma_max), math.log(schedule.sigma_min), n, dtype=torch.float64).exp()


def even(n: int, schedule: Schedule) -> Tensor:
    """Even in r, both ends included."""
    return schedule.sigma(_even_times(n, schedule))


def sgm_uniform(n: int, schedule: Schedule) -> Tensor:
    """Even in r, the last of n + 1 left out, as Stability's generative-models does."""
    return schedule.sigma(_even_times(n + 1, schedule)[:-1])


def simple(n: int, schedule: Schedule) -> Tensor:
    """Every (LEVELS/n)-th level of the table, from the top."""
    return schedule.sigma(1 - (torch.arange(n) * (LEVELS / n)).long().double() / LEVELS)


def ddim(n: int, schedule: Schedule) -> Tensor:
    """Every (LEVELS//n)-th level of the table, from the bottom."""
    index = 1 + torch.arange(n) * max(LEVELS // n, 1)
    return schedule.sigma((index.double() + 1) / LEVELS).flip(0)


def linear(n: int, schedule: Schedule) -> Tensor:
    """Even in t from 1, as the official sampler of Cascade."""
    return schedule.sigma(torch.linspace(1, 0, n + 1, dtype=torch.float64)[:-1])


def _even_times(n: int, schedule: Schedule) -> Tensor:
    return torch.linspace(schedule.r(schedule.sigma_max), schedule.r(schedule.sigma_min), n, dtype=torch.float64)


SCHEDULES: dict[str, Callable[[int, Schedule], Tensor]] = {
    "Karras": karras,
    "SGM Uniform": sgm_uniform,
    "Linear": linear,
    "Simple": simple,
    "Normal": even,
    "Uniform": even,
    "Exponential": exponential,
    "DDIM": ddim,
}


def sigmas(name: str, n: int, schedule: Schedule) -> Tensor:
    """The (n + 1,) float64 noise levels of a run of n steps, falling strictly and ending in 0.

    Raises:
        PrismError: there is no such schedule, or n is below 1.
    """
    if name not in SCHEDULES:
        raise UnknownName("schedule", name, SCHEDULES)
    if n < 1:
        raise PrismError(f"steps is {n}; a schedule needs at least 1")
    levels = schedule.apart(SCHEDULES[name](n, schedule))
    return torch.cat([levels, levels.new_zeros(1)])
