"""Stage C as a host's samplers call it: those of k-diffusion by noise level, the others by index into a table."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...cascade.denoise import Denoiser
from ...cascade.schedule import Schedule


class CascadeDenoiser(Denoiser):
    """What the host's k-diffusion samplers and its schedules know of a model.

    Attributes:
        inner_model: the host's model, whose `predict(x, r, cond)` is asked.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model.predict, model.schedule)
        self.inner_model = model

    def t_to_sigma(self, t: Any) -> Any:
        """See `level`."""
        return level(self.schedule, t)


def level(schedule: Schedule, t: Any) -> Tensor:
    """Noise levels of times 0..1, rising strictly between the times of the lowest and of the highest level.

    A shift above 1 reaches the highest level before its time, one below 1 leaves the lowest after it. Levels would be
    equal there, and steps between equal levels have no length, by which solvers of second order divide.
    """
    sigma = torch.as_tensor(schedule.sigma(t))
    if schedule.shift == 1:
        return sigma
    bound = schedule.sigma_max if schedule.shift > 1 else schedule.sigma_min
    reached, last = schedule.t(bound), schedule.r(bound)
    start = reached + (reached - last) / 2
    part = ((torch.as_tensor(t).to(sigma) - start) / (last - start)).clamp(0, 1)
    low, high = math.log(schedule.sigma(start)), math.log(bound)
    return torch.where(part > 0, (low + (high - low) * part).exp(), sigma)


def sigma_at(alphas_cumprod: Tensor, index: Tensor) -> Tensor:
    """The noise level at places 0..999 of a table, which need not be whole: UniPC asks between them."""
    index = index.to(alphas_cumprod.device).clamp(0, len(alphas_cumprod) - 1)
    below = index.floor().long()
    above = (below + 1).clamp(max=len(alphas_cumprod) - 1)
    log = alphas_cumprod.double().log()
    alpha = torch.lerp(log[below], log[above], (index - below).double()).exp()
    return ((1 - alpha) / alpha).sqrt().float()


@lru_cache(2)
def alphas_cumprod(schedule: Schedule) -> Tensor:
    """(1000,) float32, as the host keeps it with a model."""
    return schedule.alphas_cumprod(1000).float()
