"""Prompts as what the UNet reads: the encoders' states, weighted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sd_prism.errors import PrismError
from sd_prism.studio.text import Encoder, TextEngine, emphasised, sinusoids
from sd_prism.studio.tokens import Vocabulary


@pytest.fixture(scope="module")
def engine():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1)
    return TextEngine([Encoder(CLIPTextModel(config).eval(), pad=49407)])


def test_texts_are_counted_in_whole_chunks(engine):
    assert [engine.get_target_prompt_token_count(count) for count in (0, 1, 75, 76)] == [75, 75, 75, 150]
    parts, longest = engine.process_texts(["a cat", "cat " * 80, "a cat"])
    assert [len(part) for part in parts] == [1, 2, 1] and longest == 80


def test_encoding_has_77_states_for_each_chunk(engine):
    cond = engine.encode(["a cat", "cat " * 80])
    assert set(cond) == {"crossattn"} and cond["crossattn"].shape == (2, 154, 64)


def test_a_plain_text_is_encoded_alike_alone_and_in_a_batch(engine):
    both = engine.encode(["a cat", "a dog"])["crossattn"]
    assert torch.allclose(engine.encode(["a cat"])["crossattn"][0], both[0], atol=1e-5)


def test_emphasis_scales_a_word_and_keeps_the_mean_of_all_texts():
    z = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    out = emphasised(z, torch.tensor([[1.0, 2.0]]))
    assert torch.allclose(out, torch.tensor([[[1.0, 3.0], [4.0, 12.0]]]) * (3.0 / 5.0))
    two = emphasised(torch.cat([z, z]), torch.tensor([[1.0, 2.0], [1.0, 1.0]]))
    assert torch.allclose(two[1], z[0] * (6.0 / 8.0))
    assert torch.equal(emphasised(z, torch.ones(1, 2)), z)
    assert torch.isfinite(emphasised(torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[1.5, 1.5]]))).all()


class Words:
    """Embeddings by the token ids of their names."""

    def __init__(self, **by_name):
        self.by_ids = {tuple(Vocabulary.clip().ids([name])[0]): embedding for name, embedding in by_name.items()}
        self.seen = []

    def find(self, tokens, position):
        for ids, embedding in self.by_ids.items():
            if tuple(tokens[position : position + len(ids)]) == ids:
                return embedding, len(ids)
        return None, None

    def used(self, embeddings):
        self.seen += embeddings


def test_an_embedding_of_a_words_own_vectors_changes_nothing(engine, monkeypatch):
    plain = engine.encode(["a big red fish (swims:1.2)"])["crossattn"]
    ids = engine.tokenize(["big red"])[0]
    own = SimpleNamespace(vec=engine.encoders[0].vectors(ids), vectors=2)
    words = Words(shiny=own)
    monkeypatch.setattr(engine, "embeddings", words)
    assert torch.equal(engine.encode(["a shiny fish (swims:1.2)"])["crossattn"], plain)
    assert words.seen == [own]
    assert not torch.allclose(engine.encode(["a fish (swims:1.2)"])["crossattn"], plain)


def test_vectors_for_the_start_of_a_prompt_leave_the_start_token(engine, monkeypatch):
    own = SimpleNamespace(vec=engine.encode_embedding_init_text("red fish swims", 2), vectors=2)
    plain = engine.encode(["red fish"])["crossattn"]
    monkeypatch.setattr(engine, "embeddings", Words(shiny=own))
    assert torch.equal(engine.encode(["shiny"])["crossattn"], plain)


def test_sinusoids_are_cosines_then_sines():
    assert sinusoids(torch.tensor([[0.0]]), 4).tolist() == [[1.0, 1.0, 0.0, 0.0]]
    want = torch.tensor([1.0, 0.01]).cos().tolist() + torch.tensor([1.0, 0.01]).sin().tolist()
    assert sinusoids(torch.tensor([[1.0]]), 4)[0].tolist() == pytest.approx(want)


def test_clip_skip_starts_at_one(engine):
    with pytest.raises(PrismError, match="clip skip is 0"):
        engine.encode(["a"], clip_skip=0)
