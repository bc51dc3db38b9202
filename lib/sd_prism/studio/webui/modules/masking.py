"""Inpaint masks: the region they cover, their blur, and the picture under them filled in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

Region = tuple[int, int, int, int]
FILLS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))  # (blur radius, how often it is laid on)


def get_crop_region_v2(mask: Any, pad: int = 0) -> Region | None:
    """(x1, y1, x2, y2) around everything in the mask that is not black, `pad` wider; None for a black mask."""
    mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    box = mask.getbbox()
    if box is None:
        return None
    x1, y1, x2, y2 = box
    return max(x1 - pad, 0), max(y1 - pad, 0), min(x2 + pad, mask.width), min(y2 + pad, mask.height)


def get_crop_region(mask: Any, pad: int = 0) -> Region:
    """As `get_crop_region_v2`; a black mask gives a region turned inside out, which older scripts expect."""
    mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    width, height = mask.size
    turned = max(width - pad, 0), max(height - pad, 0), min(pad, width), min(pad, height)
    return get_crop_region_v2(mask, pad) or turned


def expand_crop_region(
    crop_region: Region, processing_width: int, processing_height: int, image_width: int, image_height: int
) -> Region:
    """The region made wider or higher to the proportions of processing_width x processing_height, where the picture
    has room; a region that would leave the picture is moved, then cut.
    """
    x1, y1, x2, y2 = crop_region
    ratio = processing_width / processing_height
    if (x2 - x1) / (y2 - y1) > ratio:
        y1, y2 = _expanded(y1, y2, int((x2 - x1) / ratio - (y2 - y1)), image_height)
    else:
        x1, x2 = _expanded(x1, x2, int((y2 - y1) * ratio - (x2 - x1)), image_width)
    return x1, y1, x2, y2


def _expanded(low: int, high: int, amount: int, limit: int) -> tuple[int, int]:
    """`amount` more, half on each side, inside 0..limit."""
    low, high = low - amount // 2, high + amount - amount // 2
    over = max(high - limit, 0)
    low, high = low - over, high - over
    under = max(-low, 0)
    return low + under, min(high + under, limit)


def fill(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with what is under the mask replaced by blurred surroundings."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask.convert("L")))
    filled = Image.new("RGBA", image.size)
    for radius, times in FILLS:
        blurred = kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            filled.alpha_composite(blurred)
    return filled.convert("RGB")


def blur(mask: Image.Image, sigma_x: float, sigma_y: float) -> Image.Image:
    """A mask ("L") blurred by Gaussians of these widths in pixels, to the same bytes as OpenCV's GaussianBlur."""
    pixels = np.asarray(mask)
    for axis, sigma in ((1, sigma_x), (0, sigma_y)):
        if sigma > 0:
            pixels = _blurred_along(pixels, _kernel(sigma), axis)
    return Image.fromarray(pixels)


def _kernel(sigma: float) -> list[int]:
    """Gaussian weights in 1/256, rounded with the error carried along; their sum is 256."""
    half = int(2.5 * sigma + 0.5)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-half, half + 1)]
    total = sum(weights)
    side: list[int] = []
    error = 0.0
    for weight in weights[:half]:
        exact = weight / total * 256 + error
        side.append(round(exact))
        error = exact - side[-1]
    return [*side, 256 - 2 * sum(side), *side[::-1]]


def _blurred_along(pixels: np.ndarray, kernel: list[int], axis: int) -> np.ndarray:
    half = len(kernel) // 2
    margins = [(half, half) if i == axis else (0, 0) for i in range(2)]
    padded = np.pad(pixels.astype(np.int64), margins, mode="reflect")
    length = pixels.shape[axis]
    total = np.zeros(pixels.shape, dtype=np.int64)
    for i, weight in enumerate(kernel):
        total += weight * padded.take(range(i, i + length), axis)
    return ((total + 128) >> 8).astype(np.uint8)
