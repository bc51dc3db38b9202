"""CLIP's tokenizer, and a prompt cut into the chunks of 75 tokens that the text encoders read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sd_prism.clip import END, START, WORD_END, clip_merges, clip_vocabulary
from sd_prism.errors import PrismError
from sd_prism.studio.prompt import BREAK, parse_emphasis

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CHUNK = 75  # tokens of a prompt in one run of the text encoder, without start and end
COMMA_BACKTRACK = 20  # A1111's default: a comma this near to the end of a chunk moves what follows it


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

Find = Callable[[list[int], int], tuple[Any, "int | None"]]


def no_embedding(tokens: list[int], position: int) -> tuple[None, None]:
    """A `find` for prompts without embeddings."""
    return None, None


@dataclass
class Chunk:
    """Up to 75 tokens of a prompt with their weights, as `multipliers`, the host's name.

    `fixes` are (offset, embedding): the embedding's vectors take the place of the zeros from that token on.
    """

    tokens: list[int] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    fixes: list[tuple[int, Any]] = field(default_factory=list)

    def add(self, token: int, weight: float) -> None:
        self.tokens.append(token)
        self.multipliers.append(weight)

    def cut(self, at: int) -> Chunk:
        """Keeps the first `at` tokens and hands back the others; embeddings stay behind, as they do in A1111."""
        rest = Chunk(self.tokens[at:], self.multipliers[at:])
        del self.tokens[at:], self.multipliers[at:]
        return rest

    def padded(self, start: int, end: int) -> Chunk:
        """With 77 ids and weights: start, tokens, ends."""
        fill = CHUNK + 1 - len(self.tokens)
        return Chunk([start, *self.tokens, *[end] * fill], [1.0, *self.multipliers, *[1.0] * fill], self.fixes)


class _Cutter:
    """Tokens one after the other into chunks, as A1111 cuts them."""

    def __init__(self, comma: int | None) -> None:
        self.comma = comma
        self.done: list[Chunk] = []
        self.chunk, self.last_comma = Chunk(), -1

    def next(self, rest: Chunk | None = None) -> None:
        """Begins a new chunk, with what is carried over from the one before."""
        self.done.append(self.chunk)
        self.chunk, self.last_comma = rest or Chunk(), -1

    def make_room(self, token: int) -> None:
        """Begins a new chunk if the current one is full, after its last comma if that is near."""
        full = len(self.chunk.tokens) == CHUNK
        if token == self.comma:
            self.last_comma = len(self.chunk.tokens)
        elif full and self.last_comma != -1 and CHUNK - self.last_comma <= COMMA_BACKTRACK:
            self.next(self.chunk.cut(self.last_comma + 1))
            return
        if full:
            self.next()

    def embed(self, embedding: Any, weight: float) -> None:
        """Leaves the place of an embedding's vectors."""
        if len(self.chunk.tokens) + embedding.vectors > CHUNK:
            self.next()
        self.chunk.fixes.append((len(self.chunk.tokens), embedding))
        for _ in range(embedding.vectors):
            self.chunk.add(0, weight)


class Words(Protocol):
    """What a prompt is read with: a `Vocabulary`, or a model's own way to read words."""

    @property
    def comma(self) -> int | None: ...

    def ids(self, pieces: Sequence[str]) -> list[list[int]]: ...


def chunks(text: str, vocabulary: Words, find: Find = no_embedding) -> tuple[list[Chunk], int]:
    """A prompt's chunks (one at least) and its length in tokens, full chunks counting 75 (A1111's counter).

    `find(tokens, position)` gives the embedding (with `.vectors`) whose name stands there and the name's length.
    """
    pieces = parse_emphasis(text)
    cutter = _Cutter(vocabulary.comma)
    for tokens, piece in zip(vocabulary.ids([text for text, _ in pieces]), pieces):
        if piece == BREAK:
            cutter.next()
            continue
        position = 0
        while position < len(tokens):
            cutter.make_room(tokens[position])
            embedding, length = find(tokens, position)
            if embedding is None:
                cutter.chunk.add(tokens[position], piece[1])
            else:
                cutter.embed(embedding, piece[1])
            position += length or 1
    count = CHUNK * len(cutter.done) + len(cutter.chunk.tokens)
    last = [cutter.chunk] if cutter.chunk.tokens or not cutter.done else []
    return [*cutter.done, *last], count
