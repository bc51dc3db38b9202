"""What rendering takes from a webui: the user's files, the loaded model's dialect, the host's way of escaping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import prompt_parser, shared

from ...errors import PrismError
from ...namespaces.detect import detect
from ...namespaces.registry import Registry
from ...namespaces.render import Options
from ...settings import AUTOMATIC, NAMESPACES, Value
from ...settings.namespaces import TITLES, options, registry
from .. import data
from ..checkpoints import texts
from ..webui import family, loaded_model

SD_NEXT = {"native": "sdnext", "a1111": "sdnext_a1111"}

OFF: dict[str, Value] = NAMESPACES.read({"enabled": False})
panels = {"img2img": OFF, "txt2img": OFF}
"""What the page's panels show, by tab; the one that was moved last comes last."""


def loaded(tab: str, *values: Value) -> None:
    """The panel of a tab shows these values on a page that opens."""
    try:
        panels[tab] = NAMESPACES.read(values)
    except PrismError:  # half a word is no error while it is being typed
        panels[tab] = {**panels[tab], "enabled": False}


def moved(tab: str, *values: Value) -> None:
    """The panel of a tab shows these values since it was moved."""
    panels[tab] = panels.pop(tab)
    loaded(tab, *values)


def panel() -> dict[str, Value]:
    """The values of the panel that was moved last, on whichever tab."""
    return next(reversed(panels.values()))


def registry_now(given: Mapping[str, Any]) -> Registry:
    """The namespaces that a job with these settings would have; for them see `values_now`."""
    return registry_of(values_now(given))


def options_now(given: Mapping[str, Any]) -> Options:
    """How a job with these settings would be rendered; for them see `values_now`."""
    return options_of(values_now(given))


def values_now(given: Mapping[str, Any]) -> dict[str, Value]:
    """The values of a job with these settings: over those of the panel of "tab", else over the defaults, as by API."""
    settings = {name: value for name, value in given.items() if name != "tab"}
    return resolved(NAMESPACES.over(panels.get(str(given.get("tab")), OFF), settings))


def resolved(values: dict[str, Value]) -> dict[str, Value]:
    """With the loaded model's dialect by its name in place of the automatic one, where it is known."""
    if values["dialect"] != AUTOMATIC:
        return values
    return {**values, "dialect": TITLES.get(detected() or "", AUTOMATIC)}


def user_files(kind: str = "json") -> list[Path]:
    """The user's own namespaces, or with "csv" the values for completion."""
    return sorted((data.folder() / "namespaces").glob(f"*.{kind}"))


def detected() -> str | None:
    """The dialect of the loaded checkpoint."""
    info = getattr(loaded_model(), "sd_checkpoint_info", None)
    if info is None:
        return None
    return detect(info.name, sha256=info.sha256 or "", family=family(), metadata=texts(info))


def target() -> str:
    """How this host wants a literal written."""
    if hasattr(prompt_parser, "literal"):
        return "studio"
    return SD_NEXT.get(getattr(shared.opts, "prompt_attention", ""), "a1111")


def registry_of(values: Mapping[str, Value]) -> Registry:
    """The namespaces of these settings, with the user's own."""
    return registry(values, user_files())


def options_of(values: Mapping[str, Value]) -> Options:
    """These settings as the renderer takes them."""
    return options(values, target(), user_files())
