"""What a user is told of a file of Stable Cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import PrismError
from .formats import NETWORKS, CascadeFile, Part, inspect, pair, some


def report(path: str | Path) -> dict[str, Any]:
    """A file's facts: layout, parts, what is wrong with them, and the decoder that goes with it.

    Raises:
        PrismError: what `formats.inspect` refuses.
    """
    file = inspect(path)
    told: dict[str, Any] = {
        "file": str(file.path),
        "family": "cascade",
        "layout": file.layout,
        "role": file.role,
        "parts": [_part(part, file) for part in file.parts.values()],
    }
    problems = [one for one in map(_problems, file.parts.values()) if one]
    if file.unknown:
        problems.append(f"of no part: {len(file.unknown)} unknown ({some(file.unknown)})")
    if file.role == "main":
        told["decoder"] = _decoder(file)
    return told | {"problems": problems, "notes": list(file.notes)}


def _part(part: Part, file: CascadeFile) -> str:
    size = f"{part.bytes / 1e9:.2f} GB" if part.bytes >= 1e8 else f"{part.bytes / 1e6:.1f} MB"
    words = [f"{part.title} {part.variant}".strip(), part.dtype, size]
    elsewhere = [one.name for one in part.files if one != file.path]
    if elsewhere:
        words.append(f"in {' and '.join(elsewhere)}")
    if file.role == "decoder" and part.name == "text":
        words.append("not read: the main file's is used")
    if part.name not in NETWORKS:
        words.append("not used here")
    return ", ".join(words)


def _problems(part: Part) -> str:
    try:
        return part.problems() if part.name in NETWORKS else ""
    except PrismError as error:
        return str(error)


def _decoder(file: CascadeFile) -> str:
    """The decoder among the files of the folder, in words."""
    try:
        found = pair(file.path, sorted(file.path.parent.glob("*.safetensors")))
    except PrismError as error:
        return str(error)
    return "none in this folder" if found is None else found.name
