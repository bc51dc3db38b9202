"""The picture encoder of stage C: EfficientNetV2-S (Tan and Le 2021) and a map to 16 channels of unit variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (1, 2, 2, 2, 1, 2)  # of the stages' first blocks; the stem halves once more
FACTOR = 32  # pixels a side for each latent
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BlockConfig:
    """Widths of a block; no `hidden`: one convolution only; a `squeeze`: a depthwise block with channel attention."""

    before: int
    after: int
    hidden: int | None = None
    squeeze: int | None = None


@dataclass(frozen=True)
class EffnetConfig:
    """Widths of the stem, of every block of every stage, of the last convolution and of the latent."""

    stem: int
    stages: tuple[tuple[BlockConfig, ...], ...]
    last: int
    latent: int = 16

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> EffnetConfig:
        """Reads the sizes off the shapes of canonical names; `metadata` says nothing about this part."""
        before = stem = shapes["backbone.0.0.weight"][0]
        stages = []
        for stage in range(1, len(STRIDES) + 1):
            blocks: list[BlockConfig] = []
            for number in count():
                prefix = f"backbone.{stage}.{number}.block"
                if f"{prefix}.0.0.weight" not in shapes:
                    break
                blocks.append(_block_of(shapes, prefix, before))
                before = blocks[-1].after
            stages.append(tuple(blocks))
        latent, last = shapes["mapper.0.weight"][:2]
        return cls(stem, tuple(stages), last, latent)


def _block_of(shapes: Mapping[str, Sequence[int]], prefix: str, before: int) -> BlockConfig:
    first = shapes[f"{prefix}.0.0.weight"][0]
    if f"{prefix}.2.fc1.weight" in shapes:
        return BlockConfig(before, shapes[f"{prefix}.3.0.weight"][0], first, shapes[f"{prefix}.2.fc1.weight"][0])
    if f"{prefix}.1.0.weight" in shapes:
        return BlockConfig(before, shapes[f"{prefix}.1.0.weight"][0], first)
    return BlockConfig(before, first)


class Attention(nn.Module):
    """Squeeze and excitation: every channel scaled by what all channels hold on average."""

    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, squeeze, kernel_size=1)
        self.fc2 = nn.Conv2d(squeeze, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class Block(nn.Module):
    """Expand, mix, narrow; the input is added where its size is the output's."""

    def __init__(self, config: BlockConfig, stride: int) -> None:
        super().__init__()
        before, hidden, after = config.before, config.hidden, config.after
        self.adds = stride == 1 and before == after
        if hidden is None:
            layers: list[nn.Module] = [_conv(before, after, 3, stride)]
        elif config.squeeze is None:
            layers = [_conv(before, hidden, 3, stride), _conv(hidden, after, acts=False)]
        else:
            layers = [
                _conv(before, hidden),
                _conv(hidden, hidden, 3, stride, groups=hidden),
                Attention(hidden, config.squeeze),
                _conv(hidden, after, acts=False),
            ]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.adds else self.block(x)


def _conv(before: int, after: int, side: int = 1, stride: int = 1, groups: int = 1, *, acts: bool = True) -> nn.Module:
    conv = nn.Conv2d(before, after, side, stride, padding=side // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after, eps=1e-3), *([nn.SiLU()] if acts else []))


class EffnetEncoder(nn.Module):
    """Pictures to latents of stage C, with the published names of its weights."""

    def __init__(self, config: EffnetConfig) -> None:
        super().__init__()
        self.config = config
        stages = [
            nn.Sequential(*(Block(block, stride if k == 0 else 1) for k, block in enumerate(stage)))
            for stage, stride in zip(config.stages, STRIDES, strict=True)
        ]
        self.backbone = nn.Sequential(
            _conv(3, config.stem, 3, 2), *stages, _conv(config.stages[-1][-1].after, config.last)
        )
        self.mapper = nn.Sequential(
            nn.Conv2d(config.last, config.latent, kernel_size=1, bias=False),
            nn.BatchNorm2d(config.latent, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N,3,32h,32w) in [0,1] to latents (N,16,h,w)."""
        mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return self.mapper(self.backbone((x - mean) / std))

    def encode(self, x: Tensor, compression: int) -> Tensor:
        """Pictures (N,3,H,W) in [0,1] to latents (N,16,H//compression,W//compression)."""
        size = [side // compression * FACTOR for side in x.shape[2:]]
        return self(x if size == list(x.shape[2:]) else resized(x, size))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pictures in [0,1] at another size (height, width), bicubic."""
    return F.interpolate(x, tuple(size), mode="bicubic").clamp(0, 1)
