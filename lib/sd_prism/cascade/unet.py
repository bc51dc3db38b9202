"""Stages C and B of Stable Cascade: one U-shaped network, told different things.

Names of weights are those of the published files, with q, k and v apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import UNetConfig
from .direct import Memo, conv, direct, parameters
from .layers import AttentionBlock, ConvBlock, TimestepBlock, norm, ratio_embedding, resize


class UNet(nn.Module):
    """What both stages have in common: levels down, levels up, and how they are told timestep and prompt."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.memo = config, Memo()
        widths, patch = config.hidden, config.patch
        self.embedding = nn.ModuleDict({"1": nn.Conv2d(config.channels * patch**2, widths[0], 1)})
        self.down_downscalers, self.down_blocks, self.down_repeat_mappers = (nn.ModuleList() for _ in range(3))
        self.up_blocks, self.up_upscalers, self.up_repeat_mappers = (nn.ModuleList() for _ in range(3))
        for level, width in enumerate(widths):
            self.down_downscalers.append(_down(config, widths[level - 1], width) if level else nn.ModuleDict())
            self.down_blocks.append(self._blocks(level, config.down[level]))
            self.down_repeat_mappers.append(_mappers(width, config.down_repeats[level]))
        deepest = len(widths) - 1
        for i, level in enumerate(reversed(range(len(widths)))):
            self.up_blocks.append(self._blocks(level, config.up[i], widths[level] if level < deepest else 0))
            self.up_repeat_mappers.append(_mappers(widths[level], config.up_repeats[i]))
            self.up_upscalers.append(_up(config, widths[level], widths[level - 1]) if level else nn.ModuleDict())
        self.clf = nn.ModuleDict({"1": nn.Conv2d(widths[0], config.channels * patch**2, 1)})

    def _blocks(self, level: int, count: int, skip: int = 0) -> nn.ModuleList:
        config, width = self.config, self.config.hidden[level]
        make = {
            "T": lambda: TimestepBlock(width, config.c_r, config.conditions),
            "A": lambda: AttentionBlock(width, config.c_cond, width // config.head_width),
        }
        letters = config.levels[level] * count
        blocks = [
            ConvBlock(width, 0 if i else skip) if letter == "C" else make[letter]() for i, letter in enumerate(letters)
        ]
        return nn.ModuleList(blocks)

    def run(self, x: Tensor, r: Tensor, clip: Tensor, extras: Sequence[float]) -> Tensor:
        """Embedded pictures (N,h,w,C) -> predicted noise (N,channels,H,W)."""
        numbers = [r, *(torch.full_like(r, extra) for extra in extras)]
        embeddings = [ratio_embedding(one, self.config.c_r).to(x.dtype) for one in numbers]
        skips: list[Tensor] = []
        for scaler, blocks, mappers in zip(self.down_downscalers, self.down_blocks, self.down_repeat_mappers):
            x = _level(blocks, mappers, _scaled(scaler, x), embeddings, clip)
            skips.append(x)
        skips.pop()  # x itself: the deepest level has no skip
        for i, (blocks, mappers) in enumerate(zip(self.up_blocks, self.up_repeat_mappers)):
            skip = skips.pop() if i else None
            if skip is not None and x.shape[1:3] != skip.shape[1:3]:
                x = resize(x.permute(0, 3, 1, 2).float(), skip.shape[1:3]).to(x.dtype).permute(0, 2, 3, 1)
            x = _scaled(self.up_upscalers[i], _level(blocks, mappers, x, embeddings, clip, skip))
        return F.pixel_shuffle(conv(self.clf["1"], norm(x)).permute(0, 3, 1, 2), self.config.patch)

    def _remembered(
        self, given: Sequence[Tensor | None], layers: Sequence[nn.Module], make: Callable[[], Tensor]
    ) -> Tensor:
        """What `layers` make of a prompt; the same prompt again gives the same tensor, so that blocks know it too."""
        if not direct(*layers):
            return make()
        return self.memo.get(given, parameters(*layers), make)

    def _apply(self, *given: Any, **more: Any) -> UNet:
        """Moved or in another type: what was kept of prompts is of no use any more, and takes memory where it was."""
        self.memo.entries.clear()
        return super()._apply(*given, **more)

    def enter(self, x: Tensor) -> Tensor:
        """A latent (N,channels,H,W) as (N,h,w,C)."""
        pixels = F.pixel_unshuffle(x, self.config.patch).permute(0, 2, 3, 1)
        return norm(conv(self.embedding["1"], pixels))


class StageC(UNet):
    """The prompt's stage: noise (N,16,h,w) and a prompt -> predicted noise."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.clip_txt_mapper = nn.Linear(config.text, config.c_cond)
        self.clip_txt_pooled_mapper = nn.Linear(config.pooled, config.c_cond * config.tokens)
        self.clip_img_mapper = nn.Linear(config.image, config.c_cond * config.tokens)

    def condition(self, text: Tensor, pooled: Tensor, images: Tensor | None = None) -> Tensor:
        """Text states (N,T,text), pooled text (N,pooled) and image vectors (N,n,image) as tokens (N,T',c_cond).

        No images are one vector of zeros.
        """

        def told() -> Tensor:
            vectors = pooled.new_zeros(len(pooled), 1, self.config.image) if images is None else images
            of_pooled, of_images = self.clip_txt_pooled_mapper(pooled), self.clip_img_mapper(vectors)
            tokens = (one.reshape(len(pooled), -1, self.config.c_cond) for one in (of_pooled, of_images))
            return norm(torch.cat([self.clip_txt_mapper(text), *tokens], 1))

        layers = (self.clip_txt_mapper, self.clip_txt_pooled_mapper, self.clip_img_mapper)
        return self._remembered((text, pooled, images), layers, told)

    def forward(self, x: Tensor, r: Tensor, clip: Tensor, *, sca: float = 0, crp: float = 0) -> Tensor:
        """x (N,16,h,w) at noise ratios r (N,), `clip` of `condition` -> predicted noise (N,16,h,w)."""
        return self.run(self.enter(x), r, clip, (sca, crp))


class StageB(UNet):
    """The decoder's stage: noise (N,4,H/4,W/4), the small latent and the pooled text -> predicted noise."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        width = config.hidden[0]
        self.clip_mapper = nn.Linear(config.pooled, config.c_cond * config.tokens)
        self.effnet_mapper = _map_mapper(config.effnet, width)
        self.pixels_mapper = _map_mapper(3, width)

    def condition(self, pooled: Tensor) -> Tensor:
        """Pooled text (N,pooled) as tokens (N,tokens,c_cond)."""

        def told() -> Tensor:
            return norm(self.clip_mapper(pooled).view(len(pooled), -1, self.config.c_cond))

        return self._remembered((pooled,), (self.clip_mapper,), told)

    def effnet(self, latent: Tensor | None, size: Sequence[int]) -> Tensor:
        """The map (N,h,w,C) that a small latent (N,16,h',w') adds to every step; none is one of zeros, (1,h,w,C).

        Args:
            latent: of stage C; None for the unconditional.
            size: (h,w), half of the noise's sides: an eighth of the picture's.
        """
        weight = self.clip_mapper.weight
        latent = weight.new_zeros(1, self.config.effnet, 1, 1) if latent is None else latent
        nothing = weight.new_zeros(1, 3, 1, 1)  # pixels to start from, which nobody gives
        return _mapped(self.effnet_mapper, resize(latent, size)) + _mapped(self.pixels_mapper, nothing)

    def forward(self, x: Tensor, r: Tensor, clip: Tensor, effnet: Tensor, *, sca: float = 0) -> Tensor:
        """x (N,4,H/4,W/4) at noise ratios r (N,), `clip` of `condition`, `effnet` -> predicted noise as x."""
        return self.run(self.enter(x) + effnet, r, clip, (sca,))


def _down(config: UNetConfig, before: int, after: int) -> nn.ModuleDict:
    """To the next coarser level; stage C's has the same size."""
    if config.kind == "B":
        return nn.ModuleDict({"1": nn.Conv2d(before, after, 2, stride=2)})
    return nn.ModuleDict({"1": nn.ModuleDict({"blocks": nn.ModuleDict({"0": nn.Conv2d(before, after, 1)})})})


def _up(config: UNetConfig, before: int, after: int) -> nn.ModuleDict:
    if config.kind == "B":
        return nn.ModuleDict({"1": nn.ConvTranspose2d(before, after, 2, stride=2)})
    return nn.ModuleDict({"1": nn.ModuleDict({"blocks": nn.ModuleDict({"1": nn.Conv2d(before, after, 1)})})})


def _scaled(scaler: nn.Module, x: Tensor) -> Tensor:
    *_, layer = scaler.modules()
    return x if layer is scaler else conv(layer, norm(x))


def _mappers(width: int, repeats: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(repeats - 1))


def _level(
    blocks: nn.Module,
    mappers: nn.Module,
    x: Tensor,
    embeddings: Sequence[Tensor],
    clip: Tensor,
    skip: Tensor | None = None,
) -> Tensor:
    """All blocks of a level, as often as it is repeated; the first block of every repetition sees the skip."""
    for mapper in (*mappers.children(), None):
        for i, block in enumerate(blocks.children()):
            if isinstance(block, ConvBlock):
                x = block(x, None if i else skip)
            else:
                x = block(x, embeddings if isinstance(block, TimestepBlock) else clip)
        x = x if mapper is None else conv(mapper, x)
    return x


def _map_mapper(channels: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"0": nn.Conv2d(channels, 4 * width, 1), "2": nn.Conv2d(4 * width, width, 1)})


def _mapped(mapper: nn.ModuleDict, x: Tensor) -> Tensor:
    """(N,C,h,w) -> (N,h,w,width)."""
    return norm(conv(mapper["2"], F.gelu(conv(mapper["0"], x.permute(0, 2, 3, 1)))))
