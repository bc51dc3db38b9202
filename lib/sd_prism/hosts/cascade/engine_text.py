"""Prompts of Stable Cascade in Forge: its parser with chunks, weights and embeddings, around our text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend import memory_management
from backend.args import dynamic_args
from backend.text_processing.classic_engine import ClassicTextProcessingEngine
from torch import Tensor
from transformers import CLIPTokenizer

from ...cascade.text import TextEncoder, mask_of
from .embeddings import KEY, adopt

TOKENIZER = "huggingface/stabilityai/stable-cascade/tokenizer"  # in Forge's folder of code


def tokenizer() -> Any:
    """Forge's own copy."""
    found = CLIPTokenizer.from_pretrained(Path(memory_management.__file__).parent / TOKENIZER)
    found._eventual_warn_about_too_long_sequence = lambda *args, **kwargs: None  # prompts are cut into chunks later
    return found


class CascadeTextEngine(ClassicTextProcessingEngine):  # type: ignore[misc]
    """`engine(texts)` -> states (N,77k,width) and the pooled text of the first chunk (N,projection)."""

    def __init__(self, holder: Any, words: Any) -> None:
        """`holder` has the encoder as its `transformer`."""
        self.encoder: TextEncoder = holder.transformer
        width = self.encoder.config.width
        super().__init__(
            text_encoder=holder,
            tokenizer=words,
            embedding_dir=dynamic_args["embedding_dir"],
            embedding_key=KEY,
            embedding_expected_shape=width,
            return_pooled=True,
        )
        adopt(self.embeddings, width)

    def encode_with_transformers(self, tokens: Tensor) -> Tensor:
        """Tokens (N,77) -> states (N,77,width), which carry the pooled text (N,projection) as `pooled`."""
        tokens = tokens.to(self.encoder.text_projection.weight.device)
        states, pooled = self.encoder(tokens, mask_of(tokens), clip_skip=self.clip_skip)
        states.pooled = pooled  # type: ignore[attr-defined]
        return states
