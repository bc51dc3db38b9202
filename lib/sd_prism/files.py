"""Files that the user must not lose."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path


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
