"""Saving pictures with their infotext, and grids."""

from __future__ import annotations

import datetime
import math
import os
import re
from typing import Any

from PIL import Image, ImageOps, PngImagePlugin
from sd_prism.errors import UnknownName

from modules import script_callbacks, shared
from modules.grid_legend import GridAnnotation, draw_grid_annotations

__all__ = ["GridAnnotation", "draw_grid_annotations"]

IMAGE_ARGUMENTS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 90},
    ".jpeg": {"quality": 90},
    ".webp": {"lossless": True},
}


def image_grid(imgs: list[Image.Image], batch_size: int = 1, rows: int | None = None) -> Image.Image:
    """All pictures in one, as square as it gets; callbacks may change the layout."""
    rows = rows or max(1, round(math.sqrt(len(imgs))))
    params = script_callbacks.ImageGridLoopParams(imgs, math.ceil(len(imgs) / rows), rows)
    script_callbacks.image_grid_callback(params)
    width = max(img.width for img in params.imgs)
    height = max(img.height for img in params.imgs)
    grid = Image.new("RGB", (params.cols * width, params.rows * height), shared.opts.grid_background_color)
    for i, img in enumerate(params.imgs):
        left, top = i % params.cols * width, i // params.cols * height
        grid.paste(img, (left + (width - img.width) // 2, top + (height - img.height) // 2))
    return grid


def resize_image(
    resize_mode: int, im: Image.Image, width: int, height: int, upscaler_name: str | None = None
) -> Image.Image:
    """The picture in another size.

    Args:
        resize_mode: 0 stretches; 1 fills the size and crops what is over; 2 fits into it and continues the picture's
            borders over what is left.
        upscaler_name: None is the upscaler that the settings name for img2img.
    """
    name = upscaler_name or shared.opts.upscaler_for_img2img
    if resize_mode == 0:
        return _resized(im, width, height, name)
    ratio, source_ratio = width / height, im.width / im.height
    by_width = ratio > source_ratio if resize_mode == 1 else ratio < source_ratio
    by_height = ratio <= source_ratio if resize_mode == 1 else ratio >= source_ratio
    w = width if by_width else im.width * height // im.height
    h = height if by_height else im.height * width // im.width
    inner = _resized(im, w, h, name)
    result = Image.new("RGB", (width, height))
    left, top = width // 2 - w // 2, height // 2 - h // 2
    result.paste(inner, box=(left, top))
    if resize_mode != 1:
        _continue_borders(result, inner, left, top)
    return result


def _resized(im: Image.Image, width: int, height: int, upscaler_name: str | None) -> Image.Image:
    """Enlarged by the upscaler, and brought to the very size by Lanczos; masks always by Lanczos."""
    scale = max(width / im.width, height / im.height)
    if upscaler_name not in (None, "None") and im.mode != "L" and scale > 1.0:
        known = {x.name: x for x in shared.sd_upscalers}
        if upscaler_name not in known:
            raise UnknownName("upscaler", upscaler_name, known)
        im = known[upscaler_name].scaler.upscale(im, scale, known[upscaler_name].data_path)
    return im if im.size == (width, height) else im.resize((width, height), resample=Image.Resampling.LANCZOS)


def _continue_borders(result: Image.Image, inner: Image.Image, left: int, top: int) -> None:
    """Stretch the outermost rows or columns of `inner` over the margins."""
    w, h = inner.size
    if top > 0:
        result.paste(inner.resize((w, top), box=(0, 0, w, 0)), box=(0, 0))
        result.paste(inner.resize((w, top), box=(0, h, w, h)), box=(0, top + h))
    if left > 0:
        result.paste(inner.resize((left, h), box=(0, 0, 0, h)), box=(0, 0))
        result.paste(inner.resize((left, h), box=(w, 0, w, h)), box=(left + w, 0))


def flatten(img: Image.Image, bgcolor: str) -> Image.Image:
    """An RGB picture; what is transparent shows `bgcolor`, such as "#ffffff"."""
    if img.mode == "RGBA":
        background = Image.new("RGBA", img.size, bgcolor)
        background.paste(img, mask=img)
        img = background
    return img.convert("RGB")


def get_next_sequence_number(path: str, basename: str) -> int:
    """One more than the highest number that a file in the folder starts with."""
    pattern = re.compile(re.escape(f"{basename}-" if basename else "") + r"(\d+)")
    found = (pattern.match(name) for name in os.listdir(path))
    return max((int(match.group(1)) for match in found if match), default=0) + 1


def save_image_with_geninfo(
    image: Image.Image,
    geninfo: str | None,
    filename: str,
    extension: str | None = None,
    existing_pnginfo: dict | None = None,
    pnginfo_section_name: str = "parameters",
) -> None:
    """Write the file; a PNG gets each text of `existing_pnginfo` and the infotext as text chunks."""
    extension = (extension or os.path.splitext(filename)[1]).lower()
    if extension != ".png":
        image.convert("RGB").save(filename, **IMAGE_ARGUMENTS.get(extension, {}))
        return
    info = PngImagePlugin.PngInfo()
    texts = dict(existing_pnginfo or {})
    if geninfo is not None:
        texts[pnginfo_section_name] = geninfo
    if shared.opts.enable_pnginfo:
        for key, value in texts.items():
            info.add_text(key, str(value))
    image.save(filename, format="PNG", pnginfo=info)


def save_image(
    image: Image.Image,
    path: str,
    basename: str,
    seed: int | None = None,
    prompt: str | None = None,
    extension: str = "png",
    info: str | None = None,
    short_filename: bool = False,
    no_prompt: bool = False,
    grid: bool = False,
    pnginfo_section_name: str = "parameters",
    p: Any = None,
    existing_info: dict | None = None,
    forced_filename: str | None = None,
    suffix: str = "",
    save_to_dirs: bool | None = None,
) -> tuple[str, None]:
    """Save as <path>/<date>/<number>-<seed>.<extension>; callbacks see it before and after."""
    folder = path if save_to_dirs is False else os.path.join(path, datetime.date.today().isoformat())
    os.makedirs(folder, exist_ok=True)
    number = get_next_sequence_number(folder, basename)
    stem = f"{basename}-{number:04}" if basename else f"{number:05}"
    name = forced_filename or (stem if seed is None or grid else f"{stem}-{seed}") + suffix
    pnginfo = dict(existing_info or {})
    if info is not None:
        pnginfo[pnginfo_section_name] = info
    params = script_callbacks.ImageSaveParams(image, p, os.path.join(folder, f"{name}.{extension}"), pnginfo)
    script_callbacks.before_image_saved_callback(params)
    geninfo = params.pnginfo.get(pnginfo_section_name)
    save_image_with_geninfo(params.image, geninfo, params.filename, existing_pnginfo=params.pnginfo)
    image.already_saved_as = params.filename  # type: ignore[attr-defined]
    script_callbacks.image_saved_callback(params)
    return params.filename, None


def read_info_from_image(image: Image.Image) -> tuple[str | None, dict]:
    """The infotext of a picture, and its other texts."""
    items = dict(image.info or {})
    return items.pop("parameters", None), items


def read(fp: Any, **kwargs: Any) -> Image.Image:
    """Open a picture file the right way up."""
    return fix_image(Image.open(fp, **kwargs))


def fix_image(image: Any) -> Any:
    """The picture turned as its camera says, and with its transparency as a channel of its own."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("RGB", "P") and isinstance(turned.info.get("transparency"), bytes):
        return turned.convert("RGBA")
    return turned
