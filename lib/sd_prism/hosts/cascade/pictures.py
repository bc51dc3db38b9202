"""Pictures of image prompts, by the hash of their files: texts carry the hash, and the file stays here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections import OrderedDict
from typing import NamedTuple

from PIL import Image, ImageOps

from ...errors import PrismError

MOST = 64  # files that are kept; the one that was not asked for longest goes first
LENGTH = 12  # digits of a hash
ITEM = re.compile(r"(?:data:image/[\w.+-]+;base64,)?(?P<data>[A-Za-z0-9+/=]+)(?::(?P<weight>\d*\.?\d+))?")
FORM = "choose a file in the panel, or send it in base64"


class Asked(NamedTuple):
    """A picture of an image prompt and its own part of the strength."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{self.weight:g}"


class Pictures:
    """Files of pictures by their hashes."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, content: bytes) -> str:
        """The hash of a picture's file, under which it is kept; raises PrismError for what is no picture."""
        _opened(content)
        name = hashlib.sha256(content).hexdigest()[:LENGTH]
        self._files[name] = content
        self._files.move_to_end(name)
        while len(self._files) > MOST:
            self._files.popitem(last=False)
        return name

    def asked(self, text: str) -> list[Asked]:
        """The pictures that a text names or holds, which are here from then on.

        Raises:
            PrismError: one of them is not here, or none at all.
        """
        items = [item for item in re.split(r"(?<!base64),|\s", text) if item]
        if len(items) > MOST:
            raise PrismError(f"Image prompt: {len(items)} pictures are too many; name at most {MOST}")
        return [self._one(item) for item in items]

    def _one(self, item: str) -> Asked:
        found = ITEM.fullmatch(item)
        if found is None:
            raise PrismError(f'Image prompt: "{item[:40]}" is neither hash nor picture; {FORM}')
        data, weight = found["data"], float(found["weight"] or 1)
        if data in self._files:
            return Asked(data, weight)
        if len(data) == LENGTH:
            raise PrismError(f"Image prompt: the picture {data} is not here; choose its file again")
        try:
            return Asked(self.keep(base64.b64decode(data, validate=True)), weight)
        except binascii.Error as error:
            raise PrismError(f'Image prompt: "{item[:40]}" is no base64 ({error}); {FORM}') from error

    def cut(self, name: str, side: int) -> Image.Image:
        """The middle of a picture that is here, as a square of so many pixels to a side; as CLIP was trained."""
        self._files.move_to_end(name)
        picture = ImageOps.exif_transpose(_opened(self._files[name])).convert("RGB")
        short = min(picture.size)
        width, height = (side if one == short else int(side * one / short) for one in picture.size)
        left, top = (width - side) // 2, (height - side) // 2
        return picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))


def _opened(content: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PrismError(f"Image prompt: this file is no picture that can be read ({error}); {FORM}") from error
    return picture


pictures = Pictures()
