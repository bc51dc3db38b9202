"""Presets and cards from files: our own and those of other programs. No code of theirs is ever run.

a PNG, or the text in it                       a preset for each Prism panel in it, and all together a card
sd-webui-freeu's presets.json, or one state    FreeU
Forge's freeu_presets.py                       FreeU
lists of block weights (see merge/others.py)   merge
A1111's styles.csv                             cards with prompts only
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import infotext
from ..errors import PrismError
from ..freeu import others as freeu
from ..merge import others as weights
from ..merge.presets import PRESETS, find
from ..schedule import short
from ..settings import CARDS, CUSTOM, FREEU, MERGE, PANELS, Panel, Value
from . import card, pictures
from .preset import CARD, FEATURES, FORMAT, SEVERAL, Preset, parse, sparse
from .saving import part_of

UNNAMED = "Imported"
PLACEHOLDER = "{prompt}"
STYLE = {"name", "prompt"}
SIDES = {"prompt": "prompt", "negative": "negative_prompt"}  # of a card: a style's column
FORGE = "presets_custom"
MARK = "\ufeff"  # of Windows' editors
OWN = " (own)"
SAME = 1e-6  # published tables are rounded
# Of a list's weights by their number, those of the blocks.
BLOCKS = {19: slice(None), 20: slice(1, None), 21: slice(1, -1), 25: slice(None), 26: slice(1, None), 27: slice(0, 25)}
Found = list[Preset]


def read(source: bytes | str, file_name: str = "") -> Found:
    """All presets of a file's content, checked; `file_name` names those without a name of their own.

    Raises PrismError that says what could not be read.
    """
    where, stem = file_name or "The text", Path(file_name).stem or UNNAMED
    try:
        text = (_text(source) if isinstance(source, bytes) else source).removeprefix(MARK)
        return [one.checked(where) for one in _found(text, stem)]
    except (RecursionError, MemoryError) as error:
        raise PrismError(f"{where} is nested too deeply") from error
    except PrismError as error:
        raise error if str(error).startswith(where) else PrismError(f"{where}: {error}") from error


def _text(source: bytes) -> str:
    if source.startswith(pictures.PNG):
        return pictures.text_of(source)
    coding = "utf-16" if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return source.decode(coding)
    except UnicodeDecodeError as error:
        raise PrismError(f"it is neither a PNG nor a text in UTF-8: {error}") from error


def _found(text: str, stem: str) -> Found:
    """What stands in a text, told by what it looks like."""
    data = _mapping(text)
    if data is not None:
        return _ours(data) if data.get("format") in (FORMAT, SEVERAL) else _foreign(data, text, stem)
    titles = {name.strip().casefold() for name in text.partition("\n")[0].split(",")}
    if titles >= STYLE:
        return _styles(text)
    if pictures.parameters(text):
        return _infotext(text, stem)
    return _freeu(text, stem) if FORGE in text else _weights(text)


def _mapping(text: str) -> dict[str, Any] | None:
    """The text as an object of JSON, if it is one."""
    try:
        data = parse(text, "")
    except PrismError:
        return None
    return data if isinstance(data, dict) else None


def _ours(data: Mapping[str, Any]) -> Found:
    several = data.get("presets") if data["format"] == SEVERAL else [data]
    if not isinstance(several, list):
        raise PrismError('"presets" must be a list')
    return [Preset.of_json(one, f"preset {number}") for number, one in enumerate(several, 1)]


# --- other programs'


def _foreign(data: Mapping[str, Any], text: str, stem: str) -> Found:
    states = [data, *(one for one in data.values() if isinstance(one, dict))]
    return _freeu(text, stem) if any(set(one) & {*freeu.STATE} for one in states) else _weights(text)


def _freeu(text: str, stem: str) -> Found:
    return [_of_freeu(name or stem, one) for name, one in freeu.from_text(text).items()]


def _of_freeu(name: str, found: freeu.Read) -> Preset:
    return Preset(FREEU.name, name, _kept(FREEU, FREEU.read(found.values)), notes=" ".join(found.notes))


def _weights(text: str) -> Found:
    """Block weights; those that are classic presets anyway are left out."""
    found, listed = Found(), weights.presets_of(text)
    if not listed:
        raise PrismError("there is no preset in it, neither of ours nor of a program that is known")
    for one in listed:
        classic = find(one.name)
        if classic is None or not _is_classic(one, classic):
            name = one.name if classic is None else f"{one.name}{OWN}"
            found.append(Preset(MERGE.name, name, {"weights": " ".join(map(short, one.weights))}))
    return found


def _is_classic(listed: weights.Listed, name: str) -> bool:
    theirs = listed.weights[BLOCKS[len(listed.weights)]]
    return all(math.isclose(*pair, abs_tol=SAME) for pair in zip(theirs, PRESETS[name].weights(len(theirs))))


def _styles(text: str) -> Found:
    """A1111's styles, whose prompts may have a place for the user's own."""
    found = Found()
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True):
            style = {str(key).strip().casefold(): str(value or "") for key, value in row.items()}
            sides = {side: _around(style.get(column, "")) for side, column in SIDES.items()}
            values = {side: places for side, places in sides.items() if places}
            if values and style["name"] and not style["name"].startswith("#"):
                found.append(Preset(CARD, style["name"], values))
    except csv.Error as error:
        raise PrismError(f"it is no table of styles: {error}") from error
    return found


def _around(text: str) -> dict[str, str]:
    before, placeholder, after = text.partition(PLACEHOLDER)
    places = {"before": before, "after": after} if placeholder else {"after": before}
    return {place: words for place, words in places.items() if words.strip(" ,")}


# --- pictures


def _infotext(text: str, stem: str) -> Found:
    params = pictures.parameters(text)
    presets = [preset for panel in PANELS if panel.name in FEATURES and (preset := _panel(panel, params, stem))]
    return [*presets, _card(params, presets, stem)]


def _panel(panel: Panel, params: Mapping[str, str], stem: str) -> Preset | None:
    """The preset that a panel's key is, under the name that it had where the picture was made."""
    if panel.title in params:
        written = dict(infotext.items(params[panel.title]))
        named = written.get("preset", "") if panel.presets else ""
        name = stem if not named or panel.names_a_value(named) else named
        return Preset(panel.name, name, _kept(panel, infotext.read(panel, params[panel.title])))
    found = freeu.from_infotext(params) if panel is FREEU else None
    return _of_freeu(stem, found) if found else None


def _card(params: Mapping[str, str], presets: Found, stem: str) -> Preset:
    """The webui's own settings, the negative prompt and the panels; the prompt stays the user's."""
    values: dict[str, Any] = {"host": {}}
    for key, value in card.of_infotext(params).items():
        values["host"][key.removeprefix("host.")] = value
    if params.get(pictures.NEGATIVE[:-1]):
        values["negative"] = {"before": params[pictures.NEGATIVE[:-1]]}
    panels = {panel.name: panel for panel in PANELS}
    values |= {one.feature: _part(panels[one.feature], params, one.values) for one in presets}
    match = {"names": [params["Model"]] if "Model" in params else []}
    if "Model hash" in params:
        match["hashes"] = [params["Model hash"]]
    named = dict(infotext.items(params.get(CARDS.title, ""))).get("card", stem)
    return Preset(CARD, named, values, extra={"match": match})


def _part(panel: Panel, params: Mapping[str, str], values: Mapping[str, Value]) -> Mapping[str, Value]:
    """A panel's group; under the name of a preset all of it, for other presets may have the same values."""
    written = infotext.loads(panel, params.get(panel.title))
    is_named = bool(panel.presets) and panel.title in params and written["preset"] != CUSTOM
    return part_of(panel, written) if is_named else {**panel.on, **values}


def _kept(panel: Panel, values: Mapping[str, Value]) -> dict[str, Value]:
    return sparse(panel, {name: values[name] for name in panel.kept}, panel.title)
