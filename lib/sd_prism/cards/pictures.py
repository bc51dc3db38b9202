"""The text that a webui writes into its pictures: where it stands in a PNG, and what it says."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator

from ..errors import PrismError

PNG = b"\x89PNG\r\n\x1a\n"
KEYWORD = "parameters"
LONGEST = 1 << 20  # bytes of a text
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"(\d+)x(\d+)")
NEGATIVE = "Negative prompt:"
FEWEST = 3  # pairs that make a line one of parameters


def text_of(picture: bytes) -> str:
    """The infotext of a PNG; PrismError where it has none."""
    try:
        for kind, content in _chunks(picture):
            keyword, _, rest = content.partition(b"\0")
            if kind in TEXTS and keyword == KEYWORD.encode():
                return TEXTS[kind](rest)
    except (struct.error, zlib.error, UnicodeError, ValueError) as error:
        raise PrismError(f"the picture is damaged: {error}") from error
    raise PrismError("the picture holds no parameters; a webui writes them unless its settings say otherwise")


def parameters(text: str) -> dict[str, str]:
    """What an infotext says, by the webui's keys, a size as "Size-1" and "Size-2"; "Negative prompt" if it has one.

    Empty where the last line is none of parameters.
    """
    *lines, last = text.strip().split("\n")
    pairs = PAIR.findall(last)
    if len(pairs) < FEWEST:
        return {}
    found: dict[str, str] = {}
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(NEGATIVE)]
    if starts:
        found[NEGATIVE[:-1]] = "\n".join(lines[starts[0] :]).strip().removeprefix(NEGATIVE).strip()
    for key, written in pairs:
        value = _unquoted(written)
        size = SIZE.fullmatch(value)
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return found


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value.strip()
    except ValueError:
        return value


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG)
    while place + 8 <= len(picture):
        length, kind = struct.unpack_from(">I4s", picture, place)
        yield kind, picture[place + 8 : place + 8 + length]
        place += length + 12


def _inflated(content: bytes) -> bytes:
    inflate = zlib.decompressobj()
    out = inflate.decompress(content, LONGEST)
    if inflate.unconsumed_tail:
        raise ValueError(f"its text is longer than {LONGEST >> 20} MiB")
    return out


def _plain(rest: bytes) -> str:
    return rest.decode("latin-1")


def _compressed(rest: bytes) -> str:
    return _inflated(rest[1:]).decode("latin-1")


def _international(rest: bytes) -> str:
    packed, (_, _, text) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    return (_inflated(text) if packed else text).decode("utf-8")


TEXTS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
