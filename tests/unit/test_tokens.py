"""CLIP's token ids, and prompts cut into chunks."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from sd_prism.clip import clip_merges, clip_vocabulary
from sd_prism.studio.prompt import parse_and, parse_schedule
from sd_prism.studio.tokens import CHUNK, Chunk, Vocabulary, chunks


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.clip()


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
    from transformers import CLIPTokenizer

    merges = clip_merges()
    theirs = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges)
    texts = ["it's a 12-year-old's (cat:1.3), ~masterpiece~", "Ünïcödé 日本語 ... 'quoted'", "8k uhd <|endoftext|> x"]
    assert vocabulary.ids(texts) == theirs(texts, add_special_tokens=False)["input_ids"]


def test_long_prompts_fill_chunks_of_75(vocabulary):
    parts, count = chunks("cat " * 160, vocabulary)
    assert [len(c.tokens) for c in parts] == [75, 75, 10] and count == 160


def test_text_after_a_near_comma_moves_to_the_next_chunk(vocabulary):
    parts, count = chunks("cat " * 70 + ", " + "dog " * 10, vocabulary)
    assert [len(c.tokens) for c in parts] == [71, 10] and count == 85
    parts, _ = chunks("cat " * 50 + ", " + "dog " * 30, vocabulary)
    assert [len(c.tokens) for c in parts] == [75, 6]


def find_cats(vectors):
    """Every "cat" is an embedding of so many vectors."""
    embedding = SimpleNamespace(vectors=vectors)
    return lambda tokens, position: (embedding, 1) if tokens[position] == 2368 else (None, None)


def test_an_embedding_takes_the_place_of_its_name(vocabulary):
    (chunk,), count = chunks("a (cat:1.5) a", vocabulary, find_cats(3))
    assert chunk.tokens == [320, 0, 0, 0, 320] and chunk.multipliers == [1, 1.5, 1.5, 1.5, 1] and count == 5
    assert [offset for offset, _ in chunk.fixes] == [1]


def test_an_embedding_that_does_not_fit_starts_a_chunk(vocabulary):
    parts, count = chunks("a " * 73 + "cat a", vocabulary, find_cats(3))
    assert [len(part.tokens) for part in parts] == [73, 4] and count == 79
    assert [part.fixes[0][0] if part.fixes else None for part in parts] == [None, 0]


def test_break_starts_a_chunk(vocabulary):
    parts, count = chunks("a cat BREAK a dog", vocabulary)
    assert [c.tokens for c in parts] == [[320, 2368], [320, 1929]] and count == 77


def test_an_empty_prompt_is_one_chunk_of_ends(vocabulary):
    (chunk,), count = chunks("", vocabulary)
    assert chunk.padded(1, 2) == Chunk([1, *[2] * 76], [1.0] * 77) and count == 0


def test_a_chunk_is_75_tokens():
    assert CHUNK == 75


@pytest.mark.parametrize(
    "unit", ["(", "(a", "[a:", "a ", "a", "[a|b]", "[a:b:3]", " ", "BREAK ", ":", "[[a:b:c]", "\\\\", "(a:1.1)", "a, "]
)
def test_a_prompt_of_twice_the_length_is_twice_the_work(unit, vocabulary):
    def read(length):
        text = unit * (length // len(unit))
        return lambda: (parse_and(text), parse_schedule(text, 20), chunks(text, vocabulary))

    assert lines(read(8000)) < 2.2 * lines(read(4000)) + 1000


def lines(act):
    """How many lines of Python are run."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event == "line"
        return counted

    before = sys.gettrace()
    sys.settrace(counted)
    try:
        act()
    finally:
        sys.settrace(before)
    return count
