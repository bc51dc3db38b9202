"""The previewer: a few convolutions that turn a latent of stage C into a small picture, without stages B and A."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

RESIZES = (6, 12, 18)  # positions of the transposed convolutions in `blocks`; each doubles the sides
LAST = 24


@dataclass(frozen=True)
class PreviewerConfig:
    """Channels of the latent and the width of every convolution but the last."""

    latent: int = 16
    widths: tuple[int, ...] = (512, 512, 256, 256, 128, 128, 128, 128)

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> PreviewerConfig:
        """Reads the sizes off the shapes of canonical names; `metadata` says nothing about this part."""
        widths = tuple(shapes[f"blocks.{k}.weight"][k in RESIZES] for k in range(0, LAST, 3))
        return cls(shapes["blocks.0.weight"][1], widths)


class Previewer(nn.Module):
    """Eight pixels a side for each latent, with the published names of its weights."""

    def __init__(self, config: PreviewerConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = config.latent
        for width in config.widths:
            layers += [_conv(len(layers), before, width), nn.GELU(), nn.BatchNorm2d(width)]
            before = width
        self.blocks = nn.Sequential(*layers, nn.Conv2d(before, 3, kernel_size=1))

    def forward(self, latent: Tensor) -> Tensor:
        """Latents of stage C (N,16,h,w) to pictures (N,3,8h,8w) in [0,1]."""
        return self.blocks(latent).clamp(0, 1)


def _conv(position: int, before: int, width: int) -> nn.Module:
    if position in RESIZES:
        return nn.ConvTranspose2d(before, width, kernel_size=2, stride=2)
    if position == 0:
        return nn.Conv2d(before, width, kernel_size=1)
    return nn.Conv2d(before, width, kernel_size=3, padding=1)
