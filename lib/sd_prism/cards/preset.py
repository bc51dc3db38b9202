"""One preset or card as a value, and as a file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ..errors import PrismError, UnknownName
from ..settings import AUTOMATIC, CARDS, MERGE, PANELS, Panel
from ..settings.merge import WEIGHTS

FORMAT, SEVERAL, VERSION = "prism.preset", "prism.presets", 1
CARD = "card"
FEATURES = (*(panel.name for panel in PANELS if "preset" in panel.names), CARD)
CARD_PARTS = ("host", "prompt", "negative", *FEATURES)
USER, BUILT_IN = "user", "built-in"
LONGEST_NAME = 120  # characters
LARGEST = 1 << 20  # bytes of a file
UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines


@dataclass(frozen=True)
class Preset:
    """Named values of one panel, or a card.

    Attributes:
        feature: the panel's name, or "card".
        values: what differs from the panel's defaults; names that this version does not know are kept.
        families: of models that it was made for; none: any.
        extra: what else stands in its file; `to_json` writes it back.
        origin: "user" or "built-in".
    """

    feature: str
    name: str
    values: Mapping[str, Any]
    author: str = ""
    notes: str = ""
    families: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    origin: str = USER

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        known = {
            "format": FORMAT,
            "version": VERSION,
            "feature": self.feature,
            "name": self.name,
            "author": self.author,
            "notes": self.notes,
            "base": list(self.families),
            "values": dict(self.values),
        }
        return {**known, **{key: value for key, value in self.extra.items() if key not in known}}

    @classmethod
    def of_json(cls, data: object, where: str, origin: str = USER) -> Preset:
        """A checked preset from a file's content; `where` names the file in errors.

        Raises PrismError that says what is wrong.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise PrismError(f'{where} is no preset of Prism; it must say "format": "{FORMAT}"')
        if not _is_whole(data.get("version")) or data["version"] < 1:
            raise PrismError(f'{where}: "version" must be a whole number from 1 on')
        if data["version"] > VERSION:
            raise PrismError(f"{where} was written by a newer Prism (version {data['version']}); update Prism")
        plain(data, where)
        rest = dict(data)
        for key in ("format", "version"):
            del rest[key]
        made = cls(
            _text(rest, "feature", where),
            _text(rest, "name", where),
            _values(rest.pop("values", None), where),
            _text(rest, "author", where),
            _text(rest, "notes", where),
            _texts(rest.pop("base", []), where),
            rest,
            origin,
        )
        return made.checked(where)

    def checked(self, where: str) -> Preset:
        """The same in its normal form: the name as it may be, known values in their types, defaults left out.

        Raises PrismError that begins with `where`.
        """
        if self.feature not in FEATURES:
            raise PrismError(f"{where}: {UnknownName('feature', self.feature, FEATURES)}")
        made = replace(self, name=checked_name(self.name, where))
        if self.feature == CARD:
            return made._checked_card(where)
        panel = panel_of(self.feature)
        if panel.names_a_value(made.name):
            raise PrismError(f'{where}: "{made.name}" is a word of {panel.title} itself; choose another name')
        return replace(made, values=sparse(panel, self.values, where))

    def _checked_card(self, where: str) -> Preset:
        from .card import Card, by_value

        if CARDS["card"].check(self.name, CARDS.title) == AUTOMATIC:
            raise PrismError(f'{where}: "{self.name}" is a word of {CARDS.title} itself; choose another name')
        try:
            Card.of(self)
        except PrismError as error:
            raise PrismError(f"{where}: {error}") from error
        return replace(self, values=by_value(self.values))

    def over(self, older: Preset) -> Preset:
        """The same with what an older one has that this version does not know."""
        known = CARD_PARTS if self.feature == CARD else panel_of(self.feature).names
        unknown = {key: value for key, value in older.values.items() if key not in known}
        return replace(self, values={**unknown, **self.values}, extra={**older.extra, **self.extra})

    def complete(self) -> dict[str, Any]:
        """Every setting of its panel that it sets, and its value; one of a merge that names no model sets weights."""
        panel = panel_of(self.feature)
        only_weights = panel is MERGE and not (self.values.get("model") or self.values.get("recipe"))
        return {
            name: self.values.get(name, panel[name].default)
            for name in panel.kept
            if not only_weights or name in WEIGHTS or name in self.values
        }


def panel_of(feature: str) -> Panel:
    for panel in PANELS:
        if panel.name == feature:
            return panel
    raise UnknownName("panel", feature, [panel.name for panel in PANELS])


def sparse(panel: Panel, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What differs from the defaults, checked; settings for one run are left out, unknown ones are kept."""
    out = {}
    for name, value in values.items():
        if name in panel.kept:
            try:
                checked = panel[name].check(value, panel.title)
            except PrismError as error:
                raise PrismError(f"{where}: {error}") from error
            if checked != panel[name].default:
                out[name] = checked
        elif name not in panel.names:
            out[name] = value
    return out


def checked_name(name: str, where: str) -> str:
    """A preset's name as a person would have written it; PrismError says why it is none."""
    text = unicodedata.normalize("NFC", name).strip()
    for wrong, why in (
        (not any(one.isprintable() and not one.isspace() for one in text), "it is empty"),
        (any(unicodedata.category(one) in UNSEEN for one in text), "it has characters that cannot be seen"),
        (len(text) > LONGEST_NAME, f"it is longer than {LONGEST_NAME} characters"),
    ):
        if wrong:
            raise PrismError(f"{where}: {json.dumps(text[:40])} is no name for a preset; {why}")
    return text


def folded(name: str) -> str:
    """Names that are the same to a reader are equal in this form."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def parse(text: str, where: str) -> Any:
    """JSON, and nothing but JSON; PrismError says where it ends to be that."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise PrismError(f"{where} is no JSON: {error}") from error


def plain(data: object, where: str) -> str:
    """A value as the text of a file; PrismError where JSON cannot say it."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise PrismError(f"{where} cannot be written as JSON: {error}") from error
    if size > LARGEST:
        raise PrismError(f"{where} is larger than {LARGEST >> 20} MiB")
    return text


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(data: dict[str, Any], key: str, where: str) -> str:
    value = data.pop(key, "")
    if not isinstance(value, str):
        raise PrismError(f'{where}: "{key}" must be a text')
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise PrismError(f'{where}: "base" must be a list of texts')
    return tuple(value)


def _values(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise PrismError(f'{where}: "values" must be an object of names and values')
    return dict(value)
