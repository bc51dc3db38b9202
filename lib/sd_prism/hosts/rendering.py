"""What rendering takes from a webui: the user's files, the loaded model's dialect, the host's way of escaping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import paths, prompt_parser, shared

from ..errors import PrismError
from ..namespaces.detect import detect
from ..namespaces.registry import Registry, for_dialect
from ..namespaces.render import Options
from ..settings import AUTOMATIC, NAMESPACES, Value
from ..settings.namespaces import ORDERS, TITLES, by_namespace, dialect_of, names, replacements, strengths, windows
from .webui import family, loaded_model

PASS = "pass"
SD_NEXT = {"native": "sdnext", "a1111": "sdnext_a1111"}

panel: dict[str, Value] = NAMESPACES.read({"enabled": False})
"""The values of the panel that was last moved on a page."""


def tell(*values: Value) -> None:
    """The page's panel has these values now."""
    global panel
    try:
        panel = NAMESPACES.read(values)
    except PrismError:  # half a word is no error while it is being typed
        panel = {**panel, "enabled": False}


def registry_now(dialect: str) -> Registry:
    """The namespaces of a dialect, by its name or title; of "" those that a job of the page's panel would have."""
    return registry_of(values_now({"dialect": dialect} if dialect else {}))


def options_now(given: Mapping[str, Any]) -> Options:
    """How a job of the page's panel would be rendered, with these settings over the panel's."""
    values = values_now({name: value for name, value in given.items() if name != "tab"})
    return options_of(values)


def values_now(given: Mapping[str, Any]) -> dict[str, Value]:
    """The values of a job of the page's panel, with these settings over them, the panel on."""
    return resolved(NAMESPACES.read({**panel, "enabled": True, **given}))


def resolved(values: dict[str, Value]) -> dict[str, Value]:
    """With the loaded model's dialect by its name in place of the automatic one, where it is known."""
    if values["dialect"] != AUTOMATIC:
        return values
    return {**values, "dialect": TITLES.get(detected() or "", AUTOMATIC)}


def user_files(kind: str = "json") -> list[Path]:
    """The user's own namespaces, or with "csv" the values for completion."""
    return sorted(Path(paths.data_path, "prism", "namespaces").absolute().glob(f"*.{kind}"))


def detected() -> str | None:
    """The dialect of the loaded checkpoint."""
    info = getattr(loaded_model(), "sd_checkpoint_info", None)
    if info is None:
        return None
    return detect(info.name, sha256=info.sha256 or "", family=family(), metadata=info.metadata)


def target() -> str:
    """How this host wants a literal written."""
    if hasattr(prompt_parser, "literal"):
        return "studio"
    return SD_NEXT.get(getattr(shared.opts, "prompt_attention", ""), "a1111")


def registry_of(values: Mapping[str, Value]) -> Registry:
    """The namespaces of these settings: the sets that they name, else those that their dialect wants."""
    dialect, sets = dialect_of(values["dialect"]), names(str(values["sets"]))
    if sets:
        return Registry.of(*sets, files=user_files())
    return for_dialect(dialect or PASS, files=user_files(), chosen=dialect is not None)


def options_of(values: Mapping[str, Value]) -> Options:
    """These settings as the renderer takes them."""
    registry = registry_of(values)
    return Options(
        dialect=dialect_of(values["dialect"]) or PASS,
        target=target(),
        registry=registry,
        strength=by_namespace(strengths(str(values["strength"])), registry),
        window=by_namespace(windows(str(values["window"])), registry),
        order=ORDERS[str(values["order"])],
        anti=bool(values["anti"]),
        isolate=frozenset(by_namespace(dict.fromkeys(names(str(values["isolate"]))), registry)),
        replace=by_namespace(replacements(str(values["replace"])), registry),
    )
