"""Saved presets and cards on the command line, where no webui is open."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cards import FEATURES, Preset, Store
from ..cards.card import HOST, SET, Card
from ..cards.change import applied
from ..cards.preset import BUILT_IN, CARD
from ..errors import PrismError
from . import host

SETTING = "prism_data_dir"  # of the webui, for the folder of Prism's own
SIZE = ("width", "height")
TEXTS = {"prompt": "prompt", "negative": "negative_prompt"}  # of a request


def store(data_dir: Path | None) -> Store:
    """The presets that the studio would have with this --data-dir."""
    folder = host.data_folder(data_dir)
    if data_dir is None and not os.environ.get("PRISM_DATA_DIR"):
        folder = Path(_setting(folder / "config.json") or folder).expanduser()
    return Store(folder / "prism" / "presets")


def _setting(config: Path) -> str:
    try:
        return str(json.loads(config.read_text("utf-8")).get(SETTING) or "").strip()
    except (OSError, ValueError, AttributeError):
        return ""


def by_card(card: Card, request: Mapping[str, Any], lacking: Mapping[str, str]) -> dict[str, Any]:
    """A request in the API's field names with a card's values under its own; its prompts hold both.

    Args:
        lacking: flat names of what the host cannot do.
    """
    known = {key: value for key, value in card.values.items() if key not in lacking}
    sized = "init_images" not in request  # a picture to start from has its own size
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for one in HOST:
        value = known.get(f"host.{one.name}")
        if value is not None and (sized or one.name not in SIZE):
            (options if one.option else fields)[one.option or one.attribute] = value
    texts = applied(card, {side: str(request.get(field, "")) for side, field in TEXTS.items()})
    scripts = {panel.title: {"args": [part]} for panel in SET if (part := _part(known, panel.name))}
    return {
        **fields,
        **request,
        **{TEXTS[side]: texts[side] for side in TEXTS if side in texts},
        "override_settings": {**options, **request.get("override_settings", {})},
        "alwayson_scripts": {**scripts, **request.get("alwayson_scripts", {})},
    }


def _part(values: Mapping[str, Any], panel: str) -> dict[str, Any]:
    return {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{panel}.")}


# --- the commands


def add_arguments(cards: argparse.ArgumentParser, presets: argparse.ArgumentParser) -> None:
    """The options of the two commands."""
    presets.add_argument("feature", nargs="?", help=f"a panel's presets: {', '.join(FEATURES)}")
    for command in (cards, presets):
        command.add_argument("name", nargs="?", help="show this one, as its file has it")
        command.add_argument("--search", default="", help="only those with these words")
        command.add_argument("--export", type=Path, metavar="FILE", help="write them to one file")
        command.add_argument("--import", type=Path, metavar="FILE", dest="import_", help="save what a file or PNG has")
        command.add_argument("--data-dir", type=Path, help="where models, outputs and settings are kept")
        command.add_argument("--json", action="store_true", help="print them as JSON")


def tell(args: argparse.Namespace) -> int:
    """Lists, shows, exports or imports presets; those of `args.feature` only, if it has one."""
    known = store(args.data_dir)
    if args.import_ is not None:
        return _print(known.import_(args.import_), args.json)
    found = [known.get(args.feature, args.name)] if args.name else known.list(args.feature, args.search)
    if args.export is not None:
        return _export(known, found if args.name else [one for one in found if one.origin != BUILT_IN], args.export)
    if args.name:
        print(json.dumps(found[0].to_json(), ensure_ascii=False, indent=1))
        return 0
    return _print(found, args.json)


def _export(known: Store, found: list[Preset], file: Path) -> int:
    if not found:
        raise PrismError("There is nothing to export: no preset of your own; name a built-in one to have that")
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(known.export(found))
    except OSError as error:
        raise PrismError(f"--export {file} could not be written: {error.strerror}; choose another file") from error
    print(file)
    return 0


def _print(found: list[Preset], as_json: bool) -> int:
    if as_json:
        told = [{**one.to_json(), "origin": one.origin} for one in found]
        print(json.dumps(told, ensure_ascii=False, indent=1))
        return 0
    for one in found:
        print("\t".join((one.name if one.feature == CARD else f"{one.feature}: {one.name}", one.origin, one.author)))
    return 0
