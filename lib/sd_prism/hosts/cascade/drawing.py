"""A pass of a webui's own pipeline of Cascade by the panel's settings; afterwards it is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from modules import devices, shared
from torch import Tensor

from ...cascade.in_diffusers import Scheduler, exact, noise
from ...cascade.sampling import SAMPLERS
from ...errors import PrismError
from ...settings import Value
from ...settings.cascade import AS_PICTURE, AUTO
from . import decoders, imports

FACTOR_B, GRID = 4, 8  # pixels to a side of stage B's latents, and of its finest level
OFFICIAL = ("DDPM", "Linear")  # Cascade's own sampler, the webui's default
EVEN = "SGM Uniform"
SIGMAS = {"karras": "Karras", "exponential": "Exponential"}  # the webui's option for noise levels
MISSING = object()


def of_stage_c(sampler: str | None) -> tuple[str, str] | None:
    """Prism's sampler and schedule for the webui's sampler; None for one that has no counterpart."""
    if sampler == "Default":
        return OFFICIAL
    name = str(sampler).removesuffix(" SGM")
    return (name, SIGMAS.get(shared.opts.schedulers_sigma, EVEN)) if name in SAMPLERS else None


@contextmanager
def put(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An object with another attribute."""
    before = vars(owner).get(name, MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def prepared(pipe: Any, p: Any, values: Mapping[str, Value], made: dict[str, Any]) -> ExitStack:
    """Has the pipeline draw by the settings until it is closed; `made` are the arguments that it is to be called with.

    Raises:
        PrismError: there is no decoder, it cannot be read, or the size is too small for it.
    """
    stack = ExitStack()
    try:
        _decoder(stack, pipe, values)
        _pass(stack, pipe, p, values, made)
    except BaseException:
        stack.close()
        raise
    return stack


def _pass(stack: ExitStack, pipe: Any, p: Any, values: Mapping[str, Value], made: dict[str, Any]) -> None:
    smallest = GRID * 2 ** (len(pipe.decoder.config.block_out_channels) - 1)
    if min(made["width"], made["height"]) < smallest:
        raise PrismError(f"{made['width']}x{made['height']} is too small; this decoder makes sides from {smallest} on")
    for name in ("prompt_embeds_pooled", "negative_prompt_embeds_pooled"):
        if name in made:  # the webui has the pictures of a batch on the wrong axis
            made[name] = made[name].transpose(0, 1)
    made["callback_on_step_end"] = _interruptible
    sampler, generators = of_stage_c(p.sampler_name), made.get("generator")
    if sampler is not None:
        scheduler = Scheduler(*sampler, float(values["shift_c"]))
        stack.enter_context(put(pipe.prior_pipe, "scheduler", scheduler))
        stack.enter_context(exact(pipe.prior_pipe.prior, pipe.prior_pipe, scheduler, float(values["rescale_c"])))
    last = Scheduler(
        str(values["sampler"]), str(values["schedule"]), float(values["shift_b"]), _seeded(generators, values)
    )
    stack.enter_context(put(pipe.decoder_pipe, "scheduler", last))
    stack.enter_context(exact(pipe.decoder, pipe.decoder_pipe, last, float(values["rescale"])))
    factor = int(values["compression"])
    stack.enter_context(put(pipe.prior_pipe, "prepare_latents", _latents_c(pipe, factor)))
    size = made["height"] // FACTOR_B, made["width"] // FACTOR_B
    stack.enter_context(put(pipe.decoder_pipe, "prepare_latents", _latents_b(pipe, last, size)))


def _decoder(stack: ExitStack, pipe: Any, values: Mapping[str, Value]) -> None:
    """The job's decoder in place of the one that was loaded with the checkpoint."""
    name, precision = str(values["decoder"]), str(values["dtype"])
    if not imports.is_file(pipe) and name == AUTO:
        return
    path = str(decoders.find(name, pipe.sd_checkpoint_info).filename)
    if getattr(pipe.decoder, imports.SOURCE, None) == imports.key(path, precision):
        return
    decoder, vqgan = (part.to(devices.device) for part in kept.get(path, precision))
    for owner in (pipe, pipe.decoder_pipe):
        stack.enter_context(put(owner, "decoder", decoder))
        stack.enter_context(put(owner, "vqgan", vqgan))


class Kept:
    """The decoder that a job has brought last."""

    def __init__(self) -> None:
        self._key: object = None
        self._parts: tuple[Any, Any] = None, None

    def get(self, path: str, precision: str) -> tuple[Any, Any]:
        wanted = imports.key(path, precision)
        if self._key != wanted:
            self.release()
            self._key, self._parts = wanted, imports.read(path, precision)
        return self._parts

    def release(self) -> None:
        self._key, self._parts = None, (None, None)


kept = Kept()


def _seeded(generators: Any, values: Mapping[str, Value]) -> list[torch.Generator] | None:
    """Stage B's noise by seeds of its own, or by those of the pictures from their start."""
    if not isinstance(generators, list):
        return None
    seeds = [one.initial_seed() if values["seed_mode"] == AS_PICTURE else int(values["seed"]) for one in generators]
    return [torch.Generator(one.device).manual_seed(seed) for one, seed in zip(generators, seeds)]


def _latents_c(pipe: Any, factor: int) -> Callable[..., Tensor]:
    """Noise of any size, in float32, where the pipeline's own would have been of sizes that stage B cannot take."""

    def latents(
        count: int, height: int, width: int, each: int, dtype: Any, device: Any, generator: Any, *more: Any
    ) -> Tensor:
        scheduler = pipe.prior_pipe.scheduler
        shape = (count * each, pipe.prior_pipe.prior.config.in_channels, height // factor, width // factor)
        x = noise(shape, device, generator) * scheduler.init_noise_sigma
        return x if isinstance(scheduler, Scheduler) else x.to(dtype)

    return latents


def _latents_b(pipe: Any, scheduler: Scheduler, size: tuple[int, int]) -> Callable[..., Tensor]:
    """The same for stage B; in the size of the picture."""

    def latents(count: int, small: Tensor, each: int, dtype: Any, device: Any, generator: Any, *more: Any) -> Tensor:
        shape = (len(small), pipe.decoder.config.in_channels, *size)
        return scheduler.noise(shape, device, generator) * scheduler.init_noise_sigma

    return latents


def _interruptible(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Stage B of the webui's pipeline cannot be interrupted; it takes this error as the end of the job."""
    if shared.state.interrupted or shared.state.skipped:
        raise AssertionError("Interrupted in stage B")
    return given
