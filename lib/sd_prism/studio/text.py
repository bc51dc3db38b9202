"""From a prompt to what the UNet attends to, with A1111's syntax and meaning.

A prompt goes `parse_and` -> `parse_schedule` -> `TextEngine.encode`; the last reads the emphasis, cuts the tokens into
chunks of 75 and runs the text encoders.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MERGES = Path(__file__).with_name("configs") / "clip" / "merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CHUNK = 75  # tokens of a prompt in one run of the text encoder, without start and end
COMMA_BACKTRACK = 20  # A1111's default: a comma this near to the end of a chunk moves what follows it
BATCH = 16  # chunks encoded at once
SIZE_FREQUENCIES = 256  # SDXL's sinusoidal width per number

# --- tokens ------------------------------------------------------------------------------------------------------


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
        import json

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


# --- AND ---------------------------------------------------------------------------------------------------------

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*")


def parse_and(text: str) -> list[tuple[str, float]]:
    """The prompts that AND joins, with their weights: "a cat :1.2 AND a dog" -> [("a cat", 1.2), (" a dog", 1.0)]."""
    return [_weighted(part) for part in _AND.split(text)]


def _weighted(part: str) -> tuple[str, float]:
    before, colon, after = part.rpartition(":")
    number = _WEIGHT.fullmatch(after) if colon else None
    return (before.rstrip(), float(number[1])) if number else (part.rstrip(), 1.0)


# --- prompt editing ----------------------------------------------------------------------------------------------

_EDIT_TOKEN = re.compile(r"\\.|[^\\\[\]():|]+|[\[\]():|]|\\")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class _Group:
    children: list[_Node]


@dataclass(frozen=True)
class _Scheduled:
    before: _Group
    after: _Group
    when: str


@dataclass(frozen=True)
class _Alternate:
    options: list[_Group]


_Node = str | _Group | _Scheduled | _Alternate


@dataclass
class _Frame:
    """An open bracket: what stands in it so far, cut at its colons and bars."""

    opener: str
    segments: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def flat(self) -> list[_Node]:
        nodes: list[_Node] = [self.opener, *self.segments[0]]
        for separator, segment in zip(self.separators, self.segments[1:]):
            nodes += [separator, *segment]
        return nodes

    def closed(self, closer: str) -> _Node | None:
        """The node that `closer` makes of this frame, None where the grammar knows none."""
        bars, colons = self.separators.count("|"), self.separators.count(":")
        if self.opener + closer == "()":
            return _Group([*self.flat(), closer]) if not bars and colons <= 1 else None
        if self.opener + closer != "[]" or (bars and colons):
            return None
        if bars:
            return _Alternate([_Group(segment) for segment in self.segments])
        return self._scheduled() if colons else _Group([*self.flat(), closer])

    def _scheduled(self) -> _Node | None:
        *prompts, last = self.segments
        plain = all(isinstance(node, str) for node in last)
        number = _NUMBER.fullmatch("".join(map(str, last))) if plain else None
        if number is None or len(prompts) > 2:
            return None
        before = prompts[0] if len(prompts) == 2 else []
        return _Scheduled(_Group(before), _Group(prompts[-1]), number[1])


def parse_schedule(text: str, steps: int, hires_steps: int | None = None) -> list[tuple[int, str]]:
    """A prompt with [a:b:when] and [a|b] as (last step, text) pairs, in order; steps count from 1.

    `when` is a step, or with a decimal point a part of the run. With `hires_steps` it is the second pass: steps go on
    counting after the first pass and parts run from 1 to 2. A prompt that A1111's grammar rejects (a bar outside of
    brackets, a backslash at the end) is one text as it stands. Linear in the prompt for each step with a text of its
    own. Source: A1111 1.10.1, modules/prompt_parser.py.
    """
    root = _parsed(text)
    run = steps if hires_steps is None else hires_steps
    if root is None:
        return [(run, text)]
    ends = {run}
    for node in _nodes(root):
        if isinstance(node, _Scheduled):
            ends.add(_step(node.when, steps, hires_steps))
        elif isinstance(node, _Alternate):
            ends.update(range(1, run + 1))
    return [(end, _text_at(end, root, steps, hires_steps)) for end in sorted(ends) if end >= 1]


def _parsed(text: str) -> _Group | None:
    top: list[_Node] = []
    stack: list[_Frame] = []
    for match in _EDIT_TOKEN.finditer(text):
        token = match.group()
        here = stack[-1].segments[-1] if stack else top
        if token == "\\" or (token == "|" and not stack):
            return None
        if token in ("(", "["):
            stack.append(_Frame(token))
        elif token in (":", "|") and stack:
            stack[-1].separators.append(token)
            stack[-1].segments.append([])
        elif token in (")", "]") and (node := stack[-1].closed(token) if stack else None) is not None:
            stack.pop()
            (stack[-1].segments[-1] if stack else top).append(node)
        elif token in (")", "]"):
            # Loose brackets are allowed at the top only, so a bracket that does not fit opens all around it.
            if not _loosen(stack, top):
                return None
            top.append(token)
        else:
            here.append(token)
    return _Group(top) if _loosen(stack, top) else None


def _loosen(stack: list[_Frame], top: list[_Node]) -> bool:
    """Moves all open frames to the top as plain text; False if that would leave a bar without brackets."""
    for frame in stack:
        if "|" in frame.separators:
            return False
        top += frame.flat()
    stack.clear()
    return True


def _nodes(root: _Node) -> Iterator[_Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, _Group):
            stack += node.children
        elif isinstance(node, _Scheduled):
            stack += [node.before, node.after]
        elif isinstance(node, _Alternate):
            stack += node.options


def _step(when: str, steps: int, hires_steps: int | None) -> int:
    run, value = steps if hires_steps is None else hires_steps, float(when)
    if "." in when:
        value = (value - (0.0 if hires_steps is None else 1.0)) * run
    elif hires_steps is not None:
        value -= steps
    return int(min(run, max(value, -1.0)))


def _text_at(step: int, root: _Node, steps: int, hires_steps: int | None) -> str:
    parts: list[str] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, _Group):
            stack += reversed(node.children)
        elif isinstance(node, _Alternate):
            stack.append(node.options[(step - 1) % len(node.options)])
        else:
            stack.append(node.before if step <= _step(node.when, steps, hires_steps) else node.after)
    return "".join(parts)


# --- emphasis ----------------------------------------------------------------------------------------------------

_ATTENTION = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")
UP, DOWN = 1.1, 1 / 1.1
BREAK = ("BREAK", -1.0)
DEEPEST = 64  # brackets around one word that count; 1.1^64 is 445


@dataclass
class _Bracket:
    """Pieces start..stop that a factor applies to; `rank` is its place in A1111's order of multiplications."""

    start: int
    stop: int
    factor: float
    rank: tuple[int, int]


def parse_emphasis(text: str) -> list[tuple[str, float]]:
    r"""Pieces of a prompt with their weights; BREAK is ("BREAK", -1).

    (a) is 1.1, (a:1.3) is 1.3, [a] is 1/1.1, they multiply, and `\(` is a literal bracket. Linear in the prompt;
    brackets more than 64 deep are read and change nothing.
    """
    pieces: list[tuple[str, float]] = []
    brackets: list[_Bracket] = []
    open_brackets: dict[str, list[_Bracket]] = {"(": [], "[": []}

    def close(kind: str, factor: float) -> None:
        bracket = open_brackets[kind].pop()
        bracket.stop, bracket.factor, bracket.rank = len(pieces), factor, (0, match.start())

    for match in _ATTENTION.finditer(text):
        token, weight = match[0], match[1]
        if token.startswith("\\"):
            pieces.append((token[1:], 1.0))
        elif token in open_brackets:
            unclosed = (1, len(brackets)) if token == "(" else (2, len(brackets))
            brackets.append(_Bracket(len(pieces), -1, UP if token == "(" else DOWN, unclosed))
            open_brackets[token].append(brackets[-1])
        elif weight is not None and open_brackets["("]:
            close("(", _factor(weight, token))
        elif token == ")" and open_brackets["("]:
            close("(", UP)
        elif token == "]" and open_brackets["["]:
            close("[", DOWN)
        else:
            pieces += _broken(token)
    return _merged(_multiplied(pieces, brackets))


def _factor(weight: str, token: str) -> float:
    try:
        return float(weight)
    except ValueError:
        raise PrismError(f'"{token}" in the prompt: "{weight}" is no number; write a weight as in (word:1.2)') from None


def _broken(text: str) -> list[tuple[str, float]]:
    """Text around BREAKs, without the white space that touches them."""
    first, *rest = _BREAK.split(text)
    if not rest:
        return [(text, 1.0)]
    *middle, last = rest
    parts = [first.rstrip(), *(part.strip() for part in middle), last.lstrip()]
    return [piece for part in parts for piece in (BREAK, (part, 1.0))][1:]


def _multiplied(pieces: list[tuple[str, float]], brackets: list[_Bracket]) -> list[tuple[str, float]]:
    """Each piece's weight times the factors of the brackets around it."""
    around: list[_Bracket] = []
    waiting = 0
    result = []
    for i, (text, weight) in enumerate(pieces):
        around = [bracket for bracket in around if bracket.stop < 0 or bracket.stop > i]
        while waiting < len(brackets) and brackets[waiting].start <= i:
            bracket = brackets[waiting]
            if (bracket.stop < 0 or bracket.stop > i) and len(around) < DEEPEST:
                around.append(bracket)
            waiting += 1
        for bracket in sorted(around, key=lambda b: b.rank):
            weight *= bracket.factor
        result.append((text, weight))
    return result


def _merged(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Neighbours of equal weight as one piece."""
    runs: list[tuple[list[str], float]] = []
    for text, weight in pieces:
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(text)
        else:
            runs.append(([text], weight))
    return [("".join(texts), weight) for texts, weight in runs] or [("", 1.0)]


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


# --- encoders ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoder:
    """One CLIP text model and which of its states the UNet reads.

    Attributes:
        model: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        pad: the id after the first end token; the end token itself, or 0 for open_clip's models.
        layer: the state counted from the end; 1 is the last, 2 the one before.
        normalised: whether the final layer norm is applied to that state.
        skips: whether clip skip moves `layer`, as it does for SD 1 only.
        pooled: whether the projected state of the end token goes into the size vector.
    """

    model: Any
    pad: int
    layer: int = 1
    normalised: bool = True
    skips: bool = True
    pooled: bool = False

    def __call__(self, tokens: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """tokens (N,77) -> states (N,77,C) and the pooled (N,P) where there is one."""
        out = self.model(input_ids=self._repadded(tokens), output_hidden_states=True)
        layer = max(clip_skip, self.layer) if self.skips else self.layer
        if layer > len(out.hidden_states) - 1:
            count = len(out.hidden_states) - 1
            raise PrismError(f"clip skip is {layer}; this model's text encoder has {count} layers, choose 1 to {count}")
        z = out.hidden_states[-layer]
        z = self._core().final_layer_norm(z) if self.normalised else z
        return z, out.text_embeds if self.pooled else None

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _core(self) -> Any:
        return getattr(self.model, "text_model", self.model)

    def _repadded(self, tokens: Tensor) -> Tensor:
        end = tokens[:, -1:]
        if int(end[0, 0]) == self.pad:
            return tokens
        after_end = (tokens == end).cumsum(1) > 1
        repeated = torch.cat([torch.zeros_like(end, dtype=torch.bool), (tokens == end)[:, :-1]], 1).cumsum(1) > 0
        return tokens.masked_fill(after_end | repeated, self.pad)


def emphasised(z: Tensor, weights: Tensor) -> Tensor:
    """States (N,T,C) times token weights (N,T), each text's mean restored: A1111's "Original" emphasis."""
    scaled = z * weights.unsqueeze(-1)
    before, after = (t.mean((1, 2), keepdim=True) for t in (z, scaled))
    plain = (weights == 1).all(1).view(-1, 1, 1) | (after == 0)
    return torch.where(plain, scaled, scaled * (before / after))


def sinusoids(values: Tensor, width: int = SIZE_FREQUENCIES) -> Tensor:
    """(N,K) numbers as (N, K*width) cosines and sines, SDXL's way to read sizes."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).flatten(1)


class TextEngine:
    """The text encoders of one model behind A1111's prompt syntax.

    Args:
        encoders: one for SD 1 and SD 2, two for SDXL; their states are joined along the channels.
        vocabulary: CLIP's own unless the model brings another.
        size: (width, height) in pixels that SDXL is told when the caller names none.
    """

    def __init__(
        self, encoders: Sequence[Encoder], vocabulary: Vocabulary | None = None, size: tuple[int, int] = (1024, 1024)
    ) -> None:
        self.encoders = list(encoders)
        self.vocabulary = vocabulary or Vocabulary.clip()
        self.size = size

    @property
    def width(self) -> int:
        """Channels of `crossattn`."""
        return sum(encoder.width for encoder in self.encoders)

    def token_count(self, text: str, *, steps: int = 20) -> tuple[int, int]:
        """(tokens, room in the chunks they take) of the longest text that a prompt becomes in a run."""
        texts = {t for part, _ in parse_and(text) for _, t in parse_schedule(part, steps)}
        count = max(chunks(t, self.vocabulary)[1] for t in texts)
        return count, math.ceil(max(count, 1) / CHUNK) * CHUNK

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        *,
        clip_skip: int = 1,
        width: int | None = None,
        height: int | None = None,
        negative: bool = False,
    ) -> dict[str, Tensor]:
        """Texts as {"crossattn": (N, 77*chunks, C)} and for SDXL "vector" (N, V).

        Shorter texts are filled with empty chunks. An empty `negative` prompt is all zeros for SDXL, as in A1111.
        """
        if clip_skip < 1:
            raise PrismError(f"clip skip is {clip_skip}; it must be 1 (the last layer) or more")
        parts = [chunks(text, self.vocabulary)[0] for text in texts]
        count = max(len(p) for p in parts)
        rows = [chunk for p in parts for chunk in [*p, *(Chunk() for _ in range(count - len(p)))]]
        z, pooled = self._states(rows, clip_skip)
        crossattn = z.reshape(len(texts), count * z.shape[1], z.shape[2])
        if pooled is None:
            return {"crossattn": crossattn}
        pooled = pooled.reshape(len(texts), count, -1)[:, 0]
        if negative and not any(texts):
            crossattn, pooled = torch.zeros_like(crossattn), torch.zeros_like(pooled)
        return {"crossattn": crossattn, "vector": self._vector(pooled, width, height)}

    def _states(self, rows: Sequence[Chunk], clip_skip: int) -> tuple[Tensor, Tensor | None]:
        device = self.encoders[0].device
        padded = [row.padded(self.vocabulary.start, self.vocabulary.end) for row in rows]
        tokens = torch.tensor([t for t, _ in padded], device=device)
        weights = torch.tensor([w for _, w in padded], device=device)
        states, pools = [], []
        for i in range(0, len(rows), BATCH):
            out = [encoder(tokens[i : i + BATCH], clip_skip) for encoder in self.encoders]
            states.append(torch.cat([emphasised(z, weights[i : i + BATCH]) for z, _ in out], -1))
            pools += [pooled for _, pooled in out if pooled is not None]
        return torch.cat(states), torch.cat(pools) if pools else None

    def _vector(self, pooled: Tensor, width: int | None, height: int | None) -> Tensor:
        """Pooled text, original size, crop corner, target size; sizes as (height, width)."""
        w, h = width or self.size[0], height or self.size[1]
        sizes = torch.tensor([[h, w, 0, 0, h, w]], device=pooled.device).repeat(len(pooled), 1)
        return torch.cat([pooled, sinusoids(sizes).to(pooled.dtype)], 1)
