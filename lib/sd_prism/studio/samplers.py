"""Samplers in sigma space, by A1111's labels.

Every function is `sample_x(model, x, sigmas, *, extra_args, callback, noise_sampler, ...)`:
`model(x, sigma, **extra_args) -> denoised` with sigma (N,), `sigmas` (n+1,) falling, and the callback gets one
dict {"x", "i", "sigma", "sigma_hat", "denoised"} per step. Same steps as k-diffusion and A1111 1.10.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio import schedules
from sd_prism.studio.rng import Source, generator, randn

if TYPE_CHECKING:
    from sd_prism.studio.denoiser import Denoiser

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], None]
NoiseSampler = Callable[[Tensor, Tensor], Tensor]

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def ancestral_step(sigma: Tensor, sigma_next: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """(sigma_down, sigma_up): step down to the one, then add noise of the other."""
    if not eta:
        return sigma_next, torch.zeros_like(sigma_next)
    up = eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
    up = torch.minimum(sigma_next, up)
    return (sigma_next**2 - up**2) ** 0.5, up


def default_noise(x: Tensor) -> NoiseSampler:
    """Fresh noise from torch's global generator at every call."""
    return lambda sigma, sigma_next: torch.randn_like(x)


@contextmanager
def _drawing_from(source: Callable[[int], Source]) -> Iterator[None]:
    """Let torchsde's trees draw from generators made by `source`."""
    from torchsde._brownian import brownian_interval

    def drawn(size: Sequence[int], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
        return randn(size, source(seed)).to(device, dtype)

    before, brownian_interval._randn = brownian_interval._randn, drawn
    try:
        yield
    finally:
        brownian_interval._randn = before


def brownian_noise(
    x: Tensor, sigmas: Tensor, seeds: Sequence[int], source: Callable[[int], Source] = generator
) -> NoiseSampler:
    """Increments of one Brownian path per picture: the same noise however the run is batched or stepped.

    `sigmas` is the whole schedule (also in image-to-image). Source: k-diffusion's tree over torchsde.
    """
    try:
        from torchsde import BrownianTree
    except ImportError as error:
        raise PrismError("DPM++ SDE needs torchsde, which is not installed; run: pip install torchsde") from error

    if len(seeds) != len(x):
        raise PrismError(f"{len(seeds)} seeds for {len(x)} latents; give one seed per picture")
    low, high = sigmas[sigmas > 0].min(), sigmas.max()
    with _drawing_from(source):
        trees = [BrownianTree(low, torch.zeros_like(x[0]), high, entropy=int(seed)) for seed in seeds]

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        t0, t1 = sorted(torch.as_tensor(s).clamp(low, high) for s in (sigma, sigma_next))
        sign = 1 if sigma < sigma_next else -1
        with _drawing_from(source):
            steps = torch.stack([tree(t0, t1) for tree in trees])
        return sign * steps / (t1 - t0).abs().sqrt()

    return noise


@dataclass
class Run:
    """The loop all samplers share: the model call and the report of each step."""

    model: Model
    sigmas: Tensor
    extra_args: Mapping[str, Any]
    callback: Callback | None

    @classmethod
    def of(cls, model: Model, sigmas: Tensor, extra_args: Mapping[str, Any] | None, callback: Callback | None) -> Run:
        return cls(model, sigmas, extra_args or {}, callback)

    def steps(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(i, sigma, sigma_next) of each step."""
        for i in range(len(self.sigmas) - 1):
            yield i, self.sigmas[i], self.sigmas[i + 1]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.model(x, sigma * x.new_ones(len(x)), **self.extra_args)

    def report(self, x: Tensor, i: int, sigma_hat: Tensor, denoised: Tensor) -> None:
        if self.callback is not None:
            state = {"x": x, "i": i, "sigma": self.sigmas[i], "sigma_hat": sigma_hat, "denoised": denoised}
            self.callback(state)


@dataclass(frozen=True)
class Churn:
    """The extra noise of Karras et al. 2022, algorithm 2; nothing when s_churn is 0."""

    s_churn: float
    s_tmin: float
    s_tmax: float
    s_noise: float

    def __call__(self, x: Tensor, sigma: Tensor, steps: int, noise: NoiseSampler) -> tuple[Tensor, Tensor]:
        """(x, sigma_hat); noise is drawn even where it is not used, which keeps k-diffusion's order of draws."""
        if self.s_churn <= 0:
            return x, sigma
        eps = noise(sigma, sigma) * self.s_noise
        gamma = min(self.s_churn / steps, 2**0.5 - 1) if self.s_tmin <= sigma <= self.s_tmax else 0.0
        sigma_hat = sigma * (gamma + 1)
        return (x + eps * (sigma_hat**2 - sigma**2) ** 0.5 if gamma > 0 else x), sigma_hat


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


@torch.no_grad()
def sample_ddpm(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """DDPM (Ho et al. 2020): the mean and variance of q(x_next | x, denoised), written in sigma."""
    run, noise = Run.of(model, sigmas, extra_args, callback), noise_sampler or default_noise(x)
    for i, sigma, sigma_next in run.steps():
        denoised = run.denoise(x, sigma)
        run.report(x, i, sigma, denoised)
        shrink = (sigma_next / sigma) ** 2
        x = shrink * x + (1 - shrink) * denoised
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * sigma_next * (1 - shrink) ** 0.5
    return x


@dataclass(frozen=True)
class Sampler:
    """What the hosts know about a sampler.

    Attributes:
        name, aliases: A1111's label and its older names.
        function: one of the `sample_*` above.
        default_schedule: what "Automatic" means for it.
        second_order: counts two model calls a step.
        uses_noise: draws noise during the run.
        brownian: wants `brownian_noise` as its noise sampler.
        own_timesteps: runs on LDM's timesteps and takes no schedule (DDIM, PLMS).
        consistency: sees the model through `Denoiser.lcm()`.
    """

    name: str
    aliases: tuple[str, ...]
    function: Callable[..., Tensor]
    default_schedule: str = "Uniform"
    second_order: bool = False
    uses_noise: bool = False
    brownian: bool = False
    own_timesteps: bool = False
    consistency: bool = False

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
        return schedules.sigmas(self.default_schedule if label == schedules.AUTOMATIC else label, n, denoiser)

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
        Sampler(
            "DPM++ SDE", ("k_dpmpp_sde",), sample_dpmpp_sde, "Karras", second_order=True, uses_noise=True, brownian=True
        ),
        Sampler("Euler a", ("k_euler_a", "k_euler_ancestral"), sample_euler_ancestral, uses_noise=True),
        Sampler("Euler", ("k_euler",), sample_euler),
        Sampler("Heun", ("k_heun",), sample_heun, second_order=True),
        Sampler("DDIM", ("ddim",), sample_ddim, own_timesteps=True),
        Sampler("PLMS", ("plms",), sample_plms, own_timesteps=True),
        Sampler("LCM", ("k_lcm",), sample_lcm, uses_noise=True, consistency=True),
        Sampler("DDPM", ("ddpm",), sample_ddpm, uses_noise=True),
    )
}


def sampler(name: str) -> Sampler:
    """A sampler by its label or an alias, case ignored."""
    known = {key.casefold(): s for s in SAMPLERS.values() for key in (s.name, *s.aliases)}
    if str(name).casefold() not in known:
        raise UnknownName("sampler", name, SAMPLERS)
    return known[str(name).casefold()]
