"""CLIP's tokenizer, and a prompt cut into the chunks of 75 tokens that the text encoders read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd_prism.errors import PrismError
from sd_prism.studio.prompt import BREAK, parse_emphasis

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MERGES = Path(__file__).with_name("configs") / "clip" / "merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CHUNK = 75  # tokens of a prompt in one run of the text encoder, without start and end
COMMA_BACKTRACK = 20  # A1111's default: a comma this near to the end of a chunk moves what follows it


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


@dataclass(frozen=True)
class Vocabulary:
    """A CLIP tokenizer: `ids(pieces)` gives the ids of each piece, without start and end."""

    tokenizer: Tokenizer
    start: int
    end: int
    comma: int | None

    @classmethod
    def of(cls, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> Vocabulary:
        """A vocabulary from its two tables; raises PrismError when start or end are missing."""
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        if START not in vocabulary or END not in vocabulary:
            raise PrismError(f"the tokenizer has no {START} or {END}; expected CLIP's vocabulary")
        model: Any = models.BPE(vocab=vocabulary, merges=list(merges), unk_token=END, end_of_word_suffix=WORD_END)
        tokenizer = Tokenizer(model)
        clean = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        tokenizer.normalizer = normalizers.Sequence(clean)
        split: Any = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
        bytes_: Any = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
        tokenizer.add_special_tokens([START, END])
        return cls(tokenizer, vocabulary[START], vocabulary[END], vocabulary.get("," + WORD_END))

    @classmethod
    def clip(cls) -> Vocabulary:
        """CLIP's own, from the shipped merges; built once."""
        return _clip()

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """A diffusers tokenizer folder: vocab.json and merges.txt."""
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = (line.split() for line in lines if line and not line.startswith("#version"))
        table = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        return cls.of(table, [(pair[0], pair[1]) for pair in pairs if len(pair) == 2])

    def ids(self, pieces: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""
        return [e.ids for e in self.tokenizer.encode_batch(list(pieces), add_special_tokens=False)]


@lru_cache(maxsize=1)
def _clip() -> Vocabulary:
    merges = clip_merges()
    return Vocabulary.of(clip_vocabulary(merges), merges)


# --- chunks ------------------------------------------------------------------------------------------------------


@dataclass
class Chunk:
    """Up to 75 tokens of a prompt with their weights."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, token: int, weight: float) -> None:
        self.tokens.append(token)
        self.weights.append(weight)

    def cut(self, at: int) -> Chunk:
        """Keeps the first `at` tokens and hands back the others."""
        rest = Chunk(self.tokens[at:], self.weights[at:])
        del self.tokens[at:], self.weights[at:]
        return rest

    def padded(self, start: int, end: int) -> tuple[list[int], list[float]]:
        """77 ids and weights: start, tokens, ends."""
        fill = CHUNK + 1 - len(self.tokens)
        return [start, *self.tokens, *[end] * fill], [1.0, *self.weights, *[1.0] * fill]


def chunks(text: str, vocabulary: Vocabulary) -> tuple[list[Chunk], int]:
    """A prompt's chunks (one at least) and its length in tokens, full chunks counting 75 (A1111's counter)."""
    pieces = parse_emphasis(text)
    done: list[Chunk] = []
    chunk, last_comma = Chunk(), -1
    for tokens, piece in zip(vocabulary.ids([text for text, _ in pieces]), pieces):
        if piece == BREAK:
            done.append(chunk)
            chunk, last_comma = Chunk(), -1
            continue
        for token in tokens:
            full = len(chunk.tokens) == CHUNK
            if token == vocabulary.comma:
                last_comma = len(chunk.tokens)
            elif full and last_comma != -1 and CHUNK - last_comma <= COMMA_BACKTRACK:
                rest = chunk.cut(last_comma + 1)
                done.append(chunk)
                chunk, last_comma, full = rest, -1, False
            if full:
                done.append(chunk)
                chunk, last_comma = Chunk(), -1
            chunk.add(token, piece[1])
    count = CHUNK * len(done) + len(chunk.tokens)
    return [*done, chunk] if chunk.tokens or not done else done, count
