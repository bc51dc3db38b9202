"""From stage C's small latents to pictures: stage B draws a larger latent from noise, stage A makes pixels of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..errors import OutOfRange, PrismError, UnknownName
from .denoise import Denoiser
from .guidance import Guidance
from .sampling import SAMPLERS, Callback, Noise, sample
from .schedule import SCHEDULES, SHIFT_B, Schedule, sigmas
from .stage_a import StageA
from .unet import StageB

Conditions = tuple[Tensor, Tensor]
FACTOR, GRID = 4, 8  # pixels to a side of stage B's latents, and of the map that stage C's become
MAX_STEPS = 100
SMALLEST_CHUNK = 8  # rows of a latent


@dataclass(frozen=True)
class DecoderSettings:
    """How stage B samples; see `schedule`, `sampling` and `guidance`.

    Raises:
        PrismError: a name is not known, or a number is out of its range.
    """

    sampler: str = "Euler a"
    schedule: str = "Karras"
    steps: int = 10
    cfg: float = 1.0
    shift: float = SHIFT_B
    rescale: float = 0.0
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UnknownName("sampler", self.sampler, SAMPLERS)
        if self.schedule not in SCHEDULES:
            raise UnknownName("schedule", self.schedule, SCHEDULES)
        if not 1 <= self.steps <= MAX_STEPS:
            raise OutOfRange("steps", self.steps, 1, MAX_STEPS, "decoder")
        _ = self.guidance, Schedule(self.shift)  # which check their numbers

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.cfg, self.rescale, self.start, self.stop)


class SeededNoise:
    """Noise of stage B by seeds, one stream for each picture, so that a batch equals single pictures."""

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: str | torch.device = "cpu") -> None:
        self.shape, self.device = tuple(shape), device
        self.generators = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]

    def __call__(self, index: int) -> Tensor:
        """The next noise (N,C,h,w)."""
        return torch.stack([torch.randn(self.shape, generator=one) for one in self.generators]).to(self.device)


class Decoder:
    """Stage B and stage A.

    Attributes:
        calls: how often stage B was run, since the decoder was made.
    """

    def __init__(self, stage_b: StageB, stage_a: StageA) -> None:
        self.stage_b, self.stage_a, self.calls = stage_b, stage_a, 0

    @torch.no_grad()
    def decode(
        self,
        latent: Tensor,
        size: tuple[int, int],
        pooled: Tensor,
        negative: Tensor | None = None,
        *,
        settings: DecoderSettings | None = None,
        seeds: Sequence[int] | None = None,
        noise: Noise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Latents (N,16,h,w) of stage C as pictures (N,3,H,W) in [0,1].

        Args:
            size: (width, height) of the pictures, multiples of 8; the latents' own does not tell it.
            pooled: (N,P), the prompts' pooled vectors.
            negative: (N,P), those of the negative prompts; None is zeros. At CFG 1 nobody looks at it.
            seeds: one for each picture.
            noise: in place of seeds: noise(i) is (N,4,H/4,W/4), i = 0 first, then `sampling.sample`'s.
            callback: see `sampling.sample`.

        Raises:
            PrismError: shapes do not fit together, or the memory does not suffice.
        """
        settings = settings or DecoderSettings()
        self._check(latent, size, pooled, negative, seeds, noise)
        width, height = size
        if noise is None:
            assert seeds is not None
            noise = SeededNoise(seeds, (self.stage_b.config.channels, height // FACTOR, width // FACTOR), latent.device)
        try:
            z = self._draw(latent, size, (pooled, negative), settings, noise, callback)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise PrismError(_too_large("Stage B", error, latent, size)) from error
        return self._pixels(z, latent, size)

    def _check(
        self,
        latent: Tensor,
        size: tuple[int, int],
        pooled: Tensor,
        negative: Tensor | None,
        seeds: Sequence[int] | None,
        noise: Noise | None,
    ) -> None:
        config, count = self.stage_b.config, len(latent)
        smallest = GRID * 2 ** (len(config.hidden) - 1)  # one place of the deepest level
        for name, side in zip(("width", "height"), size):
            if side < smallest or side % GRID:
                near = max(round(side / GRID) * GRID, smallest)
                raise PrismError(
                    f"{name} is {side}; this decoder makes multiples of {GRID} from {smallest} on, such as {near}"
                )
        if latent.ndim != 4 or latent.shape[1] != config.effnet:
            raise PrismError(f"latents of shape {tuple(latent.shape)} are not stage C's (N,{config.effnet},h,w)")
        for name, vector in (("pooled", pooled), ("negative", negative)):
            if vector is not None and vector.shape != (count, config.pooled):
                raise PrismError(
                    f"{name} text is of shape {tuple(vector.shape)}, this decoder takes {(count, config.pooled)}; "
                    "a decoder and a main file of another width do not fit together"
                )
        if (noise is None) == (seeds is None) or (seeds is not None and len(seeds) != count):
            raise PrismError(f"{count} pictures need {count} seeds, or noise in place of them")

    def _draw(
        self,
        latent: Tensor,
        size: tuple[int, int],
        texts: tuple[Tensor, Tensor | None],
        settings: DecoderSettings,
        noise: Noise,
        callback: Callback | None,
    ) -> Tensor:
        """The latents (N,4,H/4,W/4) of stage B, in the sampler's scale."""
        guidance, schedule = settings.guidance, Schedule(settings.shift)
        wide = torch.promote_types(_dtype(self.stage_b), torch.float32)  # what is added up over the steps
        levels = sigmas(settings.schedule, settings.steps, schedule).tolist()
        positions = {sigma: i / settings.steps for i, sigma in enumerate(levels)}
        share = at_once(latent)
        pooled, negative = texts
        cond = self._conditions(pooled.split(share), latent.split(share), size)
        uncond = cond
        if settings.cfg != 1:
            without = torch.zeros_like(pooled) if negative is None else negative
            uncond = self._conditions(without.split(share), [None] * len(cond), size)

        def net(x: Tensor, r: Tensor, position: float) -> Tensor:
            predicted = [
                guidance(position, partial(self._run, one, at, prompted), partial(self._run, one, at, unprompted))
                for one, at, prompted, unprompted in zip(x.split(share), r.split(share), cond, uncond)
            ]
            return torch.cat(predicted)

        denoiser = Denoiser(net, schedule)

        def model(x: Tensor, sigma: float) -> Tensor:
            return denoiser(x, x.new_tensor(sigma), position=positions[sigma])

        return sample(settings.sampler, model, noise(0).to(wide) * levels[0], levels, noise, callback)

    def _conditions(
        self, pooled: Sequence[Tensor], latents: Sequence[Tensor | None], size: tuple[int, int]
    ) -> list[Conditions]:
        """What every step of a run is told of each group of pictures: prompt tokens, and the map of small latents."""
        dtype, map_size = _dtype(self.stage_b), (size[1] // GRID, size[0] // GRID)
        return [
            (self.stage_b.condition(text.to(dtype)), self.stage_b.effnet(None if z is None else z.to(dtype), map_size))
            for text, z in zip(pooled, latents)
        ]

    def _run(self, x: Tensor, r: Tensor, conditions: Conditions) -> Tensor:
        self.calls += 1
        return self.stage_b(x.to(_dtype(self.stage_b)), r, *conditions).to(x.dtype)

    def _pixels(self, z: Tensor, latent: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures of stage B's latents, one by one; in chunks of rows where the memory is short."""
        z, rows = z.to(_dtype(self.stage_a)), z.shape[2]
        while True:
            try:
                return torch.cat([self._picture(one, rows) for one in z.split(1)])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if rows <= SMALLEST_CHUNK:
                    raise PrismError(_too_large("Stage A", error, latent, size)) from error
                rows = max((rows + 1) // 2, SMALLEST_CHUNK)

    def _picture(self, z: Tensor, rows: int) -> Tensor:
        return torch.cat([self._rows(z, top, rows) for top in range(0, z.shape[2], rows)], 2)

    def _rows(self, z: Tensor, top: int, rows: int) -> Tensor:
        """The pixels of some rows of latents, which need as many rows around them as there are convolutions."""
        halo = self.stage_a.config.blocks + 2
        above = min(halo, top)
        pixels = self.stage_a.decode(z[:, :, top - above : top + rows + halo]).float()
        return pixels[:, :, FACTOR * above : FACTOR * (above + rows)]


def at_once(latent: Tensor) -> int:
    """How many pictures a call of stage B gets.

    On a CPU that is one, which is as fast and gives a batch the very numbers of its pictures: a product of another size
    adds in another order.
    """
    return 1 if latent.device.type == "cpu" else len(latent)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a graphics card or in main memory."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        text in str(error) for text in ("out of memory", "not enough memory", "can't allocate memory")
    )


def _too_large(stage: str, error: BaseException, latent: Tensor, size: tuple[int, int]) -> str:
    told = [f"{stage} does not fit into memory for {len(latent)} picture(s) of {size[0]}x{size[1]}"]
    wanted = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
    if wanted:
        told.append(f"{wanted[1]} more were needed")
    if latent.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(latent.device)
        told.append(f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB were free")
    return f"{', '.join(told)}; choose a smaller size, or fewer pictures at once"


def _dtype(network: torch.nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype
