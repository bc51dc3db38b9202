"""CLIP's text encoder with a projection (Radford et al. 2021), as Stable Cascade uses it: the bigG build.

Names of weights are those of transformers. Every layer is a plain one that is called, so that LoRA reaches it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import OutOfRange
from .config import TextConfig, VisionConfig

START, END = 49406, 49407  # the end is also what the rest of a chunk is filled with


def mask_of(ids: Tensor) -> Tensor:
    """Which of the tokens (N,T) are the prompt's: all up to the first end, and that one; boolean."""
    ended = (ids == END).cumsum(-1)
    return (ended - (ids == END).long()) == 0


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Attention of tokens (N,T,W) to each other, or to those of them that `seen` says."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        projected = (proj(x) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in projected)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: TextConfig | VisionConfig) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        self.activation = quick_gelu if config.activation == "quick_gelu" else F.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, config: TextConfig | VisionConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = SelfAttention(config.width, config.heads), MLP(config)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), seen)
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """A vector for each token and for each place."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.positions, config.width)

    def forward(self, ids: Tensor, embeddings: Tensor | None) -> Tensor:
        tokens = self.token_embedding(ids) if embeddings is None else embeddings
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class Encoder(nn.Module):
    def __init__(self, config: TextConfig | VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))


class TextTower(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings, self.encoder = Embeddings(config), Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width)


class TextEncoder(nn.Module):
    """Tokens of a prompt -> a state for each, and one for all."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config)
        self.text_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, *, clip_skip: int = 1, embeddings: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """ids (N,T) -> states (N,T,width) before the final norm; the first end's, normed and projected (N,projection).

        Args:
            mask: (N,T), the tokens that may be attended to, as `mask_of` finds them; None is all.
            clip_skip: which state from the end, 1 the last layer's; the projected one is always the last's.
            embeddings: (N,T,width) in place of the tokens' own.

        Raises:
            OutOfRange: there are not so many layers to skip.
        """
        layers = self.text_model.encoder.layers
        if not 1 <= clip_skip <= len(layers):
            raise OutOfRange("clip skip", clip_skip, 1, len(layers), "this text encoder has so many layers")
        seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()[None, None]
        if mask is not None:
            seen = seen & mask.bool()[:, None, None]
        hidden = x = self.text_model.embeddings(ids, embeddings)
        for left, layer in zip(range(len(layers), 0, -1), layers):
            x = layer(x, seen)
            hidden = x if left == clip_skip else hidden
        last = self.text_model.final_layer_norm(x)
        end = (ids == END).int().argmax(-1)
        return hidden, self.text_projection(last[torch.arange(len(ids), device=ids.device), end])
