"""Files that the user must not lose."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path


def set_aside(path: str | Path) -> Path:
    """Rename a damaged file, so that no later save writes over it; returns its new, free name.

    Raises:
        OSError: the file is as it was.
    """
    file = Path(path)
    number, aside = 1, file.with_name(f"{file.name}.damaged")
    while os.path.lexists(aside):
        number += 1
        aside = file.with_name(f"{file.name}.damaged-{number}")
    return file.rename(aside)


def write_whole(path: str | Path, text: str, *, encoding: str = "utf8") -> None:
    """Write `text` so that the file is the old or the new one, whole, even when the process is killed.

    Raises:
        OSError: the file is as it was.
    """
    file = Path(os.path.realpath(path))
    draft = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with draft.open("w", encoding=encoding, newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
