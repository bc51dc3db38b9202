"""Noise schedules by A1111's labels: which noise levels a sampling run visits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sd_prism.errors import PrismError, UnknownName

if TYPE_CHECKING:
    from sd_prism.studio.denoiser import Denoiser

AUTOMATIC = "Automatic"
MAX_TIMESTEPS = 1000


def ending_in_zero(sigmas: Tensor) -> Tensor:
    """The levels and the clean end of the run."""
    return torch.cat([sigmas.float(), sigmas.new_zeros(1, dtype=torch.float32)])


def uniform(n: int, denoiser: Denoiser) -> Tensor:
    """What the model spreads evenly itself, as in k-diffusion's own default."""
    return denoiser.get_sigmas(n)


def karras(n: int, denoiser: Denoiser, rho: float = 7.0) -> Tensor:
    """Even in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    low, high = float(denoiser.sigmas[0]) ** (1 / rho), float(denoiser.sigmas[-1]) ** (1 / rho)
    return (high + torch.linspace(0, 1, n) * (low - high)) ** rho


def exponential(n: int, denoiser: Denoiser) -> Tensor:
    """Even in log sigma."""
    return torch.linspace(math.log(float(denoiser.sigmas[-1])), math.log(float(denoiser.sigmas[0])), n).exp()


def polyexponential(n: int, denoiser: Denoiser, rho: float = 1.0) -> Tensor:
    """A power of an even ramp, in log sigma; the same as `exponential` at rho 1."""
    low, high = math.log(float(denoiser.sigmas[0])), math.log(float(denoiser.sigmas[-1]))
    return (torch.linspace(1, 0, n) ** rho * (high - low) + low).exp()


def kl_optimal(n: int, denoiser: Denoiser) -> Tensor:
    """Even in arctan sigma (Sabour et al. 2024); its n + 1 levels end at the model's lowest, not at 0."""
    low, high = (math.atan(float(sigma)) for sigma in (denoiser.sigmas[0], denoiser.sigmas[-1]))
    share = torch.arange(n + 1) / n
    return torch.tan(share * low + (1.0 - share) * high)


def sgm_uniform(n: int, denoiser: Denoiser) -> Tensor:
    """Timesteps spread evenly with the last one left out, as Stability's generative-models does."""
    start, end = (float(denoiser.sigma_to_t(s)) for s in (denoiser.sigmas[-1], denoiser.sigmas[0]))
    return denoiser.t_to_sigma(torch.linspace(start, end, n + 1)[:-1])


def simple(n: int, denoiser: Denoiser) -> Tensor:
    """Every (T/n)-th level of the model's own table, from the top."""
    stride = len(denoiser.sigmas) / n
    return torch.stack([denoiser.sigmas[-(1 + int(i * stride))] for i in range(n)])


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    AUTOMATIC: uniform,
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "Polyexponential": polyexponential,
    "SGM Uniform": sgm_uniform,
    "KL Optimal": kl_optimal,
    "Simple": simple,
}


def schedule(name: str) -> str:
    """The label of a schedule, given in any case, with or without its spaces ("sgm_uniform")."""
    known = {_folded(label): label for label in SCHEDULES}
    if _folded(name) not in known:
        raise UnknownName("schedule", name, SCHEDULES)
    return known[_folded(name)]


def sigmas(name: str, n: int, denoiser: Denoiser) -> Tensor:
    """The (n+1,) float32 noise levels of an n-step run, falling and ending in 0 ("KL Optimal": in the lowest level).

    "Automatic" alone means the model's even timesteps; `Sampler.sigmas` resolves it by sampler.
    Source: A1111 1.10.1, modules/sd_schedulers.py.
    """
    if n < 1:
        raise PrismError(f"steps is {n}; a schedule needs at least 1")
    levels = SCHEDULES[schedule(name)](n, denoiser)
    return levels if len(levels) > n else ending_in_zero(levels)


def ddim_timesteps(n: int) -> Tensor:
    """The rising int64 timesteps of A1111's DDIM and PLMS: 1, 1 + 1000//n, ...

    They are n or a few more values, and a run makes one step less than there are values; with n = 1 A1111 makes
    no step at all, here it is one step from 999 to 1.
    """
    if not 1 <= n <= MAX_TIMESTEPS:
        raise PrismError(f"steps is {n}; DDIM and PLMS take 1 to {MAX_TIMESTEPS}")
    if n == 1:
        return torch.tensor([1, MAX_TIMESTEPS - 1])
    return (torch.arange(0, MAX_TIMESTEPS, MAX_TIMESTEPS // n) + 1).clamp(0, MAX_TIMESTEPS - 1)


def ddim_sigmas(n: int, denoiser: Denoiser) -> Tensor:
    """The noise levels of `ddim_timesteps`, falling; the last one is that of timestep 1, not 0."""
    return denoiser.sigmas[ddim_timesteps(n)].flip(0).float()


def _folded(name: str) -> str:
    return "".join(str(name).split()).replace("_", "").casefold()
