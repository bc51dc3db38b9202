"""Prompts as what the UNet reads: the encoders' states, weighted."""

from __future__ import annotations

import pytest
import torch
from sd_prism.errors import PrismError
from sd_prism.studio.text import Encoder, TextEngine, emphasised, sinusoids


@pytest.fixture(scope="module")
def engine():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1)
    return TextEngine([Encoder(CLIPTextModel(config).eval(), pad=49407)])


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
