"""Prompts: tokens, emphasis, editing, AND, and the encoder's chunks."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_prism.errors import PrismError
from sd_prism.studio.text import (
    CHUNK,
    Encoder,
    TextEngine,
    Vocabulary,
    chunks,
    emphasised,
    parse_and,
    parse_emphasis,
    parse_schedule,
    sinusoids,
)

PROMPTS = st.text(alphabet="ab ,:|()[]\\.0123\nAND BREAK", max_size=60)


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.clip()


@pytest.fixture(scope="module")
def engine():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1)
    return TextEngine([Encoder(CLIPTextModel(config).eval(), pad=49407)])


# --- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  Photo\nof a CAT", [320, 1125, 539, 320, 2368]),
        (",", [267]),
        ("", []),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_token_ids_are_clips(text, ids, vocabulary):
    assert vocabulary.ids([text]) == [ids]


def test_the_vocabulary_has_clips_size_and_ends(vocabulary):
    assert vocabulary.tokenizer.get_vocab_size() == 49408
    assert (vocabulary.start, vocabulary.end, vocabulary.comma) == (49406, 49407, 267)


def test_any_text_has_tokens(vocabulary):
    (ids,) = vocabulary.ids(["日本 🐟 \u0000 é"])
    assert ids and max(ids) < 49406


def test_tokens_agree_with_transformers(vocabulary):
    from sd_prism.studio.text import clip_merges, clip_vocabulary
    from transformers import CLIPTokenizer

    merges = clip_merges()
    theirs = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges)
    texts = ["it's a 12-year-old's (cat:1.3), ~masterpiece~", "Ünïcödé 日本語 ... 'quoted'", "8k uhd <|endoftext|> x"]
    assert vocabulary.ids(texts) == theirs(texts, add_special_tokens=False)["input_ids"]


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


@pytest.mark.parametrize(
    "unit", ["(", "(a", "[a:", "a ", "a", "[a|b]", "[a:b:3]", " ", "BREAK ", ":", "[[a:b:c]", "\\\\", "(a:1.1)", "a, "]
)
def test_a_hundred_thousand_characters_take_a_moment(unit, vocabulary):
    text = unit * (100_000 // len(unit))
    started = time.perf_counter()
    parse_and(text)
    parse_schedule(text, 20)
    chunks(text, vocabulary)
    assert time.perf_counter() - started < 10


# --- chunks and encoding -----------------------------------------------------------------------------------------


def test_long_prompts_fill_chunks_of_75(vocabulary):
    parts, count = chunks("cat " * 160, vocabulary)
    assert [len(c.tokens) for c in parts] == [75, 75, 10] and count == 160


def test_text_after_a_near_comma_moves_to_the_next_chunk(vocabulary):
    parts, count = chunks("cat " * 70 + ", " + "dog " * 10, vocabulary)
    assert [len(c.tokens) for c in parts] == [71, 10] and count == 85
    parts, _ = chunks("cat " * 50 + ", " + "dog " * 30, vocabulary)
    assert [len(c.tokens) for c in parts] == [75, 6]


def test_break_starts_a_chunk(vocabulary):
    parts, count = chunks("a cat BREAK a dog", vocabulary)
    assert [c.tokens for c in parts] == [[320, 2368], [320, 1929]] and count == 77


def test_an_empty_prompt_is_one_chunk_of_ends(vocabulary):
    (chunk,), count = chunks("", vocabulary)
    assert chunk.padded(1, 2) == ([1, *[2] * 76], [1.0] * 77) and count == 0


def test_token_count_is_the_counter_of_the_longest_text(engine):
    assert engine.token_count("a cat") == (2, 75)
    assert engine.token_count("[a cat:a very big dog:0.5] AND a") == (4, 75)
    assert engine.token_count("cat " * 80) == (80, 150)


def test_encoding_has_77_states_for_each_chunk(engine):
    cond = engine.encode(["a cat", "cat " * 80])
    assert set(cond) == {"crossattn"} and cond["crossattn"].shape == (2, 154, 64)


def test_a_text_is_encoded_alike_alone_and_in_a_batch(engine):
    both = engine.encode(["a (cat:1.4)", "a dog"])["crossattn"]
    assert torch.allclose(engine.encode(["a (cat:1.4)"])["crossattn"][0], both[0], atol=1e-5)


def test_emphasis_scales_a_word_and_keeps_the_mean():
    z = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    out = emphasised(z, torch.tensor([[1.0, 2.0]]))
    assert torch.allclose(out, torch.tensor([[[1.0, 3.0], [4.0, 12.0]]]) * (3.0 / 5.0))
    assert torch.equal(emphasised(z, torch.ones(1, 2)), z)
    assert torch.isfinite(emphasised(torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[1.5, 1.5]]))).all()


def test_sinusoids_are_cosines_then_sines():
    assert sinusoids(torch.tensor([[0.0]]), 4).tolist() == [[1.0, 1.0, 0.0, 0.0]]
    want = torch.tensor([1.0, 0.01]).cos().tolist() + torch.tensor([1.0, 0.01]).sin().tolist()
    assert sinusoids(torch.tensor([[1.0]]), 4)[0].tolist() == pytest.approx(want)


def test_clip_skip_starts_at_one(engine):
    with pytest.raises(PrismError, match="clip skip is 0"):
        engine.encode(["a"], clip_skip=0)


def test_a_chunk_is_75_tokens():
    assert CHUNK == 75
