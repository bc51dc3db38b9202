"""From a prompt to what the UNet attends to, with A1111's syntax and meaning.

A prompt goes `parse_and` -> `parse_schedule` -> `TextEngine.encode`; the last reads the emphasis, cuts the tokens into
chunks of 75, puts embeddings in the place of their names and runs the text encoders.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sd_prism.errors import PrismError
from sd_prism.studio.tokens import CHUNK, Chunk, Vocabulary, chunks, no_embedding

SIZE_FREQUENCIES = 256  # SDXL's sinusoidal width per number


class Embeddings(Protocol):
    """Words of prompts that stand for vectors (textual inversion); an embedding has `vec` and `vectors`."""

    def find(self, tokens: list[int], position: int) -> tuple[Any, int | None]:
        """The embedding whose name stands at `position`, and the name's length in tokens."""

    def used(self, embeddings: Iterable[Any]) -> None:
        """Told which embeddings the texts being encoded contain."""


@dataclass(frozen=True)
class Encoder:
    """One CLIP text model and which of its states the UNet reads.

    Attributes:
        model: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        pad: the id after the first end token; the end token itself, or 0 for open_clip's models.
        layer: the state counted from the end; 1 is the last, 2 the one before.
        normalised: whether the final layer norm is applied to that state.
        skips: whether clip skip moves `layer`, as it does for SD 1 only.
        pooled: whether the projected state of the end token goes into the size vector.
    """

    model: Any
    pad: int
    layer: int = 1
    normalised: bool = True
    skips: bool = True
    pooled: bool = False

    def __call__(
        self, tokens: Tensor, clip_skip: int, fixes: Sequence[Sequence[tuple[int, Any]]] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """tokens (N,77) -> states (N,77,C) and the pooled (N,P) where there is one; `fixes` are those of each chunk."""
        with self._embedded(fixes):
            out = self.model(input_ids=self._repadded(tokens), output_hidden_states=True)
        layer = max(clip_skip, self.layer) if self.skips else self.layer
        if layer > len(out.hidden_states) - 1:
            count = len(out.hidden_states) - 1
            raise PrismError(f"clip skip is {layer}; this model's text encoder has {count} layers, choose 1 to {count}")
        z = out.hidden_states[-layer]
        z = self.core.final_layer_norm(z) if self.normalised else z
        return z, out.text_embeds if self.pooled else None

    @property
    def core(self) -> Any:
        """The model's text tower, without a projection."""
        return getattr(self.model, "text_model", self.model)

    def vectors(self, ids: Sequence[int]) -> Tensor:
        """The token embeddings (N,C) of some ids."""
        return self._table(torch.tensor(list(ids), device=self.device))

    @property
    def _table(self) -> Any:
        return self.core.embeddings.token_embedding

    @contextmanager
    def _embedded(self, fixes: Sequence[Sequence[tuple[int, Any]]]) -> Iterator[None]:
        """The embeddings of `fixes` take the place of token embeddings meanwhile."""
        if not any(fixes):
            yield
            return

        def replace(module: Any, ids: Any, embedded: Tensor) -> Tensor:
            embedded = embedded.clone()
            for row, chunk_fixes in zip(embedded, fixes):
                for offset, embedding in chunk_fixes:
                    vec = embedding.vec[self.embedding_key] if isinstance(embedding.vec, dict) else embedding.vec
                    place = row[offset + 1 : offset + 1 + len(vec)]
                    place.copy_(vec[: len(place)])
            return embedded

        hook = self._table.register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()

    @property
    def embedding_key(self) -> str:
        """The name of this encoder's part in SDXL's embeddings."""
        return "clip_g" if self.pooled else "clip_l"

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _repadded(self, tokens: Tensor) -> Tensor:
        end = tokens[:, -1:]
        if int(end[0, 0]) == self.pad:
            return tokens
        after_end = (tokens == end).cumsum(1) > 1
        repeated = torch.cat([torch.zeros_like(end, dtype=torch.bool), (tokens == end)[:, :-1]], 1).cumsum(1) > 0
        return tokens.masked_fill(after_end | repeated, self.pad)


def emphasised(z: Tensor, weights: Tensor) -> Tensor:
    """States (N,T,C) times token weights (N,T), the mean of all of them restored: A1111's "Original" emphasis."""
    scaled = z * weights.unsqueeze(-1)
    before, after = z.mean(), scaled.mean()
    plain = (weights == 1).all() | (after == 0)
    return torch.where(plain, scaled, scaled * (before / after))


def sinusoids(values: Tensor, width: int = SIZE_FREQUENCIES) -> Tensor:
    """(N,K) numbers as (N, K*width) cosines and sines, SDXL's way to read sizes."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).flatten(1)


class Embedder:
    """One encoder behind the prompt syntax, with the names of A1111's, which extensions replace on the object.

    Args:
        engine: whose vocabulary and embeddings it reads prompts with.
    """

    def __init__(self, encoder: Encoder, engine: TextEngine) -> None:
        self.encoder, self.engine = encoder, engine

    def __call__(self, texts: Sequence[str], clip_skip: int = 1) -> tuple[Tensor, Tensor | None]:
        return self.forward(texts, clip_skip)

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        """The chunks of a text, 77 ids in each, and its length in tokens."""
        words = self.engine.vocabulary
        parts, count = self.engine.process_texts([line])
        return [chunk.padded(words.start, words.end) for chunk in parts[0]], count

    def forward(self, texts: Sequence[str], clip_skip: int = 1) -> tuple[Tensor, Tensor | None]:
        """Texts as weighted states (N, 77*chunks, C), and the pooled (N,P) of the first chunk where there is one."""
        parts = [self.tokenize_line(text)[0] for text in texts]
        empty = Chunk().padded(self.engine.vocabulary.start, self.engine.vocabulary.end)
        count = max(len(part) for part in parts)
        rounds = [[part[i] if i < len(part) else empty for part in parts] for i in range(count)]
        states = [self._weighted_states(rows, clip_skip) for rows in rounds]
        return torch.cat(states, 1), getattr(states[0], "pooled", None)

    def _weighted_states(self, rows: Sequence[Chunk], clip_skip: int) -> Tensor:
        device = self.encoder.device
        tokens = torch.tensor([row.tokens for row in rows], device=device)
        weights = torch.tensor([row.multipliers for row in rows], device=device)
        z = self.encode_with_transformers(tokens, clip_skip, [row.fixes for row in rows])
        return _with_pooled(emphasised(z, weights), getattr(z, "pooled", None))

    def encode_with_transformers(
        self, tokens: Tensor, clip_skip: int = 1, fixes: Sequence[Sequence[tuple[int, Any]]] = ()
    ) -> Tensor:
        """tokens (N,77) -> states (N,77,C) without weights; a pooled state is their attribute `pooled`."""
        return _with_pooled(*self.encoder(tokens, clip_skip, fixes))


def _with_pooled(states: Tensor, pooled: Tensor | None) -> Tensor:
    if pooled is not None:
        states.pooled = pooled  # type: ignore[attr-defined]  # the host's place for it
    return states


class TextEngine:
    """The text encoders of one model behind A1111's prompt syntax.

    Args:
        encoders: one for SD 1 and SD 2, two for SDXL; their states are joined along the channels.
        vocabulary: CLIP's own unless the model brings another.
        size: (width, height) in pixels that SDXL is told when the caller names none.
    """

    def __init__(
        self, encoders: Sequence[Encoder], vocabulary: Vocabulary | None = None, size: tuple[int, int] = (1024, 1024)
    ) -> None:
        self.encoders = list(encoders)
        self.embedders = [Embedder(encoder, self) for encoder in self.encoders]
        self.vocabulary = vocabulary or Vocabulary.clip()
        self.size = size
        self.embeddings: Embeddings | None = None

    @property
    def width(self) -> int:
        """Channels of `crossattn`."""
        return sum(encoder.width for encoder in self.encoders)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, without start and end."""
        return self.vocabulary.ids(texts)

    def process_texts(self, texts: Sequence[str]) -> tuple[list[list[Chunk]], int]:
        """The chunks of each text, and the length in tokens of the longest."""
        find = self.embeddings.find if self.embeddings else no_embedding
        found = {text: chunks(text, self.vocabulary, find) for text in texts}
        return [found[text][0] for text in texts], max((count for _, count in found.values()), default=0)

    def get_target_prompt_token_count(self, token_count: int) -> int:
        """The tokens that fit into as many chunks as `token_count` tokens take."""
        return math.ceil(max(token_count, 1) / CHUNK) * CHUNK

    def encode_embedding_init_text(self, init_text: str, nvpt: int) -> Tensor:
        """The token embeddings (N,C) of a text's first `nvpt` tokens, those of all encoders joined."""
        ids = self.tokenize([init_text])[0][:nvpt]
        return torch.cat([encoder.vectors(ids) for encoder in self.encoders], 1)

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        *,
        clip_skip: int = 1,
        width: int | None = None,
        height: int | None = None,
        negative: bool = False,
    ) -> dict[str, Tensor]:
        """Texts as {"crossattn": (N, 77*chunks, C)} and for SDXL "vector" (N, V).

        Shorter texts are filled with empty chunks. An empty `negative` prompt is all zeros for SDXL, as in A1111.
        """
        if clip_skip < 1:
            raise PrismError(f"clip skip is {clip_skip}; it must be 1 (the last layer) or more")
        if self.embeddings:
            parts, _ = self.process_texts(texts)
            self.embeddings.used({id(e): e for part in parts for chunk in part for _, e in chunk.fixes}.values())
        states, pools = zip(*(embedder(texts, clip_skip) for embedder in self.embedders))
        crossattn, pooled = torch.cat(states, -1), next((pooled for pooled in pools if pooled is not None), None)
        if pooled is None:
            return {"crossattn": crossattn}
        if negative and not any(texts):
            crossattn, pooled = torch.zeros_like(crossattn), torch.zeros_like(pooled)
        return {"crossattn": crossattn, "vector": self._vector(pooled, width, height)}

    def _vector(self, pooled: Tensor, width: int | None, height: int | None) -> Tensor:
        """Pooled text, original size, crop corner, target size; sizes as (height, width)."""
        w, h = width or self.size[0], height or self.size[1]
        sizes = torch.tensor([[h, w, 0, 0, h, w]], device=pooled.device).repeat(len(pooled), 1)
        return torch.cat([pooled, sinusoids(sizes).to(pooled.dtype)], 1)
