"""Stage A: the autoencoder that makes pixels of stage B's latents, four pixels a side for each latent (Paella's VQGAN).

Its codebook is carried along, since files have it, but neither direction uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 0.43  # from the sampler's latents to the network's own


@dataclass(frozen=True)
class StageAConfig:
    """Sizes of a stage A; `hidden` is the width of the deepest of its `levels`, each of which halves it."""

    latent: int = 4
    hidden: int = 384
    levels: int = 2
    blocks: int = 12
    codes: int = 8192

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> StageAConfig:
        """Reads the sizes off the shapes of canonical names; `metadata` says nothing about this part."""
        up = {name.removeprefix("up_blocks."): shape for name, shape in shapes.items() if name.startswith("up_blocks.")}
        levels = 1 + sum(name.endswith(".weight") and name.count(".") == 1 for name in up)
        hidden, latent = up["0.0.weight"][:2]
        blocks = sum(name.endswith(".gammas") for name in up) - (levels - 1)
        return cls(latent, hidden, levels, blocks, shapes["vquantizer.codebook.weight"][0])


class Pad(nn.Module):
    """One pixel more on every side, a copy of the border; in fp32, since older torch lacks it in bf16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x.float(), (1, 1, 1, 1), mode="replicate").to(x.dtype)


class MixBlock(nn.Module):
    """A depthwise convolution, then a perceptron over channels, both scaled by six learned numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(Pad(), nn.Conv2d(width, width, kernel_size=3, groups=width))
        self.channelwise = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        g = self.gammas
        x = x + self.depthwise((_norm(x) * (1 + g[0]) + g[1]).permute(0, 3, 1, 2)) * g[2]
        return x + self.channelwise(_norm(x) * (1 + g[3]) + g[4]).permute(0, 3, 1, 2) * g[5]


def _norm(x: Tensor) -> Tensor:
    """LayerNorm over channels: NCHW in, NHWC out."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6)


class StageA(nn.Module):
    """Pictures to latents and back, with the published names of its weights."""

    def __init__(self, config: StageAConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.hidden // 2**k for k in reversed(range(config.levels))]  # shallow first
        self.in_block = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], kernel_size=1))
        down: list[nn.Module] = [MixBlock(widths[0])]
        up: list[nn.Module] = [nn.Sequential(nn.Conv2d(config.latent, widths[-1], kernel_size=1))]
        up += [MixBlock(widths[-1]) for _ in range(config.blocks)]
        for wide, narrow in zip(widths[1:], widths):
            down += [nn.Conv2d(narrow, wide, kernel_size=4, stride=2, padding=1), MixBlock(wide)]
        for wide, narrow in zip(reversed(widths), reversed(widths[:-1])):
            up += [nn.ConvTranspose2d(wide, narrow, kernel_size=4, stride=2, padding=1), MixBlock(narrow)]
        to_latent = nn.Conv2d(widths[-1], config.latent, kernel_size=1, bias=False)
        down.append(nn.Sequential(to_latent, nn.BatchNorm2d(config.latent)))
        self.down_blocks, self.up_blocks = nn.Sequential(*down), nn.Sequential(*up)
        self.out_block = nn.Sequential(nn.Conv2d(widths[0], 12, kernel_size=1), nn.PixelShuffle(2))
        self.vquantizer = nn.ModuleDict({"codebook": nn.Embedding(config.codes, config.latent)})

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (N,3,H,W) in [0,1], sides multiples of 4, to latents (N,4,H/4,W/4) in the sampler's scale."""
        return self.down_blocks(self.in_block(x)) / SCALE

    def decode(self, z: Tensor) -> Tensor:
        """Latents (N,4,h,w) in the sampler's scale to pictures (N,3,4h,4w) in [0,1]."""
        return self.pixels(z).clamp(0, 1)

    def pixels(self, z: Tensor) -> Tensor:
        """`decode` before its values are cut off at black and white."""
        return self.out_block(self.up_blocks(z * SCALE))
