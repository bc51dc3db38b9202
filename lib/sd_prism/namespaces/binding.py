"""Binding: the rows of a tag come from the tag encoded alone, so that its neighbours do not change its meaning.

A text encoder gives one row for each token: states (N, 77, C) for each chunk of 75 tokens, start and end around them.
CLIP looks back only, so the rows before a tag do not know it, but its own rows know all that stands before. A binding
of strength s makes row i of the tag

    z[i] = (1 - s) * z_in_the_prompt[i] + s * z_alone[i]

and leaves every other row as it is. The order is: encoder (with the chosen clip skip, LoRA and embeddings), binding,
emphasis. So a weight on the tag acts as always, and the mean that A1111 restores after weighting is that of the bound
states. The pooled state of SDXL is untouched; its two encoders are bound each for itself.

The rows after a tag keep what they know of it. Taking them from the prompt with its tags masked, as the extension
sd-webui-cutoff does with words, was measured on mini-v1 (480 pictures of homonyms beside words of the other sense: 285
right without binding, 348 with the tags' own rows, 372 with the masked rows too) and left out: with every tag of a
prompt bound its end rows were told nothing, and of 48 pictures 11 lost their place and 13 their style.

An embedder is one text encoder with A1111's names (modules/sd_hijack_clip.py): `tokenize_line(text)` gives chunks with
77 `tokens`, `multipliers` and `fixes`; `forward(texts)` encodes by calling `encode_with_transformers(tokens)` once for
each chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SURFACE = ("tokenize_line", "forward", "encode_with_transformers")
MARK = 2  # any weight but 0 and 1
ENDING = re.compile(r"\W+$")


@dataclass(frozen=True)
class Place:
    """Where a tag's tokens stand in a text: (chunk, row) of each, and their ids."""

    tag: str
    rows: tuple[tuple[int, int], ...]
    ids: tuple[int, ...]


def embedders_of(model: Any) -> list[Any]:
    """The text encoders of a host's model that can be bound; none where its text part is of another make."""
    text = getattr(model, "cond_stage_model", None)
    parts = getattr(text, "embedders", [text])
    return [part for part in parts if all(hasattr(part, name) for name in SURFACE)]


def occurrences(text: str, tags: Sequence[str]) -> list[tuple[int, int]]:
    """(start, end) of every tag in a text, as whole words, without overlap; of two that fit the longer one."""
    words = (_whole_words(tag) for tag in sorted(tags, key=len, reverse=True) if tag.strip())
    pattern = "|".join(words)
    return [match.span() for match in re.finditer(pattern, text)] if pattern else []


def _whole_words(tag: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", tag) else ""
    after = r"(?!\w)" if re.search(r"\w$", tag) else ""
    return before + re.escape(tag) + after


def find(embedder: Any, text: str, start: int, end: int) -> Place | None:
    """The place of the tag text[start:end]; None where it has no tokens of its own or they cannot be told for sure.

    The embedder itself says it: the tag gets a weight more, and its tokens are those whose weight changes, while no
    token does. Punctuation at the tag's end may share a token with what follows ("),"), and then stays outside.
    """
    tag = text[start:end]
    alone, _ = embedder.tokenize_line(tag)
    if len(alone) != 1:
        return None
    for stop in (end, start + len(ENDING.sub("", tag))):
        rows = _weighted_rows(embedder, text, start, stop)
        if rows is None:
            continue
        chunks, _ = embedder.tokenize_line(text)
        ids = tuple(chunks[chunk].tokens[row] for chunk, row in rows)
        if ids == tuple(alone[0].tokens[1 : 1 + len(ids)]):
            return Place(tag, rows, ids)
    return None


def _weighted_rows(embedder: Any, text: str, start: int, stop: int) -> tuple[tuple[int, int], ...] | None:
    plain, _ = embedder.tokenize_line(text)
    marked, _ = embedder.tokenize_line(f"{text[:start]}({text[start:stop]}:{MARK}){text[stop:]}")
    before, after = ([(list(one.tokens), list(one.fixes)) for one in chunks] for chunks in (plain, marked))
    if before != after:
        return None
    pairs = ((i, zip(a.multipliers, b.multipliers)) for i, (a, b) in enumerate(zip(plain, marked)))
    return tuple((i, row) for i, weights in pairs for row, (before, after) in enumerate(weights) if before != after)


class Binding:
    """Tags as they stand in the encoder's texts, each with its strength from 0 to 1.

    Attributes:
        aside: a context for encodings beside the prompt's own, so that a host does not count them.
        unsure: the tags of which some place was left as it is, because its rows could not be told for sure.
    """

    def __init__(
        self, strengths: Mapping[str, float], aside: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.aside = aside
        self.strengths = {tag: strength for tag, strength in strengths.items() if strength}
        self.unsure: set[str] = set()

    @contextmanager
    def of(self, embedders: Sequence[Any]) -> Iterator[None]:
        """Inside the block these embedders encode with bound tags. They must not change meanwhile."""
        with ExitStack() as stack:
            for embedder in embedders:
                stack.enter_context(replaced(embedder, "forward", _Bound(embedder, self).forward))
            yield


class _Bound:
    """One embedder during a block."""

    def __init__(self, embedder: Any, binding: Binding) -> None:
        self.embedder, self.binding = embedder, binding
        self._forward, self._encode = embedder.forward, embedder.encode_with_transformers

    def forward(self, texts: Sequence[str], *rest: Any) -> Any:
        places = [self._places(text) for text in texts]
        tags = sorted({place.tag for found in places for place in found})
        if not tags:
            return self._forward(texts, *rest)
        alone = self._alone(tuple(tags), rest)
        return self._encoded(texts, rest, lambda chunk, tokens, z: self._spliced(chunk, tokens, z, places, alone))

    def _places(self, text: str) -> list[Place]:
        found = []
        for start, end in occurrences(text, list(self.binding.strengths)):
            place = find(self.embedder, text, start, end)
            if place is None:
                self.binding.unsure.add(text[start:end])
            elif place.rows:
                found.append(place)
        return found

    def _alone(self, tags: tuple[str, ...], rest: Sequence[Any]) -> dict[str, Tensor]:
        """The states (77,C) of each tag, encoded in one batch that depends on these texts' tags only."""
        states: list[Tensor] = []

        def keep(chunk: int, tokens: Tensor, z: Tensor) -> Tensor:
            states.append(z)
            return z

        with self.binding.aside():
            self._encoded(tags, rest, keep)
        return dict(zip(tags, states[0]))

    def _encoded(self, texts: Sequence[str], rest: Sequence[Any], then: Callable[[int, Tensor, Tensor], Tensor]) -> Any:
        """The embedder's own answer, with `then(chunk, tokens, states)` between encoder and emphasis."""
        calls = 0

        def encode(tokens: Tensor, *more: Any) -> Tensor:
            nonlocal calls
            calls += 1
            return then(calls - 1, tokens, self._encode(tokens, *more))

        with replaced(self.embedder, "encode_with_transformers", encode):
            return self._forward(texts, *rest)

    def _spliced(
        self, chunk: int, tokens: Tensor, z: Tensor, places: list[list[Place]], alone: dict[str, Tensor]
    ) -> Tensor:
        """States (N,77,C) of one chunk with the tags' rows in place; `tokens` (N,77) must hold the tags there."""
        import torch

        ids = tokens.tolist()
        out = z.clone()
        for line, place, row, position in _rows_of(chunk, places):
            if ids[line][row] != place.ids[position]:
                self.binding.unsure.add(place.tag)
                continue
            own = alone[place.tag][1 + position].to(z)
            out[line, row] = torch.lerp(z[line, row], own, self.binding.strengths[place.tag])
        if hasattr(z, "pooled"):
            out.pooled = z.pooled  # type: ignore[attr-defined]  # the hosts' place for it
        return out


def _rows_of(chunk: int, places: list[list[Place]]) -> Iterator[tuple[int, Place, int, int]]:
    """(line of the batch, place, row, position in the tag) of all that stands in one chunk."""
    for line, found in enumerate(places):
        for place in found:
            for position, (where, row) in enumerate(place.rows):
                if where == chunk:
                    yield line, place, row, position


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of an object replaced meanwhile; one of its class shows through again afterwards."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
