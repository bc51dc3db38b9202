"""CLIP's byte-pair vocabulary, which every Stable Diffusion reads its prompts by."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

MERGES = Path(__file__).with_name("merges.txt.gz")
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def byte_symbols() -> list[str]:
    """CLIP's 256 printable stand-ins for bytes, in the order of its vocabulary (GPT-2's byte encoder)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def clip_merges() -> list[tuple[str, str]]:
    """CLIP's 48894 merges, most frequent first."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").split("\n")
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines if line)]


def clip_vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Symbol -> id: bytes, bytes ending a word, merges, start, end; 49408 entries for CLIP's own merges."""
    symbols = byte_symbols()
    entries = [*symbols, *(s + WORD_END for s in symbols), *(a + b for a, b in merges), START, END]
    return {entry: i for i, entry in enumerate(entries)}


def save_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer as the files that transformers reads."""
    merges = clip_merges()
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges)), encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    (folder / "tokenizer_config.json").write_text(json.dumps({**specials, "tokenizer_class": "CLIPTokenizer"}))
