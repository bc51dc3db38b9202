"""A1111's prompt syntax, text in and text out: AND, prompt editing and emphasis.

Beside it the studio knows literals (`sd_prism.namespaces.escape.literal`): no step reads syntax in them, and the leaves
of the tree are what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sd_prism.errors import PrismError
from sd_prism.namespaces.escape import plain

# --- AND ---------------------------------------------------------------------------------------------------------

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*")


def parse_and(text: str) -> list[tuple[str, float]]:
    """The prompts that AND joins, with their weights: "a cat :1.2 AND a dog" -> [("a cat", 1.2), (" a dog", 1.0)]."""
    return [_weighted(part) for part in _AND.split(text)]


def _weighted(part: str) -> tuple[str, float]:
    before, colon, after = part.rpartition(":")
    number = _WEIGHT.fullmatch(after) if colon else None
    return (before.rstrip(), float(number[1])) if number else (part.rstrip(), 1.0)


# --- prompt editing ----------------------------------------------------------------------------------------------

_EDIT_TOKEN = re.compile(r"\\.|[^\\\[\]():|]+|[\[\]():|]|\\")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class _Group:
    children: list[_Node]


@dataclass(frozen=True)
class _Scheduled:
    before: _Group
    after: _Group
    when: str


@dataclass(frozen=True)
class _Alternate:
    options: list[_Group]


_Node = str | _Group | _Scheduled | _Alternate


@dataclass
class _Frame:
    """An open bracket: what stands in it so far, cut at its colons and bars."""

    opener: str
    segments: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def flat(self) -> list[_Node]:
        nodes: list[_Node] = [self.opener, *self.segments[0]]
        for separator, segment in zip(self.separators, self.segments[1:]):
            nodes += [separator, *segment]
        return nodes

    def closed(self, closer: str) -> _Node | None:
        """The node that `closer` makes of this frame, None where the grammar knows none."""
        bars, colons = self.separators.count("|"), self.separators.count(":")
        if self.opener + closer == "()":
            return _Group([*self.flat(), closer]) if not bars and colons <= 1 else None
        if self.opener + closer != "[]" or (bars and colons):
            return None
        if bars:
            return _Alternate([_Group(segment) for segment in self.segments])
        return self._scheduled() if colons else _Group([*self.flat(), closer])

    def _scheduled(self) -> _Node | None:
        *prompts, last = self.segments
        plain = all(isinstance(node, str) for node in last)
        number = _NUMBER.fullmatch("".join(map(str, last))) if plain else None
        if number is None or len(prompts) > 2:
            return None
        before = prompts[0] if len(prompts) == 2 else []
        return _Scheduled(_Group(before), _Group(prompts[-1]), number[1])


def parse_schedule(text: str, steps: int, hires_steps: int | None = None) -> list[tuple[int, str]]:
    """A prompt with [a:b:when] and [a|b] as (last step, text) pairs, in order; steps count from 1.

    `when` is a step, or with a decimal point a part of the run. With `hires_steps` it is the second pass: steps go on
    counting after the first pass and parts run from 1 to 2. A prompt that A1111's grammar rejects (a bar outside of
    brackets, a backslash at the end) is one text as it stands. Linear in the prompt for each step with a text of its
    own. Source: A1111 1.10.1, modules/prompt_parser.py.
    """
    root = _parsed(text)
    run = steps if hires_steps is None else hires_steps
    if root is None:
        return [(run, text)]
    ends = {run}
    for node in _nodes(root):
        if isinstance(node, _Scheduled):
            ends.add(_step(node.when, steps, hires_steps))
        elif isinstance(node, _Alternate):
            ends.update(range(1, run + 1))
    return [(end, _text_at(end, root, steps, hires_steps)) for end in sorted(ends) if end >= 1]


def _parsed(text: str) -> _Group | None:
    top: list[_Node] = []
    stack: list[_Frame] = []
    for match in _EDIT_TOKEN.finditer(text):
        token = match.group()
        here = stack[-1].segments[-1] if stack else top
        if token == "\\" or (token == "|" and not stack):
            return None
        if token in ("(", "["):
            stack.append(_Frame(token))
        elif token in (":", "|") and stack:
            stack[-1].separators.append(token)
            stack[-1].segments.append([])
        elif token in (")", "]") and (node := stack[-1].closed(token) if stack else None) is not None:
            stack.pop()
            (stack[-1].segments[-1] if stack else top).append(node)
        elif token in (")", "]"):
            # Loose brackets are allowed at the top only, so a bracket that does not fit opens all around it.
            if not _loosen(stack, top):
                return None
            top.append(token)
        else:
            here.append(token)
    return _Group(top) if _loosen(stack, top) else None


def _loosen(stack: list[_Frame], top: list[_Node]) -> bool:
    """Moves all open frames to the top as plain text; False if that would leave a bar without brackets."""
    for frame in stack:
        if "|" in frame.separators:
            return False
        top += frame.flat()
    stack.clear()
    return True


def _nodes(root: _Node) -> Iterator[_Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, _Group):
            stack += node.children
        elif isinstance(node, _Scheduled):
            stack += [node.before, node.after]
        elif isinstance(node, _Alternate):
            stack += node.options


def _step(when: str, steps: int, hires_steps: int | None) -> int:
    run, value = steps if hires_steps is None else hires_steps, float(when)
    if "." in when:
        value = (value - (0.0 if hires_steps is None else 1.0)) * run
    elif hires_steps is not None:
        value -= steps
    return int(min(run, max(value, -1.0)))


def _text_at(step: int, root: _Node, steps: int, hires_steps: int | None) -> str:
    parts: list[str] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, _Group):
            stack += reversed(node.children)
        elif isinstance(node, _Alternate):
            stack.append(node.options[(step - 1) % len(node.options)])
        else:
            stack.append(node.before if step <= _step(node.when, steps, hires_steps) else node.after)
    return "".join(parts)


# --- emphasis ----------------------------------------------------------------------------------------------------

_ATTENTION = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")
UP, DOWN = 1.1, 1 / 1.1
BREAK = ("BREAK", -1.0)
DEEPEST = 64  # brackets around one word that count; 1.1^64 is 445


@dataclass
class _Bracket:
    """Pieces start..stop that a factor applies to; `rank` is its place in A1111's order of multiplications."""

    start: int
    stop: int
    factor: float
    rank: tuple[int, int]


def parse_emphasis(text: str) -> list[tuple[str, float]]:
    r"""Pieces of a prompt with their weights; BREAK is ("BREAK", -1).

    (a) is 1.1, (a:1.3) is 1.3, [a] is 1/1.1, they multiply, and `\(` is a literal bracket. Linear in the prompt;
    brackets more than 64 deep are read and change nothing.
    """
    pieces: list[tuple[str, float]] = []
    brackets: list[_Bracket] = []
    open_brackets: dict[str, list[_Bracket]] = {"(": [], "[": []}

    def close(kind: str, factor: float) -> None:
        bracket = open_brackets[kind].pop()
        bracket.stop, bracket.factor, bracket.rank = len(pieces), factor, (0, match.start())

    for match in _ATTENTION.finditer(text):
        token, weight = match[0], match[1]
        if token.startswith("\\"):
            pieces.append((token[1:], 1.0))
        elif token in open_brackets:
            unclosed = (1, len(brackets)) if token == "(" else (2, len(brackets))
            brackets.append(_Bracket(len(pieces), -1, UP if token == "(" else DOWN, unclosed))
            open_brackets[token].append(brackets[-1])
        elif weight is not None and open_brackets["("]:
            close("(", _factor(weight, token))
        elif token == ")" and open_brackets["("]:
            close("(", UP)
        elif token == "]" and open_brackets["["]:
            close("[", DOWN)
        else:
            pieces += _broken(token)
    return _merged(_multiplied(pieces, brackets))


def _factor(weight: str, token: str) -> float:
    try:
        return float(weight)
    except ValueError:
        raise PrismError(f'"{token}" in the prompt: "{weight}" is no number; write a weight as in (word:1.2)') from None


def _broken(text: str) -> list[tuple[str, float]]:
    """Text around BREAKs, without the white space that touches them."""
    first, *rest = _BREAK.split(text)
    if not rest:
        return [(text, 1.0)]
    *middle, last = rest
    parts = [first.rstrip(), *(part.strip() for part in middle), last.lstrip()]
    return [piece for part in parts for piece in (BREAK, (part, 1.0))][1:]


def _multiplied(pieces: list[tuple[str, float]], brackets: list[_Bracket]) -> list[tuple[str, float]]:
    """Each piece's weight times the factors of the brackets around it."""
    around: list[_Bracket] = []
    waiting = 0
    result = []
    for i, (text, weight) in enumerate(pieces):
        around = [bracket for bracket in around if bracket.stop < 0 or bracket.stop > i]
        while waiting < len(brackets) and brackets[waiting].start <= i:
            bracket = brackets[waiting]
            if (bracket.stop < 0 or bracket.stop > i) and len(around) < DEEPEST:
                around.append(bracket)
            waiting += 1
        for bracket in sorted(around, key=lambda b: b.rank):
            weight *= bracket.factor
        result.append((text, weight))
    return result


def _merged(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Neighbours of equal weight as one piece."""
    runs: list[tuple[list[str], float]] = []
    for text, weight in pieces:
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(text)
        else:
            runs.append(([text], weight))
    return [(plain("".join(texts)), weight) for texts, weight in runs] or [("", 1.0)]
