"""Values of namespaces with their counts and other names, from CSV files, for completion while one types.

A file has the shape that sd-webui's tag completion reads: `name,category,count,"alias,alias"`. The index is bytes and
arrays of numbers: a folded phrase per line, and the offsets of all phrases and of all words in them, sorted by what
stands there. A prefix is found by bisection; the best of what has it are the least owners, numbered by count.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import re
import threading
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

log = logging.getLogger("prism")

DANBOORU = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
E621 = {**DANBOORU, "5": "species", "6": "invalid", "7": "meta", "8": "lore"}
MERGED = {**DANBOORU, **{str(int(number) + 7): name for number, name in E621.items()}}
LONGEST = 200  # characters of a name
BLANKS = re.compile(r"[\s_]+")
WORD = re.compile(r"\w+")
TWO_LETTERS = re.compile(r"[^\W\d_]{2}")
HEADER = re.compile(rb"(?i)[^,]*,[^,]*,\s*(post[ _]?)?count\b")


@dataclass(frozen=True)
class Entry:
    """A value, how often it is used, and the alias that was meant by what was typed ("" where it was the value)."""

    value: str
    count: int
    alias: str = ""


def fold(text: str) -> str:
    """A text as it is compared: without case and accents; `_` and runs of blanks are one blank."""
    text = BLANKS.sub(" ", text.casefold())
    if text.isascii():
        return text
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


class Lexicon:
    """The values of each namespace. It does not change."""

    def __init__(self, entries: Mapping[str, Iterable[tuple[str, int, Sequence[str]]]]) -> None:
        """From rows of value, count and aliases by namespace."""
        self._values = {namespace: _Values(rows) for namespace, rows in entries.items()}

    @classmethod
    def of(cls, files: Iterable[Path]) -> Lexicon:
        """From CSV files; a row without a category belongs to the namespace that its file is named after.

        What cannot be read is left out, with one line in the log that names the file and its lines.
        """
        found: dict[str, dict[str, tuple[str, int, list[str]]]] = {}
        for file in files:
            for namespace, value, count, aliases in _rows(Path(file)):
                values = found.setdefault(namespace, {})
                written, most, known = values.get(fold(value), (value, 0, []))
                both = [*known, *(one for one in aliases if one not in known)] if known else aliases
                values[fold(value)] = (written, max(count, most), both)
        return cls({namespace: values.values() for namespace, values in found.items()})

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of each namespace."""
        return {namespace: len(values) for namespace, values in self._values.items()}

    def complete(self, namespace: str, typed: str, limit: int = 20) -> list[Entry]:
        """Values that begin with `typed`, then those with a word that does, then those of such aliases.

        Each kind is sorted by count; the value that is what was typed comes first.
        """
        values = self._values.get(namespace)
        return values.complete(fold(typed).lstrip(), limit) if values else []


class _Values:
    """The values of one namespace, numbered by falling count."""

    def __init__(self, rows: Iterable[tuple[str, int, Sequence[str]]]) -> None:
        sorted_rows = sorted(rows, key=lambda row: (-row[1], row[0]))
        self._counts = array("Q", (min(count, 2**63) for _, count, _ in sorted_rows))
        self._names = _Phrases((fold(value), number) for number, (value, _, _) in enumerate(sorted_rows))
        self._aliases = _Phrases(
            (fold(alias), number) for number, (_, _, aliases) in enumerate(sorted_rows) for alias in aliases
        )
        lines = ["\t".join((value, *aliases)).encode() for value, _, aliases in sorted_rows]
        self._written, self._starts = b"".join(lines), array("I", [0])
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._counts)

    def complete(self, typed: str, limit: int) -> list[Entry]:
        if not typed:
            return [self._entry(number) for number in range(min(limit, len(self)))]
        found: dict[int, bool] = {}
        for places, prefix, by_alias in (
            (self._names.whole, f"{typed}\n", False),
            (self._names.whole, typed, False),
            (self._names.words, typed, False),
            (self._aliases.whole, typed, True),
            (self._aliases.words, typed, True),
        ):
            found.update(dict.fromkeys(_least(places.owners_of(prefix.encode()), limit, found), by_alias))
            if len(found) == limit:
                break
        return [self._entry(number, typed if by_alias else "") for number, by_alias in found.items()]

    def _entry(self, number: int, typed: str = "") -> Entry:
        """One value; with `typed`, also its first alias with a word that begins so."""
        value, *aliases = self._written[self._starts[number] : self._starts[number + 1]].decode().split("\t")
        meant = re.compile(r"(?<!\w)" + re.escape(typed))
        alias = next(one for one in aliases if meant.search(fold(one))) if typed else ""
        return Entry(value, self._counts[number], alias)


def _least(owners: Sequence[int], limit: int, known: Mapping[int, bool]) -> list[int]:
    """The first owners that are not known yet, as many as are wanted; an owner may stand there several times."""
    tried = limit
    while True:
        new = [number for number in dict.fromkeys(nsmallest(tried, owners)) if number not in known]
        if len(known) + len(new) >= limit or tried >= len(owners):
            return new[: limit - len(known)]
        tried *= 4


class _Phrases:
    """Folded phrases with their owners' numbers, found by what they, or words in them, begin with."""

    def __init__(self, phrases: Iterable[tuple[str, int]]) -> None:
        lines, at = [], 0
        whole: list[tuple[int, int]] = []
        words: list[tuple[int, int]] = []
        for phrase, owner in phrases:
            line = f"{phrase}\n".encode()
            whole.append((at, owner))
            for word in WORD.finditer(phrase):
                if word.start():
                    before = phrase[: word.start()]
                    words.append((at + (word.start() if before.isascii() else len(before.encode())), owner))
            lines.append(line)
            at += len(line)
        data = b"".join(lines)
        self.whole, self.words = _Places(data, whole), _Places(data, words)


class _Places:
    """Offsets into the phrases, sorted by the text from there to the end of its line, with their owners."""

    def __init__(self, data: bytes, places: list[tuple[int, int]]) -> None:
        places.sort(key=lambda place: data[place[0] : data.index(b"\n", place[0]) + 1])
        self._data = data
        self._offsets = array("I", (at for at, _ in places))
        self._owners = array("I", (owner for _, owner in places))

    def owners_of(self, prefix: bytes) -> Sequence[int]:
        """The owners of every place that begins with `prefix`."""
        data, length = self._data, len(prefix)

        def begins(at: int) -> bytes:
            return data[at : at + length]

        low = bisect_left(self._offsets, prefix, key=begins)
        return self._owners[low : bisect_right(self._offsets, prefix, low, key=begins)]


Row = tuple[str, str, int, list[str]]
"""Namespace, value, count, aliases."""


def _rows(file: Path) -> Iterator[Row]:
    """The rows of one file; what is wrong in it goes to the log."""
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        log.warning("%s is left out: %s", file, error.strerror)
        return
    parsed, damaged = [], []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                parsed.append(_parsed(line))
        except (ValueError, csv.Error) as error:
            if number > 1 or not HEADER.match(line):
                damaged.append((number, error))
    if damaged:
        shown = ", ".join(str(number) for number, _ in damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        first, reason = damaged[0]
        log.warning("%s: line %s skipped (%d in all); line %d: %s", file, shown, len(damaged), first, reason)
    stem = file.stem.casefold()
    meaning = _numbering(stem, {category for category, *_ in parsed})
    for category, value, count, aliases in parsed:
        if category.isdigit():
            if meaning and category not in meaning:
                continue
            category = meaning.get(category, "")
        yield category or stem, value, count, aliases


def _parsed(line: bytes) -> Row:
    """Category, value, count and aliases of one line; raises ValueError or csv.Error."""
    name, category, count, aliases, *_ = (*next(csv.reader([line.decode()], strict=True)), "", "", "")
    if not name.strip() or len(name) > LONGEST:
        raise ValueError(f"a name has 1 to {LONGEST} characters")
    others = (_spoken(one) for one in aliases.split(",") if len(one) <= LONGEST)
    return category.strip().casefold(), _spoken(name), max(0, int(count or 0)), [one for one in others if one]


def _spoken(name: str) -> str:
    """A board's name as words; `_` stays in faces such as `o_o`."""
    return " ".join((name.replace("_", " ") if TWO_LETTERS.search(name) else name).split())


def _numbering(stem: str, categories: set[str]) -> Mapping[str, str]:
    """What category numbers mean in a file of this name; nothing where all are 0, as in a list of one namespace."""
    if stem.startswith("danbooru_e621"):
        return MERGED
    if stem.startswith(("e621", "e926")) or categories & {"6", "7", "8"}:
        return E621
    return DANBOORU if stem.startswith("danbooru") or categories & {"1", "3", "4", "5"} else {}


Stamp = tuple[tuple[Path, int, int], ...]
"""Files with their time and size."""


class Shelf:
    """The lexicon of files that may change: built when it is first asked for, then anew in the background."""

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._built: tuple[Stamp, Lexicon] | None = None
        self._wanted: Stamp | None = None

    def prepare(self) -> None:
        """Has what is new built in the background; does not wait."""
        stamp = _stamp(self._files())
        if stamp not in (self._built and self._built[0], self._wanted):
            self._wanted = stamp
            threading.Thread(target=self._build, args=[stamp], name="lexicon", daemon=True).start()

    def lexicon(self) -> Lexicon:
        """The newest one that is ready; only while there is none does it wait."""
        self.prepare()
        return self._built[1] if self._built else self._build(_stamp(self._files()))

    def _build(self, stamp: Stamp) -> Lexicon:
        with self._lock:
            if self._built is None or self._built[0] != stamp:
                self._built = stamp, Lexicon.of(path for path, _, _ in stamp)
            return self._built[1]


def _stamp(files: Iterable[Path]) -> Stamp:
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((file, status.st_mtime_ns, status.st_size))
    return tuple(found)
