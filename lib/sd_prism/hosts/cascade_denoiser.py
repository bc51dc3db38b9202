"""Stage C as a host's samplers call it: those of k-diffusion by noise level, the others by index into a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..cascade.denoise import Denoiser
from ..cascade.schedule import Schedule


class CascadeDenoiser(Denoiser):
    """What the host's k-diffusion samplers and its schedules know of a model.

    Attributes:
        inner_model: the host's model, whose `predict(x, r, cond)` is asked.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model.predict, model.schedule)
        self.inner_model = model

    def t_to_sigma(self, t: Any) -> Any:
        """Noise levels of times 0..1, rising strictly up to r(sigma_max).

        A shift above 1 reaches the highest level before that time. Levels would be equal from there on, and steps
        between equal levels have no length, by which solvers of second order divide.
        """
        sigma = torch.as_tensor(super().t_to_sigma(t))
        bound, top = self.schedule.t(self.schedule.sigma_max), self.schedule.r(self.schedule.sigma_max)
        if bound >= top:
            return sigma
        start = bound - (top - bound) / 2
        low, high = (torch.tensor(level).log() for level in (self.schedule.sigma(start), self.schedule.sigma_max))
        ramp = torch.lerp(low, high, ((torch.as_tensor(t) - start) / (top - start)).clamp(0, 1).float().cpu())
        return torch.where(sigma.cpu() > low.exp(), ramp.exp(), sigma.cpu()).to(sigma.device)


def sigma_at(alphas_cumprod: Tensor, index: Tensor) -> Tensor:
    """The noise level at places 0..999 of a table, which need not be whole: UniPC asks between them."""
    index = index.to(alphas_cumprod.device).clamp(0, len(alphas_cumprod) - 1)
    below = index.floor().long()
    above = (below + 1).clamp(max=len(alphas_cumprod) - 1)
    log = alphas_cumprod.double().log()
    alpha = torch.lerp(log[below], log[above], (index - below).double()).exp()
    return ((1 - alpha) / alpha).sqrt().float()


def alphas_cumprod(schedule: Schedule) -> Tensor:
    """(1000,) float32, as the host keeps it with a model."""
    return schedule.alphas_cumprod(1000).float()
