"""What users of Stable Diffusion have set in a host that Cascade cannot follow: put right where it can be, and told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modules import sd_samplers, shared

from ..cascade import formats
from ..errors import PrismError
from .cascade_previews import is_cascade

TIMESTEPS = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
AYS = ("Align Your Steps", "align_your_steps")


def before_job(p: Any) -> list[str]:
    """Remarks on a job that is about to begin, of any model; its refiner is left out where the two do not fit."""
    cascade = is_cascade(shared.sd_model)
    told = list(_refiner(p, cascade))
    if cascade:
        told += _vae(p)
        told += _noise(p)
        if p.get_token_merging_ratio() > 0:
            told.append("token merging does nothing in Stable Cascade")
    return told


def while_drawn() -> list[str]:
    """Remarks of the model on the pictures that were just made."""
    remarks = getattr(shared.sd_model, "remarks", [])
    told = list(remarks)
    remarks.clear()
    return told


def _refiner(p: Any, cascade: bool) -> Iterator[str]:
    info = getattr(p, "refiner_checkpoint_info", None)
    if info is None:
        return
    if cascade:
        yield "a refiner cannot go on with Stable Cascade's latents and was left out"
    elif _is_cascade_file(str(info.filename)):
        yield f"{info.name_for_extra} is Stable Cascade, which cannot refine other models' latents; it was left out"
    else:
        return
    p.refiner_checkpoint = p.refiner_checkpoint_info = p.refiner_switch_at = None


def _is_cascade_file(path: str) -> bool:
    try:
        return "stage_c" in formats.inspect(path).parts
    except PrismError:
        return False


def _vae(p: Any) -> list[str]:
    """A file that was not taken is no part of the infotext."""
    refused = list(shared.sd_model.first_stage_model.refused)
    if refused:
        p.sd_vae_name = p.sd_vae_hash = None
    return refused


def _noise(p: Any) -> Iterator[str]:
    """Options of the noise schedule that were made for Stable Diffusion's, which ends at sigma 14.6."""
    opts, scheduler = shared.opts, p.scheduler or "Automatic"
    if p.sampler_name in TIMESTEPS:
        if opts.sd_noise_schedule == "Zero Terminal SNR":
            yield "the noise schedule Zero Terminal SNR is none of Stable Cascade; choose Default in the settings"
        return
    top = shared.sd_model.schedule.sigma_max
    if scheduler in AYS:
        yield f"the schedule Align Your Steps starts at sigma 14.6, Stable Cascade at {top:.0f}; choose SGM Uniform"
    if opts.use_old_karras_scheduler_sigmas:
        yield f"the option for old Karras sigmas ends at sigma 10, Stable Cascade starts at {top:.0f}; switch it off"
    if opts.sigma_min or opts.sigma_max:
        yield "the settings' sigma min and sigma max replace Stable Cascade's own; set both to 0"
    config = sd_samplers.find_sampler_config(p.sampler_name)
    eta = opts.eta_ancestral if p.eta is None else p.eta
    if config is not None and config.name == "Euler a" and eta != 1:
        yield f"Euler a is the DDPM of Stable Cascade at Eta 1 only; it is {eta:g}"
