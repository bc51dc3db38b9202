"""Where the running pass is, as the host's denoiser tells it.

A host counts model calls, so a sampler that calls twice a step is right as well. UNet hooks are no measure: a host may
call the UNet several times a step.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

from modules import script_callbacks, shared

from . import model, pipelines
from .undo import undo

LAST = 1 - 1e-6  # a run has not ended before its last call has


class Progress:
    """Told by callbacks, asked by FreeU's hooks."""

    def __init__(self) -> None:
        self.calls = 0
        self._params: Any = None

    def register(self) -> None:
        script_callbacks.on_cfg_denoiser(self.before_call)
        script_callbacks.on_cfg_after_cfg(self.after_call)
        pipelines.register(before_call=self.before_call, after_call=self.after_call)
        script_callbacks.on_model_loaded(lambda loaded: self.begin_pass())  # a denoiser holds on to its model
        forgetting = ExitStack()
        forgetting.callback(self.begin_pass)  # a page that was reloaded holds on to us
        undo.enter("progress", forgetting)

    def begin_batch(self) -> None:
        self.calls = 0

    def begin_pass(self) -> None:
        self._params = None

    def before_call(self, params: Any) -> None:
        self._params = params

    def after_call(self, params: Any) -> None:
        self.calls += 1

    def steps(self) -> float:
        """The part of this pass's model calls that is done, 0 to below 1."""
        denoiser = getattr(self._params, "denoiser", None)
        total = getattr(denoiser, "total_steps", None) or getattr(self._params, "total_sampling_steps", 0)
        done = getattr(denoiser, "step", None)
        done = getattr(self._params, "sampling_step", 0) if done is None else done
        return min(done / total, LAST) if total else 0.0

    def sigma(self) -> float:
        """Where ln(sigma) stands between the model's largest (0) and smallest (below 1)."""
        if self._params is None:
            return 0.0
        alphas = model.alphas_cumprod(shared.sd_model)
        level = float(self._params.sigma.flatten()[0])
        if hasattr(self._params.denoiser, "alphas"):  # timestep samplers pass t instead
            level = _sigma(float(alphas[round(min(max(level, 0), len(alphas) - 1))]))
        most, least = _sigma(float(alphas[-1])), _sigma(float(alphas[0]))
        done = (math.log(most) - math.log(max(level, least))) / (math.log(most) - math.log(least))
        return min(max(done, 0.0), LAST)

    def calls_through_all_passes(self) -> float:
        """As sd-webui-freeu counts: model calls since the batch began, of one pass's sampler steps."""
        return min(self.calls / max(shared.state.sampling_steps, 1), 1.0)


def _sigma(alpha: float) -> float:
    """The noise level of a value of alphas_cumprod; a terminal SNR of zero counts as 1e-6."""
    alpha = max(alpha, 1e-6)
    return math.sqrt((1 - alpha) / alpha)


progress = Progress()


def steps_taken(p: Any, hires: bool) -> int:
    """The steps that this pass will take."""
    if hires:
        return int(p.hr_second_pass_steps or p.steps)
    if getattr(p, "init_images", None) and not (pipelines.used() or shared.opts.img2img_fix_steps):
        return int(min(p.denoising_strength, 0.999) * p.steps) + 1
    return int(p.steps)
