"""A discrete diffusion model in k-diffusion's form: model(x, sigma) -> denoised (Karras et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError
from sd_prism.studio.header import BETA_END, BETA_START

Predict = Callable[..., Tensor]

TIMESTEPS = 1000
LCM_TIMESTEPS, LCM_TIMESTEP_SCALING, LCM_SIGMA_DATA = 50, 10.0, 0.5
ZERO_SNR_FLOOR = 4.8973451890853435e-08  # what hosts put for abar[-1] = 0, so that sigma_max stays finite


def scaled_linear_alphas(start: float = BETA_START, end: float = BETA_END, steps: int = TIMESTEPS) -> Tensor:
    """alphas_cumprod (steps,) float32 of LDM's "linear" schedule, computed in float64 as LDM does."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """alphas_cumprod rescaled so that the last step is pure noise (Lin et al. 2023, algorithm 1)."""
    root = alphas_cumprod.double().sqrt()
    rescaled = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    rescaled[-1] = ZERO_SNR_FLOOR
    return rescaled.float()


def per_image(values: Tensor, ndim: int) -> Tensor:
    """(N,) values shaped (N, 1, 1, ...) so that they scale a tensor of `ndim` dimensions."""
    return values.reshape(values.shape + (1,) * (ndim - values.ndim))


class Denoiser:
    """`denoiser(x, sigma, cond=...) -> denoised` around `predict(x_in, t, cond) -> epsilon or v`.

    Args:
        predict: the network; x_in (N,C,H,W) has unit variance, t (N,) is a float timestep from 0 to 999.
        alphas_cumprod: (T,) float32, falling.
        prediction_type: "epsilon" or "v_prediction".
    Source: k-diffusion's discrete wrappers, not quantised, as A1111 uses them.
    """

    def __init__(
        self, predict: Predict, alphas_cumprod: Tensor | None = None, prediction_type: str = "epsilon"
    ) -> None:
        if prediction_type not in ("epsilon", "v_prediction"):
            raise PrismError(f'prediction type "{prediction_type}" is not known; expected "epsilon" or "v_prediction"')
        self.predict = predict
        self.prediction_type = prediction_type
        self.alphas_cumprod = scaled_linear_alphas() if alphas_cumprod is None else alphas_cumprod
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5
        self.log_sigmas = self.sigmas.log()

    @property
    def sigma_min(self) -> Tensor:
        """The smallest noise level of the model, a 0-dim tensor."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """The largest noise level of the model, a 0-dim tensor."""
        return self.sigmas[-1]

    def sigma_to_t(self, sigma: Tensor) -> Tensor:
        """Float timesteps of noise levels of any shape, interpolated in log sigma, held within 0..T-1."""
        log_sigma = sigma.clamp_min(torch.finfo(torch.float32).tiny).log().flatten()
        log_sigmas = self.log_sigmas.to(sigma.device)
        low = (torch.searchsorted(log_sigmas, log_sigma, right=True) - 1).clamp(0, len(log_sigmas) - 2)
        w = (log_sigmas[low] - log_sigma) / (log_sigmas[low] - log_sigmas[low + 1])
        w = w.clamp(0, 1)
        return ((1 - w) * low + w * (low + 1)).view(sigma.shape)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """Noise levels of float timesteps 0..T-1, interpolated in log sigma."""
        t = t.float()
        log_sigmas = self.log_sigmas.to(t.device)
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * log_sigmas[low] + w * log_sigmas[high]).exp()

    def get_sigmas(self, n: int) -> Tensor:
        """(n+1,) noise levels at timesteps spread evenly from the last to the first, and 0."""
        return self._with_zero(torch.linspace(len(self.sigmas) - 1, 0, n))

    def _with_zero(self, t: Tensor) -> Tensor:
        return torch.cat([self.t_to_sigma(t), self.sigmas.new_zeros(1)])

    def epsilon(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """The noise that the network sees in x, whichever of epsilon or v it predicts; sigma is (N,)."""
        s = per_image(sigma, x.ndim)
        c_in = 1 / (s**2 + 1) ** 0.5
        output = self.predict(x * c_in, self.sigma_to_t(sigma), **extra)
        return output if self.prediction_type == "epsilon" else c_in * output + s * c_in**2 * x

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """The denoised latent; x (N,C,H,W) at noise level sigma (N,)."""
        s = per_image(sigma, x.ndim)
        c_in = 1 / (s**2 + 1) ** 0.5
        output = self.predict(x * c_in, self.sigma_to_t(sigma), **extra)
        return x - s * output if self.prediction_type == "epsilon" else c_in**2 * x - s * c_in * output

    def lcm(self) -> LCMDenoiser:
        """The same network as A1111's LCM sampler sees it."""
        return LCMDenoiser(self.predict, self.alphas_cumprod, self.prediction_type)


class LCMDenoiser(Denoiser):
    """A latent consistency model (Luo et al. 2023) on its 50 training timesteps, with the boundary scalings."""

    def __init__(
        self, predict: Predict, alphas_cumprod: Tensor | None = None, prediction_type: str = "epsilon"
    ) -> None:
        full = scaled_linear_alphas() if alphas_cumprod is None else alphas_cumprod
        self.stride = len(full) // LCM_TIMESTEPS
        super().__init__(predict, full[self.stride - 1 :: self.stride], prediction_type)

    def sigma_to_t(self, sigma: Tensor) -> Tensor:
        """The nearest of the 50 timesteps 19, 39 ... 999."""
        nearest = (sigma.log().flatten() - self.log_sigmas.to(sigma.device)[:, None]).abs().argmin(0)
        return nearest.view(sigma.shape) * self.stride + (self.stride - 1)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """Noise levels of timesteps 19..999."""
        index = (t - (self.stride - 1)) / self.stride
        return super().t_to_sigma(index.float().clamp(0, len(self.sigmas) - 1))

    def get_sigmas(self, n: int) -> Tensor:
        """(n+1,) noise levels at timesteps spread evenly from 999 to 19, and 0."""
        start, end = (float(self.sigma_to_t(s)) for s in (self.sigma_max, self.sigma_min))
        return self._with_zero(torch.linspace(start, end, n))

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """c_out * (x - sigma eps) + c_skip * x, the consistency function."""
        s = per_image(sigma, x.ndim)
        t = per_image(self.sigma_to_t(sigma), x.ndim) * LCM_TIMESTEP_SCALING
        c_skip = LCM_SIGMA_DATA**2 / (t**2 + LCM_SIGMA_DATA**2)
        c_out = t / (t**2 + LCM_SIGMA_DATA**2) ** 0.5
        return c_out * (x - s * self.epsilon(x, sigma, **extra)) + c_skip * x
