"""Other extensions of a webui that act on the same things as Prism, or that break others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..settings import PANELS
from .finding import Place


@dataclass(frozen=True)
class Neighbour:
    """A known extension: a file or folder that only it has, and what it does beside Prism."""

    name: str
    sign: str
    costs: str
    cure: str


KNOWN = (
    Neighbour(
        "sd-webui-freeu",
        "lib_free_u",
        "with both panels on FreeU is applied twice, and after Reload UI that extension applies its own part twice",
        "use one of the two panels at a time, and restart the webui rather than reload its page",
    ),
    Neighbour(
        "the built-in FreeU Integrated",
        "scripts/forge_freeu.py",
        "with both panels on FreeU is applied twice",
        "use one of the two panels at a time",
    ),
    Neighbour(
        "sd-webui-runtime-block-merge",
        "scripts/runtime_block_merge.py",
        "its merge stays in the model after it is switched off, so pictures do not follow from their infotext",
        "press its Unload button before you compare pictures",
    ),
)
CLOSED = ("lib", "scripts")


def folders(parent: Path) -> list[Path]:
    """The extensions in a folder, by name; links that lead nowhere are among them."""
    if not parent.is_dir():
        return []
    return sorted(one for one in parent.iterdir() if one.is_dir() or one.is_symlink())


def check(place: Place, webui: Path, settings: dict) -> None:
    """What each enabled extension costs Prism."""
    off = settings.get("disabled_extensions", [])
    for one in [*folders(webui / "extensions"), *folders(webui / "extensions-builtin")]:
        if one.name in off or (one / "lib" / "sd_prism").is_dir():
            continue
        for known in KNOWN:
            if one.name == known.name or (one / known.sign).exists():
                place.risk(f"{one.name} is installed ({known.name})", known.costs, known.cure)
        _check_closed(place, one)
        _check_titles(place, one, [panel.title for panel in PANELS])


def _check_closed(place: Place, one: Path) -> None:
    for name in CLOSED:
        if (one / name / "__init__.py").is_file():
            costs = f"every other extension that imports from {name} may fail to load; Prism itself does not"
            place.risk(f"{one.name} has a file {name}/__init__.py", costs, f"tell its author, or remove {one.name}")


def _check_titles(place: Place, one: Path, titles: Sequence[str]) -> None:
    for file in sorted((one / "scripts").glob("*.py")):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for title in titles:
            if f'return "{title}"' in text or f"return '{title}'" in text:
                costs = "requests by that name reach whichever was loaded first"
                place.risk(f"{one.name} has a script titled {title} too", costs, f"remove {one.name}")
