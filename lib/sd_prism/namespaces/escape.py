"""Any text as a literal of a host's prompt syntax.

The rules were found by running the hosts' own parsers on hostile values: bare, in brackets with and without a weight,
in prompt editing, in alternation and between ANDs.
"""

from __future__ import annotations

import re

from ..errors import UnknownName

TARGETS = ("a1111", "sdnext", "sdnext_a1111", "comfyui", "studio")
"""A1111's family; SD.Next's native parser and its A1111 mode; ComfyUI's weights; the studio."""

KEYWORD = re.compile(r"\b(?:AND|BREAK)\b")
BACKSLASHED = {ord(one): f"\\{one}" for one in "\\()[]:|"}
NUMBER = re.compile(r":\s*[+\-.0-9]")
ESCAPED_NUMBER = re.compile(r"(\\:\s*)([+\-.0-9])")
BRACKET = re.compile(r"[()]")
WEIGHT_LIKE = re.compile(r":\s*[-+.\d]+\s*\Z")

PRIVATE = 0xF0000  # of Unicode's plane 15: no text has these characters, and no parser reads syntax in them
STUDIO = {code: chr(PRIVATE + code) for code in map(ord, "\\()[]{}<>:|#")}
UNSTUDIO = {PRIVATE: None, **{ord(private): chr(code) for code, private in STUDIO.items()}}
WORDS = {"AND": "A\U000f0000ND", "BREAK": "B\U000f0000REAK"}


def escape(value: str, target: str = "a1111") -> str:
    """`value` in the syntax of a host, which reads it as `value` in every context.

    A1111's family reads AND and BREAK as words only in small letters, which is the same to CLIP. SD.Next's native
    parser drops emoji, quotes and bars whatever is written. ComfyUI needs an explicit weight around a value that ends
    like one.
    """
    if target == "studio":
        return literal(value)
    if target == "comfyui":
        text = BRACKET.sub(r"\\\g<0>", value)
        return f"({text}:1.0)" if WEIGHT_LIKE.search(value) else text
    if target not in TARGETS:
        raise UnknownName("Target", target, TARGETS)
    if "AND" in value or "BREAK" in value:
        value = KEYWORD.sub(lambda word: word[0].lower(), value)
    text = value.translate(BACKSLASHED)
    return ESCAPED_NUMBER.sub(r"\1\\\2", text) if NUMBER.search(value) else text


def literal(value: str) -> str:
    """`value` for a parser of our own: its syntax is moved out of Unicode's used range, and `plain` moves it back."""
    return KEYWORD.sub(lambda word: WORDS[word[0]], value.translate(STUDIO))


def plain(text: str) -> str:
    """The text in which `literal`s are what they were."""
    return text if text.isascii() else text.translate(UNSTUDIO)
