"""A value as plain English: blanks, articles, numbers."""

from __future__ import annotations

import re

BARE = re.compile(
    r"(?:an?|the|some|many|several|one|two|three|four|five|six|seven|eight|nine|ten)\b|[^a-z]", re.IGNORECASE
)
PLURAL = re.compile(r"[^sui]s$", re.IGNORECASE)
SOUNDS_LIKE_YOU = re.compile(r"uni[cfqtv]|us[aeu]|ut[eio]|eu|ewe|ufo", re.IGNORECASE)
OPENS_WITH_A_VOWEL = re.compile(r"[aeiou]|hour|honest|honou?r|heir", re.IGNORECASE)


def words(value: str) -> str:
    """`harbor_seal` as `harbor seal`. Where a value has blanks, its `_` are the user's own and stay."""
    return value if " " in value else value.replace("_", " ").strip()


def with_article(value: str) -> str:
    """`a seal`, `an elk`; plurals, numbers, other scripts and what has an article already stay bare."""
    name = value.partition("(")[0].strip()
    if not name or BARE.match(name) or PLURAL.search(name):
        return value
    vowel = OPENS_WITH_A_VOWEL.match(name) and not SOUNDS_LIKE_YOU.match(name)
    return f"{'an' if vowel else 'a'} {value}"


def number(value: str) -> float | None:
    """The number that a value is, if it is one."""
    return float(value) if re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", value.strip(), re.ASCII) else None
