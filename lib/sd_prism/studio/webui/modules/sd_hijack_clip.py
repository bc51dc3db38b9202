"""What text parts of models are derived from: texts into chunks of 75 tokens, with weights and embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from sd_prism.studio.text import emphasised
from sd_prism.studio.tokens import CHUNK, Chunk, Vocabulary, chunks

from modules import devices, sd_hijack


class TextConditionalModel(torch.nn.Module):
    """Called with texts it gives states (N, 77*chunks, C), and with `return_pooled` the first chunk's pooled (N,P) too.

    A class derived from it has `encode_with_transformers` and `encode_embedding_init_text`. Words are read with CLIP's
    vocabulary unless it has a `tokenize` of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        words = Vocabulary.clip()
        self.hijack = sd_hijack.model_hijack
        self.chunk_length = CHUNK
        self.is_trainable = False
        self.input_key = "txt"
        self.return_pooled = False
        self.comma_token = words.comma
        self.id_start, self.id_end, self.id_pad = words.start, words.end, words.end

    def empty_chunk(self) -> Chunk:
        """A chunk without words."""
        return Chunk().padded(self.id_start, self.id_end)

    def get_target_prompt_token_count(self, token_count: int) -> int:
        """The tokens that fit into as many chunks as `token_count` tokens take."""
        return math.ceil(max(token_count, 1) / self.chunk_length) * self.chunk_length

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, without start and end."""
        return Vocabulary.clip().ids(texts)

    def encode_with_transformers(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens (N,77) -> states (N,77,C) without weights; a pooled state is their attribute `pooled`."""
        raise NotImplementedError

    def encode_embedding_init_text(self, init_text: str, nvpt: int) -> torch.Tensor:
        """The token embeddings (n,C) of a text's first `nvpt` tokens."""
        raise NotImplementedError

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        """The chunks of a text, 77 ids in each, and its length in tokens."""
        words: Any = SimpleNamespace(ids=self.tokenize, comma=self.comma_token)
        parts, count = chunks(line, words, self.hijack.find)
        return [chunk.padded(self.id_start, self.id_end) for chunk in parts], count

    def process_texts(self, texts: Sequence[str]) -> tuple[list[list[Chunk]], int]:
        """The chunks of each text, and the length in tokens of the longest."""
        found = {text: self.tokenize_line(text) for text in texts}
        return [found[text][0] for text in texts], max((count for _, count in found.values()), default=0)

    def forward(self, texts: Sequence[str]) -> Any:
        """Shorter texts are filled with empty chunks."""
        parts, _ = self.process_texts(texts)
        self.hijack.used({id(e): e for part in parts for chunk in part for _, e in chunk.fixes}.values())
        rounds = range(max(len(part) for part in parts))
        states = [self._round([part[i] if i < len(part) else self.empty_chunk() for part in parts]) for i in rounds]
        joined = torch.hstack(states)
        return (joined, states[0].pooled) if self.return_pooled else joined  # type: ignore[attr-defined]

    def _round(self, rows: Sequence[Chunk]) -> torch.Tensor:
        self.hijack.fixes = [row.fixes for row in rows]
        return self.process_tokens([row.tokens for row in rows], [row.multipliers for row in rows])

    def process_tokens(
        self, remade_batch_tokens: list[list[int]], batch_multipliers: list[list[float]]
    ) -> torch.Tensor:
        """One chunk of each text, its weights applied; a pooled state stays their attribute."""
        tokens = torch.asarray(remade_batch_tokens).to(devices.device)
        if self.id_end != self.id_pad:
            for row in tokens:
                row[int((row == self.id_end).nonzero()[0]) + 1 :] = self.id_pad
        z = self.encode_with_transformers(tokens)
        weighted = emphasised(z, torch.asarray(batch_multipliers).to(z))
        if hasattr(z, "pooled"):
            weighted.pooled = z.pooled  # type: ignore[attr-defined]  # the host's place for it
        return weighted
