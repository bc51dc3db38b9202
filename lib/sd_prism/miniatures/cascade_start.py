"""A head start for stages C and B: fresh weights with which a net already is a v-prediction of nothing.

The published nets predict noise through layer norms, which a small net learns slowly. Here a few channels carry the
input from end to end, a few hold constants so that the norms leave sizes alone, and the last timestep block weighs
input and features as `eps = sin(phi) x + cos(phi) v` asks, with `sigma = tan(phi)`. Training is free to change it all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..cascade.config import UNetConfig
from ..cascade.layers import AttentionBlock, ConvBlock, TimestepBlock, ratio_embedding
from ..cascade.schedule import Schedule
from ..cascade.unet import StageB, StageC, UNet

CONSTANTS = 8
GAIN = 0.5  # of the input in the channels that carry it
FAINT = 0.15  # of the input in the features


def new_unet(config: UNetConfig) -> UNet:
    """An untrained stage C or B with the head start."""
    net: Any = StageC(config) if config.kind == "C" else StageB(config)  # modules' children have no types
    inputs = config.channels * config.patch**2
    for module in net.modules():
        _soften(module)
    carried = inputs + CONSTANTS
    for blocks in (net.down_blocks[0], net.up_blocks[-1]):
        for block in blocks:
            if isinstance(block, (ConvBlock, AttentionBlock)):
                _silence(_last(block), carried)
    _enter(net, inputs)
    first = net.up_blocks[-1][0]
    _pass_skip(first.get_submodule("channelwise.0"), _last(first), config.hidden[0])
    into = f"up_upscalers.{len(config.hidden) - 2}.1"
    _silence(net.get_submodule(f"{into}.blocks.1" if config.kind == "C" else into), carried)
    last = [block for block in net.up_blocks[-1] if isinstance(block, TimestepBlock)][-1]
    _weigh(last, inputs, carried, config)
    clf = net.get_submodule("clf.1")
    clf.weight.data.normal_(std=0.05)
    clf.weight.data[:, :carried] = 0
    clf.weight.data[:, :inputs, 0, 0] = torch.eye(inputs) / GAIN
    clf.bias.data.zero_()
    return net


def _soften(block: Any) -> None:
    """Blocks begin by changing little, and timestep blocks by changing nothing."""
    if isinstance(block, ConvBlock):
        block.depthwise.weight.data.normal_(std=0.15)[:, :, 1, 1] += 1
        _last(block).weight.data.mul_(0.5)
    elif isinstance(block, TimestepBlock):
        for p in block.parameters():
            p.data.zero_()
    elif isinstance(block, AttentionBlock):
        _last(block).weight.data.mul_(0.3)


def _last(block: Any) -> Any:
    """The layer whose output a block adds to its input."""
    return block.get_submodule("channelwise.4" if isinstance(block, ConvBlock) else "attention.attn.out_proj")


def _signs() -> Tensor:
    return torch.tensor([1.0, -1.0]).repeat(CONSTANTS // 2)


def _silence(layer: Any, carried: int) -> None:
    """The layer leaves the first channels alone; the weight of a transposed convolution has its outputs second."""
    weight = layer.weight.data
    if isinstance(layer, nn.ConvTranspose2d):
        weight[:, :carried] = 0
    else:
        weight[:carried] = 0
    layer.bias.data[:carried] = 0


def _enter(net: Any, inputs: int) -> None:
    """The embedding: input, constants and features that are nothing yet; its norm is then nearly the identity."""
    width = net.config.hidden[0]
    layer = net.get_submodule("embedding.1")
    layer.weight.data.zero_()
    layer.weight.data[:inputs, :, 0, 0] = GAIN * torch.eye(inputs)
    features = width - inputs - CONSTANTS
    layer.weight.data[inputs + CONSTANTS :, :, 0, 0] = FAINT * torch.randn(features, inputs) / math.sqrt(inputs)
    layer.bias.data.zero_()
    size = math.sqrt((width - GAIN**2 * inputs - FAINT**2 * features) / CONSTANTS)
    layer.bias.data[inputs : inputs + CONSTANTS] = size * _signs()
    if net.config.kind == "B":  # two more normed vectors are added: their constants cancel
        for name, sign in (("effnet_mapper.2", 1), ("pixels_mapper.2", -1)):
            mapper = net.get_submodule(name)
            if sign < 0:
                mapper.weight.data.zero_()
            _silence(mapper, inputs + CONSTANTS)
            mapper.bias.data.zero_()
            mapper.bias.data[inputs : inputs + CONSTANTS] = sign * _signs()


def _pass_skip(first: Any, last: Any, width: int) -> None:
    """A block's two linear layers hand the skip on: gelu(a) - gelu(-a) = a."""
    into, out, bias = first.weight.data, last.weight.data, first.bias.data
    eye = torch.eye(width)
    into[: 2 * width] = 0
    into[:width, width:], into[width : 2 * width, width:] = eye, -eye
    bias[: 2 * width] = 0
    out[:, :width], out[:, width : 2 * width] = eye, -eye


def _weigh(block: Any, inputs: int, carried: int, config: UNetConfig) -> None:
    """The block's scale becomes sin(phi) for the carried input and cos(phi) for features, by least squares."""
    r = torch.linspace(0.002, 0.9936, 500, dtype=torch.float64)
    levels = Schedule().sigma(r)
    smooth = list(range(22, 32)) + list(range(54, 64))  # the embedding's slow waves
    waves = ratio_embedding(r, config.c_r).double()[:, smooth]
    known = torch.cat([waves, torch.ones(len(r), 1, dtype=torch.float64)], 1)
    wanted = torch.stack([levels.atan().sin() - 1, levels.atan().cos() - 1], 1)
    ridge = torch.cat([known, 1e-3 * torch.eye(known.shape[1], dtype=torch.float64)])
    solved = torch.linalg.lstsq(ridge, torch.cat([wanted, wanted.new_zeros(known.shape[1], 2)])).solution.float()
    width = config.hidden[0]
    for rows, column in ((slice(0, inputs), 0), (slice(carried, width), 1)):
        block.mapper.weight.data[rows, smooth] = solved[:-1, column]
        block.mapper.bias.data[rows] = solved[-1, column]
