"""From a prompt with tags to the text that a host's parser should get.

Only the spans of tags are rewritten; all other text is copied. Tags that are said nowhere, at the end or on the other
side leave with the comma that divides them from the rest.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ..errors import OutOfRange, PrismError, UnknownName
from . import dialects
from .escape import TARGETS, escape, plain
from .registry import Registry, fold, for_dialect
from .scanner import Lint, Scan, Tag, may_hold_tags, scan

ORDERS = ("", "written", "alpha")
AND_WEIGHT = re.compile(r"\s*:\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*\Z", re.A)
COMMAS = ",，、"
CHUNKS = ("BREAK", "ADDCOMM", "ADDBASE", "ADDROW", "ADDCOL")  # keywords inside of a part between ANDs
NEXT_COMMA = re.compile(r"[ \t]*[,，、][ \t]*")
LAST_COMMA = re.compile(r"[ \t]*[,，、][ \t]*\Z")
HOLDS_GROUP = re.compile(r"[()\[\]{}|#]")
GLUE = "()[]"  # includes "", the start
GLUED = re.compile(r"[)\]][(\[]*\Z")
LOOK_BACK = 64  # brackets before a tag
WITHOUT_EDITING = ("comfyui",)
STRONGEST = 100.0
WEAKEST = 1e-3  # below it a tag is left out
BARE = re.compile(r"\\|[()\[\]]|:\s*[\d.]+(?=\s*\))")  # what stands around and in a text besides its words


@dataclass(frozen=True)
class Options:
    """How to say tags.

    Attributes:
        dialect, target: names of a dialect and of a host's syntax.
        registry: the namespaces; None for the dialect's own.
        strength: namespace -> factor on the tag's weight, 0 leaves it out; "*" stands for all others.
        window: namespace -> (start, stop), parts of the run from 0 to 1; "*" as above.
        order: "" as the dialect wants it, "written" as it is, "alpha" from A to Z.
        anti: whether the wrong senses of values go to the negative prompt.
        isolate: namespaces whose tags get a chunk of their own, "*" for all.
        replace: namespace -> the value that its tags get instead.
        hires: whether the prompt is the hires pass's, where hosts count parts of the run from 1 to 2.
    """

    dialect: str = "pass"
    target: str = "a1111"
    registry: Registry | None = None
    strength: Mapping[str, float] = field(default_factory=dict)
    window: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    order: str = ""
    anti: bool = False
    isolate: frozenset[str] = frozenset()
    replace: Mapping[str, str] = field(default_factory=dict)
    hires: bool = False

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UnknownName("Target", self.target, TARGETS)
        if self.order not in ORDERS:
            raise UnknownName("Order", self.order, ORDERS)
        dialects.get(self.dialect)
        if self.registry is None:
            object.__setattr__(self, "registry", for_dialect(self.dialect))
        self._check()

    def _check(self) -> None:
        assert self.registry is not None
        known = self.registry.namespaces
        for name in (*self.strength, *self.window, *self.isolate, *self.replace):
            if name != "*" and name not in known:
                raise UnknownName("Namespace", name, known)
        for name, strength in self.strength.items():
            if not 0 <= strength <= STRONGEST:
                raise OutOfRange(f"the strength of {name}", strength, 0, STRONGEST, "strength")
        for name, (start, stop) in self.window.items():
            if not 0 <= start < stop <= 1:
                raise PrismError(
                    f"the part of the run of {name} is {start:g} to {stop:g}; write two numbers from 0 to 1"
                )
        for name, value in self.replace.items():
            if not value.strip():
                raise PrismError(f"the other value of {name} is empty; to leave its tags out give them the strength 0")


class Spoken(NamedTuple):
    """What became of a tag: its plain text, that text in the host's syntax, where it went; the prompt it was in."""

    tag: Tag
    plain: str
    escaped: str
    place: str
    side: str


@dataclass(frozen=True)
class Rendered:
    """Both prompts for the host, and what became of each tag."""

    prompt: str
    negative: str
    spoken: tuple[Spoken, ...] = ()
    sides: tuple[_Side, ...] = ()

    @cached_property
    def lints(self) -> tuple[tuple[str, Lint], ...]:
        """Remarks as (side, lint), "prompt" first."""
        return tuple((side.name, lint) for side in self.sides for lint in (*side.scan.lints, *side.notes))


def render(
    text: str, *, dialect: str = "pass", target: str = "a1111", registry: Registry | Mapping[str, Any] | None = None
) -> str:
    """The text that the host's parser should get; the same object where there is no tag.

    `dialect` is one of `dialects.DIALECTS`, `target` one of `escape.TARGETS`; `registry` may be the data files' form.
    Raises UnknownName for names that do not exist. Tags that belong to the negative prompt are left out.
    """
    if registry is not None and not isinstance(registry, Registry):
        registry = Registry.from_json(registry)
    return render_pair(text, "", Options(dialect, target, registry)).prompt


def render_pair(prompt: str, negative: str, options: Options) -> Rendered:
    """Both prompts of a picture; each is the same object where nothing concerns it."""
    registry = options.registry
    assert registry is not None
    if not may_hold_tags(prompt, registry) and not may_hold_tags(negative, registry):
        return Rendered(prompt, negative)
    positive = _Side("prompt", scan(prompt, registry), options)
    other = _Side("negative", scan(negative, registry), options)
    wrong = _wrong_senses(positive, options) if options.anti else []
    other.append([*positive.moved, *wrong])
    return Rendered(positive.text(), other.text(), (*positive.spoken, *other.spoken), (positive, other))


def _wrong_senses(side: _Side, options: Options) -> list[str]:
    """The senses that the prompt's values do not have, but for what the prompt names itself."""
    said = [one for one in side.spoken if one.place not in ("drop", "negative")]
    named: dict[str, set[str]] = {}
    for one in said:
        named.setdefault(_value(one.tag, options).casefold(), set()).add(one.tag.namespace.name)
    own = bare(" ".join([side.words, *(one.plain for one in said)]))
    senses: dict[str, None] = {}
    for one in said:
        value = _value(one.tag, options).casefold()
        if len(named[value]) == 1:  # else the prompt wants several senses of it
            senses.update(dict.fromkeys(one.tag.namespace.anti.get(value, ())))
    return [escape(sense, options.target) for sense in senses if bare(sense) not in own]


def bare(text: str) -> str:
    """The words of a text, to compare them: small letters, without brackets, weights and backslashes."""
    return " ".join(BARE.sub(" ", plain(text)).casefold().split())


def _value(tag: Tag, options: Options) -> str:
    return options.replace.get(tag.namespace.name, tag.value)


def _setting(values: Mapping[str, Any], name: str, default: Any) -> Any:
    return values.get(name, values.get("*", default)) if values else default


def decimal(number: float) -> str:
    """A number as hosts' prompt syntax takes it, with a point and without an exponent."""
    text = f"{number:.4f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


@dataclass(eq=False, slots=True)
class _Segment:
    """What stands between two separators.

    `before` is where its blanks start, `after` where its `separator` does; start..end is the text without blanks, and
    without the weight of an AND part. `tag` is the one that it consists of.
    """

    before: int
    start: int
    end: int
    after: int
    separator: str
    tag: Tag | None = None
    tags: list[Tag] = field(default_factory=list)

    @property
    def comma(self) -> str:
        """The separator, where it is no keyword."""
        return "" if self.separator in ("AND", *CHUNKS) else self.separator

    @property
    def group(self) -> str:
        return self.tag.namespace.group if self.tag else "rest"


class _Side:
    """One of the two prompts."""

    def __init__(self, name: str, found: Scan, options: Options) -> None:
        self.name, self.scan, self.options = name, found, options
        self.source = found.text
        self.spoken: list[Spoken] = []
        self.notes: list[Lint] = []
        self.here: dict[int, str] = {}  # by the tag's start: what stands in its place
        self.moved: list[str] = []  # to the other prompt
        self.added: list[str] = []  # from the other prompt
        self.ends: dict[int, dict[str, str]] = defaultdict(dict)  # by part: what is said at its end, by its words
        self.chunks: dict[int, dict[str, list[str]]] = defaultdict(dict)  # by part and namespace: what gets a chunk
        dialect = dialects.get(options.dialect)
        for tag in found.tags:
            self._speak(tag, dialect)

    def append(self, texts: Iterable[str]) -> None:
        """Adds texts of the other prompt that do not stand here already."""
        own = {bare(text) for text in (*self.source.split(","), *self.here.values())}
        self.added = [text for text in dict.fromkeys(texts) if bare(text) not in own]

    @cached_property
    def segments(self) -> list[_Segment]:
        return _segments(self.scan)

    # --- what each tag says

    def _speak(self, tag: Tag, dialect: dialects.Dialect) -> None:
        options = self.options
        parts, place = self._phrase(tag, dialect)
        words = "".join([text for text, _ in parts])
        escaped = "".join([escape(text, options.target) if literal else text for text, literal in parts])
        strength = tag.namespace.strength * _setting(options.strength, tag.namespace.name, 1.0)
        if strength < WEAKEST:
            place = "drop"
        elif tag.negative and self.name == "prompt" and place != "drop":
            place = "negative"
        elif place == "here" and options.isolate and self._isolated(tag):
            place = "chunk"
        self.spoken.append(Spoken(tag, words, escaped, place, self.name))
        text = self._weighted(tag, escaped, strength)
        if place == "here":
            self._put(tag, text)
        elif place != "drop":
            start, end = tag.outer
            self._move(tag, place, f"{self.source[start : tag.start]}{text}{self.source[tag.end : end]}", words)

    def _phrase(self, tag: Tag, dialect: dialects.Dialect) -> tuple[tuple[tuple[str, bool], ...], str]:
        """What the dialect makes of a tag, as (text, literal) pieces, and where it puts them."""
        namespace, value = tag.namespace, _value(tag, self.options)
        if dialect.name == "pass" and not namespace.template:
            return ((f"{tag.written}:{value}", True),), "here"
        said = dialect.say(namespace, value)
        if said.place == "drop" and " " in value and fold(value) not in map(fold, namespace.values or (value,)):
            return ((value, True),), "here"  # more than one of the namespace's words: a sentence after it
        return said.parts, said.place

    def _put(self, tag: Tag, text: str) -> None:
        """Says a tag where it stands, not grown together with a group before it or a word after it."""
        before, after = self.source[tag.start - 1 : tag.start], self.source[tag.end : tag.end + 1]
        glued = before in GLUE and GLUED.search(self.source, max(0, tag.start - LOOK_BACK), tag.start)
        self.here[tag.start] = f"{' ' if glued else ''}{text}{' ' if after.isalnum() else ''}"

    def _move(self, tag: Tag, place: str, text: str, words: str) -> None:
        """Says a tag elsewhere, with the groups that hold only it."""
        if place == "negative":
            (self.moved if self.name == "prompt" else self.added).append(text)
        elif place == "chunk":
            self.chunks[self._part_of(tag)].setdefault(tag.namespace.name, []).append(text)
        elif bare(words) not in self._own:
            self.ends[self._part_of(tag)].setdefault(bare(words), text)

    def _isolated(self, tag: Tag) -> bool:
        wanted = self.options.isolate & {tag.namespace.name, "*"} and self.options.target not in WITHOUT_EDITING
        return bool(wanted) and tag.start in self._whole

    @cached_property
    def _whole(self) -> set[int]:
        """Where the tags start that are all of their segment."""
        return {one.tag.start for one in self.segments if one.tag is not None}

    @cached_property
    def words(self) -> str:
        """The text without its tags."""
        ends = [0, *(tag.end for tag in self.scan.tags)]
        starts = [*(tag.start for tag in self.scan.tags), len(self.source)]
        return " ".join(self.source[end:start] for end, start in zip(ends, starts))

    @cached_property
    def _own(self) -> str:
        return bare(self.words)

    def _part_of(self, tag: Tag) -> int:
        """Which of the parts between ANDs a tag stands in."""
        return bisect_right(self._parts_before, tag.start)

    @cached_property
    def _parts_before(self) -> list[int]:
        return [one.after for one in self.segments if one.separator == "AND"]

    def _weighted(self, tag: Tag, text: str, strength: float) -> str:
        """With its strength, its part of the run, and the user's own brackets."""
        if strength not in (0, 1):
            text = f"({text}:{decimal(strength)})"
        start, stop = _setting(self.options.window, tag.namespace.name, (0.0, 1.0))
        if start > 0 or stop < 1:
            if self.options.target in WITHOUT_EDITING or tag.scheduled:
                message = "this tag cannot have a part of the run here"
                self.notes.append(Lint("window", tag.start, tag.end, message))
            else:
                later = 1.0 if self.options.hires and not self.options.target.startswith("sdnext") else 0.0
                text = f"[{text}::{decimal(stop + later)}]" if stop < 1 else text
                text = f"[{text}:{decimal(start + later)}]" if start > 0 else text
        return f"{tag.opens}{text}{tag.closes}"

    # --- the text

    def text(self) -> str:
        """The prompt for the host; the same object where nothing changes it."""
        out = self.source
        if self.scan.tags:
            stays = len(self.here) == len(self.scan.tags) and self._order is None
            out = self._said(self.scan.tags, 0, len(out)) if stays else self._composed()
        if self.added:
            joined = ", ".join(self.added)
            out = f"{out.rstrip().rstrip(',')}, {joined}" if out.strip() else joined
        return out

    def _composed(self) -> str:
        """The parts between ANDs; one of which nothing is left goes with its weight and its AND."""
        parts = []
        for number, (segments, _) in enumerate(_runs(self.segments, ("AND",))):
            text = self._part(segments, number)
            if text is not None:
                blanks = self.source[segments[0].before : segments[0].start]
                parts.append(f"{blanks}{text.lstrip()}{self.source[segments[-1].end : segments[-1].after]}")
        text = "AND".join(parts)
        return text if len(parts) == len(self._parts_before) + 1 else text.strip()

    def _part(self, segments: list[_Segment], number: int) -> str | None:
        """One part, without the blanks and the weight at its end; a chunk of which nothing is left goes too."""
        runs = list(_runs(segments, CHUNKS))
        kept = [(text, keyword) for run, keyword in runs if (text := self._chunk(run)) is not None]
        ends, chunks = self.ends.get(number, {}).values(), self.chunks.get(number, {}).values()
        if not (kept or ends or chunks):
            return None
        out = "".join(text + keyword for text, keyword in kept)
        if len(kept) < len(runs):
            out = out.strip()
        if kept and not runs[-1][1] and kept[-1][1]:  # the last chunk went, and leaves its keyword
            out = out.removesuffix(kept[-1][1]).rstrip()
        out = ", ".join([*([out] if out.strip() else []), *ends])
        return " BREAK ".join([*([out] if out.strip() else []), *map(", ".join, chunks)])

    def _chunk(self, segments: list[_Segment]) -> str | None:
        """The segments between two keywords, None if nothing is left; one that goes takes a comma along."""
        bodies = self._ordered(segments)
        if not any(bodies) and any(one.tags for one in segments):
            return None
        out: list[str] = []
        blanks: str | None = None  # of the segment before, which went
        for segment, body in zip(segments, bodies):
            lead = self.source[segment.before : segment.start] if blanks is None else blanks
            blanks = None
            trail = "" if segment.separator in ("AND", "") else self.source[segment.end : segment.after]
            if body or not segment.tags:
                out += [lead, body, trail, segment.comma]
            elif segment.comma and segment.comma in COMMAS:
                blanks = lead
            else:
                while out and not out[-1].strip(f" \t{COMMAS}"):
                    out.pop()
                out += [trail if segment.separator in CHUNKS else "", segment.comma]
        return "".join(out)

    def _ordered(self, segments: list[_Segment]) -> list[str]:
        """The bodies of segments in the wanted order. Networks stay; so do groups, and nothing passes them."""
        bodies = [self._body(segment) for segment in segments]
        order = self._order
        if order is None:
            return bodies
        run: list[int] = []
        for i, segment in enumerate(segments):
            fixed = segment.tag is None and HOLDS_GROUP.search(self.source, segment.start, segment.end)
            if bodies[i] and not fixed and not bodies[i].startswith("<"):
                run.append(i)
            if fixed or segment is segments[-1]:
                moved = [bodies[one] for one in sorted(run, key=lambda one: order(segments[one], bodies[one]))]
                for place, body in zip(run, moved):
                    bodies[place] = body
                run = []
        return bodies

    @cached_property
    def _order(self) -> Callable[[_Segment, str], Any] | None:
        """What to sort segments by, None to leave them."""
        if self.options.order == "alpha":
            return lambda segment, body: body.casefold()
        order = dialects.get(self.options.dialect).order if self.options.order == "" else ()
        if not order:
            return None
        places = {group: i for i, group in enumerate(order)}
        return lambda segment, body: places.get(segment.group, places.get("rest", 0))

    def _body(self, segment: _Segment) -> str:
        """A segment with its tags said; "" if nothing is left."""
        if segment.tag is not None and segment.tag.start not in self.here:
            return ""
        return self._said(segment.tags, segment.start, segment.end)

    def _said(self, tags: Iterable[Tag], at: int, end: int) -> str:
        """The text at..end with what its tags say; a tag that says nothing leaves with a comma beside it."""
        out: list[str] = []
        for tag in tags:
            text = self.here.get(tag.start)
            if text is not None:
                out += [self.source[at : tag.start], text]
                at = tag.end
            else:
                out.append(self.source[at : max(tag.outer[0], at)])
                at = max(tag.outer[1], at)
                if comma := NEXT_COMMA.match(self.source, at, end):
                    at = comma.end()
                else:
                    out[-1] = LAST_COMMA.sub("", out[-1])
                    at += out[-1].endswith(" ") and self.source.startswith(" ", at)
        out.append(self.source[at:end])
        return "".join(out)


def _runs(segments: Iterable[_Segment], keywords: Iterable[str]) -> Iterator[tuple[list[_Segment], str]]:
    """Segments up to one of these keywords, with it; the last run has none."""
    run: list[_Segment] = []
    for segment in segments:
        run.append(segment)
        if segment.separator in keywords:
            yield run, segment.separator
            run = []
    yield run, ""


def _segments(found: Scan) -> list[_Segment]:
    """The text between top-level separators; without one it is one segment."""
    source, tags = found.text, iter(found.tags)
    tag = next(tags, None)
    segments: list[_Segment] = []
    before = 0
    for start, end in (*found.separators, (len(source), len(source))):
        separator = source[start:end]
        inner = source[before:start]
        first = before + len(inner) - len(inner.lstrip())
        one = _Segment(before, first, max(before + len(inner.rstrip()), first), start, separator)
        while tag is not None and tag.start < start:
            one.tags.append(tag)
            tag = next(tags, None)
        if separator in ("", "AND"):
            weight = AND_WEIGHT.search(source, one.tags[-1].end if one.tags else one.start, start)
            one.end = weight.start() if weight else one.end
        if len(one.tags) == 1 and one.tags[0].outer == (one.start, one.end):
            one.tag = one.tags[0]
        segments.append(one)
        before = end
    return segments
