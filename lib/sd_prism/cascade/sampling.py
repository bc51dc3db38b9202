"""The samplers of the decoder, in sigma space; hosts bring their own for stage C.

A step gets x, the denoised picture and a `Step`, and gives the next x and how much noise is added to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..errors import UnknownName

Model = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]
Callback = Callable[[int], object]


@dataclass(frozen=True)
class Step:
    """From one noise level to the next; `before` and `h_before` are the last step's denoised picture and length."""

    sigma: float
    sigma_next: float
    before: Tensor | None
    h_before: float

    @property
    def h(self) -> float:
        """Its length in -log sigma."""
        return math.log(self.sigma / self.sigma_next) if self.sigma_next else math.inf


def euler(x: Tensor, denoised: Tensor, step: Step) -> tuple[Tensor, float]:
    """Euler steps (Karras et al. 2022, algorithm 2)."""
    return x + (x - denoised) / step.sigma * (step.sigma_next - step.sigma), 0.0


def euler_ancestral(x: Tensor, denoised: Tensor, step: Step) -> tuple[Tensor, float]:
    """Euler steps to below the next level, then noise up to it (k-diffusion); it is DDPM (Ho et al. 2020) as well."""
    up = step.sigma_next * math.sqrt(1 - (step.sigma_next / step.sigma) ** 2)
    down = step.sigma_next**2 / step.sigma
    return x + (x - denoised) / step.sigma * (down - step.sigma), up


def dpmpp_2m(x: Tensor, denoised: Tensor, step: Step) -> tuple[Tensor, float]:
    """DPM-Solver++(2M) (Lu et al. 2022)."""
    if not step.sigma_next:
        return denoised, 0.0
    target = denoised
    if step.before is not None:
        target = denoised + (denoised - step.before) * (step.h / step.h_before / 2)
    return step.sigma_next / step.sigma * x - math.expm1(-step.h) * target, 0.0


def dpmpp_2m_sde(x: Tensor, denoised: Tensor, step: Step) -> tuple[Tensor, float]:
    """DPM-Solver++(2M) for the SDE, by its midpoint."""
    if not step.sigma_next:
        return denoised, 0.0
    target, share = denoised, -math.expm1(-2 * step.h)
    if step.before is not None:
        target = denoised + (denoised - step.before) * (step.h / step.h_before / 2)
    return step.sigma_next / step.sigma * math.exp(-step.h) * x + share * target, step.sigma_next * math.sqrt(share)


def lcm(x: Tensor, denoised: Tensor, step: Step) -> tuple[Tensor, float]:
    """The denoised picture and fresh noise (Luo et al. 2023)."""
    return denoised, step.sigma_next


SAMPLERS: dict[str, Callable[[Tensor, Tensor, Step], tuple[Tensor, float]]] = {
    "Euler a": euler_ancestral,
    "Euler": euler,
    "DDPM": euler_ancestral,
    "DPM++ 2M": dpmpp_2m,
    "DPM++ 2M SDE": dpmpp_2m_sde,
    "LCM": lcm,
}


def sample(
    name: str, model: Model, x: Tensor, sigmas: Sequence[float], noise: Noise, callback: Callback | None = None
) -> Tensor:
    """A run from noise to a picture.

    Args:
        model: model(x, sigma) -> x without its noise.
        x: noise at sigmas[0].
        sigmas: falling strictly, the last one 0.
        noise: noise(i) is standard normal and shaped as x; i is the place in `sigmas` that it leads to, rising.
        callback: called with 0, 1, ... as soon as a step has its denoised picture; true ends the run with that one.

    Raises:
        UnknownName: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    before, h_before = None, 0.0
    for i, (sigma, sigma_next) in enumerate(pairwise(float(sigma) for sigma in sigmas)):
        denoised = model(x, sigma)
        if callback is not None and callback(i):
            return denoised
        step = Step(sigma, sigma_next, before, h_before)
        x, up = SAMPLERS[name](x, denoised, step)
        if up:
            x = x + noise(i + 1) * up
        before, h_before = denoised, step.h
    return x
