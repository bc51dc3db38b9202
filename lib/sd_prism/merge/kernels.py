"""Writing a merge into a tensor: its rows in tiles that fit the processor's cache, no temporary of the tensor's size.

Everything is computed on the CPU, in fp32 (fp64 for an fp64 target) with one rounding at the end, so that a live model
on any device equals the baked file bit for bit. Where all tensors have one dtype, weighted sums go through `torch.lerp`
alone, which computes in fp32 and rounds after each term: it is as fast as memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

TILE = 256 * 1024  # elements; fp32 tiles of this size stay in the second and third cache
STAGE = 4 * 1024 * 1024  # elements of a result on its way to another device or to a file
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
FAST = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class Step(NamedTuple):
    """One term at one tensor.

    Attributes:
        kernel: what changes a tile.
        w: the weight here, one for each model.
        others: the tensors that go in besides the running values, in the target's shape.
        stat: what the kernel knows of the whole tensors.
        options: the term's own.
        chain: for a weighted sum, the weights of lerps to one of `others` after the other that amount to it.
    """

    kernel: Callable[[Tile, Step], None]
    w: tuple[float, ...]
    others: tuple[Tensor, ...]
    stat: Any = None
    options: Mapping[str, Any] = NO_OPTIONS
    chain: tuple[float, ...] = ()


class Scratch:
    """Buffers that are made once and used for every tile."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, torch.dtype], Tensor] = {}

    def take(self, slot: object, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor; the next one taken for this slot lies in the same place."""
        shape = torch.Size(shape)
        size, held = shape.numel(), self._buffers.get((slot, dtype))
        if held is None or held.numel() < size:
            held = self._buffers[slot, dtype] = torch.empty(size, dtype=dtype)
        return held[:size].view(shape)


@dataclass
class Tile:
    """Rows `start` to `stop` of a tensor of `rows` rows: the running values x, and what a kernel needs besides."""

    x: Tensor
    start: int
    stop: int
    rows: int
    scratch: Scratch

    def load(self, tensor: Tensor, slot: int) -> Tensor:
        """These rows of `tensor`, in x's dtype; the kernel may write over them."""
        return self.spare(slot).copy_(tensor[self.start : self.stop])

    def spare(self, slot: int) -> Tensor:
        """Room of x's shape, uninitialised; each slot is another."""
        return self.scratch.take(slot, self.x.shape, self.x.dtype)


def write(out: Tensor, base: Tensor, steps: Sequence[Step], scratch: Scratch) -> None:
    """Put the merge into `out`, which keeps its storage, dtype, strides and device.

    Args:
        out: the target, on any device.
        base: pristine values in out's shape, any dtype; must not share memory with `out`.
        steps: what is done to them, in order.
        scratch: reused from call to call.
    """
    if not steps:
        out.copy_(base)
        return
    if out.is_cpu and _fast(out, base, steps):
        _lerps(out, base, steps)
        return
    if not out.dim():
        out, (base, steps) = out.view(1), as_rows(base, steps)
    if out.is_cpu:
        evaluate(out, base, steps, 0, scratch)
        return
    for start, stop in spans(out.shape, per_tile(out.shape, STAGE)):
        staged = scratch.take("stage", (stop - start, *out.shape[1:]), out.dtype)
        evaluate(staged, base, steps, start, scratch)
        out[start:stop].copy_(staged)


def as_rows(base: Tensor, steps: Sequence[Step]) -> tuple[Tensor, list[Step]]:
    """Single numbers as vectors of one."""
    return base.view(1), [step._replace(others=tuple(other.view(1) for other in step.others)) for step in steps]


def evaluate(out: Tensor, base: Tensor, steps: Sequence[Step], start: int, scratch: Scratch) -> None:
    """Rows of the merge, from row `start` on, into `out`, which lies on the CPU and has as many rows as are wanted."""
    stop = start + len(out)
    if not steps:
        out.copy_(base[start:stop])
    elif _fast(out, base, steps):
        parts = [step._replace(others=tuple(other[start:stop] for other in step.others)) for step in steps]
        _lerps(out, base[start:stop], parts)
    else:
        for tile in tiles(base, steps, start, stop, out.dtype, scratch):
            out[tile.start - start : tile.stop - start].copy_(tile.x)


def tiles(
    base: Tensor, steps: Sequence[Step], start: int, stop: int, dtype: torch.dtype, scratch: Scratch
) -> Iterator[Tile]:
    """Tile by tile, what `steps` make of rows `start` to `stop` of `base`."""
    dtype = torch.promote_types(dtype, torch.float32) if dtype in FAST else torch.float32
    for begin, end in spans(base.shape, per_tile(base.shape, TILE), start, stop):
        x = scratch.take("x", (end - begin, *base.shape[1:]), dtype)
        tile = Tile(x.copy_(base[begin:end]), begin, end, len(base), scratch)
        for step in steps:
            step.kernel(tile, step)
        yield tile


def per_tile(shape: Sequence[int], size: int) -> int:
    """Rows of a tile of about `size` elements, at least one; vectors are never cut."""
    if len(shape) == 1:
        return max(shape[0], 1)
    return max(size // max(torch.Size(shape[1:]).numel(), 1), 1)


def spans(shape: Sequence[int], rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
    """(first, behind the last) row of each tile."""
    stop = shape[0] if stop is None else stop
    for begin in range(start, stop, max(rows, 1)):
        yield begin, min(begin + rows, stop)


def _fast(out: Tensor, base: Tensor, steps: Sequence[Step]) -> bool:
    """Whether `torch.lerp` alone does it; mixed dtypes it refuses, and fp8 it does not know."""
    dtype = out.dtype
    if dtype not in FAST or base.dtype != dtype or not base.is_cpu:
        return False
    for step in steps:
        if not step.chain:
            return False
        for other in step.others:
            if other.dtype != dtype or not other.is_cpu:
                return False
    return True


def _lerps(out: Tensor, running: Tensor, steps: Sequence[Step]) -> None:
    for step in steps:
        for other, w in zip(step.others, step.chain):
            running = torch.lerp(running, other, w, out=out)
