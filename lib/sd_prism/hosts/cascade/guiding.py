"""What stage C is told at each of the sampler's calls beside prompts, and what becomes of the guidance by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import script_callbacks, sd_samplers_cfg_denoiser
from torch import Tensor

from ...cascade.guidance import contrast
from ..undo import around
from ..webui import loaded_model
from .job import CascadeJob
from .previews import is_cascade


def register() -> None:
    """Has the host tell of each call."""
    script_callbacks.on_cfg_denoiser(_before_call)


def wrapped() -> Any:
    """Until it is closed: guidance of Cascade models may be rescaled."""
    return around(sd_samplers_cfg_denoiser.CFGDenoiser, "combine_denoised", _combined)


def _job() -> CascadeJob | None:
    model = loaded_model()
    return model.prism_job if is_cascade(model) else None


def _before_call(params: Any) -> None:
    """The pictures of an image prompt go with every prompt; the negative one has as many that are nothing."""
    job = _job()
    if job is None:
        return
    cond, uncond = params.text_cond, params.text_uncond  # without guidance some hosts have no negative prompt
    job.noisy = params.x if uncond is None else params.x[-len(uncond["vector"]) :]
    if job.images is not None:
        key = loaded_model().images_key
        cond[key] = pictures(cond["vector"], is_negative=False)
        if uncond is not None:
            uncond[key] = pictures(uncond["vector"], is_negative=True)


def pictures(pooled: Tensor, is_negative: bool) -> Tensor | None:
    """Vectors (N,n,width) of the image prompt for prompts whose pooled text is (N,projection); None without one."""
    job = _job()
    if job is None or job.images is None:
        return None
    vectors = job.images.to(pooled).expand(len(pooled), -1, -1)
    return torch.zeros_like(vectors) if is_negative else vectors


def _combined(
    original: Callable[..., Tensor], denoiser: Any, outputs: Tensor, conds: Any, uncond: Any, scale: float, *more: Any
) -> Tensor:
    """The host's guidance (N,16,h,w), with the contrast that it adds partly taken back, picture by picture.

    Args:
        more: what some hosts give beside it.
    """
    guided, job = original(denoiser, outputs, conds, uncond, scale, *more), _job()
    if job is None or job.noisy is None or not _share(job) or scale == 1:
        return guided
    # noise is what leads from the output to where the step began; samplers by timestep have it as their output
    start = 0 if hasattr(denoiser, "alphas") else job.noisy
    alone = original(denoiser, outputs, conds, uncond, 1.0, *more)
    return _rescaled(start, alone, guided, _share(job))


def after_guidance(args: dict[str, Any]) -> Tensor:
    """The same in hosts that ask a function after their guidance."""
    guided, job = args["denoised"], _job()
    if job is None or not _share(job) or args["uncond"] is None:
        return guided
    weight = sum(one.get("strength", 1) for one in args["cond"])
    alone = torch.lerp(args["uncond_denoised"], args["cond_denoised"], weight)
    return _rescaled(args["input"], alone, guided, _share(job))


def _share(job: CascadeJob) -> float:
    return float(job.values["rescale_c"])


def _rescaled(start: Any, alone: Tensor, guided: Tensor, share: float) -> Tensor:
    return start + contrast(alone - start, guided - start, share) * (guided - start)
