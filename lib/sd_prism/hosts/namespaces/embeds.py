"""Bound tags in a webui that draws with pipelines of diffusers: what `namespaces.binding` does, around its embedder.

SD.Next's embedder encodes the prompts of a pass, and is asked for them again after each step where they change. It
calls text encoders through compel's providers, with the fragments of a text and their weights. There a tag is found by
its text, and its rows come from the tag alone, between encoder and emphasis. What binds goes into the webui's cache key
beside the prompt's networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...namespaces.binding import ENDING, occurrences, replaced
from ...schedule import Curve
from .. import model
from ..undo import around

KEY = "prism_bind"  # among the networks of the cache key
UNSURE = "prism_unsure"  # of conds, which may come from the webui's cache: what is not bound in them
WEIGHTED = "get_embeddings_for_weighted_prompt_fragments"  # of a provider
ENCODE = "_encode_token_ids_to_embeddings"


@contextmanager
def bound(p: Any, strengths: Mapping[str, float], curve: Curve, unsure: Callable[[str], None]) -> Iterator[None]:
    """Inside the block the passes of a job are encoded with tags bound.

    Args:
        strengths: of the tags, written as in the rendered prompts.
        curve: a factor over the steps of a pass, unless it is constant.
        unsure: told each tag that could not be bound.
    """
    from modules import prompt_parser_diffusers as parser

    passes = 0

    def embedder(original: Any, prompts: Any, negatives: Any, steps: int, clip_skip: int, job: Any) -> Any:
        nonlocal passes
        passes += job is p
        asked = prompts, negatives, steps, clip_skip, job
        used = {tag: s for tag, s in strengths.items() if any(occurrences(x, [tag]) for x in (*prompts, *negatives))}
        if job is not p or not used:
            return original(*asked)
        key = {**p.network_data, KEY: [SimpleNamespace(items=sorted(used.items()))]}
        tags = Tags(used)
        with replaced(p, "network_data", key), around(parser, "prepare_embedding_providers", tags.providers):
            made = original(*asked)
        for tag in _noted(made, tags):
            unsure(tag)
        return made if curve.constant is not None else Faded(p, original(*asked), made, curve)

    with around(parser, "PromptEmbedder", embedder):
        yield
    for tag in () if passes else sorted(strengths):  # some pipelines are given texts
        unsure(tag)


def _noted(made: Any, tags: Tags) -> Sequence[str]:
    """What is not bound in these conds; those from the cache were noted when they were made."""
    first = next(chain.from_iterable(made.prompt_embeds), None)
    if first is None:
        return sorted(tags.strengths)
    if not hasattr(first, UNSURE):
        setattr(first, UNSURE, sorted(tags.strengths.keys() - (tags.found - tags.missed)))
    noted: list[str] = getattr(first, UNSURE)
    return noted


class Tags:
    """The tags of a pass.

    Attributes:
        found: those with a place that was bound.
        missed: those with a place that was not.
    """

    def __init__(self, strengths: Mapping[str, float]) -> None:
        self.strengths = strengths
        self.found: set[str] = set()
        self.missed: set[str] = set()

    def providers(self, original: Any, pipe: Any, clip_skip: int) -> list[Any]:
        """Around the webui's function, which makes them anew for each pair of prompts."""
        made: list[Any] = original(pipe, clip_skip)
        read = _read(pipe, self.strengths)
        for provider in made:
            setattr(provider, WEIGHTED, Encoder(provider, self, read).weighted)
        return made


def _read(pipe: Any, tags: Mapping[str, float]) -> dict[str, str]:
    """Tags by their text as the webui's parser reads it, which may note embeddings in it."""
    from modules import prompt_parser_diffusers as parser

    embeddings = getattr(pipe, "embedding_db", SimpleNamespace(embeddings_used=[]))
    used = list(embeddings.embeddings_used)
    texts = {tag: parser.get_prompts_with_weights(pipe, tag)[0] for tag in tags}
    embeddings.embeddings_used = used
    return {text[0]: tag for tag, text in texts.items() if len(text) == 1}


class Encoder:
    """A text encoder as a provider has it, with tags bound."""

    def __init__(self, provider: Any, tags: Tags, read: Mapping[str, str]) -> None:
        self.provider, self.tags, self.read = provider, tags, read
        self._weighted, self._encode = getattr(provider, WEIGHTED), getattr(provider, ENCODE)

    def weighted(
        self, text_batch: Sequence[Any], fragment_weights_batch: Sequence[Any], *, device: Any, **more: Any
    ) -> Any:
        """The provider's own answer for one text, with the tags' rows in place before the weights."""
        (fragments,) = text_batch
        ids = self._tokens(list(fragments))
        told, size = list(chain.from_iterable(ids)), self.provider.max_token_count - 2
        places = list(self._places(fragments, ids, device))

        def encode(tokens: Tensor, *mask: Any) -> Tensor:
            """States (1,77,C) of one chunk, or of an empty text; `tokens` (1,77)."""
            z: Tensor = self._encode(tokens, *mask).clone()
            for place, own, strength in places:
                chunk, row = divmod(place, size)
                part = told[chunk * size : (chunk + 1) * size]
                if tokens[0, 1 : 1 + len(part)].tolist() == part:
                    z[0, 1 + row] = torch.lerp(z[0, 1 + row], own.to(z), strength)
            return z

        with replaced(self.provider, ENCODE, encode):
            return self._weighted(text_batch, fragment_weights_batch, device=device, **more)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.provider.get_token_ids(texts, include_start_and_end_markers=False)
        return found

    def _places(
        self, fragments: Sequence[str], ids: Sequence[list[int]], device: Any
    ) -> Iterator[tuple[int, Tensor, float]]:
        """(token of the text, its own state (C), strength) of all tokens of tags."""
        before = 0
        for fragment, tokens in zip(fragments, ids):
            for start, end in occurrences(fragment, list(self.read)):
                tag = self.read[fragment[start:end]]
                first, count = self._rows(fragment, start, end, tokens)
                (self.tags.found if count else self.tags.missed).add(tag)
                states = self._alone(fragment[start:end], device) if count else ()
                for row in range(count):
                    yield before + first + row, states[1 + row], self.tags.strengths[tag]
            before += len(tokens)

    def _rows(self, fragment: str, start: int, end: int, tokens: list[int]) -> tuple[int, int]:
        """(first, count) of a tag's tokens among its fragment's, which may share one with what follows; or none."""
        text = fragment[start:end]
        (alone,) = self._tokens([text])
        for stop in (end, start + len(ENDING.sub("", text))):
            before, own = self._tokens([fragment[:start], fragment[start:stop]])
            there = tokens[len(before) : len(before) + len(own)]
            if own == there == alone[: len(own)] and len(alone) <= self.provider.max_token_count - 2:
                return len(before), len(own)
        return 0, 0

    def _alone(self, text: str, device: Any) -> Tensor:
        """The states (77,C) of a tag."""
        tokens, _, mask = self.provider.get_token_ids_and_expand_weights([text], [1.0], device=device)
        states: Tensor = self._encode(tokens[None], mask[None])[0]
        return states


class Faded:
    """In an embedder's place: conds between those without and with bound tags, by the steps of a pass."""

    scheduled_prompt = True  # what has the webui ask again after each step

    def __init__(self, p: Any, plain: Any, bound: Any, curve: Curve) -> None:
        self.p, self.plain, self.bound, self.curve = p, plain, bound, curve

    def __call__(self, key: str, step: int = 0) -> Tensor | None:
        plain, bound = self.plain(key, step), self.bound(key, step)
        if plain is None:
            return None
        steps = getattr(model.pipeline(self.p.sd_model), "num_timesteps", 0) or 1
        return torch.lerp(plain, bound, min(1.0, self.curve(step / steps)))
