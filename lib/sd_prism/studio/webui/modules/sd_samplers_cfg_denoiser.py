"""Classifier-free guidance around the model, with the callbacks of the cfg_denoiser family."""

from __future__ import annotations

from typing import Any

import torch
from sd_prism.studio.denoiser import Denoiser

from modules import prompt_parser, sd_samplers_common, shared
from modules.script_callbacks import (
    AfterCFGCallbackParams,
    CFGDenoisedParams,
    CFGDenoiserParams,
    cfg_after_cfg_callback,
    cfg_denoised_callback,
    cfg_denoiser_callback,
)

CondsList = list[list[tuple[int, float]]]


def catenate_conds(conds: list) -> Any:
    """Conds joined along the batch."""
    if isinstance(conds[0], dict):
        joined = {key: torch.cat([cond[key] for cond in conds]) for key in conds[0]}
        return prompt_parser.DictWithShape(joined)
    return torch.cat(conds)


def on_timesteps(model: Any) -> Denoiser:
    """A model as one of 1000 timesteps."""

    def predict(x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        return model.apply_model(x, t, cond=cond)

    return Denoiser(predict, model.alphas_cumprod, "v_prediction" if model.parameterization == "v" else "epsilon")


def _as_dict(cond: Any) -> dict:
    return dict(cond) if isinstance(cond, dict) else {"crossattn": cond}


class CFGDenoiser(torch.nn.Module):
    """Called by the sampler as `denoiser(x, sigma, ...)`; the rows are all conds first, then one uncond per image.

    Attributes:
        step: number of finished calls, which is also what prompt schedules count in.
        steps, total_steps: steps of the job and calls that the sampler will make.
    """

    def __init__(self, sampler: Any) -> None:
        super().__init__()
        self.sampler = sampler
        self.p: Any = None
        self.model_wrap: Any = None
        self.mask: Any = None
        self.nmask: Any = None
        self.init_latent: Any = None
        self.steps: int | None = None
        self.total_steps: int | None = None
        self.step = 0
        self.image_cfg_scale: float | None = None
        self.cond_scale_miltiplier = 1.0  # the spelling is the host's
        self.need_last_noise_uncond = False
        self.last_noise_uncond: torch.Tensor | None = None
        self.mask_before_denoising = False
        self.padded_cond_uncond = self.padded_cond_uncond_v0 = False

    @property
    def inner_model(self) -> Any:
        """The model as a denoiser in k-diffusion's form."""
        if self.model_wrap is None:
            method, model = self.sampler.method, shared.sd_model
            # As in the host, a model's own denoiser serves the samplers that step through noise levels of any kind.
            denoiser = on_timesteps(model) if method.on_timesteps else model.create_denoiser()
            self.model_wrap = method.wrap(denoiser)
        return self.model_wrap

    def update_inner_model(self) -> None:
        """The model was swapped: wrap the new one and take its conds."""
        self.model_wrap = None
        cond, uncond = self.p.get_conds()
        self.sampler.sampler_extra_args.update(cond=cond, uncond=uncond)

    def combine_denoised(
        self, x_out: torch.Tensor, conds_list: CondsList, uncond: Any, cond_scale: float
    ) -> torch.Tensor:
        """uncond + sum of weight * scale * (cond - uncond)."""
        denoised_uncond = x_out[-uncond.shape[0] :]
        denoised = denoised_uncond.clone()
        for image, parts in enumerate(conds_list):
            for row, weight in parts:
                denoised[image] += (x_out[row] - denoised_uncond[image]) * (weight * cond_scale)
        return denoised

    def _blended(self, latent: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        from modules import scripts

        blended = latent * self.nmask + self.init_latent * self.mask
        mba = scripts.MaskBlendArgs(latent, self.nmask, self.init_latent, self.mask, blended, self, sigma)
        if self.p.scripts is not None:
            self.p.scripts.on_mask_blend(self.p, mba)
        return mba.blended_latent

    def _blended_before(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Blended as LDM's samplers do: in their own space, where a level is a timestep."""
        scale = self.sampler.method.scale(sigma).view(-1, 1, 1, 1)
        return self._blended(x * scale, self.inner_model.sigma_to_t(sigma)) / scale

    def _call_model(self, x: torch.Tensor, sigma: torch.Tensor, cond: Any, uncond: Any) -> torch.Tensor:
        """One call, or two when the rows cannot be batched; `uncond` is None when it is skipped."""
        if uncond is None:
            return self.inner_model(x, sigma, cond=_as_dict(cond))
        if shared.opts.batch_cond_uncond and cond.shape[1] == uncond.shape[1]:
            return self.inner_model(x, sigma, cond=_as_dict(catenate_conds([cond, uncond])))
        n = cond.shape[0]
        return torch.cat(
            [
                self.inner_model(x[:n], sigma[:n], cond=_as_dict(cond)),
                self.inner_model(x[n:], sigma[n:], cond=_as_dict(uncond)),
            ]
        )

    def _skips_uncond(self, sigma: torch.Tensor, s_min_uncond: float, scale: float, conds_list: CondsList) -> bool:
        if s_min_uncond > 0 and self.step % 2 and float(sigma[0]) < s_min_uncond:
            self.p.extra_generation_params["NGMS"] = s_min_uncond
            return True
        # At scale 1 the uncond cancels out, unless several AND parts are summed.
        return scale == 1.0 and all(len(parts) == 1 and parts[0][1] == 1.0 for parts in conds_list)

    def _store(self, x_out: torch.Tensor, conds_list: CondsList, denoised: torch.Tensor) -> None:
        """What an interrupt returns, and what previews show."""
        prompt = x_out[[parts[0][0] for parts in conds_list]]
        self.sampler.last_latent = prompt
        subjects = {"Prompt": prompt, "Negative prompt": x_out[-len(conds_list) :]}
        sd_samplers_common.store_latent(subjects.get(shared.opts.live_preview_content, denoised))

    def forward(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        uncond: Any,
        cond: Any,
        cond_scale: float,
        s_min_uncond: float = 0.0,
        image_cond: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The guided, denoised latent of x (N,C,H,W) at sigma (N,)."""
        state = shared.state
        if state.interrupted or state.skipped:
            raise sd_samplers_common.InterruptedException
        given = x
        if self.mask is not None and self.mask_before_denoising:
            x = self._blended_before(x, sigma)
        conds_list, text_cond = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        text_uncond = prompt_parser.reconstruct_cond_batch(uncond, self.step)
        image_cond = x.new_zeros(x.shape[0], 5, 1, 1) if image_cond is None else image_cond
        rows = [image for image, parts in enumerate(conds_list) for _ in parts] + list(range(x.shape[0]))
        params = CFGDenoiserParams(
            x[rows],
            image_cond[rows],
            sigma[rows],
            state.sampling_step,
            state.sampling_steps,
            text_cond,
            text_uncond,
            self,
        )
        cfg_denoiser_callback(params)

        scale = cond_scale * self.cond_scale_miltiplier
        skips_uncond = self._skips_uncond(sigma, s_min_uncond, scale, conds_list)
        x_out = self._outputs(params, conds_list, skips_uncond)
        cfg_denoised_callback(CFGDenoisedParams(x_out, state.sampling_step, state.sampling_steps, self.inner_model))
        if self.need_last_noise_uncond:
            self.last_noise_uncond = x_out[-x.shape[0] :].clone()
        denoised = self.combine_denoised(x_out, conds_list, params.text_uncond, 1.0 if skips_uncond else scale)
        if self.mask is not None and not self.mask_before_denoising:
            denoised = self._blended(denoised, sigma)
        self._store(x_out, conds_list, denoised)

        after = AfterCFGCallbackParams(denoised, state.sampling_step, state.sampling_steps)
        cfg_after_cfg_callback(after)
        self.step += 1
        # The sampler steps from `given`; the difference to `x` keeps the predicted noise as it is.
        return after.x if x is given else after.x + (given - x)

    def _outputs(self, params: CFGDenoiserParams, conds_list: CondsList, skips_uncond: bool) -> torch.Tensor:
        """Outputs of all cond rows and one uncond row per image; a skipped uncond is stood in for by the cond."""
        if not skips_uncond:
            return self._call_model(params.x, params.sigma, params.text_cond, params.text_uncond)
        n = len(conds_list)
        x_out = self._call_model(params.x[:-n], params.sigma[:-n], params.text_cond, None)
        return torch.cat([x_out, x_out[[parts[0][0] for parts in conds_list]]])
