"""The extensions of this run, and their metadata.ini: the studio's own, then those in the data folder."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modules import errors, paths


@dataclass
class CallbackOrderInfo:
    """Which callbacks one callback comes before and after."""

    name: str
    before: list[str]
    after: list[str]


class ExtensionMetadata:
    """metadata.ini of one extension; a file that cannot be read counts as empty."""

    filename = "metadata.ini"

    def __init__(self, path: str, canonical_name: str) -> None:
        self.config = configparser.ConfigParser()
        self.canonical_name = canonical_name
        try:
            self.config.read(os.path.join(path, self.filename), encoding="utf8")
        except configparser.Error:
            errors.report(f"{path}/{self.filename} could not be read", exc_info=True)

    def _words(self, section: str, key: str) -> list[str]:
        text = self.config.get(section, key, fallback="") if self.config.has_section(section) else ""
        return [word for word in re.split(r"[,\s]+", text.lower()) if word]

    def get_script_requirements(self, field: str, section: str, extra_section: str | None = None) -> list[str]:
        """The names under `field` in both sections."""
        return self._words(section, field) + (self._words(extra_section, field) if extra_section else [])

    def list_callback_order_instructions(self) -> Iterator[CallbackOrderInfo]:
        """The [callbacks/...] sections."""
        for section in self.config.sections():
            if section.startswith("callbacks/"):
                before, after = self._words(section, "Before"), self._words(section, "After")
                yield CallbackOrderInfo(section[len("callbacks/") :], before, after)


@dataclass
class Extension:
    """One extension folder."""

    name: str
    path: str
    enabled: bool = True
    is_builtin: bool = False
    canonical_name: str = field(init=False)
    metadata: ExtensionMetadata = field(init=False)

    def __post_init__(self) -> None:
        # The folder's name, not the Name field: the host overwrites that field too.
        self.canonical_name = self.name.lower()
        self.metadata = ExtensionMetadata(self.path, self.canonical_name)

    def files(self, subdir: str, *suffixes: str) -> list[Path]:
        """The files directly inside `subdir` with one of the suffixes, by name."""
        folder = Path(self.path) / subdir
        if not folder.is_dir():
            return []
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file())


extensions: list[Extension] = []
_own: list[Path] = []


def configure(folders: list[Path]) -> None:
    """The folders of the studio's own extensions, which come before the installed ones."""
    _own[:] = folders


def list_extensions() -> None:
    """Look again: a folder may have come or gone, or the setting `disabled_extensions` may have changed."""
    from modules import shared

    installed = Path(paths.extensions_dir)
    found = [folder for folder in sorted(installed.iterdir()) if folder.is_dir()] if installed.is_dir() else []
    disabled = shared.opts.disabled_extensions
    extensions[:] = [Extension(folder.name, str(folder), folder.name not in disabled) for folder in [*_own, *found]]


def active() -> list[Extension]:
    """The enabled extensions; the setting `disable_all_extensions` may leave only the host's own, or none."""
    from modules import shared

    kept = {"extra": (True,), "all": ()}.get(shared.opts.disable_all_extensions, (True, False))
    return [extension for extension in extensions if extension.enabled and extension.is_builtin in kept]


def find_extension(filename: str) -> Extension | None:
    """The extension that a file belongs to."""
    folders = Path(filename).resolve().parents
    return next((x for x in extensions if Path(x.path).resolve() in folders), None)
