"""From a prompt with tags to the text that a host's parser should get.

Only the spans of tags are rewritten; all other text is copied. Tags that are said nowhere, at the end or on the other
side leave with the comma that divides them from the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ..errors import UnknownName
from . import dialects
from .escape import TARGETS, escape
from .registry import Registry, for_dialect
from .scanner import Lint, Scan, Tag, may_hold_tags, scan

ORDERS = ("", "written", "alpha")
AND_WEIGHT = re.compile(r"\s*:\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*\Z", re.A)
COMMAS = ",，、"
NEXT_COMMA = re.compile(r"[ \t]*[,，、][ \t]*")
LAST_COMMA = re.compile(r"[ \t]*[,，、][ \t]*\Z")
HOLDS_GROUP = re.compile(r"[()\[\]{}|#]")
GLUE = "()[]"  # includes "", the start
GLUED = re.compile(r"[)\]][(\[]*\Z")
LOOK_BACK = 64  # brackets before a tag
WITHOUT_EDITING = ("comfyui",)


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
    wrong = _wrong_senses(positive.scan.tags, options) if options.anti else []
    other.append([*positive.moved, *wrong])
    return Rendered(positive.text(), other.text(), (*positive.spoken, *other.spoken), (positive, other))


def _wrong_senses(tags: Iterable[Tag], options: Options) -> list[str]:
    """The senses that the values of tags do not have."""
    texts = [
        text for tag in tags if not tag.negative for text in tag.namespace.anti.get(_value(tag, options).casefold(), ())
    ]
    return [escape(text, options.target) for text in dict.fromkeys(texts)]


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
    """What stands between two separators, without the blanks around it.

    `before` is where its blanks start, `separator` the text after it and `part` its place between the ANDs. `tag` is
    the one that it consists of. `weight` is where the AND weight after it ends.
    """

    before: int
    start: int
    end: int
    after: int
    separator: str
    part: int
    tag: Tag | None = None
    tags: list[Tag] = field(default_factory=list)

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
        self.ends: list[tuple[Tag, str]] = []  # what is said at the end of the tag's part
        self.chunks: list[tuple[Tag, str]] = []  # what gets a chunk of its own
        dialect = dialects.get(options.dialect)
        for tag in found.tags:
            self._speak(tag, dialect)

    def append(self, texts: Iterable[str]) -> None:
        """Adds texts of the other prompt that do not stand here already."""
        own = {part.strip().casefold() for part in self.source.split(",")}
        own |= {text.strip().casefold() for text in self.here.values()}
        self.added = [text for text in dict.fromkeys(texts) if text.casefold() not in own]

    @cached_property
    def segments(self) -> list[_Segment]:
        return _segments(self.scan)

    # --- what each tag says

    def _speak(self, tag: Tag, dialect: dialects.Dialect) -> None:
        options, name = self.options, tag.namespace.name
        value = _value(tag, options)
        if dialect.name == "pass" and not tag.namespace.template:
            parts: tuple[tuple[str, bool], ...] = ((f"{tag.written}:{value}", True),)
            place: str = "here"
        else:
            parts, place = (said := dialect.say(tag.namespace, value)).parts, said.place
        escaped = "".join([escape(text, options.target) if literal else text for text, literal in parts])
        strength = tag.namespace.strength * _setting(options.strength, name, 1.0)
        if not strength:
            place = "drop"
        elif place == "here" and tag.negative and self.name == "prompt":
            place = "negative"
        elif place == "here" and options.isolate and self._isolated(tag):
            place = "chunk"
        self._place(tag, place, self._weighted(tag, escaped, strength))
        self.spoken.append(Spoken(tag, "".join([text for text, _ in parts]), escaped, place, self.name))

    def _isolated(self, tag: Tag) -> bool:
        wanted = self.options.isolate & {tag.namespace.name, "*"} and self.options.target not in WITHOUT_EDITING
        return bool(wanted) and any(one.tag is tag for one in self.segments)

    def _place(self, tag: Tag, place: str, text: str) -> None:
        if place == "here":
            before = self.source[tag.start - 1 : tag.start]
            glued = before in GLUE and GLUED.search(self.source, max(0, tag.start - LOOK_BACK), tag.start)
            self.here[tag.start] = f" {text}" if glued else text
            return
        start, end = tag.outer
        whole = f"{self.source[start : tag.start]}{text}{self.source[tag.end : end]}"
        if place == "negative":
            (self.moved if self.name == "prompt" else self.added).append(whole)
        elif place == "end":
            self.ends.append((tag, text))
        elif place == "chunk":
            self.chunks.append((tag, whole))

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
            out = self._said(self.scan.tags, 0, len(out)) if stays else "".join(self._parts())
        if self.added:
            joined = ", ".join(self.added)
            out = f"{out.rstrip().rstrip(',')}, {joined}" if out.strip() else joined
        return out

    def _parts(self) -> Iterator[str]:
        part: list[_Segment] = []
        for segment in self.segments:
            part.append(segment)
            if segment.separator == "AND" or segment is self.segments[-1]:
                yield self._part(part)
                yield self.source[part[-1].end : part[-1].after] + part[-1].separator
                part = []

    def _part(self, segments: list[_Segment]) -> str:
        """A part between ANDs, without the blanks, weight and separator at its end."""
        out: list[str] = []
        blanks: str | None = None  # of the segment before, which left
        for segment, body in zip(segments, self._ordered(segments)):
            last = segment is segments[-1]
            lead = self.source[segment.before : segment.start] if blanks is None else blanks
            blanks = None
            if body or not segment.tags:
                out += [lead, body]
                out += [] if last else [self.source[segment.end : segment.after], segment.separator]
            elif not last and segment.separator in COMMAS:
                blanks = lead
            else:
                while out and out[-1].strip(" \t" + COMMAS) == "":
                    out.pop()
                out += [] if last else [segment.separator]
        start, end = segments[0].before, segments[-1].after
        ends = dict.fromkeys(text for tag, text in self.ends if start <= tag.start < end)
        chunks: dict[str, list[str]] = {}
        for tag, text in self.chunks:
            if start <= tag.start < end:
                chunks.setdefault(tag.namespace.name, []).append(text)
        text = "".join(out)
        text = ", ".join([*([text] if text.strip() else []), *ends])
        return " BREAK ".join([*([text] if text.strip() else []), *map(", ".join, chunks.values())])

    def _ordered(self, segments: list[_Segment]) -> list[str]:
        """The bodies of segments in the wanted order. What holds groups stays, and nothing passes it or a keyword."""
        bodies = [self._body(segment) for segment in segments]
        order = self._order
        if order is None:
            return bodies
        run: list[int] = []
        for i, segment in enumerate(segments):
            fixed = segment.tag is None and HOLDS_GROUP.search(self.source, segment.start, segment.end)
            if bodies[i] and not fixed:
                run.append(i)
            if fixed or segment is segments[-1] or segment.separator not in f"{COMMAS}\n":
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
                comma = NEXT_COMMA.match(self.source, at, end)
                if comma:
                    at = comma.end()
                else:
                    out[-1] = LAST_COMMA.sub("", out[-1])
        out.append(self.source[at:end])
        return "".join(out)


def _segments(found: Scan) -> list[_Segment]:
    """The text between top-level separators; without one it is one segment."""
    source, tags = found.text, iter(found.tags)
    tag = next(tags, None)
    segments: list[_Segment] = []
    before = part = 0
    for start, end in (*found.separators, (len(source), len(source))):
        separator = source[start:end]
        inner = source[before:start]
        first = before + len(inner) - len(inner.lstrip())
        one = _Segment(before, first, max(before + len(inner.rstrip()), first), start, separator, part)
        while tag is not None and tag.start < start:
            one.tags.append(tag)
            tag = next(tags, None)
        if separator in ("", "AND"):
            weight = AND_WEIGHT.search(source, one.tags[-1].end if one.tags else one.start, start)
            one.end = weight.start() if weight else one.end
            part += 1
        if len(one.tags) == 1 and one.tags[0].outer == (one.start, one.end):
            one.tag = one.tags[0]
        segments.append(one)
        before = end
    return segments
