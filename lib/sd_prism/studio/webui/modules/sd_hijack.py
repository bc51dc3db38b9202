"""What the host adds to a model's text part: embeddings in prompts, remarks and infotext entries of a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modules import shared
from modules.textual_inversion.textual_inversion import Embedding, EmbeddingDatabase


class StableDiffusionModelHijack:
    """The state of the loaded model's text part.

    Attributes:
        clip: the text part, None before a model is loaded.
        comments: remarks to show under the pictures of the running job.
        extra_generation_params: infotext entries of the running job.
    """

    def __init__(self) -> None:
        self.clip: Any = None
        self.comments: list[str] = []
        self.extra_generation_params: dict[str, Any] = {}
        self.embedding_db = EmbeddingDatabase()

    def hijack(self, m: Any) -> None:
        """Let prompts of model `m` name embeddings."""
        self.clip = m.cond_stage_model
        self.clip.embeddings = self

    def undo_hijack(self, m: Any) -> None:
        """Prompts of `m` are plain words again."""
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
