"""Which words are namespaces. A registry is a value: shipped sets, with the user's files merged over them.

Only a registered name makes a tag, so `re:zero` and `12:30` stay what the user typed.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import PrismError, UnknownName
from .dialects import DIALECTS, get
from .namespace import Namespace

FOLDER = Path(__file__).with_name("data") / "sets"
SETS = ("sygil", "sote", "booru", "pony", "photo", "mini")
DEFAULT_SETS = ("sygil", "booru", "pony", "photo", "mini")
"""What counts where nobody chose: all but "sote", whose scores from 0 to 1 look like weights."""

FORM = 'it must be a JSON object such as {"species": {"aliases": ["specie"]}}'
BLANKS = re.compile(r"[\s_-]+")


def fold(name: str) -> str:
    """A name as it is compared: any case; blanks, `_` and `-` are the same."""
    return BLANKS.sub(" ", name.strip()).casefold()


@dataclass(frozen=True, eq=False)
class Registry:
    """Namespaces by name. `chosen` says that the user or the loaded model asked for them (see `scan`)."""

    namespaces: Mapping[str, Namespace] = field(repr=False)
    sets: tuple[str, ...] = ()
    chosen: bool = True

    @cached_property
    def names(self) -> Mapping[str, Namespace]:
        """Namespaces by every folded way to write them; a name wins over an alias."""
        aliases = {fold(written): one for one in reversed(list(self.namespaces.values())) for written in one.aliases}
        return {**aliases, **{fold(one.name): one for one in self.namespaces.values()}}

    @cached_property
    def tails(self) -> frozenset[str]:
        """The last words of names of several words."""
        return frozenset(name.rpartition(" ")[2] for name in self.names if " " in name)

    @cached_property
    def words(self) -> int:
        """How many words a name can have."""
        return max((name.count(" ") + 1 for name in self.names), default=1)

    @cached_property
    def longest(self) -> int:
        """In how many characters a name fits."""
        return max(map(len, self.names), default=0) + 8

    @cached_property
    def endings(self) -> frozenset[str]:
        """The last three characters of ASCII names, in any case; empty where a name is too short for that."""
        last = [name[-3:] for name in self.names if name.isascii()]
        if any(len(one) < 3 for one in last):
            return frozenset()
        ways = ([" _-" if x == " " else {x, x.upper()} for x in one] for one in last)
        return frozenset("".join(way) for one in ways for way in product(*one))

    def may_end_with(self, word: str) -> bool:
        """Whether a name can end with this word."""
        folded = fold(word)
        return folded in self.names or folded.rpartition(" ")[2] in self.tails

    @classmethod
    def of(cls, *sets: str, files: Iterable[Path] = (), chosen: bool = True) -> Registry:
        """Shipped sets by name, later ones over earlier ones, then the user's files in order."""
        for name in sets:
            if name not in SETS:
                raise UnknownName("Namespace set", name, SETS)
        stamped = ((str(path), _changed(path)) for path in files)
        return _of(sets, tuple(one for one in stamped if one[1]), chosen)

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any], where: str = "registry", chosen: bool = True) -> Registry:
        """From the form of the data files: {name: {field: value}}."""
        if not isinstance(mapping, Mapping):
            raise PrismError(f"{where}: {FORM}")
        return cls(_namespaces(_merged([(where, mapping)])), chosen=chosen)

    def find(self, written: str) -> Namespace | None:
        """The namespace of a name or alias."""
        return self.names.get(written) or self.names.get(fold(written))

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with every rule in it."""
        return f"{zlib.crc32(repr(sorted(self.namespaces.items())).encode()):08x}"


@lru_cache(maxsize=1)
def default() -> Registry:
    """What counts where nobody chose."""
    return Registry.of(*DEFAULT_SETS)


def for_dialect(name: str, files: Iterable[Path] = (), chosen: bool = True) -> Registry:
    """The default sets with those that a dialect adds."""
    added = [one for one in get(name).sets if one not in DEFAULT_SETS]
    return Registry.of(*DEFAULT_SETS, *added, files=files, chosen=chosen)


@lru_cache(maxsize=32)
def _of(sets: tuple[str, ...], files: tuple[tuple[str, int], ...], chosen: bool) -> Registry:
    """Users' files are named with their time, so that a changed one is read again."""
    paths = [*(str(FOLDER / f"{name}.json") for name in sets), *(path for path, _ in files)]
    return Registry(_namespaces(_merged([(path, _read(path)) for path in paths])), sets, chosen)


def _changed(path: Path) -> int:
    """When a file was last written; 0 if it is gone."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _read(path: str) -> Mapping[str, Any]:
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise PrismError(f"{path} cannot be read as namespaces: {error}; correct or remove the file") from error
    if not isinstance(given, dict):
        raise PrismError(f"{path}: {FORM}")
    return given


def _merged(files: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Per name its fields, and the last file that spoke of it; null removes a name or a field."""
    merged: dict[str, tuple[str, dict[str, Any]]] = {}
    names: dict[str, str] = {}  # as first written, by folded name
    for where, given in files:
        for written, values in given.items():
            name = names.setdefault(fold(str(written)), str(written))
            if values is None:
                merged.pop(name, None)
                continue
            if not isinstance(values, Mapping):
                raise PrismError(f'{where}: "{name}" must be an object of fields, or null to remove it')
            both = {**merged.get(name, ("", {}))[1], **values}
            merged[name] = (where, {key: value for key, value in both.items() if value is not None})
    return merged


def _namespaces(merged: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Namespace]:
    return {name: _namespace(name, values, where) for name, (where, values) in merged.items()}


def _namespace(name: str, values: Mapping[str, Any], where: str) -> Namespace:
    if not fold(name) or re.search(r'[:：,"|()\[\]{}<>\\]', name):
        raise PrismError(f'{where}: "{name}" cannot be a namespace: it must be words without punctuation')
    read = {}
    for key, value in values.items():
        if key not in READERS:
            raise UnknownName(f'{where}: field of "{name}"', key, READERS)
        reader, form = READERS[key]
        try:
            read[key] = reader(value)
        except (TypeError, ValueError) as error:
            raise PrismError(f'{where}: {key} of "{name}" must be {form}') from error
    return Namespace(name, **read)


# --- the fields of a data file; a reader raises ValueError where the value is not what it must be


def _is(kind: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_is(str, one) for one in _is((list, tuple), value))


def _number(value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    number = float(_is((int, float), value))
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError
    return number


def _domain(value: Any) -> tuple[float, float]:
    low, high = map(_number, _is((list, tuple), value))
    return low, high


def _templates(value: Any) -> dict[str, str]:
    if not set(_is(Mapping, value)) <= {"*", *DIALECTS}:
        raise ValueError
    return {dialect: _is(str, text) for dialect, text in value.items()}


def _anti(value: Any) -> dict[str, tuple[str, ...]]:
    return {word.casefold(): _texts(texts) for word, texts in _is(Mapping, value).items()}


def _one_of(*words: str) -> tuple[Callable[[Any], str], str]:
    return lambda value: words[words.index(value)], " or ".join(f'"{word}"' for word in words)


TEXT = (lambda value: _is(str, value), "a text")
SWITCH = (lambda value: _is(bool, value), "true or false")
TEXTS = (_texts, 'a list of texts, such as ["specie", "especie"]')
READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "aliases": TEXTS,
    "type": _one_of("text", "number", "enum"),
    "multi": SWITCH,
    "order": (lambda value: int(_number(value)), "a number"),
    "group": TEXT,
    "color": TEXT,
    "parens": _one_of("host", "literal"),
    "brackets": _one_of("host", "literal"),
    "domain": (_domain, "two numbers, the lowest and the highest, such as [0, 10]"),
    "ratio": SWITCH,
    "values": TEXTS,
    "template": (_templates, 'an object of texts by dialect or "*", such as {"sote": "a {v}"}'),
    "anti": (_anti, 'an object of lists of texts, such as {"seal": ["wax seal"]}'),
    "bind": (lambda value: _number(value, 0, 1), "a number from 0 to 1"),
    "strength": (lambda value: _number(value, 0, 100), "a number from 0 to 100"),
    "lexicon": TEXT,
}
