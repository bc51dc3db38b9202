"""One sampler object per pass: it makes the noise levels, calls the engine's function and reports progress."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from sd_prism.studio import samplers as engine
from sd_prism.studio import sampling, schedules

from modules import rng, sd_samplers_common, shared
from modules.script_callbacks import ExtraNoiseParams, extra_noise_callback
from modules.sd_samplers_cfg_denoiser import CFGDenoiser

CHURN = {"s_churn": "Sigma churn", "s_tmin": "Sigma tmin", "s_tmax": "Sigma tmax", "s_noise": "Sigma noise"}


class CFGDenoiserKDiffusion(CFGDenoiser):
    """The denoiser that all samplers of the studio see."""


class KDiffusionSampler:
    """Sampler `name` for one pass of one batch."""

    config: sd_samplers_common.SamplerData

    def __init__(self, method: engine.Sampler) -> None:
        self.method = method
        self.func, self.funcname = method.function, method.function.__name__
        self.model_wrap_cfg = CFGDenoiserKDiffusion(self)
        self.model_wrap_cfg.mask_before_denoising = method.own_timesteps
        self.sampler_extra_args: dict[str, Any] = {}
        self.last_latent: torch.Tensor | None = None
        self.stop_at: int | None = None
        self.conditioning_key = "crossattn"
        self.p: Any = None
        self.eta: float | None = None

    @property
    def model_wrap(self) -> Any:
        """The model in k-diffusion's form."""
        return self.model_wrap_cfg.inner_model

    def get_sigmas(self, p: Any, steps: int) -> torch.Tensor:
        """(steps + 1,) noise levels, falling to 0; the schedule's name goes into the infotext."""
        if p.sampler_noise_scheduler_override:
            return self.method.kept(p.sampler_noise_scheduler_override(steps + self.method.skips_level))
        if steps == 0:  # the hires pass at denoising strength 0
            return torch.zeros(1)
        name = (p.hr_scheduler if p.is_hr_pass else p.scheduler) or schedules.AUTOMATIC
        if not self.method.own_timesteps:
            self._note_schedule(p, self.method.default_schedule if name == schedules.AUTOMATIC else name, name)
        return self.method.sigmas(name, steps, self.model_wrap)

    def _note_schedule(self, p: Any, label: str, chosen: str) -> None:
        if chosen == schedules.AUTOMATIC and label == "Uniform":
            return  # the sampler's own levels, which have no name
        if not p.is_hr_pass:
            p.extra_generation_params["Schedule type"] = label
        elif label != p.extra_generation_params.get("Schedule type"):
            p.extra_generation_params["Hires schedule type"] = label

    def callback_state(self, d: dict) -> None:
        """After each step of the sampler."""
        if self.stop_at is not None and d["i"] > self.stop_at:
            raise sd_samplers_common.InterruptedException
        shared.state.step(d["i"])

    def launch_sampling(self, steps: int, func: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run; an interrupted run gives what the prompt alone made of the last step."""
        self.model_wrap_cfg.steps = steps
        self.model_wrap_cfg.total_steps = self.config.total_steps(steps)
        shared.state.sampling_steps, shared.state.sampling_step = steps, 0
        try:
            return func()
        except sd_samplers_common.InterruptedException:
            assert self.last_latent is not None
            return self.last_latent

    def initialize(self, p: Any, x: torch.Tensor, sigmas: torch.Tensor) -> dict[str, Any]:
        """The extra arguments of the engine's function, and what they add to the infotext; `sigmas` is whole."""
        self.p = self.model_wrap_cfg.p = p
        self.model_wrap_cfg.step = 0
        self.model_wrap_cfg.mask, self.model_wrap_cfg.nmask = getattr(p, "mask", None), getattr(p, "nmask", None)
        accepted = inspect.signature(self.func).parameters
        extra: dict[str, Any] = {}
        if "noise_sampler" in accepted:
            extra["noise_sampler"] = self._noise_sampler(p, x, sigmas)
        if "eta" in accepted:
            default = accepted["eta"].default
            name = "eta_ddim" if self.method.own_timesteps else "eta_ancestral"
            self.eta = extra["eta"] = p.eta if p.eta is not None else getattr(shared.opts, name)
            if self.eta != default:
                p.extra_generation_params["Eta DDIM" if self.method.own_timesteps else "Eta"] = self.eta
        if self.method.solver_type:
            extra["solver_type"] = self.method.solver_type
        return extra | self._churn(p, accepted)

    def _churn(self, p: Any, accepted: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
        """The job's own values; a setting that is not at its default wins, and it alone is in the infotext."""
        extra = {}
        for field, key in CHURN.items():
            # As in the host, Euler a does not take s_noise.
            if field not in accepted or self.func is engine.sample_euler_ancestral:
                continue
            extra[field] = getattr(p, field)
            setting = getattr(shared.opts, field) or (math.inf if field == "s_tmax" else 0.0)
            if setting != accepted[field].default:
                extra[field] = p.extra_generation_params[key] = setting
                setattr(p, field, setting)
        return extra

    def _noise_sampler(self, p: Any, x: torch.Tensor, sigmas: torch.Tensor) -> Any:
        if self.method.brownian:
            return sampling.brownian_noise(x, sigmas, p.seeds[: len(x)], rng.create_generator)
        return lambda sigma, sigma_next: p.rng.next().to(x)

    def _sample(
        self,
        p: Any,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        steps: int,
        conds: tuple,
        whole: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run on `sigmas`, a part of the `whole` schedule in image-to-image."""
        extra = self.initialize(p, x, sigmas if whole is None else whole)
        self.sampler_extra_args = {
            "cond": conds[0],
            "uncond": conds[1],
            "image_cond": conds[2],
            "cond_scale": p.cfg_scale,
            "s_min_uncond": p.s_min_uncond or 0.0,
        }

        def run() -> torch.Tensor:
            return self.func(
                self.model_wrap_cfg,
                x,
                sigmas,
                extra_args=self.sampler_extra_args,
                callback=self.callback_state,
                **extra,
            )

        return self.launch_sampling(steps, run)

    def sample(
        self,
        p: Any,
        x: torch.Tensor,
        conditioning: Any,
        unconditional_conditioning: Any,
        steps: int | None = None,
        image_conditioning: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Text-to-image: x is unit noise (N,C,H,W)."""
        steps = steps or p.steps
        sigmas = self.get_sigmas(p, steps).to(x)
        start = self.last_latent = self.method.begin(x, sigmas)
        return self._sample(p, start, sigmas, steps, (conditioning, unconditional_conditioning, image_conditioning))

    def sample_img2img(
        self,
        p: Any,
        x: torch.Tensor,
        noise: torch.Tensor,
        conditioning: Any,
        unconditional_conditioning: Any,
        steps: int | None = None,
        image_conditioning: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Image-to-image: x is the latent to start from, noise is unit noise (N,C,H,W)."""
        steps, t_enc = sd_samplers_common.setup_img2img_steps(p, steps)
        sigmas = self.get_sigmas(p, steps).to(x)
        start, rest = self.method.remaining(sigmas, t_enc)
        scale = self.method.scale(start)
        add_noise = getattr(shared.sd_model, "add_noise_to_latent", None)
        xi = (add_noise(x, noise, start) if add_noise else x + noise * start) * scale
        if shared.opts.img2img_extra_noise > 0:
            p.extra_generation_params["Extra noise"] = shared.opts.img2img_extra_noise
            params = ExtraNoiseParams(noise, x, xi)
            extra_noise_callback(params)
            xi += params.noise * shared.opts.img2img_extra_noise * scale
        self.model_wrap_cfg.init_latent = self.last_latent = x
        conds = (conditioning, unconditional_conditioning, image_conditioning)
        return self._sample(p, xi / self.method.scale(rest[0]), rest, t_enc + 1, conds, sigmas)


def _data(method: engine.Sampler) -> sd_samplers_common.SamplerData:
    told = {
        "scheduler": "" if method.default_schedule == "Uniform" else method.default_schedule.lower(),
        "discard_next_to_last_sigma": method.skips_level,
        "uses_ensd": method.uses_ensd,
        "second_order": method.second_order,
        "brownian_noise": method.brownian,
        "solver_type": method.solver_type,
    }
    options = {key: value for key, value in told.items() if value}
    return sd_samplers_common.SamplerData(
        method.name, lambda model: KDiffusionSampler(method), list(method.aliases), options
    )


samplers_data_k_diffusion = [_data(method) for method in engine.SAMPLERS.values()]
