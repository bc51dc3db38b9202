"""A webui of AUTOMATIC1111's family: which one it is, and what in it is missing or risky for Prism."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import PrismError
from . import neighbours, packages
from .files import check_folder, read_settings
from .finding import Place

FOLDER = "sd-webui-prism"
PYTHON = ((3, 10), (3, 13))
# The same as in install.py; a test compares them.
NEEDED = {"torch": (2, 1), "safetensors": (0, 4), "numpy": (1, 26)}
NEWEST_GRADIO = (6, 31)
HOOK = "def process_before_every_sampling("


@dataclass(frozen=True)
class Kind:
    """A host: its name, the gradio that its page is written for (first to below last), and whether Prism was seen
    working in it."""

    name: str
    gradio: tuple[tuple[int, ...], tuple[int, ...]]
    remark: str = ""


UNTRIED = "Prism was written for it by its source, and has not been seen working in it"
A1111 = Kind("AUTOMATIC1111", ((3, 41), (4,)))
FORGE = Kind("Forge", ((4, 40), (5,)))
NEO = Kind("Forge Neo", ((4, 40), (5,)), UNTRIED)
REFORGE = Kind("reForge", ((3, 41), (4,)))
CLASSIC = Kind("Forge Classic", ((3, 41), (4,)), UNTRIED)
SD_NEXT = Kind("SD.Next", ((3, 43), (4,)))


def kind_of(folder: Path) -> Kind:
    """The host, by what only it has."""
    if (folder / "installer.py").is_file() and (folder / "modules").is_dir():
        return SD_NEXT
    if (folder / "modules_forge").is_dir():
        if (folder / "backend").is_dir():
            return FORGE if (folder / "modules" / "sd_hijack.py").is_file() else NEO
        return CLASSIC if (folder / "extensions-builtin" / "xyz").is_dir() else REFORGE
    if (folder / "launch.py").is_file() and (folder / "modules" / "processing.py").is_file():
        return A1111
    raise PrismError(f"{folder} is no webui: it has no launch.py beside a folder modules; give its folder with --webui")


def version_of(folder: Path) -> str:
    """What the host's own files say of its version."""
    own = _text(folder / "modules_forge" / "forge_version.py")
    told = re.findall(r"^(?:version|release)\s*=\s*['\"]([^'\"]+)", own, re.M)
    newest = re.search(r"^##?\s+(?:Update for\s+)?(\S*\d\S*)", _text(folder / "CHANGELOG.md"), re.M)
    return told[-1] if told else newest[1] if newest else "of unknown version"


def look(folder: Path, python: Path | None = None) -> Place:
    """Everything that can be read in a webui's folder; nothing of it is run or changed.

    Args:
        python: the one that runs the webui, if it is not in its folder venv.
    """
    folder = folder.expanduser().resolve()
    kind = kind_of(folder)
    place = Place(f"{kind.name} {version_of(folder)}", str(folder))
    if kind.remark:
        place.risk(f"This is {kind.name}", kind.remark)
    if kind is not SD_NEXT and HOOK not in _text(folder / "modules" / "scripts.py"):
        cure = "update the webui, to 1.10 or newer if it is AUTOMATIC1111"
        place.missing("This webui has no hook before every sampling", "FreeU changes nothing", cure)
    _check_packages(place, _environment(folder, python), kind)
    settings = read_settings(place, folder / "config.json", "the webui starts with its default settings")
    read_settings(place, folder / "ui-config.json", "the page begins with the webui's own values")
    check_folder(place, folder, "no picture, setting or preset is kept", "give yourself the right to write there")
    _check_extension(place, folder, settings)
    neighbours.check(place, folder, settings)
    return place


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _environment(folder: Path, python: Path | None) -> Path | None:
    if python is not None:
        return python.absolute().parent.parent  # not resolved: that would leave the environment
    return next((folder / name for name in ("venv", ".venv") if (folder / name).is_dir()), None)


def _check_packages(place: Place, environment: Path | None, kind: Kind) -> None:
    site = packages.site_packages(environment) if environment else None
    if environment is None or site is None:
        cure = "name the Python that runs the webui with --webui-python"
        place.risk("No folder venv with packages was found", "the versions of torch and gradio stay unknown", cure)
        return
    low, high = PYTHON
    python = packages.python_of(environment)
    if python and not low <= python <= high:
        wanted = f"Python {packages.dotted(low)} to {packages.dotted(high)}"
        place.missing(f"The webui runs on Python {packages.dotted(python)}", "Prism is not loaded", f"use {wanted}")
    there = packages.installed(site)
    for name, least in NEEDED.items():
        _check_least(place, name, there.get(name), least)
    _check_gradio(place, there.get("gradio"), kind)


def _check_least(place: Place, name: str, version: str | None, least: tuple[int, ...]) -> None:
    wanted = f"{name} {packages.dotted(least)}"
    cure = f"update the webui's own packages to {wanted} or newer"
    if version is None:
        place.missing(f"{name} is not installed in the webui", "Prism's panels fail", cure)
    elif packages.numbers(version) < least:
        place.missing(f"{name} is {version}; Prism needs {wanted} or newer", "Prism's panels fail", cure)
    else:
        place.fine(f"{name} {version}")


def _check_gradio(place: Place, version: str | None, kind: Kind) -> None:
    cure = "install the packages of the webui's own requirements again"
    if version is None:
        place.missing("gradio is not installed in the webui", "there is no page", cure)
        return
    low, end = kind.gradio
    found = packages.numbers(version)
    if found[:2] > NEWEST_GRADIO:
        newest = packages.dotted(NEWEST_GRADIO)
        place.risk(f"gradio {version} is too new: Prism is tested up to {newest}", "panels may not be shown", cure)
    elif not low <= found < end:
        written = f"{kind.name} is written for {packages.dotted(low)} and newer, below {packages.dotted(end)}"
        place.risk(f"gradio is {version}; {written}", "the page may not open", cure)
    else:
        place.fine(f"gradio {version}")


def _check_extension(place: Place, folder: Path, settings: dict) -> None:
    extensions = neighbours.folders(folder / "extensions")
    copies = [one for one in extensions if (one / "lib" / "sd_prism").is_dir()]
    broken = [one for one in extensions if one.is_symlink() and not one.exists()]
    for one in broken:
        place.risk(f"{one} is a link to a folder that is gone", "that extension is not loaded", "remove the link")
    if not copies:
        cure = f"clone it into {folder / 'extensions' / FOLDER}, or use Install from URL"
        place.missing("Prism is not installed in this webui", "none of its panels", cure)
        return
    if len(copies) > 1:
        names = ", ".join(one.name for one in copies)
        cure = "remove all but one"
        place.missing(f"{len(copies)} copies of Prism are installed: {names}", "all but the first refuse to load", cure)
    for one in copies:
        _check_copy(place, one, settings)


def _check_copy(place: Place, one: Path, settings: dict) -> None:
    if one.name != FOLDER:
        costs = "the webui orders extensions by their folder's name, so other extensions' load order misses Prism"
        place.risk(f"Prism lies in a folder named {one.name}", costs, f"rename it to {FOLDER}")
    if one.is_symlink():
        place.fine(f"Prism is linked from {one.resolve()}; an update in the webui changes that folder")
    if not list((one / "scripts").glob("prism_*.py")):
        place.missing(f"{one} has no scripts/prism_*.py", "none of Prism's panels", "clone Prism again")
    if one.name in settings.get("disabled_extensions", []):
        place.missing("Prism is switched off in the webui's list of extensions", "none of its panels", "tick it there")
    elif settings.get("disable_all_extensions", "none") not in ("none", ""):
        place.missing("The webui is set to load no extensions", "none of Prism's panels", "allow extensions there")
    else:
        place.fine(f"Prism in {one}")
