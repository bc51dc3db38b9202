"""The formulas of the merge modes, in the letters A (running values x), B, C and the weight w.

Each kernel changes a tile's x in place. What a formula must know of whole tensors (norms, thresholds, similarities) is
computed once, tile by tile, and kept by the plan, so that moving a weight stays cheap.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from .kernels import Step, Tile, per_tile, spans

TRAIN = 1.8  # supermerger's factor of "train difference"
TRIM = (1, 99)  # percentiles between which cosine similarities are spread
PARALLEL = 1e-6  # sine of the angle below which slerp is a lerp
SIGMA, RADIUS = 1.0, 4  # of smooth add's Gaussian; where it ends


# --- one tile ----------------------------------------------------------------------------------------------------


def weighted_sum(tile: Tile, step: Step) -> None:
    """A + w (B - A), or A + sum of w_i (B_i - A)."""
    if len(step.others) == 1:
        tile.x.lerp_(tile.load(step.others[0], 0), step.w[0])
        return
    a = tile.spare(1).copy_(tile.x)
    for w, b in zip(step.w, step.others):
        tile.x.add_(tile.load(b, 0).sub_(a), alpha=w)


@lru_cache(64)
def chain(weights: tuple[float, ...]) -> tuple[float, ...]:
    """The weights of lerps in a row that amount to a weighted sum; empty where that would lose digits.

    The last model's is its own; each earlier one gets its share of what the later ones leave.
    """
    found, left = [], 1.0
    for w in reversed(weights):
        found.append(w / left if left else math.inf)
        left -= w
    return tuple(reversed(found)) if len(found) == 1 or all(0 <= w <= 1 for w in found) else ()


def add_difference(tile: Tile, step: Step) -> None:
    """A + w (B - C)"""
    tile.x.add_(_difference(tile, step), alpha=step.w[0])


def train_difference(tile: Tile, step: Step) -> None:
    """A + 1.8 w (B - C) |B - A| / (|B - C| + |B - A|); nothing where B = C."""
    b, c = tile.load(step.others[0], 0), tile.load(step.others[1], 1)
    far = torch.sub(b, tile.x, out=tile.spare(2)).abs_()
    d = b.sub_(c)
    both = torch.abs(d, out=c).add_(far).clamp_min_(torch.finfo(c.dtype).tiny)
    tile.x.addcmul_(d, far.div_(both), value=TRAIN * step.w[0])


def smooth_add(tile: Tile, step: Step) -> None:
    """A + w Gaussian(median(B - C)): a median of 3 and a Gaussian of sigma 1 along every axis of the tensor."""
    b, c = step.others
    tile.x.add_(_smoothed(b, c, tile.start, tile.stop, tile.x.dtype), alpha=step.w[0])


def cosine(tile: Tile, step: Step) -> None:
    """lerp(B, A, k), k = clip(s - w, 0, 1), s the similarity of the columns of A and B, see `Similarity`."""
    k = step.stat.to(tile.x.dtype).sub(step.w[0]).clamp_(0, 1)
    b = tile.load(step.others[0], 0)
    torch.lerp(b, tile.x, k, out=tile.x)


def slerp(tile: Tile, step: Step) -> None:
    """From A to B along the sphere, the norm along the line between; a lerp where A and B are parallel or zero."""
    found = slerp_factors(step.stat, step.w[0])
    if found is None:
        weighted_sum(tile, step)
    else:
        tile.x.mul_(found[0]).add_(tile.load(step.others[0], 0), alpha=found[1])


def slerp_factors(products: tuple[float, float, float], w: float) -> tuple[float, float] | None:
    """The factors of A and B from (A.B, A.A, B.B); None where slerp is not defined."""
    ab, aa, bb = products
    a, b = math.sqrt(aa), math.sqrt(bb)
    cos = ab / (a * b) if a * b else 1.0
    angle = math.acos(max(-1.0, min(1.0, cos)))
    if not math.sin(angle) > PARALLEL:
        return None
    norm = (a + w * (b - a)) / math.sin(angle)
    return math.sin((1 - w) * angle) / a * norm, math.sin(w * angle) / b * norm


def swap(tile: Tile, step: Step) -> None:
    """Rows [beta n, (w + beta) n) of n are B's; beyond the last it wraps: all but rows [(w + beta - 1) n, beta n)."""
    beta, n = step.options["beta"], tile.rows
    end = step.w[0] + beta
    first, last, rest = _row(beta, n), _row(end, n), _row(end - 1, n)
    for start, stop in ((first, last),) if end <= 1 else ((0, rest), (first, n)):
        start, stop = max(start, tile.start), min(stop, tile.stop)
        if start < stop:
            tile.x[start - tile.start : stop - tile.start].copy_(step.others[0][start:stop])


def dare(tile: Tile, step: Step) -> None:
    """A + w m/p (B - C), m ~ Bernoulli(p) by the seed and the tensor's name; C is the pristine A if not named."""
    keep = step.options["keep"]
    d = _difference(tile, step)
    row = d[0].numel()
    kept = bernoulli(step.options["key"], keep, tile.start * row, tile.stop * row)
    tile.x.add_(d.mul_(torch.from_numpy(kept).view(d.shape)), alpha=step.w[0] / keep)


def bernoulli(key: Sequence[int], keep: float, start: int, stop: int) -> np.ndarray:
    """True with probability `keep` for the elements `start` to `stop` of an endless row that `key` stands for."""
    bits = np.random.PCG64(np.random.SeedSequence(list(key)))
    bits.advance(start // 4)  # each draw of 64 bits serves four elements
    drawn = bits.random_raw(-(-stop // 4) - start // 4).view(np.uint16)
    return drawn[start % 4 : start % 4 + stop - start] < round(keep * 65536)


def ties(tile: Tile, step: Step) -> None:
    """A + mean of the w_i d_i that were kept and agree with the sign of their sum, d_i = B_i - C_i.

    `others` are B_1, C_1, B_2, ...; C is the pristine A if not named; `stat` is for each B the magnitude from which on
    d_i is kept.
    """

    def kept(i: int) -> Tensor:
        d = tile.load(step.others[2 * i], 0).sub_(tile.load(step.others[2 * i + 1], 1))
        return d.mul_(d.abs() >= step.stat[i]).mul_(step.w[i])

    models = range(len(step.w))
    elected = tile.spare(2).zero_()
    for i in models:
        elected.add_(kept(i))
    total, count = tile.spare(3).zero_(), tile.spare(4).zero_()
    for i in models:
        d = kept(i)
        agrees = d * elected > 0
        total.add_(d.mul_(agrees))
        count.add_(agrees)
    tile.x.add_(total.div_(count.clamp_min_(1)))


def extract(tile: Tile, step: Step) -> None:
    """A + lerp(x, y, w) lerp(d, 1 - d, beta), x = B - A, y = C - A, d = ((cos of their rows + 1) / 2)^gamma."""
    x = tile.load(step.others[0], 0).sub_(tile.x)
    y = tile.load(step.others[1], 1).sub_(tile.x)
    cos = torch.cosine_similarity(x, y, -1).clamp_(-1, 1).unsqueeze(-1)
    d = cos.add_(1).div_(2).pow_(step.options["gamma"])
    tile.x.addcmul_(x.lerp_(y, step.w[0]), torch.lerp(d, 1 - d, step.options["beta"]))


KERNELS: Mapping[str, Callable[[Tile, Step], None]] = MappingProxyType(
    {
        "sum": weighted_sum,
        "add": add_difference,
        "train": train_difference,
        "smooth": smooth_add,
        "cosine_a": cosine,
        "cosine_b": cosine,
        "slerp": slerp,
        "swap": swap,
        "dare": dare,
        "ties": ties,
        "extract": extract,
    }
)
JOINED = frozenset({"sum", "ties"})  # modes whose neighbours are computed together
PER_TENSOR = frozenset({"cosine_a", "cosine_b", "slerp", "dare", "ties"})  # modes that differ from tensor to tensor
RESTS_AT_ZERO = frozenset(KERNELS) - {"cosine_a", "cosine_b", "extract"}  # modes in which weight 0 leaves A alone
IS_B_AT_ONE = frozenset({"sum", "slerp"})  # and in which weight 1 gives B


def _difference(tile: Tile, step: Step) -> Tensor:
    return tile.load(step.others[0], 0).sub_(tile.load(step.others[1], 1))


def _row(part: float, rows: int) -> int:
    return math.floor(part * rows + 1e-6)  # 0.7 + 0.1 of 10 rows are 8


def dare_key(seed: float, term: int, name: str) -> tuple[int, int, int]:
    """What DARE's choice of elements depends on: the seed, the term's place in the recipe, the tensor's name."""
    return int(seed), term, zlib.crc32(name.encode())


# --- whole tensors -----------------------------------------------------------------------------------------------


def products(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float, float]:
    """(A.B, A.A, B.B) over tiles of A and B, in fp64."""
    ab = aa = bb = 0.0
    for a, b in pairs:
        a, b = a.double().flatten(), b.double().flatten()
        ab, aa, bb = ab + float(a @ b), aa + float(a @ a), bb + float(b @ b)
    return ab, aa, bb


def threshold(b: Tensor, c: Tensor, keep: float) -> float:
    """The magnitude of the k-th largest difference, k = `keep` of all; exact, by two counts of the fp32 bits."""
    size = b.numel()
    rank = size - max(math.ceil(keep * size), 1) if keep > 0 else size
    if rank >= size:
        return math.inf
    high = np.zeros(1 << 15, dtype=np.int64)
    for bits in _magnitudes(b, c):
        high += np.bincount(bits >> 16, minlength=len(high))
    top = int(np.searchsorted(np.cumsum(high), rank, side="right"))
    rank -= int(high[:top].sum())
    low = np.zeros(1 << 16, dtype=np.int64)
    for bits in _magnitudes(b, c):
        low += np.bincount(bits[bits >> 16 == top] & 0xFFFF, minlength=len(low))
    bottom = int(np.searchsorted(np.cumsum(low), rank, side="right"))
    return float(np.array((top << 16) | bottom, dtype=np.int32).view(np.float32))


def _magnitudes(b: Tensor, c: Tensor) -> Iterator[np.ndarray]:
    """Tile by tile, the bits of |b - c| in fp32, which as whole numbers are in the order of their values."""
    b, c = (one if one.dim() else one.view(1) for one in (b, c))
    for start, stop in spans(b.shape, per_tile(b.shape, 1 << 18)):
        yield torch.sub(b[start:stop].float(), c[start:stop].float()).abs_().flatten().view(torch.int32).numpy()


class Similarity:
    """Similarities of the columns of two models, spread to 0..1 over all their tensors (supermerger's cosine A, B).

    A column runs along a tensor's first axis. Its cosine is averaged with that of the whole tensors, which in A have
    columns of unit length. The spread reaches over the middle 98 percent of all columns of the model.

    Args:
        pairs: name -> A and B.
        unit: the variant A.
    """

    def __init__(self, pairs: Iterable[tuple[str, Tensor, Tensor]], *, unit: bool) -> None:
        self.raw = {name: column_similarity(a, b, unit=unit) for name, a, b in pairs}
        values = np.concatenate([raw.flatten().numpy() for raw in self.raw.values()] or [np.zeros(1)])
        values = values[~np.isnan(values)]
        values = values[values >= np.percentile(values, TRIM[0], method="midpoint")]
        values = values[values <= np.percentile(values, TRIM[1], method="midpoint")]
        self.low, self.high = float(values.min()), float(values.max())

    def of(self, name: str) -> Tensor:
        """The similarities of one tensor's columns."""
        width = self.high - self.low
        spread = (self.raw[name] - self.low) / width if width else torch.ones_like(self.raw[name])
        return spread.nan_to_num(0.0)


def column_similarity(a: Tensor, b: Tensor, *, unit: bool) -> Tensor:
    """(cosine of each column + cosine of the whole) / 2, in the shape of one row; fp32, summed up in fp64."""
    if not a.dim():
        a, b = a.view(1), b.view(1)
    ab, aa, bb = (torch.zeros(a.shape[1:], dtype=torch.float64) for _ in range(3))
    for start, stop in spans(a.shape, per_tile(a.shape, 1 << 18)):
        x, y = a[start:stop].double(), b[start:stop].double()
        ab, aa, bb = ab + (x * y).sum(0), aa + (x * x).sum(0), bb + (y * y).sum(0)
    cos = ab / (aa.sqrt().clamp_min(1e-8) * bb.sqrt().clamp_min(1e-8))
    if unit:
        whole = cos.sum() / ((aa > 0).sum() * (bb > 0).sum()).sqrt()
    else:
        whole = ab.sum() / (aa.sum() * bb.sum()).sqrt()
    return ((cos + whole) / 2).float()


# --- smooth add --------------------------------------------------------------------------------------------------


def _smoothed(b: Tensor, c: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Rows of Gaussian(median(b - c)); tensors are mirrored at their edges, the edge itself repeated."""
    rows = len(b)
    low, high = max(start - RADIUS, 0), min(stop + RADIUS, rows)
    around = _mirrored(low - 1, high + 1, rows)
    calm = _median(b[around].to(dtype).sub_(c[around].to(dtype)))
    return _gaussian(calm[_mirrored(start - RADIUS, stop + RADIUS, rows) - low])


def _mirrored(start: int, stop: int, size: int) -> Tensor:
    """Indices of `start` to `stop` in a row of `size` that is continued as ... b a | a b ... y z | z y ..."""
    at = torch.arange(start, stop) % (2 * size)
    return torch.where(at < size, at, 2 * size - 1 - at)


def _median(d: Tensor) -> Tensor:
    """The median of the 3 x 3 x ... neighbours; d has one row more at either end than the result."""
    for axis in range(1, d.dim()):
        d = d.index_select(axis, _mirrored(-1, d.shape[axis] + 1, d.shape[axis]))
    around = d
    for axis in range(d.dim()):
        around = around.unfold(axis, 3, 1)
    out = torch.empty(around.shape[: d.dim()], dtype=d.dtype)
    room = 3 ** d.dim() * max(out[0].numel(), 1)
    for start, stop in spans(out.shape, max(4 * 1024 * 1024 // room, 1)):
        out[start:stop] = around[start:stop].flatten(d.dim()).median(-1).values
    return out


def _gaussian(d: Tensor) -> Tensor:
    """A Gaussian along every axis; d has `RADIUS` rows more at either end than the result."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in range(d.dim()):
        if axis:
            d = d.index_select(axis, _mirrored(-RADIUS, d.shape[axis] + RADIUS, d.shape[axis]))
        size = d.shape[axis] - 2 * RADIUS
        out = torch.zeros_like(d.narrow(axis, 0, size))
        for at, weight in enumerate(weights.tolist()):
            out.add_(d.narrow(axis, at, size), alpha=weight)
        d = out
    return d
