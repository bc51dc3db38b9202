"""Prompts as text: emphasis, editing and AND."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_prism.errors import PrismError
from sd_prism.studio.prompt import parse_and, parse_emphasis, parse_schedule

PROMPTS = st.text(alphabet="ab ,:|()[]\\.0123\nAND BREAK", max_size=60)


# --- emphasis ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(brackets)", [("unnecessarybrackets", 1.1)]),
        ("[less]", [("less", 1 / 1.1)]),
        ("(a:1.2) ( b : 0.5 )", [("a", 1.2), (" ", 1.0), (" b ", 0.5)]),
        ("((a:1.5))", [("a", 1.5 * 1.1)]),
        ("a BREAK b", [("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
        ("a:b", [("a:b", 1.0)]),
        ("", [("", 1.0)]),
        ("a\\", [("a", 1.0)]),
    ],
)
def test_emphasis(text, pieces):
    assert parse_emphasis(text) == pieces


def test_interleaved_brackets_multiply():
    assert parse_emphasis("(a [b) c]") == [("a ", 1.1), ("b", 1.1 * (1 / 1.1)), (" c", 1 / 1.1)]


def test_a_weight_that_is_no_number_says_so():
    with pytest.raises(PrismError, match=r'"1\.2\.3" is no number'):
        parse_emphasis("(a:1.2.3)")


@given(st.text(alphabet="ab ()[]", max_size=60))
def test_emphasis_keeps_every_letter(text):
    letters = "".join(t for t, _ in parse_emphasis(text))
    assert [c for c in letters if c in "ab "] == [c for c in text if c in "ab "]


# --- editing and AND ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("[a:b:0.5]", [(5, "a"), (10, "b")]),
        ("[a::7]", [(7, "a"), (10, "")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("a | [b:3]", [(10, "a | [b:3]")]),
        (r"\[b:3\]", [(10, r"\[b:3\]")]),
    ],
)
def test_prompt_editing(text, schedule):
    assert parse_schedule(text, 10) == schedule


def test_alternation_changes_every_step():
    assert parse_schedule("[fe|]male", 3) == [(1, "female"), (2, "male"), (3, "female")]
    assert [t for _, t in parse_schedule("[a|b|[c|d]]", 6)] == ["a", "b", "c", "a", "b", "d"]


def test_the_second_pass_goes_on_counting():
    assert parse_schedule("a [b:.5] c", 10, 10) == [(10, "a b c")]
    assert parse_schedule("a [b:1.5] c", 10, 10) == [(5, "a  c"), (10, "a b c")]
    assert parse_schedule("a [b:13]", 10, 10) == [(3, "a "), (10, "a b")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat :1.2 AND a dog", [("a cat", 1.2), (" a dog", 1.0)]),
        ("a AND b:-0.5", [("a", 1.0), (" b", -0.5)]),
        ("SAND ANDY (x:1.2)", [("SAND ANDY (x:1.2)", 1.0)]),
    ],
)
def test_and(text, parts):
    assert parse_and(text) == parts


@settings(deadline=None, max_examples=200)
@given(PROMPTS, st.integers(1, 20))
def test_every_schedule_ends_with_the_run(text, steps):
    schedule = parse_schedule(text, steps)
    ends = [end for end, _ in schedule]
    assert ends[-1] == steps and ends == sorted(set(ends)) and ends[0] >= 1
