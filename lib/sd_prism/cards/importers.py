"""Presets and cards from files: our own and those of other programs. No foreign code is ever run."""

from __future__ import annotations

from ..errors import PrismError
from .preset import FORMAT, SEVERAL, Preset, parse


def read(source: bytes | str, file_name: str = "") -> list[Preset]:
    """All presets of a file's content, checked; `file_name` names those without a name of their own.

    Raises PrismError that says what could not be read.
    """
    where = file_name or "The text"
    try:
        text = source if isinstance(source, str) else source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrismError(f"{where} is no text in UTF-8: {error}") from error
    return _ours(parse(text, where), where)


def _ours(data: object, where: str) -> list[Preset]:
    if not isinstance(data, dict) or data.get("format") not in (FORMAT, SEVERAL):
        raise PrismError(f"{where} is no file of presets")
    several = data.get("presets") if data["format"] == SEVERAL else [data]
    if not isinstance(several, list):
        raise PrismError(f'{where}: "presets" must be a list')
    return [Preset.of_json(one, f"{where}, preset {number}") for number, one in enumerate(several, 1)]
