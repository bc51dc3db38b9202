"""Pictures as text, in and out."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from PIL import Image
from sd_prism.errors import PrismError
from sd_prism.studio import pictures

from modules import images

LONGEST_SIDE = 8192
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def decode_base64_to_image(encoding: str, name: str = "image") -> Image.Image:
    """The picture of a base64 text or data URL; `name` is the field that an error speaks of."""
    if encoding.startswith(("http://", "https://")):
        raise PrismError(f"{name} is a web address; the studio fetches nothing, send the file itself in base64")
    if encoding.startswith("data:"):
        encoding = encoding.partition(",")[2]
    try:
        file = io.BytesIO(base64.b64decode("".join(encoding.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise PrismError(f"{name} is no base64 text: {error}") from error
    if not file.getbuffer():
        raise PrismError(f"{name} is empty; send a picture file in base64")
    return _opened(file, name)


def _opened(file: io.BytesIO, name: str) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if max(width, height) <= LONGEST_SIDE:
                image.load()
                return images.fix_image(image)
    except Exception as error:  # PIL's readers raise whatever a damaged file makes them stumble over
        formats = ", ".join(FORMATS)
        raise PrismError(f"{name} is no picture that can be read ({formats}): {_reason(error)}") from error
    raise PrismError(f"{name} has {width}x{height} pixels; each side may have at most {LONGEST_SIDE}")


def _reason(error: Exception) -> str:
    text = str(error).partition(" <_io")[0]
    return text or type(error).__name__


def encode_pil_to_base64(image: Any) -> bytes:
    """A PNG file with the picture's infotext, in base64."""
    return base64.b64encode(pictures.png_bytes(image))
