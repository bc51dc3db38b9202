"""Webuis that draw with diffusers' pipelines (SD.Next): their scripts have no hook between a batch's start and its end.

What they have is a function that makes a pipeline's arguments for each pass, one that draws a batch, and the pipeline's
UNet. From there Prism's panels are called as other webuis call their scripts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from modules import shared
from torch import Tensor, nn

from . import model
from .undo import around, undo

log = logging.getLogger("prism")

NAME = "pipelines"
CALLS = "pipeline calls"
Hook = Callable[..., Any]


@cache
def used() -> bool:
    """Whether this webui is one of them."""
    return find_spec("modules.processing_diffusers") is not None


def idle() -> bool:
    """Whether such a webui draws without pipelines, with the backend of its past, and so calls none of ours."""
    return used() and not getattr(shared, "native", True)


@dataclass
class Hooks:
    """Who is called: with the job, but around a call of the UNet with a `Call`."""

    before_encoding: list[Hook] = field(default_factory=list)
    before_sampling: list[Hook] = field(default_factory=list)
    before_call: list[Hook] = field(default_factory=list)
    after_call: list[Hook] = field(default_factory=list)
    after_sampling: list[Hook] = field(default_factory=list)
    after_failure: list[Hook] = field(default_factory=list)


hooks = Hooks()


def register(**given: Hook) -> None:
    """Has functions called by the names of `Hooks`; other webuis call scripts and callbacks themselves."""
    if not used():
        return
    for name, function in given.items():
        getattr(hooks, name).append(function)
    if NAME not in undo:
        undo.enter(NAME, held())


def held() -> ExitStack:
    from modules import processing, processing_diffusers

    stack = ExitStack()
    stack.callback(undo.close, CALLS)
    stack.enter_context(around(processing, "process_images_inner", _job))
    stack.enter_context(around(processing_diffusers, "set_pipeline_args", _pass))
    stack.enter_context(around(processing_diffusers, "process_diffusers", _batch))
    return stack


def tell(listeners: list[Hook], given: Any) -> None:
    """Calls each; an error of ours is logged and does not end the job, as in webuis that call scripts."""
    for listener in listeners:
        try:
            listener(given)
        except Exception:
            log.exception("Prism failed in a pass")


def _job(original: Hook, p: Any) -> Any:
    """A job; the webui has a place for what is to be said under its pictures, and forgets it."""
    processed = original(p)
    processed.comments = "\n".join(filter(None, [processed.comments, *p.comments]))
    return processed


def _pass(original: Hook, p: Any, *args: Any, **kwargs: Any) -> Any:
    tell(hooks.before_encoding, p)
    made = original(p, *args, **kwargs)
    tell(hooks.before_sampling, p)
    undo.enter(CALLS, watched(p, shared.sd_model))
    return made


def _batch(original: Hook, p: Any, *args: Any, **kwargs: Any) -> Any:
    """A batch; the webui logs most errors of one, and all that is seen of them is that it gives no picture."""
    try:
        pictures = original(p, *args, **kwargs)
    finally:
        undo.close(CALLS)
        tell(hooks.after_sampling, p)
    if len(pictures) == 0:
        tell(hooks.after_failure, p)
    return pictures


# --- calls of the UNet


@dataclass
class Denoiser:
    """Where a pass is; `alphas` says, as in other webuis, that sigmas are given as time steps."""

    p: Any
    alphas: Tensor | None
    step: int = 0
    total_steps: int = 0


@dataclass
class Call:
    """What other webuis tell of a call of the model."""

    sigma: Tensor
    denoiser: Denoiser


@contextmanager
def watched(p: Any, loaded: Any) -> Iterator[None]:
    """Tells of the calls of a pass."""
    unet = model.unet(loaded)
    if not isinstance(unet, nn.Module) or "timestep" not in signature(type(unet).forward).parameters:
        yield  # Cascade's networks know no time steps
        return
    watch = Watch(p, model.pipeline(loaded).scheduler)
    handles = [
        unet.register_forward_pre_hook(watch.before, with_kwargs=True),
        unet.register_forward_hook(watch.after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Watch:
    """Counts a pass by the scheduler's time steps: img2img begins in their midst, some samplers call twice for one."""

    def __init__(self, p: Any, scheduler: Any) -> None:
        self.p, self.scheduler = p, scheduler
        self.first: int | None = None
        self.at = 0

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs["timestep"] if "timestep" in kwargs else args[1]
        sigma = torch.as_tensor(given).detach().flatten()[:1].float().cpu()
        steps = self.scheduler.timesteps.float().cpu()
        self._move(steps, float(sigma))
        alphas = getattr(self.scheduler, "alphas_cumprod", None)
        denoiser = Denoiser(self.p, alphas, self.at - (self.first or 0), len(steps) - (self.first or 0))
        tell(hooks.before_call, Call(sigma, denoiser))

    def _move(self, steps: Tensor, now: float) -> None:
        nearest = int((steps - now).abs().argmin())
        if self.first is None:
            self.first = self.at = nearest
        elif steps[self.at] == steps[nearest] and self.at + 1 < len(steps) and steps[self.at + 1] == steps[self.at]:
            self.at += 1
        elif steps[self.at] != steps[nearest]:
            self.at = nearest

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        tell(hooks.after_call, None)
