"""Bound tags in a webui of pipelines, by a small encoder with its names: rows, its cache, strength over the steps."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from checkpoints import small_text
from sd_prism.hosts.namespaces import embeds
from sd_prism.schedule import ALWAYS, Curve
from sd_prism.studio.tokens import Vocabulary

START, END = 49406, 49407
SEAL = r"species\:seal"
PROMPT = f"a red|{SEAL}|in the sea"  # as this parser reads fragments, which may end in ~ and a weight


class Provider:
    """Compel's, with its names, as far as webuis use them: a text's fragments have a weight each."""

    max_token_count = 77

    def __init__(self, text_encoder):
        self.text_encoder = text_encoder

    def get_token_ids(self, texts, include_start_and_end_markers):
        assert not include_start_and_end_markers
        return Vocabulary.clip().ids(texts)

    def get_token_ids_and_expand_weights(self, texts, weights, device):
        ids = self.get_token_ids(list(texts), False)
        flat = [(token, weight) for one, weight in zip(ids, weights) for token in one]
        chunks = [flat[i : i + 75] for i in range(0, len(flat), 75)] or [[]]
        padded = [[(START, 1.0), *chunk, *[(END, 1.0)] * (76 - len(chunk))] for chunk in chunks]
        tokens, weights = zip(*(row for chunk in padded for row in chunk))
        return torch.tensor(tokens), torch.tensor(weights), torch.ones(len(tokens), dtype=torch.long)

    def _encode_token_ids_to_embeddings(self, tokens, mask=None):
        with torch.no_grad():
            return self.text_encoder(tokens, mask).last_hidden_state

    def get_embeddings_for_weighted_prompt_fragments(self, text_batch, fragment_weights_batch, device):
        tokens, weights, mask = self.get_token_ids_and_expand_weights(text_batch[0], fragment_weights_batch[0], device)
        empty = self._encode_token_ids_to_embeddings(torch.tensor([[START, *[END] * 76]]))
        parts = zip(tokens.split(77), weights.split(77), mask.split(77))
        states = [
            empty + (self._encode_token_ids_to_embeddings(a[None], c[None]) - empty) * b[:, None] for a, b, c in parts
        ]
        return torch.cat(states, dim=1)


@pytest.fixture
def parser(monkeypatch):
    """The webui's module, with a cache of conds."""
    torch.manual_seed(0)
    clip = small_text(64, "quick_gelu", False)

    def read(pipe, text):
        parts = [part.partition("~") for part in re.sub(r"\\(.)", r"\1", text).split("|")]
        return tuple(part[0] for part in parts), tuple(float(part[2] or 1) for part in parts)

    class PromptEmbedder:
        def __init__(self, prompts, negatives, steps, clip_skip, p):
            items = [one.items for held in p.network_data.values() for one in held]
            key = str([prompts, negatives, steps, clip_skip, items])
            if key not in made.cache:
                (provider,) = made.prepare_embedding_providers(None, clip_skip)
                texts = [read(None, text) for text in prompts]
                made.cache[key] = [
                    [provider.get_embeddings_for_weighted_prompt_fragments([text], [weights], device="cpu")]
                    for text, weights in texts
                ]
            self.prompt_embeds = made.cache[key]

        def __call__(self, key, step=0):
            return None if key == "positive_pooleds" else torch.cat([one[0] for one in self.prompt_embeds])

    made = SimpleNamespace(
        PromptEmbedder=PromptEmbedder,
        prepare_embedding_providers=lambda pipe, clip_skip: [Provider(clip)],
        get_prompts_with_weights=read,
        cache={},
    )
    monkeypatch.setitem(sys.modules, "modules", SimpleNamespace(prompt_parser_diffusers=made))
    return made


def job(steps=4):
    pipe = SimpleNamespace(components={}, scheduler=None, num_timesteps=steps)
    return SimpleNamespace(network_data={}, sd_model=pipe)


def asked(parser, p, prompts, negatives=("",)):
    return parser.PromptEmbedder(list(prompts), list(negatives), 4, 1, p)


def conds(parser, prompt, strengths, curve=ALWAYS, unsure=None):
    """(77*chunks,C) of one prompt."""
    told, p = [], job()
    with embeds.bound(p, strengths, curve, told.append):
        made = asked(parser, p, [prompt])
    assert told == (unsure or [])
    return made("prompt_embeds")[0]


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize(
    ("prompt", "rows"),
    [
        (PROMPT, [3, 4, 5]),
        (f"a red {SEAL} in the sea", [3, 4, 5]),
        (f"{SEAL}, a {SEAL}", [1, 2, 3, 6, 7, 8]),
        ("cat " * 80 + SEAL, [83, 84, 85]),
        ("cat " * 73 + f"|{SEAL} cat", [74, 75, 78]),
        (f"a {SEAL}ion", []),
    ],
    ids=["fragment", "within", "twice", "second chunk", "across chunks", "longer word"],
)
def test_the_rows_of_a_tag_are_those_of_the_tag_alone(parser, prompt, rows, strength):
    plain, bound = conds(parser, prompt, {}), conds(parser, prompt, {SEAL: strength})
    alone = conds(parser, SEAL, {})[1:4]
    want = plain.clone()
    for index, row in enumerate(rows):
        want[row] = torch.lerp(plain[row], alone[index % 3], strength)
    assert torch.allclose(bound, want, atol=1e-5)
    assert torch.equal(bound, plain) is not bool(rows)


def test_a_tag_keeps_what_it_does_not_share(parser):
    tag = r"cast (of seals)"
    plain, bound = conds(parser, f"a {tag}, sea", {}), conds(parser, f"a {tag}, sea", {tag: 1.0})
    assert (bound != plain).any(-1).nonzero().flatten().tolist() == [2, 3, 4, 5]


def test_weights_come_after_binding(parser):
    empty, plain, bound = (conds(parser, text, {SEAL: 1.0}) for text in ("", PROMPT, f"a red|{SEAL}~1.3|in the sea"))
    assert torch.allclose(bound[3:6], (empty + (plain - empty) * 1.3)[3:6], atol=1e-5)


def test_the_webuis_cache_keeps_bound_conds_apart(parser):
    plain, bound = conds(parser, PROMPT, {}), conds(parser, PROMPT, {SEAL: 1.0})
    assert len(parser.cache) == 2 and not torch.equal(plain, bound)
    assert torch.equal(conds(parser, PROMPT, {}), plain) and torch.equal(conds(parser, PROMPT, {SEAL: 1.0}), bound)
    assert conds(parser, "a cat", {SEAL: 1.0}).equal(conds(parser, "a cat", {})) and len(parser.cache) == 3


def test_what_cannot_be_bound_is_told_whenever_its_conds_are_used(parser):
    long = "cat " * 80 + "cat"
    for _ in range(2):
        conds(parser, f"a {long}", {long: 1.0}, unsure=[long])


def test_other_jobs_are_left_alone_and_one_that_is_never_encoded_is_told(parser):
    p, other, original, told = job(), job(), parser.PromptEmbedder, []
    with embeds.bound(p, {SEAL: 1.0}, ALWAYS, told.append):
        made = asked(parser, other, [PROMPT])("prompt_embeds")
    assert told == [SEAL]
    assert torch.equal(made[0], conds(parser, PROMPT, {}))
    assert parser.PromptEmbedder is original


def test_strength_over_the_steps_lies_between_plain_and_bound(parser):
    p, told = job(steps=4), []
    with embeds.bound(p, {SEAL: 1.0}, Curve.parse("1@0 0@1"), told.append):
        made = asked(parser, p, [PROMPT, "a cat"], ["", ""])
    assert made.scheduled_prompt and made("positive_pooleds") is None
    plain = asked(parser, p, [PROMPT, "a cat"], ["", ""])("prompt_embeds")
    whole = torch.stack([conds(parser, PROMPT, {SEAL: 1.0}), plain[1]])
    for step, level in enumerate([1.0, 0.75, 0.5, 0.25]):
        assert torch.allclose(made("prompt_embeds", step), torch.lerp(plain, whole, level), atol=1e-6)
