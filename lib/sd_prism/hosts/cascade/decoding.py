"""Stage B and stage A in a webui: how long they stay in memory, and the job that they serve.

The parts of the decoder that was used last stay where they are; they lie outside the host's model, which moves and
drops its own modules as it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from modules import devices, rng, sd_models, shared
from torch import Tensor

from ...cascade import formats
from ...cascade.decode import Decoder, DecoderSettings
from ...cascade.stage_a import StageA
from ...cascade.unet import StageB
from ...errors import PrismError
from ...merge.sources import identity
from ...settings import Value
from ...settings.cascade import AS_PICTURE, AUTO
from ..webui import loaded_model
from .decoders import checkpoint_of, find
from .job import CascadeJob
from .latents import Picture

log = logging.getLogger("prism")

FACTOR_B = 4  # pixels to a side of stage B's latents
HOST_FACTOR = 8  # by which hosts divide the size that a seed is resized from
CHANNELS_B = 4
SPARE = 2 * 2**30  # bytes that stage B needs beside its weights, at 1024x1024


class Decoding:
    """Decoders in memory: the one that was used last.

    Attributes:
        loaded: how often one was read.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._decoder: Decoder | None = None
        self.loaded = 0

    def release(self) -> None:
        """Drop what is in memory."""
        self._key, self._decoder = (), None

    def of_job(self, latents: Tensor, job: CascadeJob) -> Tensor:
        """The next latents (N,16,h,w) of a job's running pass as pictures (N,3,H,W) in -1..1.

        Without a decoder, and where the job was interrupted before, these are previews; the job is told.
        """
        pictures = job.next(latents)
        try:
            if job.values["preview_only"]:
                return preview(latents, job.size)
            if shared.state.interrupted or shared.state.skipped:
                job.remark('Interrupted before stage B, so this is a preview; "Decode again" makes the picture of it')
                return preview(latents, job.size)
            if job.counted and job.is_first:
                shared.state.nextjob()
            with in_progress(int(job.values["steps"])) as stopped:
                return self.decode(pictures, job.values, stopped)
        except Exception as error:
            job.tell(error)
            if not isinstance(error, PrismError):
                log.exception("Stage B failed")
            return preview(latents, job.size)

    def decode(
        self,
        pictures: Sequence[Picture],
        values: Mapping[str, Value],
        stopped: Callable[[int], bool] = lambda step: False,
    ) -> Tensor:
        """Pictures of one size as (N,3,H,W) in -1..1; `stopped` is told each step of stage B, and may end it.

        Raises:
            PrismError: there is no decoder, it cannot be read, it does not fit into memory, or all it makes is NaN.
        """
        info = find(str(values["decoder"]), checkpoint_of(pictures[0].checkpoint))
        dtype = self._dtype(str(info.filename), str(values["dtype"]))
        found = self._run(info, dtype, pictures, values, stopped)
        if bool(torch.isnan(found).any()) and dtype != torch.float32:
            log.warning("%s gave NaN in %s; once more in fp32", info.name_for_extra, dtype)
            found = self._run(info, torch.float32, pictures, values, stopped)
        if bool(torch.isnan(found).any()):
            raise PrismError(f"{info.name_for_extra} gave no numbers (NaN), in fp32 too; the file may be damaged")
        return found * 2 - 1

    def _dtype(self, path: str, chosen: str) -> torch.dtype:
        """Stage B's; where the webui draws in fp32, that is the automatic choice, too."""
        if chosen == AUTO and devices.dtype == torch.float32:
            return torch.float32
        found: torch.dtype = formats.dtype_for(formats.inspect(path).part("stage_b"), chosen, devices.device)
        return found

    def _run(
        self,
        info: Any,
        dtype: torch.dtype,
        pictures: Sequence[Picture],
        values: Mapping[str, Value],
        stopped: Callable[[int], bool],
    ) -> Tensor:
        with devices.without_autocast(), torch.no_grad(), self._room(str(info.filename), pictures) as device:
            decoder = self._loaded(str(info.filename), dtype, device)
            return decoder.decode(
                torch.stack([one.latent for one in pictures]).to(device),
                pictures[0].size,
                torch.stack([one.pooled for one in pictures]).to(device),
                torch.stack([one.negative for one in pictures]).to(device),
                settings=settings_of(values),
                noise=Noise(pictures, values, device),
                callback=stopped,
            ).float()

    def _loaded(self, path: str, dtype: torch.dtype, device: torch.device) -> Decoder:
        key = (path, identity(Path(path)), dtype, stage_a_file())
        if self._key != key or self._decoder is None:
            self.release()
            stage_b = cast(StageB, formats.load(path, "stage_b", dtype=dtype, device=device))
            stage_a = cast(StageA, formats.load(key[-1] or path, "stage_a", dtype=dtype, device=device))
            self._key, self._decoder = key, Decoder(stage_b, stage_a)
            self.loaded += 1
        self._move(device)
        return self._decoder

    def _move(self, device: torch.device) -> None:
        if self._decoder is not None:
            self._decoder.stage_b.to(device)
            self._decoder.stage_a.to(device)

    @contextmanager
    def _room(self, path: str, pictures: Sequence[Picture]) -> Iterator[torch.device]:
        """The device to decode on; where its memory is short, the host's model makes room for as long as it takes."""
        device, model = devices.device, loaded_model()
        if device.type != "cuda" or model is None or torch.cuda.mem_get_info(device)[0] >= self._need(path, pictures):
            yield device
            return
        returning = sent_out(model)
        devices.torch_gc()
        try:
            yield device
        finally:
            self._move(devices.cpu)
            devices.torch_gc()
            returning()

    def _need(self, path: str, pictures: Sequence[Picture]) -> float:
        """Bytes that decoding takes beside what lies on the device already."""
        width, height = pictures[0].size
        parts = formats.inspect(path).parts.values()
        there = self._decoder is not None and next(self._decoder.stage_b.parameters()).is_cuda
        weights = 0 if there else sum(one.bytes for one in parts if one.name in ("stage_b", "stage_a"))
        return weights + SPARE * len(pictures) * width * height / 2**20


def sent_out(model: Any) -> Callable[[], object]:
    """Has a model leave the device; gives what brings it back. With --medvram the host fetches what it needs itself."""
    if getattr(model, "lowvram", False):
        try:
            from modules import lowvram
        except ImportError:
            pass
        else:
            lowvram.send_everything_to_cpu()
            return lambda: None
    model.to(devices.cpu)
    return lambda: model.to(devices.device)


class Noise:
    """Stage B's noise, by the host's own generators: one for each picture, so that a batch equals its pictures."""

    def __init__(self, pictures: Sequence[Picture], values: Mapping[str, Value], device: torch.device) -> None:
        self._device = device
        self._generators = [self._generator(one, values) for one in pictures]

    def __call__(self, index: int) -> Tensor:
        """(N,4,H/4,W/4) of the run's noise number `index`; they are asked for in order."""
        return torch.cat([one.next() for one in self._generators]).to(self._device)

    @staticmethod
    def _generator(one: Picture, values: Mapping[str, Value]) -> Any:
        shape = (CHANNELS_B, one.size[1] // FACTOR_B, one.size[0] // FACTOR_B)
        if values["seed_mode"] != AS_PICTURE:
            return rng.ImageRNG(shape, [int(values["seed"])])
        return rng.ImageRNG(
            shape,
            [one.seed],
            subseeds=[one.subseed],
            subseed_strength=one.subseed_strength,
            seed_resize_from_h=one.resized_from_height // FACTOR_B * HOST_FACTOR,
            seed_resize_from_w=one.resized_from_width // FACTOR_B * HOST_FACTOR,
        )


def settings_of(values: Mapping[str, Value]) -> DecoderSettings:
    """The panel's settings as the decoder's."""
    return DecoderSettings(
        sampler=str(values["sampler"]),
        schedule=str(values["schedule"]),
        steps=int(values["steps"]),
        cfg=float(values["cfg"]),
        shift=float(values["shift_b"]),
        rescale=float(values["rescale"]),
    )


def stage_a_file() -> str:
    """The file that the VAE menu has chosen for stage A; "" for the decoder's own."""
    return str(getattr(sd_models.model_data.sd_model, "stage_a_file", "") or "")


def preview(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Rough pictures (N,3,H,W) in -1..1 of the size (width, height) that was asked for."""
    small = loaded_model().preview(latents.to(devices.device)).float()
    shape = size[1], size[0]
    return torch.nn.functional.interpolate(small, shape, mode="bicubic", antialias=True).clamp(-1, 1)


@contextmanager
def in_progress(steps: int) -> Iterator[Callable[[int], bool]]:
    """A run of stage B in the host's progress; gives the function that says whether to stop after a step."""
    state = shared.state
    state.sampling_steps, state.textinfo = steps, "Stage B"

    def stopped(step: int) -> bool:
        state.sampling_step = step + 1
        return bool(state.interrupted or state.skipped)

    try:
        yield stopped
    finally:
        state.textinfo = None


decoding = Decoding()
