"""Samplers in sigma space, by A1111's labels.

Every function is `sample_x(model, x, sigmas, *, extra_args, callback, noise_sampler, ...)`:
`model(x, sigma, **extra_args) -> denoised` with sigma (N,), `sigmas` (n+1,) falling, and the callback gets one
dict {"x", "i", "sigma", "sigma_hat", "denoised"} per step. Same steps as k-diffusion and A1111 1.10.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio import schedules
from sd_prism.studio.samplers_dpm import (
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_3m_sde,
    sample_dpmpp_sde,
)
from sd_prism.studio.sampling import Callback, Churn, Model, NoiseSampler, Run, ancestral_step, default_noise

if TYPE_CHECKING:
    from sd_prism.studio.denoiser import Denoiser

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@torch.no_grad()
def sample_euler(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler steps (Karras et al. 2022, algorithm 2)."""
    run, churn = Run.of(model, sigmas, extra_args, callback), Churn(s_churn, s_tmin, s_tmax, s_noise)
    noise = noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        x, sigma_hat = churn(x, sigma, len(sigmas) - 1, noise)
        denoised = run.denoise(x, sigma_hat)
        d = (x - denoised) / sigma_hat
        run.report(x, i, sigma_hat, denoised)
        x = x + d * (sigma_next - sigma_hat)
    return x


@torch.no_grad()
def sample_euler_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler steps to below the next level, then noise up to it (k-diffusion)."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        d = (x - denoised) / sigma
        x = x + d * (sigma_down - sigma)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * s_noise * sigma_up
    return x


@torch.no_grad()
def sample_heun(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Heun steps, two model calls each except the last (Karras et al. 2022, algorithm 2)."""
    run, churn = Run.of(model, sigmas, extra_args, callback), Churn(s_churn, s_tmin, s_tmax, s_noise)
    noise = noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        x, sigma_hat = churn(x, sigma, len(sigmas) - 1, noise)
        denoised = run.denoise(x, sigma_hat)
        d = (x - denoised) / sigma_hat
        run.report(x, i, sigma_hat, denoised)
        dt = sigma_next - sigma_hat
        if sigma_next > 0:
            x_2 = x + d * dt
            d_2 = (x_2 - run.denoise(x_2, sigma_next)) / sigma_next
            d = (d + d_2) / 2
        x = x + d * dt
    return x


@torch.no_grad()
def sample_lms(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Adams-Bashforth of up to the fourth order for uneven steps (k-diffusion)."""
    run = Run.of(model, sigmas, extra_args, callback)
    levels = [float(sigma) for sigma in sigmas]
    recent: list[Tensor] = []
    for i, sigma, _ in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        recent = [(x - denoised) / sigma, *recent[:3]]
        weights = multistep_weights(levels[max(i - 3, 0) : i + 1][::-1], levels[i + 1])
        x = x + sum((w * d for w, d in zip(weights, recent)), torch.zeros_like(x))
    return x


def multistep_weights(levels: Sequence[float], end: float) -> list[float]:
    """Integrals from levels[0] to `end` of the Lagrange polynomials through up to four levels.

    Two Gauss points are exact, as the polynomials are at most cubic.
    """
    half, middle = (end - levels[0]) / 2, (end + levels[0]) / 2
    points = (middle - half / 3**0.5, middle + half / 3**0.5)

    def lagrange(j: int, at: float) -> float:
        return math.prod((at - other) / (levels[j] - other) for k, other in enumerate(levels) if k != j)

    return [half * sum(lagrange(j, at) for at in points) for j in range(len(levels))]


@torch.no_grad()
def sample_ddim(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2020): in x/sqrt(abar) it is (ancestral) Euler on sigma = sqrt((1 - abar)/abar).

    A1111's timesteps end at 1, not at a clean picture; the result is scaled back to that timestep's own variance.
    """
    options: dict[str, Any] = {"extra_args": extra_args, "callback": callback}
    if eta:
        x = sample_euler_ancestral(model, x, sigmas, **options, noise_sampler=noise_sampler, eta=eta)
    else:
        x = sample_euler(model, x, sigmas, **options)
    return x / (1 + sigmas[-1] ** 2) ** 0.5


@torch.no_grad()
def sample_plms(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """PLMS (Liu et al. 2022) as in LDM: Adams-Bashforth on eps after a pseudo improved Euler step."""
    run = Run.of(model, sigmas, extra_args, callback)
    recent: list[Tensor] = []
    for i, sigma, sigma_next in run.steps():
        eps = (x - run.denoise(x, sigma)) / sigma
        recent = [eps, *recent[:3]]
        if i == 0 and sigma_next > 0:
            x_next = x + eps * (sigma_next - sigma)
            eps = (eps + (x_next - run.denoise(x_next, sigma_next)) / sigma_next) / 2
        else:
            eps = sum((c * e for c, e in zip(ADAMS_BASHFORTH[len(recent) - 1], recent)), torch.zeros_like(x))
        denoised = x - sigma * eps
        x = x + eps * (sigma_next - sigma)
        run.report(x, i, sigma, denoised)
    return x / (1 + sigmas[-1] ** 2) ** 0.5


@torch.no_grad()
def sample_lcm(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Multistep consistency sampling (Luo et al. 2023): denoise fully, noise again; wants an `LCMDenoiser`."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        x = denoised
        if sigma_next > 0:
            x = x + sigma_next * noise(sigma, sigma_next)
    return x


@dataclass(frozen=True)
class Sampler:
    """What the hosts know about a sampler.

    Attributes:
        name, aliases: A1111's label and its older names.
        function: one of the `sample_*` above.
        default_schedule: what "Automatic" means for it.
        second_order: counts two model calls a step.
        skips_level: makes a schedule of one step more and leaves the last level above 0 out.
        uses_ensd: its noise follows the seed delta of the settings (ENSD).
        brownian: wants `brownian_noise` as its noise sampler.
        solver_type: given to the function, if not empty.
        own_timesteps: runs on LDM's timesteps and takes no schedule (DDIM, PLMS).
        consistency: sees the model through `Denoiser.lcm()`.
    """

    name: str
    aliases: tuple[str, ...]
    function: Callable[..., Tensor]
    default_schedule: str = "Uniform"
    second_order: bool = False
    skips_level: bool = False
    uses_ensd: bool = False
    brownian: bool = False
    solver_type: str = ""
    own_timesteps: bool = False
    consistency: bool = False

    @property
    def on_timesteps(self) -> bool:
        """Whether it is at home on the timesteps that models were trained with, not on any noise level."""
        return self.own_timesteps or self.consistency

    def wrap(self, denoiser: Denoiser) -> Denoiser:
        """The model as this sampler has to see it."""
        return denoiser.lcm() if self.consistency else denoiser

    def total_steps(self, steps: int) -> int:
        """Model evaluations that a host announces for `steps`."""
        return steps * 2 if self.second_order else steps

    def sigmas(self, schedule: str, n: int, denoiser: Denoiser) -> Tensor:
        """The noise levels of an n-step run; `denoiser` is what `wrap` gave."""
        label = schedules.schedule(schedule or schedules.AUTOMATIC)
        if self.own_timesteps:
            return schedules.ddim_sigmas(n, denoiser)
        if n < 1:
            raise PrismError(f"steps is {n}; a schedule needs at least 1")
        label = self.default_schedule if label == schedules.AUTOMATIC else label
        return self.kept(schedules.sigmas(label, n + self.skips_level, denoiser))

    def kept(self, sigmas: Tensor) -> Tensor:
        """The levels of a schedule that it steps through."""
        return torch.cat([sigmas[:-2], sigmas[-1:]]) if self.skips_level else sigmas

    def begin(self, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Where text-to-image starts: unit noise (N,C,H,W) brought to the first level."""
        return noise * (1 + sigmas[0] ** 2) ** 0.5 if self.own_timesteps else noise * sigmas[0]

    def remaining(self, sigmas: Tensor, t_enc: int) -> tuple[Tensor, Tensor]:
        """(the level that image-to-image noises the picture to, the rest of the schedule after t_enc + 1 steps' cut).

        DDIM and PLMS noise to timestep t_enc and go on as if it were at the one before, as A1111 does.
        """
        if not self.own_timesteps:
            rest = sigmas[max(len(sigmas) - 2 - t_enc, 0) :]
            return rest[0], rest
        rising = sigmas.flip(0)
        start = rising[min(t_enc, len(rising) - 1)]
        return start, rising[:t_enc].flip(0) if t_enc else start.unsqueeze(0)

    def scale(self, sigma: Tensor) -> Tensor:
        """What a latent at this level is multiplied with in the sampler's own space: LDM's has unit variance."""
        return (1 + sigma**2) ** -0.5 if self.own_timesteps else torch.ones_like(sigma)


SAMPLERS: dict[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("DPM++ 2M", ("k_dpmpp_2m",), sample_dpmpp_2m, "Karras"),
        Sampler("DPM++ SDE", ("k_dpmpp_sde",), sample_dpmpp_sde, "Karras", second_order=True, brownian=True),
        Sampler("DPM++ 2M SDE", ("k_dpmpp_2m_sde",), sample_dpmpp_2m_sde, "Exponential", brownian=True),
        Sampler(
            "DPM++ 2M SDE Heun",
            ("k_dpmpp_2m_sde_heun",),
            sample_dpmpp_2m_sde,
            "Exponential",
            brownian=True,
            solver_type="heun",
        ),
        Sampler(
            "DPM++ 2S a", ("k_dpmpp_2s_a",), sample_dpmpp_2s_ancestral, "Karras", uses_ensd=True, second_order=True
        ),
        Sampler(
            "DPM++ 3M SDE", ("k_dpmpp_3m_sde",), sample_dpmpp_3m_sde, "Exponential", skips_level=True, brownian=True
        ),
        Sampler("Euler a", ("k_euler_a", "k_euler_ancestral"), sample_euler_ancestral, uses_ensd=True),
        Sampler("Euler", ("k_euler",), sample_euler),
        Sampler("LMS", ("k_lms",), sample_lms),
        Sampler("Heun", ("k_heun",), sample_heun, second_order=True),
        Sampler("DPM2", ("k_dpm_2",), sample_dpm_2, "Karras", skips_level=True, second_order=True),
        Sampler(
            "DPM2 a",
            ("k_dpm_2_a",),
            sample_dpm_2_ancestral,
            "Karras",
            skips_level=True,
            uses_ensd=True,
            second_order=True,
        ),
        Sampler("DDIM", ("ddim",), sample_ddim, own_timesteps=True),
        Sampler("PLMS", ("plms",), sample_plms, own_timesteps=True),
        Sampler("LCM", ("k_lcm",), sample_lcm, consistency=True),
    )
}


def sampler(name: str) -> Sampler:
    """A sampler by its label or an alias, case ignored."""
    known = {key.casefold(): s for s in SAMPLERS.values() for key in (s.name, *s.aliases)}
    if str(name).casefold() not in known:
        raise UnknownName("sampler", name, SAMPLERS)
    return known[str(name).casefold()]
