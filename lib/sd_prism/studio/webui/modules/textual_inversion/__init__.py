"""Embeddings: vectors that stand for a word of the prompt."""
