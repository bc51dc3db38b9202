"""Folders and settings files, looked at without changing them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from .finding import Place

LITTLE_GB = 1.0


def check_folder(place: Place, folder: Path, costs: str, cure: str) -> None:
    """Whether files can be written into `folder`, or into the folder where it would be made."""
    parent = folder
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        why = "cannot be written to" if parent.is_dir() else "is a file, not a folder"
        place.missing(f"The folder {folder} cannot be used: {parent} {why}", costs, cure)
        return
    free = shutil.disk_usage(parent).free / 1e9
    if free < LITTLE_GB:
        place.risk(f"Only {free:.2f} GB are free in {folder}", "pictures and settings may not be saved", "make room")
    else:
        place.fine(f"{folder} can be written to, {free:.0f} GB free")


def read_settings(place: Place, file: Path, costs: str) -> dict:
    """A JSON file of settings; one that cannot be read is told about. No file is no settings."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        place.risk(f"{file} cannot be read ({error})", costs, "put a backup of it back, or repair it in an editor")
        return {}
    if isinstance(found, dict):
        return found
    place.risk(f"{file} does not hold settings", costs, "put a backup of it back, or remove it")
    return {}
