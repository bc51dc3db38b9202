"""From a prompt to what the UNet attends to, with A1111's syntax and meaning.

A prompt goes `parse_and` -> `parse_schedule` -> `TextEngine.encode`; the last reads the emphasis, cuts the tokens into
chunks of 75 and runs the text encoders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError
from sd_prism.studio.prompt import parse_and, parse_schedule
from sd_prism.studio.tokens import CHUNK, Chunk, Vocabulary, chunks

BATCH = 16  # chunks encoded at once
SIZE_FREQUENCIES = 256  # SDXL's sinusoidal width per number


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

    def __call__(self, tokens: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """tokens (N,77) -> states (N,77,C) and the pooled (N,P) where there is one."""
        out = self.model(input_ids=self._repadded(tokens), output_hidden_states=True)
        layer = max(clip_skip, self.layer) if self.skips else self.layer
        if layer > len(out.hidden_states) - 1:
            count = len(out.hidden_states) - 1
            raise PrismError(f"clip skip is {layer}; this model's text encoder has {count} layers, choose 1 to {count}")
        z = out.hidden_states[-layer]
        z = self._core().final_layer_norm(z) if self.normalised else z
        return z, out.text_embeds if self.pooled else None

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _core(self) -> Any:
        return getattr(self.model, "text_model", self.model)

    def _repadded(self, tokens: Tensor) -> Tensor:
        end = tokens[:, -1:]
        if int(end[0, 0]) == self.pad:
            return tokens
        after_end = (tokens == end).cumsum(1) > 1
        repeated = torch.cat([torch.zeros_like(end, dtype=torch.bool), (tokens == end)[:, :-1]], 1).cumsum(1) > 0
        return tokens.masked_fill(after_end | repeated, self.pad)


def emphasised(z: Tensor, weights: Tensor) -> Tensor:
    """States (N,T,C) times token weights (N,T), each text's mean restored: A1111's "Original" emphasis."""
    scaled = z * weights.unsqueeze(-1)
    before, after = (t.mean((1, 2), keepdim=True) for t in (z, scaled))
    plain = (weights == 1).all(1).view(-1, 1, 1) | (after == 0)
    return torch.where(plain, scaled, scaled * (before / after))


def sinusoids(values: Tensor, width: int = SIZE_FREQUENCIES) -> Tensor:
    """(N,K) numbers as (N, K*width) cosines and sines, SDXL's way to read sizes."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).flatten(1)


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
        self.vocabulary = vocabulary or Vocabulary.clip()
        self.size = size

    @property
    def width(self) -> int:
        """Channels of `crossattn`."""
        return sum(encoder.width for encoder in self.encoders)

    def token_count(self, text: str, *, steps: int = 20) -> tuple[int, int]:
        """(tokens, room in the chunks they take) of the longest text that a prompt becomes in a run."""
        texts = {t for part, _ in parse_and(text) for _, t in parse_schedule(part, steps)}
        count = max(chunks(t, self.vocabulary)[1] for t in texts)
        return count, math.ceil(max(count, 1) / CHUNK) * CHUNK

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
        parts = [chunks(text, self.vocabulary)[0] for text in texts]
        count = max(len(p) for p in parts)
        rows = [chunk for p in parts for chunk in [*p, *(Chunk() for _ in range(count - len(p)))]]
        z, pooled = self._states(rows, clip_skip)
        crossattn = z.reshape(len(texts), count * z.shape[1], z.shape[2])
        if pooled is None:
            return {"crossattn": crossattn}
        pooled = pooled.reshape(len(texts), count, -1)[:, 0]
        if negative and not any(texts):
            crossattn, pooled = torch.zeros_like(crossattn), torch.zeros_like(pooled)
        return {"crossattn": crossattn, "vector": self._vector(pooled, width, height)}

    def _states(self, rows: Sequence[Chunk], clip_skip: int) -> tuple[Tensor, Tensor | None]:
        device = self.encoders[0].device
        padded = [row.padded(self.vocabulary.start, self.vocabulary.end) for row in rows]
        tokens = torch.tensor([t for t, _ in padded], device=device)
        weights = torch.tensor([w for _, w in padded], device=device)
        states, pools = [], []
        for i in range(0, len(rows), BATCH):
            out = [encoder(tokens[i : i + BATCH], clip_skip) for encoder in self.encoders]
            states.append(torch.cat([emphasised(z, weights[i : i + BATCH]) for z, _ in out], -1))
            pools += [pooled for _, pooled in out if pooled is not None]
        return torch.cat(states), torch.cat(pools) if pools else None

    def _vector(self, pooled: Tensor, width: int | None, height: int | None) -> Tensor:
        """Pooled text, original size, crop corner, target size; sizes as (height, width)."""
        w, h = width or self.size[0], height or self.size[1]
        sizes = torch.tensor([[h, w, 0, 0, h, w]], device=pooled.device).repeat(len(pooled), 1)
        return torch.cat([pooled, sinusoids(sizes).to(pooled.dtype)], 1)
