"""FreeU's Fourier filter of the skip features (Si et al. 2023), in closed form.

The authors multiply a box of the lowest frequencies, {-R .. R-1} on each axis, by s and take the real part of the
inverse FFT. That is a projection P on a few plane waves, so two small real matrix products do it, on every device:

    y = high * x + (s - high) * P x

Per axis, P = C + iS with the box's cosines C = B w B^T and sines S = B J B^T, B being an orthonormal basis of waves, w
their weights and J the edge wave's missing partner; for a real plane

    P x = C x C^T - S x S^T = B (w g w - J g J^T) B^T,    g = B^T x B

For R = 1 all of it is seven plane waves: P x = x Phi^T Phi.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from ..errors import OutOfRange

TILE = 1 << 18  # elements: 1 MB in fp32, so that analysis and synthesis meet in a core's cache
GROUP = 16  # planes that a product writes at once
SMALL = 1 << 8  # elements of a plane so small that calls cost more than memory
HALF = (torch.float16, torch.bfloat16)


def skip_filter(
    x: Tensor,
    scale: float,
    *,
    high: float = 1.0,
    cutoff: float = 0.0,
    symmetric: bool = False,
    keep_mean: bool = False,
    least: int = 1,
) -> Tensor:
    """The authors' filter on a (N,C,H,W) skip tensor: lowest waves times `scale`, all others times `high`.

    `cutoff` (0..1) widens the box as sd-webui-freeu does: R = max(`least`, floor(n // 2 * cutoff)) per axis.
    The box is lopsided: of the waves (1,1) and (1,-1) only the first is touched. `symmetric` treats both.
    `keep_mean` leaves the mean of each plane as it is, which holds brightness and colour.
    """
    given = {"high": high, "cutoff": cutoff, "symmetric": symmetric, "keep_mean": keep_mean, "least": least}
    return skip_filter_(x.clone(), scale, **given)  # type: ignore[arg-type]


def skip_filter_(
    x: Tensor,
    scale: float,
    *,
    high: float = 1.0,
    cutoff: float = 0.0,
    symmetric: bool = False,
    keep_mean: bool = False,
    least: int = 1,
) -> Tensor:
    """`skip_filter` in place; x may be the skip part of a concatenation, contiguous or channels_last."""
    if not 0 <= cutoff <= 1:
        raise OutOfRange("cutoff", cutoff, 0, 1, "FreeU skip filter")
    if scale == high == 1 or not x.numel():
        return x
    height, width = x.shape[2:]
    rows, cols = radius(height, cutoff, least), radius(width, cutoff, least)
    even = scale == high or (2 * rows >= height and 2 * cols >= width)
    lowest = rows == cols == 1
    native = x.dtype not in HALF or (lowest and not (x.dtype == torch.float16 and x.device.type == "cpu"))
    for tile in tiles(x):
        work = tile if native else tile.float()
        # The mean is a wave of the box, so `scale` is what it would be multiplied by.
        mean = plane_mean(work) * (1 - scale) if keep_mean else None
        if even:
            work.mul_(scale)
        elif lowest and flattens(work):
            plane_waves_(work, scale, high, symmetric)
        else:
            work = work.contiguous()
            axis_waves_(work, scale, high, rows, cols, symmetric)
        if mean is not None:
            work.add_(mean)
        if work is not tile:
            tile.copy_(work)
    return x


def radius(n: int, cutoff: float, least: int = 1) -> int:
    """R of the box {-R .. R-1} on an axis of length n, where 2R >= n means all of it."""
    return max(1, least, math.floor(n // 2 * cutoff))


def plane_mean(x: Tensor) -> Tensor:
    """The mean of each plane, (N,C,1,1), summed in fp32 at least."""
    return x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)


def plane_waves_(x: Tensor, s: float, high: float, symmetric: bool) -> None:
    """R = 1: y = high x + (s - high) x Phi^T Phi.

    The analysis is written as Phi x^T, which BLAS does several times faster than the tall product x Phi^T, and a tile's
    planes go in small groups: planes of 2^k elements, written side by side, would fight for the same cache lines.
    """
    n, c, height, width = x.shape
    analysis, synthesis = plane_basis(height, width, symmetric, x.dtype, x.device)
    if x.stride(1) == 1:  # channels_last: the product transposed, whose operands BLAS knows as they lie
        pixels = x.view(n, c, -1).mT
        waves = matmul(analysis, pixels)
        pixels.baddbmm_(synthesis.mT.expand(n, -1, -1), waves, beta=high, alpha=s - high)
    else:
        grouped = n == 1 and c % GROUP == 0 and x.dtype != torch.bfloat16
        planes = x.view(-1, GROUP, height * width) if grouped else x.view(n, c, -1)
        waves = matmul(analysis, planes.mT)
        planes.baddbmm_(waves.mT, synthesis.expand(len(planes), -1, -1), beta=high, alpha=s - high)


def axis_waves_(x: Tensor, s: float, high: float, rows: int, cols: int, symmetric: bool) -> None:
    """Any R: y = high x + (s - high) B g' B^T, with the waves g = B^T x B weighted in place."""
    n, _, height, width = x.shape
    (bh, wh, jh), (bw, ww, jw) = (axis_basis(*axis, x.dtype, x.device) for axis in ((height, rows), (width, cols)))
    lines = x.view(n, -1, width)
    g = matmul(bh.mT, matmul(lines, bw).view(-1, height, bw.shape[1]))
    if symmetric:
        g = g * torch.minimum(wh[:, None], ww)
    else:
        g = g * (wh[:, None] * ww) - matmul(matmul(jh, g), jw.mT)
    waves = matmul(bh, g).view(n, -1, bw.shape[1])
    lines.baddbmm_(waves, bw.mT.expand(n, -1, -1), beta=high, alpha=s - high)


@lru_cache(maxsize=64)
def plane_basis(
    height: int, width: int, symmetric: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Phi for the analysis and for the synthesis, each distinct wave of {-1,0} x {-1,0} once.

    Their scales, 8 / HW rounded to a power of two and its counterpart, keep a half-precision DC coefficient at about
    8 times the mean on planes of any size; 1 / sqrt(HW) on both sides overflows at 128x128 from a mean of 900 on.
    """
    with torch.inference_mode(False):
        theta = [2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in (height, width)]
        box = list(product(*((0, 1) if n > 1 else (0,) for n in (height, width))))
        if symmetric and min(height, width) > 2:
            box.append((1, -1))
        angles = torch.stack([(u * theta[0][:, None] + v * theta[1]).flatten() for u, v in box])
        phi = torch.cat([angles.cos(), angles.sin()[[2 * u % height + 2 * v % width > 0 for u, v in box]]])
        scale = 2.0 ** round(math.log2(8 / (height * width)))
        analysis, synthesis = phi * scale, phi / (scale * height * width)
        return analysis.to(device, dtype), synthesis.to(device, dtype)


@lru_cache(maxsize=64)
def axis_basis(n: int, r: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """B (n, 2R+1), w and J of an axis: 1, then cos and sin of 1..R, of which R has only one of its two bins inside."""
    with torch.inference_mode(False):
        if 2 * r >= n:
            b, w, j = torch.eye(n, dtype=torch.float64), torch.ones(n), torch.zeros(n, n)
        else:
            angles = 2 * math.pi / n * torch.arange(n, dtype=torch.float64)[:, None] * torch.arange(1, r + 1)
            waves = torch.stack([angles.cos(), angles.sin()], 2).flatten(1) * math.sqrt(2 / n)
            b = torch.cat([torch.full((n, 1), n**-0.5, dtype=torch.float64), waves], 1)
            w, j = torch.ones(2 * r + 1), torch.zeros(2 * r + 1, 2 * r + 1)
            w[-2:] = j[-2, -1] = 0.5
            j[-1, -2] = -0.5
        return b.to(device, dtype), w.to(device, dtype), j.to(device, dtype)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched a @ b in the dtype given: unlike `@`, an in-place product takes no part in the host's autocast."""
    n = (a if a.ndim == 3 else b).shape[0]
    return a.new_zeros(n, a.shape[-2], b.shape[-1]).baddbmm_(a.expand(n, -1, -1), b.expand(n, -1, -1))


def flattens(x: Tensor) -> bool:
    """Whether each plane is one evenly spaced run of memory, as in NCHW and NHWC."""
    return x.shape[2] == 1 or x.stride(2) == x.shape[3] * x.stride(3)


def tiles(x: Tensor) -> Iterator[Tensor]:
    """Views that cover x: all of it at once, or, for large planes on a CPU, some channels of a sample at a time.

    In bf16 BLAS wants all planes, but of one piece of memory: a batch of slices costs it eight times as much.
    """
    n, c, height, width = x.shape
    plane = height * width
    small = plane <= SMALL and x.dtype == torch.float32
    if x.device.type != "cpu" or small or (x.dtype == torch.bfloat16 and x.is_contiguous()):
        yield x
        return
    tile = TILE // 4 if x.dtype == torch.float16 else TILE  # fp16 gets an fp32 copy of each
    whole = x.dtype == torch.bfloat16 or x.stride(1) == 1
    step = c if whole else max(GROUP, tile // plane)
    for i, j in product(range(n), range(0, c, step)):
        yield x[i : i + 1, j : j + step]
