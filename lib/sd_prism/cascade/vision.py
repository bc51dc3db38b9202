"""CLIP's vision encoder with a projection (Radford et al. 2021): a picture as the vector that stage C takes of it.

Names of weights are those of transformers, one misspelt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import VisionConfig
from .text import Encoder

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Embeddings(nn.Module):
    """A vector for the whole picture and one for each patch, each with its place."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.positions, config.width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)
        whole = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat([whole, patches], 1) + self.position_embedding.weight


class VisionTower(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings, self.encoder = Embeddings(config), Encoder(config)
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)


class VisionEncoder(nn.Module):
    """Pictures (N,3,side,side) in [0,1] -> vectors (N,projection)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTower(config)
        self.visual_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        tower = self.vision_model
        states = tower.pre_layrnorm(tower.embeddings((x - mean) / std))
        for layer in tower.encoder.layers:
            states = layer(states)
        return self.visual_projection(tower.post_layernorm(states[:, 0]))
