"""What the host adds to a model's text part: embeddings in prompts, remarks and infotext entries of a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from modules import shared
from modules.textual_inversion.textual_inversion import Embedding, EmbeddingDatabase


class EmbeddingsWithFixes(torch.nn.Module):
    """A table of token embeddings in which those of the user take the places that `embeddings.fixes` says.

    Args:
        textual_inversion_key: this encoder's part of embeddings that have several.
    """

    def __init__(
        self, wrapped: torch.nn.Module, embeddings: StableDiffusionModelHijack, textual_inversion_key: str = "clip_l"
    ) -> None:
        super().__init__()
        self.wrapped, self.embeddings, self.textual_inversion_key = wrapped, embeddings, textual_inversion_key

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """ids (N,77) -> embeddings (N,77,C); the fixes serve one call."""
        fixes, self.embeddings.fixes = self.embeddings.fixes, None
        embedded = self.wrapped(input_ids)
        if not any(fixes or ()):
            return embedded
        embedded = embedded.clone()
        for row, row_fixes in zip(embedded, fixes or ()):
            for offset, embedding in row_fixes:
                vec = embedding.vec
                vec = vec[self.textual_inversion_key] if isinstance(vec, dict) else vec
                place = row[offset + 1 : offset + 1 + len(vec)]
                place.copy_(vec[: len(place)])
        return embedded


class StableDiffusionModelHijack:
    """The state of the loaded model's text part.

    Attributes:
        clip: the text part, None before a model is loaded.
        fixes: for each row of the tokens to be encoded next, (offset, embedding) of those among its words.
        comments: remarks to show under the pictures of the running job.
        extra_generation_params: infotext entries of the running job.
    """

    def __init__(self) -> None:
        self.clip: Any = None
        self.fixes: list[list[tuple[int, Embedding]]] | None = None
        self.comments: list[str] = []
        self.extra_generation_params: dict[str, Any] = {}
        self.embedding_db = EmbeddingDatabase()

    def hijack(self, m: Any) -> None:
        """Let prompts of model `m` name embeddings."""
        self.clip = m.cond_stage_model
        if hasattr(self.clip, "embeddings"):  # the engine's; other classes ask by themselves
            self.clip.embeddings = self

    def undo_hijack(self, m: Any) -> None:
        """Prompts of `m` are plain words again."""
        if hasattr(m.cond_stage_model, "embeddings"):
            m.cond_stage_model.embeddings = None
        self.clip = None

    def clear_comments(self) -> None:
        """Start of a job."""
        self.comments = []
        self.extra_generation_params = {}

    def get_prompt_lengths(self, text: str) -> tuple[Any, Any]:
        """(tokens, room in the chunks they take); ("-", "-") before a model is loaded."""
        if self.clip is None:
            return "-", "-"
        _, count = self.clip.process_texts([text])
        return count, self.clip.get_target_prompt_token_count(count)

    def find(self, tokens: list[int], position: int) -> tuple[Embedding | None, int | None]:
        """The embedding whose name stands at `position`, and the length of the name in tokens."""
        return self.embedding_db.find_embedding_at_position(tokens, position)

    def used(self, embeddings: Iterable[Embedding]) -> None:
        """Note the embeddings of prompts that are being encoded in the infotext."""
        if not shared.opts.textual_inversion_add_hashes_to_infotext:
            return
        unsigned = str.maketrans("", "", ":,")
        hashes = [f"{x.name.translate(unsigned)}: {x.shorthash}" for x in embeddings if x.shorthash]
        before = self.extra_generation_params.get("TI hashes")
        if hashes:
            self.extra_generation_params["TI hashes"] = ", ".join([*hashes, *([before] if before else [])])


model_hijack = StableDiffusionModelHijack()
