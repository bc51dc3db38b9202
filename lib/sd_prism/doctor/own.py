"""The studio on this machine: Python, environment, packages, folders, checkpoints."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from ..miniatures import CHECKPOINTS
from ..studio.host import data_folder
from . import packages
from .files import check_folder, read_settings
from .finding import Place

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ((3, 10), (3, 12))
ENVIRONMENT_GB = 3
SET_UP = "run: python prism.py"
EVERYTHING = "nothing starts"
COSTS = {
    "torch": EVERYTHING,
    "numpy": EVERYTHING,
    "safetensors": "no checkpoint can be read",
    "pillow": "no picture can be made",
    "diffusers": "no checkpoint can be loaded",
    "transformers": "no prompt can be understood",
    "tokenizers": "no prompt can be understood",
    "accelerate": "checkpoints load slowly",
    "gradio": "no page; the command generate still needs it for the panels",
    "fastapi": "no page and no HTTP routes",
    "uvicorn": "no page and no HTTP routes",
    "torchsde": "the SDE samplers fail",
}


def look(data_dir: Path | None = None) -> Place:
    """The stand-alone studio."""
    place = Place("Prism's studio", str(ROOT))
    _check_python(place)
    _check_environment(place)
    _check_checkpoints(place)
    folder = data_folder(data_dir)
    check_folder(place, folder, "no picture, setting or preset is kept", "name another folder with --data-dir")
    read_settings(place, folder / "config.json", "all settings are the defaults until it is repaired")
    read_settings(place, folder / "ui-config.json", "the page begins with its own values, not with yours")
    return place


def _check_python(place: Place) -> None:
    low, high = PYTHON
    name = f"Python {sys.version.split()[0]} ({sys.executable})"
    if low <= sys.version_info[:2] <= high:
        place.fine(name)
    else:
        wanted = f"use Python {packages.dotted(low)} to {packages.dotted(high)}"
        place.missing(f"{name} is not one that Prism runs on", EVERYTHING, wanted)


def _check_environment(place: Place) -> None:
    environment = ROOT / ".venv"
    folder = packages.site_packages(environment)
    if folder is None:
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < ENVIRONMENT_GB:
            place.missing(f"{ROOT} has {free:.1f} GB free, the packages need {ENVIRONMENT_GB}", EVERYTHING, "make room")
        place.missing("The environment .venv is not set up yet", EVERYTHING, SET_UP)
        return
    there = packages.installed(folder)
    lacking = {name: version for name, version in pins().items() if there.get(name, "").split("+")[0] != version}
    for name, version in lacking.items():
        costs = COSTS.get(name, "features that need it fail")
        if name not in there:
            place.missing(f"The package {name} {version} is not installed", costs, SET_UP)
        else:
            place.risk(f"{name} is {there[name]}; Prism is tested with {version}", f"perhaps {costs}", SET_UP)
    if not lacking:
        place.fine(f"All {len(pins())} packages have the tested versions")


def pins() -> dict[str, str]:
    """Version by name, from the list of dependencies in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)
    found = re.findall(r'^\s*"([\w.-]+)==([^";]+)', block[1] if block else "", re.M)
    return {packages.normalised(name): version for name, version in found}


def _check_checkpoints(place: Place) -> None:
    shipped = [file for file in CHECKPOINTS.glob("*.safetensors") if file.stat().st_size > 2**20]
    if shipped:
        place.fine(f"{len(shipped)} shipped checkpoint{'s' * (len(shipped) > 1)}")
    else:
        cure = "clone the repository again, or give a checkpoint with --ckpt"
        place.missing(
            f"The shipped checkpoint is not in {CHECKPOINTS}", "the first start has nothing to draw with", cure
        )
