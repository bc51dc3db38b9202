"""How the studio's interface differs from a webui's, both as the facts of `source`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from contract.source import Facts

ABSENT = "-"
# Kinds where the studio may have nothing that the host has not; where it only has less, that is no difference.
NOT_MORE = ("patterns", "requests", "answers", "routes", "options", "pasted", "ids")
WITH_VALUES = ("requests", "options", "pasted")


@dataclass(frozen=True)
class Difference:
    kind: str
    name: str
    studio: str
    webui: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: studio {self.studio}, webui {self.webui}"


def differences(studio: Facts, webui: Facts) -> list[Difference]:
    """All differences that an extension or a client could meet."""
    found = [
        Difference("signatures", name, ours, theirs)
        for name, ours in studio["signatures"].items()
        if (theirs := webui["signatures"].get(name)) is not None and not accepts(ours, theirs)
    ]
    for kind in NOT_MORE:
        for name, ours in studio[kind].items():
            theirs = looked_up(kind, name, webui)
            if theirs == ABSENT or (kind in WITH_VALUES and not same(ours, theirs)):
                found.append(Difference(kind, name, ours, theirs))
    return found


def looked_up(kind: str, name: str, webui: Facts) -> str:
    if kind == "ids" and any(overlap(name, known) or overlap(known, name) for known in webui[kind]):
        return ""
    return webui[kind].get(name, ABSENT)


def overlap(one: str, other: str) -> bool:
    """Whether an id, with a tab for what is variable, is one of a pattern."""
    return fnmatchcase(one.replace("*", "txt2img"), other)


def same(ours: str, theirs: str) -> bool:
    """Equal texts, or equal values such as 0 and 0.0."""
    try:
        return bool(ast.literal_eval(ours) == ast.literal_eval(theirs))
    except (ValueError, SyntaxError):
        return ours == theirs


def accepts(ours: str, theirs: str) -> bool:
    """Whether every call that fits the host's signature fits the studio's and means the same."""
    our, their = arguments(ours), arguments(theirs)
    names, known = [one.arg for one in our.args], [one.arg for one in their.args]
    equal = all(mine == wanted or wanted.startswith("_") for mine, wanted in zip(names, known))
    reached = equal and (len(names) >= len(known) or our.vararg is not None)
    named = {one.arg for one in their.kwonlyargs} <= {*names, *(one.arg for one in our.kwonlyargs)} or our.kwarg
    open_ended = (our.vararg or not their.vararg) and (our.kwarg or not their.kwarg)
    mine, wanted = dict(defaults(our)), dict(defaults(their))
    required = {*names, *(one.arg for one in our.kwonlyargs)} - set(mine)
    return bool(
        reached
        and named
        and open_ended
        and required <= {*known, *names[: len(known)], *(one.arg for one in their.kwonlyargs)}
        and all(name not in names or same(mine.get(name, ABSENT), value) for name, value in wanted.items())
    )


def arguments(signature: str) -> ast.arguments:
    node: Any = ast.parse(f"def f{signature}: pass").body[0]
    return node.args


def defaults(args: ast.arguments) -> Iterator[tuple[str, str]]:
    if args.defaults:
        for one, value in zip(args.args[-len(args.defaults) :], args.defaults, strict=True):
            yield one.arg, ast.unparse(value)
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if default is not None:
            yield one.arg, ast.unparse(default)


def table(found: Iterable[Difference], reasons: dict[str, str]) -> list[str]:
    """A readable report: each difference with the reason why it is allowed."""
    return [f"{one}\n    {reason_for(one, reasons) or 'NOT ALLOWED'}" for one in found]


def reason_for(one: Difference, reasons: dict[str, str]) -> str | None:
    return next((why for pattern, why in reasons.items() if fnmatchcase(f"{one.kind} {one.name}", pattern)), None)
