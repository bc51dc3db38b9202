"""The DPM family of samplers (Lu et al. 2022), as k-diffusion steps them; see `samplers` for the arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sd_prism.studio.sampling import Callback, Churn, Model, NoiseSampler, Run, ancestral_step, default_noise


@torch.no_grad()
def sample_dpmpp_2m(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022); h is a step in -log sigma."""
    run = Run.of(model, sigmas, extra_args, callback)
    old_denoised: Tensor | None = None
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        h = sigma.log() - sigma_next.log()
        d = denoised
        if old_denoised is not None and sigma_next > 0:
            r = (sigmas[i - 1].log() - sigma.log()) / h
            d = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old_denoised
        x = (sigma_next / sigma) * x - (-h).expm1() * d
        old_denoised = denoised
    return x


@torch.no_grad()
def sample_dpmpp_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 1 / 2,
) -> Tensor:
    """DPM-Solver++ (SDE), two model calls a step except the last; `brownian_noise` makes it A1111's.

    t is -log sigma; noise levels go through t and back, since a Brownian path feels even their rounding.
    """
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)

    def step(x: Tensor, t: Tensor, t_to: Tensor, d: Tensor) -> Tensor:
        sigma, sigma_to = t.neg().exp(), t_to.neg().exp()
        down, up = ancestral_step(sigma, sigma_to, eta)
        t_down = -down.log()
        x = (t_down.neg().exp() / sigma) * x - (t - t_down).expm1() * d
        return x + noise(sigma, sigma_to) * s_noise * up

    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        if sigma_next == 0:
            x = x + (x - denoised) / sigma * (sigma_next - sigma)
            continue
        t, t_next = -sigma.log(), -sigma_next.log()
        t_mid = t + (t_next - t) * r
        denoised_2 = run.denoise(step(x, t, t_mid, denoised), t_mid.neg().exp())
        fac = 1 / (2 * r)
        x = step(x, t, t_next, (1 - fac) * denoised + fac * denoised_2)
    return x


@torch.no_grad()
def sample_dpm_2(
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
    """DPM-Solver-2 (Lu et al. 2022), its second model call at the geometric middle of a step."""
    run, churn = Run.of(model, sigmas, extra_args, callback), Churn(s_churn, s_tmin, s_tmax, s_noise)
    noise = noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        x, sigma_hat = churn(x, sigma, len(sigmas) - 1, noise)
        denoised = run.denoise(x, sigma_hat)
        run.report(x, i, sigma_hat, denoised)
        x = _dpm_2_step(run, x, sigma_hat, sigma_next, denoised)
    return x


@torch.no_grad()
def sample_dpm_2_ancestral(
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
    """DPM-Solver-2 to below the next level, then noise up to it (k-diffusion)."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = _dpm_2_step(run, x, sigma, sigma_down, denoised)
        if sigma_down > 0:
            x = x + noise(sigma, sigma_next) * s_noise * sigma_up
    return x


def _dpm_2_step(run: Run, x: Tensor, sigma: Tensor, sigma_to: Tensor, denoised: Tensor) -> Tensor:
    """An Euler step to the end of the run, else a midpoint step in log sigma."""
    d = (x - denoised) / sigma
    if sigma_to > 0:
        middle = sigma.log().lerp(sigma_to.log(), 0.5).exp()
        x_2 = x + d * (middle - sigma)
        d = (x_2 - run.denoise(x_2, middle)) / middle
    return x + d * (sigma_to - sigma)


@torch.no_grad()
def sample_dpmpp_2s_ancestral(
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
    """DPM-Solver++(2S) to below the next level, then noise up to it (k-diffusion)."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        if sigma_down > 0:
            t, t_down = -sigma.log(), -sigma_down.log()
            h = t_down - t
            middle = (t + h / 2).neg().exp()
            x_2 = (middle / sigma) * x - (-h / 2).expm1() * denoised
            x = (sigma_down / sigma) * x - (-h).expm1() * run.denoise(x_2, middle)
        else:
            x = x + (x - denoised) / sigma * (sigma_down - sigma)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * s_noise * sigma_up
    return x


@torch.no_grad()
def sample_dpmpp_2m_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: str = "midpoint",
) -> Tensor:
    """DPM-Solver++(2M) for the SDE; `solver_type` is "midpoint" or "heun"."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    old: tuple[Tensor, Tensor] | None = None  # the step before: what was denoised, and its h
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        shrink = (-h - eta * h).expm1().neg()
        x = sigma_next / sigma * (-eta * h).exp() * x + shrink * denoised
        if old is not None:
            slope = (denoised - old[0]) * h / old[1]
            x = x + slope * (shrink / (-h - eta * h) + 1 if solver_type == "heun" else shrink / 2)
        x = x + _sde_noise(noise, sigma, sigma_next, h, eta, s_noise)
        old = denoised, h
    return x


@torch.no_grad()
def sample_dpmpp_3m_sde(
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
    """DPM-Solver++(3M) for the SDE: of first order in the first step, of second order in the next (k-diffusion)."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    old: list[tuple[Tensor, Tensor]] = []  # the last two steps, latest first: what was denoised, and its h
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        whole = h * (eta + 1)
        x = (-whole).exp() * x + (-whole).expm1().neg() * denoised
        if old:
            phi_2 = (-whole).expm1() / whole + 1
            slope, curve = _differences(denoised, h, old)
            x = x + phi_2 * slope - (phi_2 / whole - 0.5) * curve
        x = x + _sde_noise(noise, sigma, sigma_next, h, eta, s_noise)
        old = [(denoised, h), *old[:1]]
    return x


def _differences(denoised: Tensor, h: Tensor, old: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The first and second derivative of what was denoised, in steps of h; the second is 0 after one step."""
    first, r_0 = old[0][0], old[0][1] / h
    slope = (denoised - first) / r_0
    if len(old) == 1:
        return slope, torch.zeros_like(slope)
    r_1 = old[1][1] / h
    curve = (slope - (first - old[1][0]) / r_1) / (r_0 + r_1)
    return slope + curve * r_0, curve


def _sde_noise(
    noise: NoiseSampler, sigma: Tensor, sigma_next: Tensor, h: Tensor, eta: float, s_noise: float
) -> Tensor | float:
    """What an SDE step adds; nothing is drawn at eta 0."""
    if not eta:
        return 0.0
    return noise(sigma, sigma_next) * sigma_next * (-2 * eta * h).expm1().neg().sqrt() * s_noise
