"""Embeddings of prompts (textual inversion) that fit Cascade's text encoder."""

from __future__ import annotations

from typing import Any

KEY = "clip_g"  # this encoder's name in embeddings of SDXL


def adopt(database: Any, width: int, *more: Any) -> None:
    """Have prompts name embeddings of SDXL too: one of their two halves is made for an encoder like this one.

    The host leaves them out, since it compares the width of both halves.

    Args:
        more: what the host wants to know besides of an embedding that it takes.
    """
    for name, embedding in list(database.skipped_embeddings.items()):
        vectors = embedding.vec.get(KEY) if isinstance(embedding.vec, dict) else None
        if vectors is not None and vectors.shape[-1] == width:
            database.skipped_embeddings.pop(name, None)
            database.register_embedding(embedding, *more)
