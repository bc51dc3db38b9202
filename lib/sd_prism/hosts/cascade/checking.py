"""Whether a file can be the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...cascade import formats
from ...errors import PrismError

NEEDED = ("stage_c", "text")
OF_DECODER = "the panel Prism Cascade offers it as decoder"


def role(path: str) -> str:
    """What a file is of Stable Cascade; "" for any other."""
    try:
        return formats.inspect(path).role
    except PrismError:
        return ""


def checked(path: Path, hints: Mapping[str, str] = {}) -> formats.CascadeFile:
    """A main file; raises PrismError for one that is no checkpoint by itself, `hints` say what other parts are for."""
    file = formats.inspect(path)
    if file.role != "main":
        what = "the decoder" if file.role == "decoder" else formats.TITLES[file.role]
        hint = OF_DECODER if file.role == "decoder" else hints.get(file.role, "")
        raise PrismError(
            f"{path.name} is {what} of Stable Cascade; choose its main file, which has stage C, as checkpoint"
            f"{hint and f'; {hint}'}"
        )
    problems = [text for part in NEEDED if (text := file.part(part).problems())]
    if problems:
        raise PrismError(f"{path.name} cannot be loaded. {' '.join(problems)}. Download it again, or take another file")
    return file
