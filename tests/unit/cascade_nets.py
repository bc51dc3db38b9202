"""Tiny stages C and B with random weights, for the tests of the networks."""

from dataclasses import replace

import torch
from sd_prism.cascade.config import STAGE_B, STAGE_C
from sd_prism.cascade.unet import StageB, StageC

TINY_C = replace(
    STAGE_C, c_cond=48, hidden=(32, 64), down=(2, 3), up=(3, 2), head_width=16, text=40, pooled=24, image=12
)
TINY_B = replace(
    STAGE_B, c_cond=32, hidden=(16, 32, 48, 64), down=(2, 1, 3, 2), up=(2, 3, 1, 2), head_width=16, pooled=24
)


def random_net(config):
    torch.manual_seed(0)
    net = (StageC if config.kind == "C" else StageB)(config).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith((".gamma", ".beta", ".bias")):
                weight.normal_(std=0.3)
    return net


def near(got, expected):
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


def ratios(count):
    return torch.tensor([0.993583, 0.002257, 0.5, 0.31])[:count]
