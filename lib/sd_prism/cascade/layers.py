"""The blocks of stages C and B. Pictures are (N,H,W,C) in memory and between blocks: no linear layer needs a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


def norm(x: Tensor) -> Tensor:
    """Layer norm over the channels, the last axis, without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def conv(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution of (N,H,W,C) data."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


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
        g = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return torch.addcmul(self.gamma.new_ones(()), self.gamma, g / (g.mean(-1, keepdim=True) + EPS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.beta, x, self.gain(x))


class ConvBlock(nn.Module):
    """Letter C: a depthwise convolution, then two linear layers with a global response norm between them."""

    def __init__(self, width: int, skip: int = 0) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channelwise = nn.Sequential(
            nn.Linear(width + skip, 4 * width),
            nn.GELU(),
            GlobalResponseNorm(4 * width),
            nn.Identity(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        h = norm(conv(self.depthwise, x))
        return x + self.channelwise(h if skip is None else torch.cat([h, skip], -1))


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
        q, k, v = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in self.project(x, both))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def project(self, x: Tensor, both: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.to_q(x), self.to_k(both), self.to_v(both)


class AttentionBlock(nn.Module):
    """Letter A: the picture attends to itself and to the prompt."""

    def __init__(self, width: int, c_cond: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"attn": Attention(width, heads)})
        self.kv_mapper = nn.Sequential(nn.SiLU(), nn.Linear(c_cond, width))

    def forward(self, x: Tensor, clip: Tensor) -> Tensor:
        return x + self.attention["attn"](norm(x).flatten(1, 2), self.kv_mapper(clip)).view_as(x)


class Norm(nn.Module):
    """`norm` as a layer, in front of a change of level."""

    def forward(self, x: Tensor) -> Tensor:
        return norm(x)


class Change(nn.Module):
    """From one level of stage C to the next: a 1x1 convolution, as the `place`-th of two steps; the other is none."""

    def __init__(self, before: int, after: int, place: int) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Identity(), nn.Identity()]
        steps[place] = nn.Conv2d(before, after, 1)
        self.blocks = nn.ModuleList(steps)
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[self.place](x)
