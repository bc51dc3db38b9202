"""The blocks of stages C and B. Pictures are (N,H,W,C) in memory and between blocks: no linear layer needs a copy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .direct import Kept, attention, conv, direct, linear, parameters, product

EPS = 1e-6


def norm(x: Tensor) -> Tensor:
    """Layer norm over the channels, the last axis, without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def channel_norm(x: Tensor) -> Tensor:
    """The L2 norm of each channel of (N,H,W,C), as (N,1,1,C)."""
    if torch.is_grad_enabled() or not x.is_cpu or x.dtype == torch.float16:  # its squares do not fit
        return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    return x.square().sum((1, 2), keepdim=True).sqrt_()  # on a processor a fifth of the time


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N,C,H,W) at another (H,W), bilinear, corners on corners."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def ratio_embedding(r: Tensor, width: int) -> Tensor:
    """Noise ratios (N,) as (N,width) sines and cosines. Always float32: a half cannot hold 10000 r."""
    half = width // 2
    frequencies = torch.arange(half, device=r.device).float().mul(-math.log(10000) / (half - 1)).exp()
    angles = r.float()[:, None] * 10000 * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (Woo et al. 2023, arXiv 2301.00808): channels compete by their norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def gain(self, x: Tensor) -> Tensor:
        """1 + gamma N: what each channel (N,1,1,C) is multiplied by."""
        g = channel_norm(x)
        return torch.addcmul(self.gamma.new_ones(()), self.gamma, g / (g.mean(-1, keepdim=True) + EPS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.beta, x, self.gain(x))


class ConvBlock(nn.Module):
    """Letter C: a depthwise convolution, then two linear layers with a global response norm between them."""

    def __init__(self, width: int, skip: int = 0) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        steps = (nn.Linear(width + skip, 4 * width), GlobalResponseNorm(4 * width), nn.Linear(4 * width, width))
        self.channelwise = nn.ModuleDict(dict(zip("024", steps)))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        h = norm(conv(self.depthwise, x))
        h = h if skip is None else torch.cat([h, skip], -1)
        first, grn, last = self._steps()
        if direct(first, grn, last):
            return self._direct(x, h)
        return x + last(grn(F.gelu(first(h))))

    def _steps(self) -> Any:
        return self.channelwise.values()

    def _direct(self, x: Tensor, h: Tensor) -> Tensor:
        """The same. With many more pixels than channels it is less work to let the weights carry the norm's gain."""
        first, grn, last = self._steps()
        h = product(h, first.weight, first.bias, gelu=True)
        if h.shape[1] * h.shape[2] < 2 * last.out_features:
            return x + product(grn(h), last.weight, last.bias)
        bias = torch.addmv(last.bias, last.weight, grn.beta.flatten())
        out = torch.empty_like(x)
        for i, gain in enumerate(grn.gain(h).flatten(1)):
            torch.add(x[i], product(h[i], last.weight * gain, bias), out=out[i])
        return out


class TimestepBlock(nn.Module):
    """Letter T: scale and shift the channels by the timestep and by the conditions."""

    def __init__(self, width: int, c_r: int, conditions: Sequence[str]) -> None:
        super().__init__()
        self.mapper = nn.Linear(c_r, 2 * width)
        self.conditions = tuple(conditions)
        for name in conditions:
            self.add_module(f"mapper_{name}", nn.Linear(c_r, 2 * width))

    def forward(self, x: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """`embeddings` (N,c_r): of the timestep, then of each condition."""
        given = self.mapper(embeddings[0])
        for name, embedding in zip(self.conditions, embeddings[1:]):
            given = given + self.get_submodule(f"mapper_{name}")(embedding)
        scale, shift = given[:, None, None].chunk(2, -1)
        return torch.addcmul(shift, x, 1 + scale)


class Attention(nn.Module):
    """Attention of a picture (N,L,C) to itself and to tokens (N,T,C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        both = torch.cat([x, tokens], 1)
        return self.attend(x, self.to_k(both), self.to_v(both))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of x (N,L,C) to projected keys and values (N,L+T,C)."""
        split = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (linear(self.to_q, x), keys, values))
        return linear(self.out_proj, attention(*split).transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    """Letter A: the picture attends to itself and to the prompt."""

    def __init__(self, width: int, c_cond: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"attn": Attention(width, heads)})
        self.kv_mapper = nn.ModuleDict({"1": nn.Linear(c_cond, width)})
        self.prompts = Kept()

    def forward(self, x: Tensor, clip: Tensor) -> Tensor:
        attn, mapper = self._parts()
        h = norm(x).flatten(1, 2)
        if direct(attn, attn.to_k, attn.to_v, mapper):
            return x + attn.attend(h, *self._keys_and_values(h, clip)).view_as(x)
        return x + attn(h, mapper(F.silu(clip))).view_as(x)

    def _parts(self) -> tuple[Any, Any]:
        return self.attention["attn"], self.kv_mapper["1"]

    def _keys_and_values(self, h: Tensor, clip: Tensor) -> Iterator[Tensor]:
        """Those of the prompt are made once for each prompt."""
        attn, mapper = self._parts()
        layers = (attn.to_k, attn.to_v)

        def projected() -> list[Tensor]:
            tokens = linear(mapper, F.silu(clip))
            return [linear(layer, tokens) for layer in layers]

        of_prompt = self.prompts.get(clip, parameters(*layers, mapper), projected)
        return (torch.cat([linear(layer, h), own], 1) for layer, own in zip(layers, of_prompt))
