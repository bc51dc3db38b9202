"""Installed packages, read from the names of their dist-info folders; nothing is imported or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def site_packages(environment: Path) -> Path | None:
    """The folder of packages of a virtual environment, on any system."""
    found = sorted(environment.glob("lib/python3*/site-packages")) + sorted(environment.glob("Lib/site-packages"))
    return found[-1] if found else None


def python_of(environment: Path) -> tuple[int, ...] | None:
    """The Python that made the environment, from its pyvenv.cfg."""
    try:
        text = (environment / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.M)
    return (int(found[1]), int(found[2])) if found else None


def installed(folder: Path) -> dict[str, str]:
    """Version by normalised name."""
    return dict(_names(folder))


def _names(folder: Path) -> Iterator[tuple[str, str]]:
    for entry in folder.glob("*.dist-info"):
        name, _, version = entry.name.removesuffix(".dist-info").partition("-")
        if version and (entry / "METADATA").is_file():
            yield normalised(name), version


def normalised(name: str) -> str:
    """Names that differ in case, dash, dot and underscore only are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    """ "2.1.2+cu121" as (2, 1, 2)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def dotted(version: tuple[int, ...]) -> str:
    """(2, 1) as "2.1"."""
    return ".".join(map(str, version))
