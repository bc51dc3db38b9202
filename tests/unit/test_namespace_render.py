"""What becomes of the text around tags that leave, move, weigh or are told for a part of the run."""

from __future__ import annotations

import math

import pytest
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.namespaces import Options, Registry, render, render_pair, scan

LEAVING = [
    ("rating:safe, a", "a"),
    ("a, rating:safe", "a"),
    ("a, rating:safe, b", "a, b"),
    ("a, (rating:safe:1.2), b", "a, b"),
    ("(a, rating:safe)", "(a)"),
    ("a, rating:safe\nb", "a\nb"),
    ("a photo of rating:safe dog", "a photo of dog"),
    ("rating:safe", ""),
    ("cat BREAK rating:safe BREAK dog", "cat BREAK dog"),
    ("rating:safe BREAK cat", "cat"),
    ("cat BREAK rating:safe", "cat"),
    ("x ADDCOL rating:safe ADDCOL y", "x ADDCOL y"),
    ("rating:safe AND cat", "cat"),
    ("cat AND rating:safe:0.5", "cat"),
    ("cat AND rating:safe:0.5 AND dog :0.7", "cat AND dog :0.7"),
    ("cat AND rating:safe BREAK dog", "cat AND dog"),
    ("a, rating:safe and a dog", "a, safe and a dog"),
]


@pytest.mark.parametrize(("text", "rendered"), LEAVING)
def test_a_tag_that_says_nothing_leaves_no_gap(text, rendered):
    """Natural language drops ratings; a sentence after one is no rating."""
    assert render(text, dialect="sd1") == rendered


@pytest.mark.parametrize(
    ("prompt", "negative", "both"),
    [
        ("-species:dog, b", "", ("b", r"species\:dog")),
        ("a, -species:dog", "bad", ("a", r"bad, species\:dog")),
        ("a, (-species:dog:1.3), b", "bad,", ("a, b", r"bad, (species\:dog:1.3)")),
        ("-species:dog AND cat", "", ("cat", r"species\:dog")),
        ("a, -species:dog", r"species\:dog", ("a", r"species\:dog")),
        ("a -species:dog", "", ("a -species:dog", "")),
        ("", "-species:dog, b", ("", r"species\:dog, b")),
    ],
)
def test_a_minus_moves_a_tag_to_the_negative_prompt(prompt, negative, both):
    rendered = render_pair(prompt, negative, Options())
    assert (rendered.prompt, rendered.negative) == both


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("style:gigafractal, cat", "cat, gigafractal artstyle"),
        ("(style:gigafractal:1.3), cat", "cat, (gigafractal artstyle:1.3)"),
        ("[style:gigafractal:0.5], cat", "cat, [gigafractal artstyle:0.5]"),
        ("style:gigafractal, cat, style:gigafractal", "cat, gigafractal artstyle"),
        ("gigafractal artstyle, style:gigafractal", "gigafractal artstyle"),
        ("cat, style:gigafractal :0.7 AND dog", "cat, gigafractal artstyle :0.7 AND dog"),
        ("-style:gigafractal, cat", "cat"),
    ],
)
def test_a_trigger_is_said_once_at_the_end_of_its_part(text, rendered):
    assert render(text, dialect="gigafractal") == rendered


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("species:x", r"species\:x"),
        ("cat, species:x, dog, species:y", r"cat, dog BREAK species\:x, species\:y"),
        ("cat BREAK species:x", r"cat BREAK species\:x"),
        ("cat BREAK species:x BREAK dog", r"cat BREAK dog BREAK species\:x"),
        ("a, species:x :1.2 AND species:z", r"a BREAK species\:x :1.2 AND species\:z"),
        ("a photo of species:x here", r"a photo of species\:x here"),
    ],
)
def test_a_chunk_of_its_own(text, rendered):
    assert render_pair(text, "", Options(isolate=frozenset({"species"}))).prompt == rendered


@pytest.mark.parametrize(
    ("prompt", "negative", "after"),
    [
        ("species:seal", "", r"seal \(singer\), wax seal"),
        ("species:seal, object:seal", "", ""),
        ("species:seal, wax seal", "", r"seal \(singer\)"),
        ("species:seal", "seal (singer), bad", "seal (singer), bad, wax seal"),
        ("species:seal", "(wax seal:1.2)", r"(wax seal:1.2), seal \(singer\)"),
        ("species:cat", "bad", "bad"),
    ],
)
def test_wrong_senses(prompt, negative, after):
    assert render_pair(prompt, negative, Options(anti=True)).negative == after


def test_a_tag_of_no_strength_has_no_wrong_senses():
    rendered = render_pair("a, species:seal", "", Options(anti=True, strength={"species": 0}))
    assert (rendered.prompt, rendered.negative) == ("a", "")


@pytest.mark.parametrize(
    ("settings", "rendered"),
    [
        ({"strength": {"species": 1.2}}, r"(species\:seal:1.2), studio\:dc"),
        ({"strength": {"*": 0.5, "studio": 1}}, r"(species\:seal:0.5), studio\:dc"),
        ({"strength": {"species": 1e-9}}, r"studio\:dc"),
        ({"window": {"species": (0.2, 0.8)}}, r"[[species\:seal::0.8]:0.2], studio\:dc"),
        ({"window": {"species": (0, 0.8)}}, r"[species\:seal::0.8], studio\:dc"),
        ({"window": {"species": (0.2, 0.8)}, "hires": True}, r"[[species\:seal::1.8]:1.2], studio\:dc"),
        ({"replace": {"species": "dog"}}, r"species\:dog, studio\:dc"),
        ({"order": "alpha", "replace": {"species": "dog"}}, r"species\:dog, studio\:dc"),
    ],
)
def test_strength_window_and_other_values(settings, rendered):
    assert render_pair("species:seal, studio:dc", "", Options(**settings)).prompt == rendered


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"strength": {"species": math.inf}}, OutOfRange),
        ({"strength": {"species": math.nan}}, OutOfRange),
        ({"strength": {"species": -1}}, OutOfRange),
        ({"strength": {"speceis": 1}}, UnknownName),
        ({"window": {"species": (1, 0)}}, PrismError),
        ({"replace": {"species": " "}}, PrismError),
        ({"isolate": frozenset({"speceis"})}, UnknownName),
        ({"target": "a111"}, UnknownName),
        ({"dialect": "sygul"}, UnknownName),
        ({"order": "up"}, UnknownName),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error):
    with pytest.raises(error):
        Options(**settings)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("species:seal year:1990", ["seal", "1990"]),
        ("(species:seal year:1990)", ["seal", "1990"]),
        ("[species:seal studio:dc:0.5]", ["seal", "dc"]),
        ("(title:my rating:1.2)", ["my rating"]),
        ("[title:my rating:species:dog:0.5]", ["my rating", "dog"]),
        ("species: score:seal", ["score:seal"]),
        ("species:“seal, x”, a", ["seal, x"]),
        ("species:「seal, x」, a", ["seal, x"]),
        ('species:"seal, x, a', ['"seal']),
    ],
)
def test_where_a_value_ends(text, values):
    assert [tag.value for tag in scan(text).tags] == values


def test_a_word_after_quotes_stays_a_word():
    assert render('species:"seal"dog') == r"species\:seal dog"


def test_networks_and_groups_stay_where_they_are_when_tags_are_sorted():
    text = "1girl, <lora:x:1>, quality:best, (b), rating:safe"
    assert render(text, dialect="sote") == "best quality, <lora:x:1>, 1girl, (b), general"


@pytest.mark.parametrize("given", [{"species": {"strength": "inf"}}, {"species": {"aliases": "abc"}}, [], "abc"])
def test_a_registry_of_nonsense_is_refused(given):
    with pytest.raises(PrismError):
        render("species:seal", registry=given)


def test_a_registry_in_the_form_of_the_data_files():
    strange = {"kind": {"aliases": ["sort"]}}
    assert render("sort:a(b), species:seal", registry=strange) == r"sort\:a(b), species:seal"
    assert isinstance(Registry.from_json(strange), Registry)
