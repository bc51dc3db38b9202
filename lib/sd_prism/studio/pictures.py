"""Pictures as files."""

from __future__ import annotations

import io

from PIL import Image, PngImagePlugin


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG file with its infotext."""
    info = PngImagePlugin.PngInfo()
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str):
            info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
