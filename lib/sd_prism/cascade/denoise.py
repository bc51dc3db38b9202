"""A network of Cascade in k-diffusion's form: denoiser(x, sigma) -> what the picture is without its noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .schedule import LEVELS, Schedule, sigmas

Net = Callable[..., Tensor]


class Denoiser:
    """`denoiser(x, sigma, **conditions)` around `net(x_in, r, **conditions) -> eps`, which has no trap at sigma_max.

    Args:
        net: stage C or B; x_in (N,C,H,W) has unit variance, r (N,) is float32.
        schedule: what the noise levels are.
        dtype: of what the network gets and gives; None leaves that of x.
    """

    def __init__(self, net: Net, schedule: Schedule, dtype: torch.dtype | None = None) -> None:
        self.net, self.schedule, self.dtype = net, schedule, dtype

    @cached_property
    def sigmas(self) -> Tensor:
        """The (LEVELS,) float32 noise levels of the table, rising."""
        return self.schedule.table(LEVELS).float()

    @cached_property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def sigma_min(self) -> Tensor:
        """The smallest noise level, a 0-dim tensor."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """The largest noise level, a 0-dim tensor."""
        return self.sigmas[-1]

    def sigma_to_t(self, sigma: Any, quantize: bool | None = None) -> Any:
        """r of noise levels; `quantize` is k-diffusion's and means nothing here."""
        return self.schedule.r(sigma)

    def t_to_sigma(self, t: Any) -> Any:
        """Noise levels of times 0..1; the inverse of `sigma_to_t` at shift 1 only, as in ComfyUI."""
        return self.schedule.sigma(t)

    def get_sigmas(self, n: int | None = None) -> Tensor:
        """(n + 1,) noise levels even in r and the clean end; without n, the whole table from the top."""
        if n is None:
            return torch.cat([self.sigmas.flip(0), self.sigmas.new_zeros(1)])
        return sigmas("Uniform", n, self.schedule).to(self.sigmas)

    def eps(self, x: Tensor, sigma: Tensor, **conditions: Any) -> Tensor:
        """The noise that the network sees in x (N,C,H,W) at noise level sigma (N,) or ()."""
        x_in = x / (1 + _per_sample(sigma, x) ** 2).sqrt()
        r = self.schedule.r(sigma.expand(len(x))).float()
        return self.net(x_in.to(self.dtype or x.dtype), r, **conditions).to(x.dtype)

    def __call__(self, x: Tensor, sigma: Tensor, **conditions: Any) -> Tensor:
        """x (N,C,H,W) at noise level sigma (N,) or () without the noise that the network sees in it."""
        return x - _per_sample(sigma, x) * self.eps(x, sigma, **conditions)


def _per_sample(sigma: Tensor, x: Tensor) -> Tensor:
    """(N,) or () values shaped (N,1,1,1)."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:])).to(x.dtype)
