"""Files that the user must not lose, and their names."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from .errors import PrismError

LONGEST = 200  # bytes of a name, which leaves room for an ending and a draft's number in the 255 of most disks
FORBIDDEN = frozenset('<>:"/\\|?*')  # to Windows
DEVICE = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def new_name(text: str, ending: str, kept: tuple[str, ...] = ()) -> str:
    """A file's name as a person wrote it, with or without its ending, made sure to be one on every system.

    Args:
        ending: what the name gets, such as ".safetensors".
        kept: endings that the name must not have before that one.

    Raises PrismError that says what is wrong with it.
    """
    name = text.strip()
    name = name[: -len(ending)] if name.lower().endswith(ending) else name
    for wrong, why in (
        (not name, "write one"),
        (not name.isprintable(), "it has characters that cannot be seen"),
        (not FORBIDDEN.isdisjoint(name), f"write one without folders and {' '.join(sorted(FORBIDDEN))}"),
        (name != name.strip(" ."), "it must not begin or end with a dot or blank"),
        (DEVICE.fullmatch(name), "Windows has a device of that name"),
        (name.lower().endswith(kept), f"a name must not end in {' or '.join(kept)}"),
        (len(name.encode(errors="replace")) > LONGEST, f"it is longer than {LONGEST} bytes"),
    ):
        if wrong:
            raise PrismError(f'"{name[:40]}" is no name for a file; {why}')
    return name + ending


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


def write_whole(path: str | Path, content: str | bytes, *, encoding: str = "utf8") -> None:
    """Write `content` so that the file is the old or the new one, whole, even when the process is killed.

    Raises:
        OSError: the file is as it was.
    """
    file = Path(os.path.realpath(path))
    draft = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with draft.open("wb") as stream:
            stream.write(content.encode(encoding) if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Alone among all processes and threads that ask for this file's lock; the system frees that of a dead process.

    Raises:
        OSError: the file cannot be made, or another program holds it.
    """
    with open(path, "ab") as stream:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)  # closing frees it
        else:
            import fcntl

            with contextlib.suppress(OSError):  # some network disks have no locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield
