"""FreeU's backbone gain (Si et al. 2023): half of h's channels are scaled, evenly (v1) or where h is strong (v2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import OutOfRange, UnknownName
from .filter import TILE

EPS = 1e-4  # a channel mean that varies by less than this part of |h| is constant; what remains is rounding


def backbone_(
    h: Tensor, scale: float, *, version: int = 2, offset: float = 0.0, width: float = 0.5, window: str = "exact"
) -> Tensor:
    """Scales, in place, the channels offset*C .. (offset+width)*C of h (N,C,H,W), wrapping around at C.

    Both ends are rounded, a half downwards: the default is the authors' h[:, :C // 2] for every C. The window
    "inclusive" is sd-webui-freeu's, which takes in the channel at its end as well.
    """
    if version not in (1, 2):
        raise UnknownName("FreeU version", version, ("1", "2"))
    if window not in WINDOWS:
        raise UnknownName("FreeU window", window, WINDOWS)
    for name, given in (("offset", offset), ("width", width)):
        if not 0 <= given <= 1:
            raise OutOfRange(name, given, 0, 1, "FreeU channel window")
    if scale == 1 or not h.numel():
        return h
    gain = scale if version == 1 else backbone_gain(h, scale).to(h.dtype)
    for start, stop in WINDOWS[window](h.shape[1], offset, width):
        h[:, start:stop].mul_(gain)
    return h


def exact_window(c: int, offset: float, width: float) -> list[tuple[int, int]]:
    """Channels offset*c .. (offset+width)*c as (start, stop), the part beyond c wrapped to the front."""
    start, stop = (math.ceil(edge * c - 0.5) for edge in (offset, offset + width))
    return [(start, min(stop, c)), (0, stop - c)] if stop > c else [(start, stop)]


def inclusive_window(c: int, offset: float, width: float) -> list[tuple[int, int]]:
    """As sd-webui-freeu: 0 .. c/2 with both ends is one channel more than a half; a wrapped window is one less."""
    offset %= 1
    if offset + width <= 1:
        return [(round(offset * c), round((offset + width) * c) + 1)]
    return [(0, round((offset + width - 1) * c)), (round(offset * c) + 1, c)]


WINDOWS: dict[str, Callable[[int, float, float], list[tuple[int, int]]]] = {
    "exact": exact_window,
    "inclusive": inclusive_window,
}


def backbone_gain(h: Tensor, b: float) -> Tensor:
    """The gain of version 2 per sample and pixel, (N,1,H,W): 1 + (b - 1) * normalised mean over all channels."""
    m = channel_mean(h)
    lo, hi = m.amin((2, 3), keepdim=True), m.amax((2, 3), keepdim=True)
    least = EPS * h[:, :, :1, :1].detach().to(m.dtype).abs().mean(1, keepdim=True)
    m_hat = (m - lo) / (hi - lo).maximum(least).clamp_min(torch.finfo(m.dtype).tiny)  # constant maps gain 1, not NaN
    return 1 + (b - 1) * m_hat


def channel_mean(h: Tensor) -> Tensor:
    """h.mean(1) in fp32 (fp64 for fp64); on a CPU as a product with a row of 1/C, 2 to 6 times faster."""
    dtype = torch.promote_types(h.dtype, torch.float32)
    if h.device.type != "cpu":
        return h.mean(1, keepdim=True, dtype=dtype)
    n, c, height, width = h.shape
    m = h.new_zeros(n, 1, height * width, dtype=dtype)
    row = torch.full((n, 1, c), 1 / c, dtype=dtype)
    step = c if h.dtype == dtype else max(8, TILE // (height * width))
    for i in range(0, c, step):
        m.baddbmm_(row[..., i : i + step], h[:, i : i + step].to(dtype).flatten(2))
    return m.view(n, 1, height, width)
