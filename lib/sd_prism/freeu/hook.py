"""Applies FreeU to a UNet by forward pre-hooks on the modules that consume a decoder concatenation.

There h and the skip lie side by side in a buffer that was made a moment ago, so both are changed in place; whatever the
host or a neighbour did to either (ControlNet, deep shrink) is already in, and removing the handle leaves no trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrismError
from ..schedule import Curve
from .backbone import backbone_
from .filter import skip_filter_
from .measure import Measured, measured
from .value import FreeU, Stage

log = logging.getLogger("prism")


@dataclass(frozen=True)
class Attached:
    """What `attach` found: the UNet's `layout`, its number of concatenations, and how many of them each stage has."""

    layout: str
    concats: int
    stages: tuple[int, int, int]


@dataclass(frozen=True)
class Concat:
    """A module whose input is cat([h, skip], 1): the widths of both, and its level, 0 being the lowest resolution."""

    module: nn.Module
    h: int
    skip: int
    level: int


@contextmanager
def attach(
    unet: nn.Module,
    settings: FreeU,
    progress: Callable[[], float] | None = None,
    *,
    hires: bool = False,
    enlarged: float = 1.0,
    measurements: dict[int, Measured] | None = None,
) -> Iterator[Attached]:
    """FreeU on an LDM or diffusers UNet for the length of a `with` block; identity settings install nothing.

    Args:
        progress: where the run stands, from 0 to 1; asked once a concatenation, and only where the strength changes.
        hires: take the curve of the hires pass.
        enlarged: how many times this pass's latents are larger than the first's, for `hires_radius`.
        measurements: is filled with the latest measurement of each stage's first acting concatenation, if given.
    """
    curve = settings.curve(hires)
    if settings.identity or curve.constant == 0:
        yield Attached("", 0, (0, 0, 0))
        return
    if curve.constant is None and progress is None:
        raise PrismError(f'FreeU\'s schedule "{curve}" needs to know the progress of the run, and nothing tells it')
    layout, concats = concats_of(unet)
    refuse_compiled(unet, concats)
    numbers = (stages_by_width if settings.rule == "channels" else stages_by_level)(concats)
    known: set[int] = set()
    with ExitStack() as handles:
        for index, stage in planned(settings, numbers).items():
            if not stage.identity:
                work = Reweight(concats[index], stage, settings, curve, progress, enlarged)
                if measurements is not None and numbers[index] not in (0, *known):
                    known.add(numbers[index])
                    work.measured_as = (measurements, numbers[index])
                handles.callback(concats[index].module.register_forward_pre_hook(work).remove)
        first, second, third = (numbers.count(number) for number in (1, 2, 3))
        yield Attached(layout, len(concats), (first, second, third))


def planned(settings: FreeU, numbers: list[int]) -> dict[int, Stage]:
    """What happens at each concatenation, by index; `numbers` are their stages, 0 where they have none."""
    plan = {index: settings.stages[number - 1] for index, number in enumerate(numbers) if number}
    for index, (b, s) in settings.overrides.items():
        if index >= len(numbers):
            last = f"OUT{len(numbers) - 1:02d}"
            raise PrismError(f"OUT{index:02d} does not exist in this UNet; its last block is {last}. Nearest: {last}")
        plan[index] = plan.get(index, Stage())._replace(b=b, s=s)
    return plan


class Reweight:
    """The pre-hook of one concatenation, which leaves a shape alone that a neighbour has changed, saying so once."""

    def __init__(
        self,
        concat: Concat,
        stage: Stage,
        settings: FreeU,
        curve: Curve,
        progress: Callable[[], float] | None,
        enlarged: float,
    ) -> None:
        self.concat, self.stage, self.settings, self.progress, self.curve = concat, stage, settings, progress, curve
        self.least = max(1, round(enlarged)) if settings.hires_radius else 1
        self.said = False
        self.measured_as: tuple[dict[int, Measured], int] | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        x: Tensor = args[0]
        if not self.fits(x):
            return None
        at = self.curve(self.progress()) if self.progress is not None else self.curve(0.0)
        stage = self.stage.at(self.settings.strength * at)
        if stage.identity:
            return None
        kept = torch.is_grad_enabled() or x.requires_grad  # checkpointing runs the module again on the same buffer
        x = x.clone() if kept else x
        before = x[:1].clone() if self.measured_as else None
        self.apply(x, stage)
        if self.measured_as and before is not None:
            (found, number), h = self.measured_as, self.concat.h
            found[number] = measured(before[:, h:], x[:, h:], before[:, :h], stage.b, self.settings.version)
        return (x, *args[1:]) if kept else None

    def fits(self, x: Tensor) -> bool:
        """Whether x is this concatenation as the UNet's own modules describe it."""
        concat = self.concat
        fits = x.ndim == 4 and x.shape[1] == concat.h + concat.skip
        if not fits and not self.said:
            expected = f"(N, {concat.h} + {concat.skip}, H, W)"
            log.warning("FreeU left a concatenation alone: its shape is %s, not %s", tuple(x.shape), expected)
            self.said = True
        return fits

    def apply(self, x: Tensor, stage: Stage) -> None:
        """Both halves of x (N,h+skip,H,W), in place."""
        given, h = self.settings, self.concat.h
        window = "inclusive" if given.compatible else "exact"
        backbone_(x[:, :h], stage.b, version=given.version, offset=stage.offset, width=stage.width, window=window)
        skip_filter_(
            x[:, h:],
            stage.s,
            high=stage.high,
            cutoff=stage.cutoff,
            symmetric=given.symmetric,
            keep_mean=given.keep_mean,
            least=self.least,
        )


def concats_of(unet: nn.Module) -> tuple[str, list[Concat]]:
    """The UNet's layout and its concatenations in the order of the decoder, widths read from its own modules."""
    if isinstance(getattr(unet, "output_blocks", None), nn.ModuleList):
        layout, concats = "ldm", list(ldm_concats(unet))
    elif all(isinstance(getattr(unet, blocks, None), nn.ModuleList) for blocks in ("down_blocks", "up_blocks")):
        layout, concats = "diffusers", list(diffusers_concats(unet))
    else:
        layout, concats = "", []
    if not concats:
        raise PrismError(
            f"FreeU does not fit {type(unet).__name__}: it re-weights the skip connections of a U-Net, which "
            "SD 1.x, SD 2.x and SDXL have, while Stable Cascade, SD 3 and Flux do not. Switch FreeU off for this model."
        )
    return layout, concats


def ldm_concats(unet: Any) -> Iterator[Concat]:
    """Every output block's first layer, a ResBlock, is called with a concatenation, and knows both of its widths.

    Some hosts call the layers of a block, and never the block.
    """
    level, middle = 0, getattr(unet, "middle_block", None)
    widths = [layer.out_channels for layer in middle or () if hasattr(layer, "out_channels")]
    h = widths[-1] if widths else 0  # without a middle block h is the last skip itself
    for block in unet.output_blocks:
        first = getattr(block, "_orig_mod", block)[0]  # a compiled block is refused later, by name
        if not hasattr(first, "channels") or not hasattr(first, "out_channels"):
            return
        h = h or first.channels // 2
        yield Concat(first, h, first.channels - h, level)
        h = first.out_channels
        level += any(type(layer).__name__.startswith("Upsample") for layer in block.modules())


def diffusers_concats(unet: Any) -> Iterator[Concat]:
    """Resnets of the up blocks that take more channels than the module before gives."""
    last = getattr(unet.down_blocks[-1], "resnets", None) if len(unet.down_blocks) else None
    h = last[-1].out_channels if last else 0
    for level, block in enumerate(unet.up_blocks):
        for resnet in getattr(block, "resnets", ()) if h else ():
            if resnet.in_channels > h:
                yield Concat(resnet, h, resnet.in_channels - h, level)
            h = resnet.out_channels


def stages_by_width(concats: list[Concat]) -> list[int]:
    """Stage 1 where h has the top width, 2 where it has half of it, 3 a quarter, relative to the model's own widths.

    A UNet of a single width has no such mark; its stages are where SD 1's 12 concatenations have theirs: 7, 3 and 2.
    """
    n, top = len(concats), max(concat.h for concat in concats)
    if n > 1 and all(concat.h == top for concat in concats):
        return [1 if 12 * k < 7 * n else 2 if 12 * k < 10 * n else 3 for k in range(n)]
    return [{1: 1, 2: 2, 4: 3}.get(top // concat.h if top % concat.h == 0 else 0, 0) for concat in concats]


def stages_by_level(concats: list[Concat]) -> list[int]:
    """diffusers' rule: the lowest resolution is stage 1, the next one stage 2; the third, which it has not, stage 3."""
    return [concat.level + 1 if concat.level < 3 else 0 for concat in concats]


def refuse_compiled(unet: nn.Module, concats: list[Concat]) -> None:
    """Compiled code ignores hooks without a word; an uncompiled UNet is needed."""
    consumers = {concat.module for concat in concats}
    for name, module in unet.named_modules():
        if compiled(module) and not consumers.isdisjoint(module.modules()):
            raise PrismError(
                f"FreeU cannot act on this {type(unet).__name__}: {name or 'it'} runs through torch.compile, which "
                "ignores hooks set afterwards. Load the model without torch.compile, or switch FreeU off."
            )


def compiled(module: nn.Module) -> bool:
    """Whether calls go to torch.compile: as a wrapper, by module.compile(), or by a compiled forward."""
    return (
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )
