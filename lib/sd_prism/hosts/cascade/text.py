"""Prompts of Stable Cascade: the host's parser with its chunks, weights and embeddings, around our text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from modules import sd_hijack, sd_hijack_clip, shared
from modules.shared import opts
from torch import Tensor

from ...cascade.text import END, START, TextEncoder, mask_of
from .embeddings import KEY, adopt

try:
    from open_clip.tokenizer import _tokenizer as tokenizer
except ImportError:  # a host whose base class reads words itself
    tokenizer = None

COMMA = 267


class CascadeText(sd_hijack_clip.TextConditionalModel):
    """`model(texts)` -> states (N,77k,width) and the pooled text of the first chunk (N,projection)."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.transformer = encoder  # the host tells a text encoder's layers from the others by this name
        embeddings = encoder.text_model.embeddings
        embeddings.token_embedding = sd_hijack.EmbeddingsWithFixes(embeddings.token_embedding, self.hijack, KEY)
        self.comma_token, self.id_start, self.id_end, self.id_pad = COMMA, START, END, END
        self.return_pooled = True

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return super().tokenize(texts) if tokenizer is None else [tokenizer.encode(text) for text in texts]

    def tokenize_line(self, line: str) -> Any:
        adopt(self.hijack.embedding_db, self.transformer.config.width, shared.sd_model)
        return super().tokenize_line(line)

    def encode_with_transformers(self, tokens: Tensor) -> Tensor:
        """Tokens (N,77) -> states (N,77,width), which carry the pooled text (N,projection) as `pooled`."""
        states, pooled = self.transformer(tokens, mask_of(tokens), clip_skip=opts.CLIP_stop_at_last_layers)
        states.pooled = pooled  # type: ignore[attr-defined]
        return states

    def encode_embedding_init_text(self, init_text: str, nvpt: int) -> Tensor:
        """Vectors of the words that an embedding starts from (n,width); the host reads its embeddings' width here."""
        table: Any = self.transformer.text_model.embeddings.token_embedding.wrapped
        return table(torch.tensor(self.tokenize([init_text])[0][:nvpt], device=table.weight.device))

    def medvram_modules(self) -> list[Any]:
        return [self.transformer]
