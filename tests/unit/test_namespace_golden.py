"""What the webui reads of our rendering: the rows of recorded misreadings, each with the reading that was meant."""

from __future__ import annotations

import re

import pytest
from reading import GOLDEN, STEPS, once, read
from sd_prism.errors import PrismError
from sd_prism.namespaces import escape, render, scan

LESS = round(1 / 1.1, 6)
NETWORK = re.compile(r"<(\w+):([^>]+)>")


def wanted(row):
    """A golden case's recorded reading in the form of `read`; None where the host takes networks out or raises."""
    if "error" in row["a1111"]:
        return None
    return [
        (
            part["weight"],
            [(one["until"], [(text, round(weight, 6)) for text, weight in one["parts"]]) for one in part["schedule"]],
        )
        for part in row["a1111"]["and"]
    ]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_the_oracle_reads_as_the_real_webui(case):
    expected = wanted(case)
    if expected is None:
        with pytest.raises(PrismError):
            read(case["in"])
    else:
        assert read(NETWORK.sub("", case["in"])) == expected


ROWS = [
    ("1", "species:seal", once("species:seal")),
    ("2", "species:seal, studio:dc", once("species:seal, studio:dc")),
    ("3", "a photo of a cat, year:1990", once("a photo of a cat, year:1990")),
    ("4", "score:9.5", once("score:9.5")),
    ("6", "especie:foca, año:1990", once("especie:foca, año:1990")),
    ("7", "year:1990.", once("year:1990.")),
    ("8", "year:1990 AND species:seal", [(1.0, [(20, [("year:1990", 1.0)])]), (1.0, [(20, [(" species:seal", 1.0)])])]),
    ("9", "(year:1990)", once(("year:1990", 1.1))),
    ("10", "(year: 1990)", once(("year:1990", 1.1))),
    ("10b", "(year:1990 )", once(("year:1990 ", 1.1))),
    ("11a", "(score:9.5)", once(("score:9.5", 1.1))),
    ("11b", "(iso:100)", once(("iso:100", 1.1))),
    ("11c", "(lens:50)", once(("lens:50", 1.1))),
    ("11d", "(age:25)", once(("age:25", 1.1))),
    ("11e", "(pixiv work:71448774)", once(("pixiv work:71448774", 1.1))),
    ("12a", "(aspect:16:9)", once(("aspect:16:9", 1.1))),
    ("12b", "(ratio:4:3)", once(("ratio:4:3", 1.1))),
    ("15", "(year:1.2.3)", once(("year:1.2.3", 1.1))),
    ("16", "[species:seal:0.5]", [(1.0, [(10, [("", 1.0)]), (20, [("species:seal", 1.0)])])]),
    ("18", "[year:1990]", once(("year:1990", LESS))),
    (
        "19a",
        "[species:seal:species:dog:0.5]",
        [(1.0, [(10, [("species:seal", 1.0)]), (20, [("species:dog", 1.0)])])],
    ),
    ("19b", "[species:seal::0.5]", [(1.0, [(10, [("species:seal", 1.0)]), (20, [("", 1.0)])])]),
    ("19c", "[:species:seal:0.5]", [(1.0, [(10, [("", 1.0)]), (20, [("species:seal", 1.0)])])]),
    (
        "20",
        "[species:seal|species:dog]",
        [(1.0, [(step, [("species:seal" if step % 2 else "species:dog", 1.0)]) for step in range(1, 21)])],
    ),
    (
        "21",
        "[(species:seal:1.1)|(species:dog:1.1)]",
        [(1.0, [(step, [("species:seal" if step % 2 else "species:dog", 1.1)]) for step in range(1, 21)])],
    ),
    ("22", "[(species:seal:1.2):0.5]", [(1.0, [(10, [("", 1.0)]), (20, [("species:seal", 1.2)])])]),
    ("23", "[species:seal]", once(("species:seal", LESS))),
    (
        "26",
        "character:handler (monster hunter world)",
        once("character:handler (monster hunter world)"),
    ),
    ("27", "uploader:[deleted]", once("uploader:[deleted]")),
    ("29", r"(year\:1990)", once(("year:1990", 1.1))),
    ("30", r"year\:1990", once("year:1990")),
    ("31a", "species:BREAK", once("species:break")),
    ("31b", "series:AND", once("series:and")),
    ("32a", "species：seal", once("species:seal")),
    ("32b", "（species：seal：1.2）", once(("species:seal", 1.2))),
    ("33", "species:🦭", once("species:🦭")),
    ("35a", "species:(seal:1.2)", once(("species:seal", 1.2))),
    ("35b", "species:((seal))", once(("species:seal", round(1.1 * 1.1, 6)))),
    ("36", "(species:seal)(studio:dc)", once(("species:seal studio:dc", 1.1))),
    ("37", "species:seal\nstudio:dc", once("species:seal\nstudio:dc")),
    (
        "window",
        "[[species:seal::0.8]:0.2]",
        [(1.0, [(4, [("", 1.0)]), (16, [("species:seal", 1.0)]), (20, [("", 1.0)])])],
    ),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("target", ["a1111", "sdnext_a1111", "studio"])
def test_a_row_is_read_as_it_was_meant(text, expected, target):
    got = read(render(text, target=target))
    if target == "studio":  # no word of a literal is changed
        got = [
            (w, [(u, [(t.replace("BREAK", "break").replace("AND", "and"), x) for t, x in p]) for u, p in s])
            for w, s in got
        ]
    assert got == expected


UNTOUCHED = [
    "clock at 12:30",
    ":3",
    "page:42",
    "(aspect ratio 4:3)",
    "(16:9)",
    "(https://example.com:8080)",
    "(x:-5)",
    "[rating:5]",
    "[16:9]",
    "[clock at 12:30]",
    "<species:seal>",
    "species:<lora:seal:0.5>",
    r"(species\:seal:1.2)",
    r"year\:1990s",
    r"(species\:5)",
    "a##b",
    "((((((cat",
    "4:3 aspect ratio",
    "ns:a:b:c",
    "a::b",
    "smile :d",
    "(style:1.2)",
    "quality:0.8",
    "[species:0.5]",
    "(species:-5)",
    "re:zero, honkai: star rail, monster hunter:world",
    "",
]


@pytest.mark.parametrize("text", UNTOUCHED)
@pytest.mark.parametrize("target", ["a1111", "comfyui", "studio"])
def test_the_host_s_syntax_is_untouched(text, target):
    assert render(text, target=target) is text


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_rendering_is_idempotent_and_keeps_all_else(case):
    text = case["in"]
    for dialect in ("pass", "sygil"):
        once_ = render(text, dialect=dialect)
        assert render(once_, dialect=dialect) == once_
    rendered, at = render(text), 0
    for tag in scan(text).tags:
        before = text[at : tag.start]
        assert before in rendered
        at = tag.end
    assert rendered.endswith(text[at:])


# --- escapes against the recorded table

CONTEXTS = {one["name"]: one["template"] for one in GOLDEN["escape"]["contexts"]}


@pytest.mark.parametrize("value", GOLDEN["escape"]["values"], ids=lambda value: value["id"])
def test_an_escape_is_the_recorded_one(value):
    assert escape(value["literal"]) == value["escaped"]


def expected_in(context, literal):
    """The reading of a literal in one of the recorded contexts."""
    other = [("zz", 1.0)]
    return {
        "bare": once(literal),
        "after_comma": once(f"x, {literal}"),
        "group": once((literal, 1.1)),
        "weighted": once((literal, 1.3)),
        "scheduled": [(1.0, [(5, [(literal, 1.0)]), (20, other)])],
        "alternated": [(1.0, [(i, [(literal, 1.0)] if i % 2 else other) for i in range(1, STEPS + 1)])],
    }[context]


@pytest.mark.parametrize("value", GOLDEN["escape"]["values"], ids=lambda value: value["id"])
@pytest.mark.parametrize("context", [name for name in CONTEXTS if name != "between_ands"])
def test_an_escaped_value_is_read_as_recorded(value, context):
    text = CONTEXTS[context].replace("{}", escape(value["literal"]))
    assert read(text) == expected_in(context, value["read_as"])


# --- the other hosts


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("species:seal, studio:dc", "species:seal, studio:dc"),
        ("(year:1990)", "((year:1990:1.0))"),
        ("character:handler (monster hunter world)", r"character:handler \(monster hunter world\)"),
        ("species:(seal:1.2)", "(species:seal:1.2)"),
    ],
)
def test_comfyui_s_weights(text, rendered):
    """ComfyUI knows brackets and weights alone: no backslash before a colon."""
    assert render(text, target="comfyui") == rendered
