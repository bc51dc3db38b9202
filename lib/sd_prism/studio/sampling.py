"""What all samplers share: the loop over noise levels, and where their noise comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError
from sd_prism.studio.rng import Source, generator, randn

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], None]
NoiseSampler = Callable[[Tensor, Tensor], Tensor]


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
