"""What users of Stable Diffusion have set in a host that Cascade cannot follow: put right where it can be, and told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modules import sd_samplers, sd_vae, shared

from ...cascade import formats
from ...errors import PrismError
from ...settings.cascade import AUTO
from .loading import fits
from .previews import is_cascade

TIMESTEPS = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
AYS = ("Align Your Steps", "align_your_steps")


def before_job(p: Any) -> list[str]:
    """Remarks on a job that is about to begin, of any model; its refiner is left out where the two do not fit."""
    cascade = is_cascade(shared.sd_model)
    told = [*_refiner(p, cascade), *_left_out()]
    if cascade:
        told += _noise(p)
        if p.get_token_merging_ratio() > 0:
            told.append("token merging does nothing in Stable Cascade")
        if getattr(shared.opts, "forge_unet_storage_dtype", AUTO) != AUTO:
            told.append("Diffusion in Low Bits does nothing in Stable Cascade, whose format is that of its file")
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
    vars(p).update(refiner_checkpoint=None, refiner_checkpoint_info=None, refiner_switch_at=None)


def _is_cascade_file(path: str) -> bool:
    try:
        return formats.inspect(path).role == "main"
    except PrismError:
        return False


def _left_out() -> Iterator[str]:
    """Files of the menu of VAEs that were left out."""
    for chosen in _chosen():
        if fits(chosen, shared.sd_model):
            continue
        name = sd_vae.get_filename(chosen)
        if is_cascade(shared.sd_model):
            yield f"the VAE {name} is none of Stable Cascade and was left out; choose a stage A, or None, as VAE"
        else:
            yield f"the VAE {name} is Stable Cascade's stage A and was left out; choose another one, or None, as VAE"


def _chosen() -> list[str]:
    """What is chosen there; one that is in use is not looked at where the host says which that is."""
    several = getattr(shared.opts, "forge_additional_modules", None)
    if several is not None:
        return list(several)
    chosen = sd_vae.resolve_vae(shared.sd_model.sd_checkpoint_info.filename).vae
    return [chosen] if chosen and sd_vae.loaded_vae_file is None else []


def _noise(p: Any) -> Iterator[str]:
    """Options of the noise schedule that were made for Stable Diffusion's, which ends at sigma 14.6."""
    opts, scheduler = shared.opts, p.scheduler or "Automatic"
    if p.sampler_name in TIMESTEPS:
        if getattr(opts, "sd_noise_schedule", None) == "Zero Terminal SNR":
            yield "the noise schedule Zero Terminal SNR is none of Stable Cascade; choose Default in the settings"
        return
    top = shared.sd_model.schedule.sigma_max
    if scheduler in AYS:
        yield f"the schedule Align Your Steps starts at sigma 14.6, Stable Cascade at {top:.0f}; choose SGM Uniform"
    if getattr(opts, "use_old_karras_scheduler_sigmas", False):
        yield f"the option for old Karras sigmas ends at sigma 10, Stable Cascade starts at {top:.0f}; switch it off"
    if getattr(opts, "sigma_min", 0) or getattr(opts, "sigma_max", 0):
        yield "the settings' sigma min and sigma max replace Stable Cascade's own; set both to 0"
    config = sd_samplers.find_sampler_config(p.sampler_name)
    eta = opts.eta_ancestral if p.eta is None else p.eta
    if config is not None and config.name == "Euler a" and eta != 1:
        yield f"Euler a is the DDPM of Stable Cascade at Eta 1 only; it is {eta:g}"
