"""What holds for every prompt. `--long` tries a hundred times as many."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reading import STEPS, once, read
from sd_prism.namespaces import Options, Registry, escape, render, render_pair, scan
from sd_prism.namespaces.dialects import DIALECTS
from sd_prism.namespaces.registry import default
from sd_prism.namespaces.scanner import may_hold_tags

ALPHABET = [
    *(
        "a",
        "seal",
        "1990",
        "3",
        ".5",
        ":",
        ": ",
        "::",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "\\",
        "<",
        ">",
        " AND ",
        "BREAK",
    ),
    *(
        " ",
        ", ",
        "-",
        "+",
        ".",
        '"',
        "#",
        "🦭",
        "海豹",
        "：",
        "（",
        "）",
        "，",
        "<lora:x:1>",
        "!",
        "_",
        "é",
        "9.5",
        "1.2.3",
        "\n",
    ),
]
NAMES = [
    "species",
    "Studio",
    "pixiv work",
    "character",
    "uploader",
    "title",
    "year",
    "aspect",
    "种类",
    "quality",
    "-species",
]
HOSTILE = st.lists(st.sampled_from(ALPHABET), max_size=30).map("".join)
VALUES = st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=7).map("".join).map(str.strip).filter(bool)
TAGGED = st.lists(
    st.one_of(st.sampled_from(ALPHABET), st.sampled_from([f"{name}:" for name in NAMES]), st.sampled_from(NAMES)),
    max_size=30,
).map("".join)

WORDS = st.sampled_from(
    ["seal", "harbor seal", "dc", "handler (monster hunter)", "2 faces pt. 2", "海豹", "x-men #600"]
)
TAG = st.builds("{}:{}".format, st.sampled_from(["species", "studio", "character", "title", "especie"]), WORDS)
PLAIN = st.sampled_from(["a cat", "red", "1girl", r"name \(series\)", "<lora:x:0.5>"])
ATOM = st.one_of(TAG, PLAIN)


def nested(inner):
    """The host's own syntax around prompts."""
    return st.one_of(
        st.builds("({})".format, inner),
        st.builds("({}:1.3)".format, inner),
        st.builds("[{}]".format, inner),
        st.builds("[{}:{}:0.5]".format, inner, inner),
        st.builds("[{}::0.25]".format, inner),
        st.builds("[{}|{}]".format, inner, inner),
        st.builds("{}, {}".format, inner, inner),
    )


PROMPTS = st.recursive(ATOM, nested, max_leaves=8)
WHOLE = st.lists(PROMPTS, min_size=1, max_size=3).map(" AND ".join)


def lowered(text):
    return re.sub(r"\b(?:AND|BREAK)\b", lambda word: word[0].lower(), text)


# --- escapes: any value is a literal in every context


@given(VALUES)
@pytest.mark.parametrize(
    ("target", "kept"),
    [("a1111", lowered), ("sdnext_a1111", lowered), ("studio", lambda text: text)],
    ids=["a1111", "sdnext_a1111", "studio"],
)
def test_any_value_is_read_as_itself(target, kept, value):
    text, want = escape(value, target), kept(value)
    other = [("zz", 1.0)]
    assert read(text) == once(want)
    assert read(f"x, {text}") == once(f"x, {want}")
    assert read(f"({text})") == once((want, 1.1))
    assert read(f"({text}:1.3)") == once((want, 1.3))
    assert read(f"[{text}:zz:5]") == [(1.0, [(5, [(want, 1.0)]), (STEPS, other)])]
    alternated = [(step, [(want, 1.0)] if step % 2 else other) for step in range(1, STEPS + 1)]
    assert read(f"[{text}|zz]") == [(1.0, alternated)]
    first, (weight, [(_, parts)]), last = read(f"q AND {text} AND w")
    assert weight == 1.0
    assert "".join(piece for piece, _ in parts).strip() == want
    assert (first, last) == (once("q")[0], once(" w")[0])


# --- the scanner


@given(TAGGED)
@example("species:" * 50)
def test_spans_are_disjoint_ordered_and_say_their_tag(text):
    at = 0
    for tag in scan(text).tags:
        assert at <= tag.start < tag.end <= len(text)
        assert tag.outer[0] <= tag.start
        assert tag.end <= tag.outer[1]
        assert tag.written in text[tag.start : tag.end]
        assert tag.value.strip() == tag.value != ""
        at = tag.end


@given(TAGGED)
def test_lints_lie_in_the_text_and_nothing_raises(text):
    for lint in scan(text).lints:
        assert 0 <= lint.start <= lint.end <= len(text)
        assert lint.message
    for name in DIALECTS:
        render(text, dialect=name)


@given(TAGGED)
def test_the_gate_lets_every_tag_through(text):
    if scan(text).tags:
        assert may_hold_tags(text, default())


@given(HOSTILE)
def test_without_a_registered_name_the_prompt_is_the_same_object(text):
    strangers = Registry.from_json({"zzz": {}, "two words": {}})
    assert render(text, registry=strangers) is text


# --- rendering


@given(TAGGED)
@pytest.mark.parametrize("dialect", ["pass", "sygil"])
def test_the_text_around_tags_is_kept(dialect, text):
    options = Options(dialect=dialect)
    rendered = render_pair(text, "", options)
    if any(spoken.place != "here" for spoken in rendered.spoken):
        return
    at, left = 0, rendered.prompt
    for spoken in rendered.spoken:
        before = text[at : spoken.tag.start]
        assert left.startswith(before)
        left = left[len(before) :]
        end = left.index(spoken.escaped) + len(spoken.escaped) + len(spoken.tag.closes)
        assert left[:end].strip() == f"{spoken.tag.opens}{spoken.escaped}{spoken.tag.closes}".strip()
        left, at = left[end:], spoken.tag.end
        if text[at : at + 1].isalnum():  # a keyword, from which the value is kept apart
            left = left.removeprefix(" ")
    assert left == text[at:]


@given(WHOLE)
@pytest.mark.parametrize("dialect", ["pass", "sygil"])
def test_rendering_twice_is_rendering_once(dialect, text):
    first = render(text, dialect=dialect)
    assert render(first, dialect=dialect) == first


@given(WHOLE)
def test_the_structure_stays(text):
    """As many AND parts of the same weight, changes at the same steps, and the same weights."""

    def shape(prompt):
        return [
            (weight, [(until, {one for _, one in parts}) for until, parts in schedule])
            for weight, schedule in read(prompt)
        ]

    masked = text
    for tag in reversed(scan(text).tags):
        masked = f"{masked[: tag.start]}zz{masked[tag.end :]}"
    assert shape(render(text)) == shape(masked)


@given(st.lists(st.one_of(TAG, st.sampled_from(["rating:safe", "quality:best"]), PLAIN), min_size=1, max_size=8))
@pytest.mark.parametrize("dialect", [*(name for name, one in DIALECTS.items() if one.order), "alpha"])
def test_sorting_loses_nothing_and_is_done_when_done(dialect, parts):
    named = {"order": "alpha"} if dialect == "alpha" else {"dialect": dialect}
    text = ", ".join(parts)
    as_written = render_pair(text, "", Options(**{**named, "order": "written"})).prompt
    rendered = render_pair(text, "", Options(**named)).prompt
    assert Counter(rendered.split(", ")) == Counter(as_written.split(", "))


@given(st.lists(TAG.filter(lambda tag: "(" not in tag), min_size=1, max_size=8))
def test_alphabetical_order(tags):
    rendered = render_pair(", ".join(tags), "", Options(order="alpha")).prompt
    assert rendered.split(", ") == sorted(render(", ".join(tags)).split(", "), key=str.casefold)


# --- size

FAMILIES = [
    "(",
    "[",
    "\\",
    "species:",
    '"',
    ":",
    "species:a|",
    " ",
    "种类：海豹（",
    "species:(",
    "[species:a:",
    'species:"',
    "-species:a,",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_hostile_prompt_is_read_to_its_end(family):
    """200 kB each: what is not linear would not come back."""
    text = family * (200_000 // len(family))
    found = scan(text)
    assert all(tag.end <= len(text) for tag in found.tags)
    assert isinstance(render(text), str)
