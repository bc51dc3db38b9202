"""Finds the tags in a prompt: one pass for its structure, one for the tags. Linear in the prompt, and never raises.

A tag is `name:value` with a registered name. Everything else is the host's: brackets, weights, prompt editing, AND,
BREAK and extra networks keep their meaning around tags, and what is ambiguous is the host's unless a rule below says
otherwise. The rules use the registry's declarations alone, never lists of values, so a prompt means the same wherever
it is read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from .namespace import Namespace
from .registry import Registry, default, fold

# every branch starts with a letter of its own, which lets the engine skip all other text at once
TOKEN = re.compile(
    r",|:|\(|\)|\[|\]|\{|\}|\||\n|：|，|、|（|）|\\.|<\w+:[^<>]*>"
    r"|A(?<!\wA)(?:ND|DD(?:COMM|BASE|ROW|COL))\b|B(?<!\wB)REAK\b",
    re.S,
)
NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*", re.A)
RATIO = re.compile(r"\d+(?:\.\d+)?:\d+(?:\.\d+)?(?=\s*(?:[,\n，、|:：)\]}）]|\Z))", re.A)
BARE = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?=\s*(?:[,\n，、|:：)\]}）]|\Z))", re.A)
QUOTED = {
    opening: re.compile(rf"{opening}([^{closing}\\]*(?:\\.[^{closing}\\]*)*){closing}", re.S)
    for opening, closing in ('""', "“”", "「」")
}
BLANKS = re.compile(r"[ \t]*")
SPACE = re.compile(r"\s")
LAST_WORD = re.compile(r"\w+\Z")
ESCAPED = re.compile(r'\\([\\()\[\]{}:|"])')
BEFORE = re.compile(r"[\s:]*")
AFTER = re.compile(r"[\s:：\d.+-]*", re.A)
ENDS = re.compile(r"[ \t]*(?:[,\n，、]|\Z|(?:AND|BREAK)\b)")
KINDS = {"\\": "escape", "<": "network", "A": "keyword", "B": "keyword"}
CLOSERS = {")": "(", "]": "[", "}": "{", "）": "（"}
OPENERS = frozenset(CLOSERS.values())
SEPARATORS = frozenset(",\n，、")
COLONS = frozenset(":：")
STOPS = SEPARATORS | frozenset(CLOSERS) | {"network", "keyword", "|"}
SENTENCE_ENDS = ".!?;"
NUMERIC = frozenset("+-.0123456789")
CERTAIN = 5  # a larger number after `(name:` or `[name:` is no weight and no step anybody means


class Tag(NamedTuple):
    """One tag.

    Attributes:
        start, end: its span in code points, with a leading minus, its quotes and brackets around its value.
        namespace: the registered one; `written` is the name in the user's words.
        value: the value as plain text, without quotes and backslashes.
        negative: whether it belongs to the other prompt, as `-species:dog` does.
        quoted, inline: how the value was written; an inline one stands in a sentence and ends at a blank.
        opens, closes: brackets with their weight around the value, as in `species:(seal:1.2)`.
        outer: the span of all groups that hold nothing but this tag.
        scheduled: whether it stands inside of square brackets.
    """

    start: int
    end: int
    namespace: Namespace
    written: str
    value: str
    negative: bool = False
    quoted: bool = False
    inline: bool = False
    opens: str = ""
    closes: str = ""
    outer: tuple[int, int] = (0, 0)
    scheduled: bool = False


class Lint(NamedTuple):
    """A remark on a part of the prompt; `fix` is a text that could stand there instead."""

    code: str
    start: int
    end: int
    message: str
    fix: str = ""


@dataclass(eq=False)
class Scan:
    """A prompt's tags, and its top-level separators and keywords as (start, end)."""

    text: str
    tags: tuple[Tag, ...] = ()
    separators: tuple[tuple[int, int], ...] = ()
    notes: tuple[Lint, ...] = ()
    strangers: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def lints(self) -> tuple[Lint, ...]:
        """All remarks, in the order of the text."""
        found = [*self.notes, *self._misspelt(), *self._repeated(), *self._values()]
        return tuple(sorted(found, key=lambda one: one.start))

    def _misspelt(self) -> Iterator[Lint]:
        for start, end in self.strangers[:20]:
            word = self.text[start:end]
            near = difflib.get_close_matches(fold(word), self.names, n=1, cutoff=0.75)
            if near:
                yield Lint("unknown", start, end, f'"{word}" is no namespace; did you mean "{near[0]}"?', near[0])

    def _repeated(self) -> Iterator[Lint]:
        seen: set[tuple[str, bool, str]] = set()
        names: set[tuple[str, bool]] = set()
        for tag in self.tags:
            name, value = (tag.namespace.name, tag.negative), tag.value.casefold()
            if tag.scheduled:
                continue
            if (*name, value) in seen:
                yield Lint("duplicate", tag.start, tag.end, f"{tag.namespace.name}:{tag.value} stands here twice")
            elif name in names and not tag.namespace.multi:
                yield Lint("single", tag.start, tag.end, f"{tag.namespace.name} takes one value, and has several here")
            seen.add((*name, value))
            names.add(name)

    def _values(self) -> Iterator[Lint]:
        for tag in self.tags:
            words = tag.namespace.values
            if not words or fold(tag.value) in map(fold, words) or NUMBER.fullmatch(tag.value):
                continue
            near = difflib.get_close_matches(tag.value.casefold(), words, n=1, cutoff=0.4)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            fix = f"{tag.written}:{near[0]}" if near else ""
            yield Lint("value", tag.start, tag.end, f'{tag.namespace.name} has no value "{tag.value}"{hint}', fix)


def scan(text: str, registry: Registry | None = None) -> Scan:
    """The tags of a prompt, disjoint and in order. Any text is allowed, and trouble is a lint."""
    if ":" not in text and "：" not in text:
        return Scan(text)
    return _Scanner(text, registry or default()).run()


def may_hold_tags(text: str, registry: Registry) -> bool:
    """Whether a scan could find a tag: quick, and False only where there is none."""
    if ":" not in text and "：" not in text:
        return False
    pieces = text.replace("\\:", ":").replace("：", ":").split(":")
    endings = registry.endings
    if endings and text.isascii():
        pieces = [piece for piece in pieces if piece[-3:] in endings]
    words = (LAST_WORD.search(piece, max(0, len(piece) - registry.longest)) for piece in pieces)
    return any(word is not None and registry.may_end_with(word[0]) for word in words)


@dataclass(eq=False, slots=True)
class _Frame:
    """A pair of brackets, or without an opener a part between ANDs.

    `first` and `last` are the indexes of its bracket tokens, `colons` those of its own colons, and `number` that of the
    colon before a number that ends the frame: a weight, a step or the weight of an AND part.
    """

    opener: str
    start: int
    first: int = -1
    parent: _Frame | None = None
    close: int = -1
    last: int = -1
    colons: list[int] = field(default_factory=list)
    number: int = -1
    bars: bool = False
    square: bool = False

    @property
    def scheduled(self) -> bool:
        """Whether the host reads it as prompt editing."""
        return self.opener == "[" and self.number >= 0 and not self.bars


@dataclass(eq=False, slots=True)
class _Token:
    """A piece of syntax; a colon also knows the registered name before it, what stands before that, and the value.

    `given` is a value that is known by its form: a quoted one, or a number after `\\:`.
    """

    kind: str
    start: int
    end: int
    frame: _Frame
    inner: _Frame | None = None
    namespace: Namespace | None = None
    name: int = -1
    value: int = -1
    bound: str = ""
    given: re.Match[str] | None = None


class _Value(NamedTuple):
    end: int
    text: str
    opens: str = ""
    closes: str = ""


class _Scanner:
    def __init__(self, text: str, registry: Registry) -> None:
        self.text, self.registry = text, registry
        self.tokens: list[_Token] = []
        self.notes: list[Lint] = []
        self.strangers: list[tuple[int, int]] = []
        self.separators: list[tuple[int, int]] = []  # at the top
        self.bar = -1  # the first at the top

    def run(self) -> Scan:
        self._structure()
        tags: list[Tag] = []
        done = 0
        for i, token in enumerate(self.tokens):
            if token.namespace is not None and token.name >= done:
                tag = self._tag(i, token, token.namespace)
                if tag is not None:
                    tags.append(tag)
                    done = tag.end
        if self.bar >= 0 and tags:
            self._note("bar", self.bar, self.bar + 1, 'the script "Prompt matrix" would split the prompt at this "|"')
        return Scan(
            self.text,
            tuple(tags),
            tuple(self.separators),
            tuple(self.notes),
            tuple(self.strangers),
            tuple(self.registry.names),
        )

    def _note(self, code: str, start: int, end: int, message: str) -> None:
        self.notes.append(Lint(code, start, end, message))

    # --- structure: tokens, brackets and names

    def _structure(self) -> None:
        text, tokens = self.text, self.tokens
        frame = _Frame("", 0)
        depth = dict.fromkeys(OPENERS, 0)
        skip = 0
        for match in TOKEN.finditer(text):
            start, end = match.span()
            if start < skip:
                continue
            kind = text[start] if end - start == 1 else KINDS[text[start]]
            token = _Token(kind, start, end, frame)
            if kind in SEPARATORS:
                if not frame.opener:
                    self.separators.append((start, end))
            elif kind in COLONS:
                self._name(token)
                frame.colons.append(len(tokens))
                if token.namespace is not None:
                    token.value = self._after_blanks(end)
                    quotes = QUOTED.get(text[token.value : token.value + 1])
                    if quotes is not None and (quote := quotes.match(text, token.value)) is not None:
                        token.given, skip = quote, quote.end()
            elif kind in OPENERS:
                square = frame.square or kind == "["
                frame = token.inner = _Frame(kind, start, len(tokens), frame, square=square)
                depth[kind] += 1
            elif kind in CLOSERS and depth[CLOSERS[kind]]:
                closing = frame
                while closing.opener != CLOSERS[kind]:  # what was opened inside is never closed
                    depth[closing.opener] -= 1
                    closing = closing.parent or closing
                depth[closing.opener] -= 1
                self._end(closing, start)
                closing.last = len(tokens)
                token.frame = frame = closing.parent or closing
            elif kind == "|":
                frame.bars = True
                self.bar = start if self.bar < 0 and not frame.opener else self.bar
            elif kind == "network" and self.registry.find(text[start + 1 : text.index(":", start)]) is not None:
                self._note("network", start, end, "between < and > this is an extra network to the webui, not a tag")
            elif kind == "escape" and match[0] == r"\:" and (number := BARE.match(text, end)) is not None:
                self._name(token)  # after this backslash, too, hosts read a number as a weight
                if token.namespace is not None and token.namespace.takes(float(number[1])):
                    token.given = number
                else:
                    token.namespace = None
            elif kind == "keyword":
                if tokens and tokens[-1].end == start and tokens[-1].namespace is not None:
                    continue  # a value
                if match[0] == "AND":
                    token.frame = self._end_part(frame, start)
                    frame, depth = _Frame("", end), dict.fromkeys(OPENERS, 0)
                if not token.frame.opener:
                    self.separators.append((start, end))
            tokens.append(token)
        self._end_part(frame, len(text))

    def _end_part(self, frame: _Frame, end: int) -> _Frame:
        while frame.parent is not None:
            frame = frame.parent
        self._end(frame, end)
        return frame

    def _end(self, frame: _Frame, end: int) -> None:
        frame.close = end
        if frame.colons and NUMBER.fullmatch(self.text, self.tokens[frame.colons[-1]].end, end):
            frame.number = frame.colons[-1]

    def _after_blanks(self, start: int) -> int:
        if not self.text.startswith((" ", "\t"), start):
            return start
        return BLANKS.match(self.text, start).end()  # type: ignore[union-attr]  # it matches anything

    def _name(self, token: _Token) -> None:
        """Looks for a registered name that ends at a colon."""
        last = self.tokens[-1] if self.tokens else None
        low = max(last.end if last else 0, token.start - self.registry.longest)
        window = self.text[low : token.start]
        words = window.rsplit(None, self.registry.words)
        if not words or window[-1].isspace():
            return
        word = words[-1].lstrip("-")
        start = token.start - len(word)
        namespace = self.registry.find(word)
        if len(words) > 1 and fold(word) in self.registry.tails:
            for count in range(2, len(words) + 1):
                longer = self.registry.find(" ".join(words[-count:]).lstrip("-"))
                if longer is not None:
                    namespace, start = longer, low + _start_of(words[-count:], window)
        bound = self._bound(start, last)
        if bound and namespace is not None:
            token.namespace, token.name, token.bound = namespace, start, bound
        elif (
            bound
            and word[:1].isalnum()
            and not NUMBER.match(self.text, token.end)
            and not self.text.startswith("//", token.end)
        ):
            self.strangers.append((start, token.start))

    def _bound(self, start: int, last: _Token | None) -> str:
        """What stands before a name: "start" of a segment, "minus" there, a "colon", or a "blank" in a sentence."""
        low = last.end if last else 0
        minus = start > low and self.text[start - 1] == "-"
        start -= minus
        edge = start == low
        if not edge and not self.text[start - 1].isspace():
            return ""
        inline = "" if minus or edge else "blank"
        if self.text[low:start].strip() or (last and last.kind == "escape"):
            return inline
        if last and last.kind in COLONS:
            return "colon" if last.frame.opener == "[" and not minus else inline
        return "minus" if minus else "start"

    # --- tags

    def _tag(self, i: int, token: _Token, namespace: Namespace) -> Tag | None:
        """The tag whose colon is token `i`, None where the text is the host's after all."""
        if token.bound == "colon" and not token.frame.scheduled:
            return None
        value = self._given(token.given) if token.given is not None else self._value(i, token, namespace)
        if value is None:
            return None
        negative = token.bound == "minus"
        start, end, opens, closes = token.name - negative, value.end, value.opens, value.closes
        frame = token.frame
        while frame.opener == "（" and self._alone(frame, start, end):
            weight = self.text[end : frame.close].replace("：", ":").strip()
            opens, closes = "(" + opens, closes + weight + ")"
            start, end, frame = frame.start, frame.close + 1, frame.parent or frame
        outer, around = (start, end), frame
        while around.parent is not None and self._alone(around, *outer):
            outer, around = (around.start, around.close + 1), around.parent
        if negative and (around.opener or not ENDS.match(self.text, outer[1])):
            self._note("minus", start, end, "a tag for the negative prompt must stand alone between commas")
            return None
        return Tag(
            start,
            end,
            namespace,
            self.text[token.name : token.start],
            value.text,
            negative=negative,
            quoted=token.given is not None and token.kind != "escape",
            inline=token.bound == "blank",
            opens=opens,
            closes=closes,
            outer=outer,
            scheduled=frame.square,
        )

    def _alone(self, frame: _Frame, start: int, end: int) -> bool:
        """Whether a frame holds nothing but what stands at start..end, and colons and numbers."""
        if frame.close < 0 or frame.bars or not BEFORE.fullmatch(self.text, frame.start + 1, start):
            return False
        return AFTER.fullmatch(self.text, end, frame.close) is not None

    def _given(self, match: re.Match[str]) -> _Value | None:
        value = _unescaped(match[1]).strip()
        return _Value(match.end(), value) if value else None

    def _value(self, i: int, token: _Token, namespace: Namespace) -> _Value | None:
        text, frame = self.text, token.frame
        start = token.value
        inline = token.bound == "blank"
        if inline and start > token.end:
            return None
        if text[start : start + 1] in QUOTED:
            self._note("quote", start, start + 1, "this quotation mark has no second one")
        if frame.number == i:
            return self._last_number(token, namespace, start)
        if namespace.ratio and (ratio := RATIO.match(text, start)):
            return _Value(ratio.end(), ratio[0])
        if frame.scheduled and len(frame.colons) == 2 and not self.registry.chosen:
            message = "this is read as prompt editing; to make it a tag, quote its value or choose a dialect"
            self._note("ambiguous", token.name, frame.close, message)
            return None
        opener = self._opener_at(i + 1, start)
        if opener is not None and opener.opener in "([" and not _literal(namespace, opener, at_start=True):
            return self._wrapped(opener, namespace)
        return self._plain(i, start, namespace, inline)

    def _plain(self, i: int, start: int, namespace: Namespace, inline: bool) -> _Value | None:
        raw = self.text[start : self._end_of_value(i, start, namespace, inline)].rstrip()
        if inline:
            raw = raw.rstrip(SENTENCE_ENDS)
        value = _unescaped(raw).replace("_", " ").strip() if inline else _unescaped(raw)
        token = self.tokens[i]
        if not value or raw[0] in COLONS:
            self._note("empty", token.name, token.end, f"{namespace.name} has no value here")
            return None
        if raw[0] in NUMERIC and NUMBER.fullmatch(raw) and not namespace.takes(float(raw)):
            message = f"{raw} is no value of {namespace.name}, so the webui reads it; quote it to make it one"
            self._note("number", token.name, start + len(raw), message)
            return None
        return _Value(start + len(raw), value)

    def _last_number(self, token: _Token, namespace: Namespace, start: int) -> _Value | None:
        """`name:number` where the host reads a weight or a step: the end of a group, of prompt editing or a prompt."""
        raw = self.text[start : token.frame.close].strip()
        value = self._is_last_number(token)
        if token.frame.opener and namespace.domain is not None:
            what = "a value" if value else "a weight or a step"
            better = f"({self.text[token.name : token.end]}{raw}:1.0)"
            self._note("number", token.name, token.frame.close, f"{raw} is read as {what}; write {better} to be sure")
        return _Value(start + len(raw), raw) if value else None

    def _is_last_number(self, token: _Token) -> bool:
        """Whether a number that ends a frame is the value of the name before it."""
        number = float(self.text[token.end : token.frame.close])
        certain = not token.frame.opener or abs(number) > CERTAIN
        return token.namespace is not None and token.namespace.takes(number) and certain

    def _opener_at(self, i: int, start: int) -> _Frame | None:
        """The closed frame that opens at `start`, if token `i` opens one there."""
        if i == len(self.tokens) or self.tokens[i].start != start:
            return None
        inner = self.tokens[i].inner
        return inner if inner is not None and inner.close >= 0 else None

    def _wrapped(self, opener: _Frame, namespace: Namespace) -> _Value | None:
        """A value in brackets of its own, as in `species:(seal:1.2)`: their weight is the tag's."""
        frame = opener
        while (inside := self._opener_at(frame.first + 1, self._after_blanks(frame.start + 1))) is not None:
            if inside.opener not in "([" or not self._alone(frame, inside.start, inside.close + 1):
                return None
            frame = inside
        low = frame.start + 1
        high = self.tokens[frame.number].start if frame.number >= 0 else frame.close
        raw = self.text[low:high].strip()
        plain = all(one.kind == "escape" or one.end > high for one in self.tokens[frame.first + 1 : frame.last])
        if not raw or not plain or (NUMBER.fullmatch(raw) and not namespace.takes(float(raw))):
            return None
        return _Value(
            opener.close + 1, _unescaped(raw), self.text[opener.start : low], self.text[high : opener.close + 1]
        )

    def _starts_tag(self, j: int, token: _Token) -> bool:
        """Whether colon `j`, of a name after a blank, ends the value before it: what follows must be a tag."""
        if SPACE.match(self.text, token.end) or token.end == len(self.text):
            return False
        if token.frame.number == j:
            return self._is_last_number(token)
        after = self.tokens[j + 1] if token.frame.scheduled and j + 1 < len(self.tokens) else None
        return after is None or after.bound != "colon"

    def _end_of_value(self, i: int, start: int, namespace: Namespace, inline: bool) -> int:
        frame = self.tokens[i].frame
        limit = frame.close if frame.close >= 0 else len(self.text)
        if inline and (blank := SPACE.search(self.text, start, limit)):
            limit = blank.start()
        j = i + 1
        while j < len(self.tokens) and (token := self.tokens[j]).start < limit:
            if token.kind in STOPS:
                return token.start
            if token.kind in COLONS:
                if token.bound == "blank" and token.name > start and self._starts_tag(j, token):
                    return token.name
                if j == frame.number or frame.scheduled:
                    return token.start
            inner = token.inner
            if inner is not None:
                if not 0 <= inner.close < limit or not _literal(namespace, inner, at_start=token.start == start):
                    return token.start
                j = inner.last
            j += 1
        return limit


def _unescaped(raw: str) -> str:
    return ESCAPED.sub(r"\1", raw) if "\\" in raw else raw


def _literal(namespace: Namespace, frame: _Frame, *, at_start: bool) -> bool:
    """Whether brackets inside a value are part of it."""
    if frame.opener == "[":
        return namespace.brackets == "literal"
    return frame.opener == "{" or (namespace.parens == "literal" and frame.number < 0 and not at_start)


def _start_of(words: list[str], window: str) -> int:
    """Where the last `words` of a text start."""
    at = len(window)
    for word in reversed(words):
        at = window.rindex(word, 0, at)
    return at + len(words[0]) - len(words[0].lstrip("-"))
