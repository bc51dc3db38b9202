"""A pass of a webui's own pipeline of Cascade by the panel's settings; afterwards it is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from modules import devices, shared
from torch import Tensor

from ...cascade.sampling import SAMPLERS
from ...errors import PrismError
from ...settings import Value
from ...settings.cascade import AS_PICTURE, AUTO
from . import decoders, imports
from .in_diffusers import Scheduler, exact

FACTOR_B, GRID = 4, 8  # pixels to a side of stage B's latents, and of its finest level
OFFICIAL = ("DDPM", "Linear")  # Cascade's own sampler, the webui's default
EVEN = "SGM Uniform"
SIGMAS = {"karras": "Karras", "exponential": "Exponential"}  # the webui's option for noise levels
MISSING = object()


def of_stage_c(sampler: str | None) -> tuple[str, str]:
    """Prism's sampler and schedule for the webui's sampler.

    Raises:
        PrismError: it has none; what the webui has under that name knows the noise levels of Stable Diffusion alone.
    """
    if sampler == "Default":
        return OFFICIAL
    name = str(sampler).removesuffix(" SGM")
    if name not in SAMPLERS:
        raise PrismError(f"{sampler} cannot draw Stable Cascade; choose Default, {', '.join(SAMPLERS)} as sampler")
    return name, SIGMAS.get(shared.opts.schedulers_sigma, EVEN)


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
        if name in made and len(made[name]) == 1:  # the webui has the pictures of a batch on the second axis
            made[name] = made[name].transpose(0, 1)
    made["callback_on_step_end"] = _interruptible
    first = Scheduler(*of_stage_c(p.sampler_name), float(values["shift_c"]))
    stack.enter_context(put(pipe.prior_pipe, "scheduler", first))
    stack.enter_context(exact(pipe.prior_pipe.prior, pipe.prior_pipe, first, float(values["rescale_c"])))
    own = _seeded(made.get("generator"), values)
    last = Scheduler(str(values["sampler"]), str(values["schedule"]), float(values["shift_b"]), own)
    stack.enter_context(put(pipe.decoder_pipe, "scheduler", last))
    stack.enter_context(exact(pipe.decoder, pipe.decoder_pipe, last, float(values["rescale"])))
    noise_c = _noise_c(pipe, first, int(values["compression"]))
    noise_b = _noise_b(pipe, last, (made["height"] // FACTOR_B, made["width"] // FACTOR_B))
    stack.enter_context(put(pipe.prior_pipe, "prepare_latents", noise_c))
    stack.enter_context(put(pipe.decoder_pipe, "prepare_latents", noise_b))


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


def _noise_c(pipe: Any, scheduler: Scheduler, factor: int) -> Callable[..., Tensor]:
    """Noise for any size, where the pipeline's own would be of sizes that stage B cannot take."""

    def noise(count: int, height: int, width: int, each: int, dtype: Any, device: Any, generator: Any, *more: Any):
        shape = (count * each, pipe.prior_pipe.prior.config.in_channels, height // factor, width // factor)
        return scheduler.noise(shape, device, generator) * scheduler.init_noise_sigma

    return noise


def _noise_b(pipe: Any, scheduler: Scheduler, size: tuple[int, int]) -> Callable[..., Tensor]:
    """The same for stage B, whose pipeline would guess the size from stage C's latents."""

    def noise(count: int, small: Tensor, each: int, dtype: Any, device: Any, generator: Any, *more: Any) -> Tensor:
        shape = (len(small), pipe.decoder.config.in_channels, *size)
        return scheduler.noise(shape, device, generator) * scheduler.init_noise_sigma

    return noise


def _interruptible(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Stage B of the webui's pipeline cannot be interrupted; it takes this error as the end of the job."""
    if shared.state.interrupted or shared.state.skipped:
        raise AssertionError("Interrupted in stage B")
    return given
