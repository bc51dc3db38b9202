"""How each family of models wants a tag said: "a seal, an animal", `seal_(animal)`, `species:seal`.

A dialect is a table of rules, namespace by namespace. Everything here is plain words; a host's escapes come later.
Sources: the models' published cards. What a card does not say is marked as Prism's own choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import UnknownName
from .namespace import Namespace
from .scales import (
    ANIMAGINE_AESTHETIC,
    ANIMAGINE_DATES,
    ANIMAGINE_QUALITY,
    SCORE_OF_GRADE,
    SOTE_AESTHETIC,
    SOTE_DATES,
    SOTE_QUALITY,
    Dates,
    Scale,
    date_word,
    grade_of,
    on_scale,
)
from .wording import number, with_article, words

Place = Literal["here", "end", "negative", "drop"]
Rule = Callable[[Namespace, str], "str | Said"]


@dataclass(frozen=True)
class Said:
    """What a tag becomes.

    Attributes:
        parts: (text, literal) in order; text that is not literal is a host's syntax from a template and stays as it is.
        place: "here", "end" (once, at the end of the prompt), "negative" (in the other prompt) or "drop".
    """

    parts: tuple[tuple[str, bool], ...]
    place: Place = "here"


DROPPED = Said((), "drop")


@dataclass(frozen=True)
class Dialect:
    """The way one family of models writes tags.

    Attributes:
        title: its name for people.
        sets: namespace sets that it adds to the default ones: scores and dates, which count where a dialect was chosen.
        order: groups of namespaces in the order it was trained on, "rest" being all others; () is as written.
        rules, other: the rule of each namespace, and of those without one.
        like: a dialect whose templates serve where this one has none.
    """

    name: str
    title: str
    sets: tuple[str, ...] = ("sote",)
    order: tuple[str, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict, repr=False)
    other: Rule = field(default=lambda namespace, value: words(value), repr=False)
    like: str = ""

    def say(self, namespace: Namespace, value: str) -> Said:
        """A tag in this dialect; the namespace's own template comes before the dialect's rule."""
        for name in (self.name, self.like, "*"):
            if name in namespace.template:
                return filled(namespace.template[name], value)
        said = self.rules.get(namespace.name, self.other)(namespace, value)
        return said if isinstance(said, Said) else _here(said)


def get(name: str) -> Dialect:
    """A dialect by name; UnknownName says which there are."""
    if name not in DIALECTS:
        raise UnknownName("Dialect", name, DIALECTS)
    return DIALECTS[name]


# --- templates ------------------------------------------------------------------------------------------------------


def filled(template: str, value: str) -> Said:
    """A template with its value: `{v}` the words, `{a}` with an article. `<...>` is the host's syntax.

    Inside `<...>` the value is taken as it was written, without the three characters that would end it.
    """
    parts = []
    for piece in re.split(r"(<[^<>]*>)", template):
        literal = not piece.startswith("<")
        if text := _put(piece, words(value) if literal else re.sub(r"[<>:]", "", value)):
            parts.append((text, literal))
    return Said(tuple(parts)) if parts else DROPPED


def _put(template: str, plain: str) -> str:
    return re.sub(r"\{[va]\}", lambda mark: with_article(plain) if mark[0] == "{a}" else plain, template)


def _here(text: str) -> Said:
    return Said(((text, True),)) if text else DROPPED


def _ending(value: str, *endings: str) -> str:
    """The value with the first ending, unless it has one of them."""
    return value if value.casefold().endswith(endings) else f"{value} {endings[0]}"


# --- scores and dates -------------------------------------------------------------------------------------------


def _aesthetic(scale: Scale) -> Rule:
    """A score from 0 to 1 through the scale, one above 1 as one of ten; words as they are."""

    def rule(namespace: Namespace, value: str) -> str:
        score = number(value)
        if score is None:
            return _ending(words(value), "aesthetic", "displeasing")
        return on_scale(scale, score / 10 if score > 1 else score)

    return rule


def _quality(scale: Scale, grades: Mapping[str, str]) -> Rule:
    """A score from 0 to 1 through the scale; a grade ("best" or "best quality") through the dialect's own words."""

    def rule(namespace: Namespace, value: str) -> str:
        score = number(value)
        if score is not None and score <= 1:
            return on_scale(scale, score)
        grade = _grade(value)
        return grades.get(grade.casefold()) or (grade if grade.casefold() == "masterpiece" else f"{grade} quality")

    return rule


def _grade(value: str) -> str:
    """A grade without the word "quality"; a number is a score from 0 to 10."""
    plain, score = words(value), number(value)
    if score is not None:
        return grade_of(score)
    return plain[: -len("quality")].rstrip() if plain.casefold().endswith(" quality") else plain


def _score_as(quality: Rule) -> Rule:
    """A score from 0 to 10 as the quality of that grade."""

    def rule(namespace: Namespace, value: str) -> str | Said:
        score = number(UP.sub("", value))
        return words(value) if score is None else quality(namespace, grade_of(score))

    return rule


UP = re.compile(r"[_ ]up\Z", re.IGNORECASE)
"""Pony's ending for a score "and above"."""


def _dated(dates: Dates) -> Rule:
    return lambda namespace, value: date_word(dates, value) or words(value)


# --- ratings ----------------------------------------------------------------------------------------------------

RATINGS = {"s": "safe", "sfw": "safe", "g": "general", "q": "questionable", "e": "explicit"}
SOTE_RATINGS = {
    "safe": "general",
    "questionable": "nsfw",
    "mature": "nsfw",
    "explicit": "explicit nsfw",
}
PONY_RATINGS = {
    "safe": "rating_safe",
    "general": "rating_safe",
    "sensitive": "rating_safe",
    "questionable": "rating_questionable",
    "mature": "rating_questionable",
    "nsfw": "rating_questionable",
    "explicit": "rating_explicit",
    "explicit nsfw": "rating_explicit",
}
ANIMAGINE_RATINGS = {
    "general": "safe",
    "questionable": "nsfw",
    "mature": "nsfw",
    "explicit": "explicit, nsfw",
    "explicit nsfw": "explicit, nsfw",
}


def _rating(names: Mapping[str, str]) -> Rule:
    def rule(namespace: Namespace, value: str) -> str:
        plain = words(value).casefold()
        plain = RATINGS.get(plain, plain)
        return names.get(plain, plain)

    return rule


# --- subjects ---------------------------------------------------------------------------------------------------

SENSES = {"species": "animal", "object": "object"}
# Short names that are also something else; Prism's own
STUDIOS = {
    "bones": "Studio Bones",
    "dark horse": "Dark Horse Comics",
    "dc": "DC Comics",
    "ghibli": "Studio Ghibli",
    "idw": "IDW Publishing",
    "marvel": "Marvel Comics",
    "shaft": "Studio Shaft",
    "sunrise": "Studio Sunrise",
    "trigger": "Studio Trigger",
}


def ambiguous(namespace: Namespace, value: str) -> bool:
    """Whether the bare word has other senses: those are what the namespace's `anti` lists."""
    return value.casefold() in namespace.anti


def _studio(value: str) -> str:
    plain = words(value)
    return STUDIOS.get(plain.casefold(), plain)


def _with_sense(namespace: Namespace, value: str) -> str:
    """`seal (animal)` for a word of many senses, else the words."""
    plain = words(value)
    return f"{plain} ({SENSES[namespace.name]})" if ambiguous(namespace, plain) else plain


def _natural_subject(namespace: Namespace, value: str) -> str:
    plain = words(value)
    named = with_article(plain)
    return f"{named}, {with_article(SENSES[namespace.name])}" if ambiguous(namespace, plain) else named


def _natural_character(namespace: Namespace, value: str) -> str:
    """`handler (monster hunter world)` as "handler from monster hunter world"."""
    named = re.fullmatch(r"(.+?)[ _]?\(([^()]+)\)", value)
    return " from ".join(map(words, named.groups() if named else [value]))


def _underscored(text: str) -> str:
    return "_".join(text.casefold().split())


def _counted_gender(namespace: Namespace, value: str) -> str:
    plain = words(value)
    return {"female": "1girl", "male": "1boy"}.get(plain.casefold(), plain)


def _phrase(template: str) -> Rule:
    return lambda namespace, value: template.replace("{v}", words(value))


def _measured(unit: str, ending: str) -> Rule:
    """A bare number gets its unit ("50" is "50mm lens"), other values only the ending."""
    return lambda namespace, value: _ending(f"{value}{unit}" if number(value) is not None else words(value), ending)


def _style(namespace: Namespace, value: str) -> str:
    return _ending(words(value), "style")


def _dropped(namespace: Namespace, value: str) -> Said:
    return DROPPED


# What needs more words than its value; and where a picture was found, which only Sygil was taught.
WORDS: dict[str, Rule] = {
    "aesthetic": _aesthetic(SOTE_AESTHETIC),
    "quality": _quality(SOTE_QUALITY, {}),
    "score": _score_as(_quality(SOTE_QUALITY, {})),
    "studio": lambda namespace, value: _studio(value).lower(),
    "species": _with_sense,
    "object": _with_sense,
    "style": _style,
    "lens": _measured("mm", "lens"),
    "film": lambda namespace, value: _ending(words(value), "film"),
    "iso": _phrase("iso {v}"),
    "age": _measured(" years", "old"),
    "aspect": _phrase("{v} aspect ratio"),
    "ratio": _phrase("{v} aspect ratio"),
    "subreddit": _dropped,
    "booru": _dropped,
    "pixiv work": _dropped,
    "uploader": _dropped,
}

# --- Sygil ------------------------------------------------------------------------------------------------------

SYGIL_NAMES = (
    *("species", "studio", "series", "character", "creator", "medium", "rating", "gender", "clothing", "person"),
    *("meta", "subreddit", "category", "title", "uploader", "booru", "text", "pixiv work"),
)
SYGIL_NAME = {**{name: name for name in SYGIL_NAMES}, "artist": "creator", "copyright": "series"}
ACCOUNTS = ("uploader", "subreddit")


def _sygil(namespace: Namespace, value: str) -> str:
    """Lower case, blanks for `_` (but in the names of accounts, such as `i_burn_cereal`)."""
    name = SYGIL_NAME[namespace.name]
    text = value if name in ACCOUNTS else value.replace("_", " ").strip()
    return f"{name}:{text.lower()}"


# --- Gigafractal ------------------------------------------------------------------------------------------------

TRIGGER = "gigafractal artstyle"


def _gigafractal_style(namespace: Namespace, value: str) -> str | Said:
    if words(value).casefold() in ("gigafractal", TRIGGER):
        return Said(((TRIGGER, True),), "end")
    return _style(namespace, value)


# --- Pony -------------------------------------------------------------------------------------------------------


def score_chain(score: float) -> str:
    """A score in Pony's way: score_9 is said together with score_8_up down to score_4_up. Clamped to 4..9."""
    top = int(min(max(score, 4), 9))
    return ", ".join([f"score_{top}", *(f"score_{lower}_up" for lower in range(top - 1, 3, -1))])


def _pony_score(namespace: Namespace, value: str) -> str:
    score = number(value)
    if UP.search(value) and number(UP.sub("", value)) is not None:
        return f"score_{UP.sub('_up', value)}"
    return words(value) if score is None else score_chain(score)


def _pony_quality(namespace: Namespace, value: str) -> str:
    score = number(value)
    grade = _grade(value if score is None or score > 1 else on_scale(SOTE_QUALITY, score)).casefold()
    return score_chain(SCORE_OF_GRADE[grade]) if grade in SCORE_OF_GRADE else f"{grade} quality"


def _pony_source(namespace: Namespace, value: str) -> str:
    plain = words(value).casefold()
    return f"source_{plain}" if plain in ("pony", "furry", "cartoon", "anime") else plain


def _pony_species(namespace: Namespace, value: str) -> str:
    plain = words(value)
    return f"{plain}, feral" if ambiguous(namespace, plain) else plain


# --- the table --------------------------------------------------------------------------------------------------


def _as_written(namespace: Namespace, value: str) -> str:
    return f"{namespace.name}:{value}"


_sote_quality = _quality(SOTE_QUALITY, {"masterpiece": "best quality", "good": "medium quality"})
_danbooru_quality = _quality(SOTE_QUALITY, {"best": "masterpiece, best quality"})
_animagine_quality = _quality(
    ANIMAGINE_QUALITY,
    {
        "best": "masterpiece, best quality",
        "high": "great quality",
        "medium": "normal quality",
        "bad": "low quality",
    },
)

NATURAL: dict[str, Rule] = {
    **WORDS,
    "species": _natural_subject,
    "object": _natural_subject,
    "studio": lambda namespace, value: f"by {_studio(value)}",
    "creator": _phrase("by {v}"),
    "artist": _phrase("by {v}"),
    "character": _natural_character,
    "series": _phrase("from {v}"),
    "copyright": _phrase("from {v}"),
    "text": _phrase('with the text "{v}"'),
    "rating": _dropped,
}


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("pass", "As written", sets=(), other=_as_written),
        Dialect("sygil", "Sygil", rules={**WORDS, **dict.fromkeys(SYGIL_NAME, _sygil)}),
        Dialect(
            "sote",
            "SoteDiffusion",
            order=("aesthetic", "quality", "score", "date", "custom", "rating", "character", "series", "rest"),
            rules={
                **WORDS,
                "quality": _sote_quality,
                "score": _score_as(_sote_quality),
                "date": _dated(SOTE_DATES),
                "year": _dated(SOTE_DATES),
                "custom": lambda namespace, value: value,
                "rating": _rating(SOTE_RATINGS),
                "creator": _phrase("art by {v}"),
                "artist": _phrase("art by {v}"),
                "text": _phrase('The text says "{v}"'),
            },
        ),
        Dialect(
            "danbooru",
            "Danbooru (Baka)",
            order=("quality", "score", "count", "character", "series", "rest"),
            rules={
                **WORDS,
                "custom": lambda namespace, value: ", ".join(map(_underscored, value.split(","))),
                "quality": _danbooru_quality,
                "score": _score_as(_danbooru_quality),
                "studio": lambda namespace, value: _underscored(_studio(value)),
                "species": lambda namespace, value: _underscored(_with_sense(namespace, value)),
                "object": lambda namespace, value: _underscored(_with_sense(namespace, value)),
                "gender": _counted_gender,
                "rating": _rating({}),
                "text": _phrase("{v}"),
                "title": _phrase("{v}"),
            },
            other=lambda namespace, value: _underscored(value),
        ),
        Dialect("sd1", "Natural language (SD 1)", rules=NATURAL),
        Dialect("gigafractal", "Gigafractal", rules={**NATURAL, "style": _gigafractal_style}, like="sd1"),
        Dialect(
            "pony",
            "Pony",
            order=("score", "quality", "source", "rating", "rest"),
            rules={
                **WORDS,
                "score": _pony_score,
                "quality": _pony_quality,
                "source": _pony_source,
                "rating": _rating(PONY_RATINGS),
                "species": _pony_species,
            },
        ),
        Dialect(
            "animagine",
            "Animagine",
            order=("count", "character", "series", "rest", "quality", "score"),
            rules={
                **WORDS,
                "aesthetic": _aesthetic(ANIMAGINE_AESTHETIC),
                "quality": _animagine_quality,
                "score": _score_as(_animagine_quality),
                "date": _dated(ANIMAGINE_DATES),
                "year": _dated(ANIMAGINE_DATES),
                "gender": _counted_gender,
                "rating": _rating(ANIMAGINE_RATINGS),
            },
        ),
    )
}
