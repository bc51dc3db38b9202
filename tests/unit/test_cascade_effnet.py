"""The encoder against torchvision's EfficientNetV2-S: recorded names, shapes and outputs."""

import json
from math import prod
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sd_prism.cascade.effnet import MEAN, STD, BlockConfig, EffnetConfig, EffnetEncoder

RECORDED = json.loads(Path(__file__).with_name("data").joinpath("efficientnet_v2_s.json").read_text())
MAPPER = {
    "mapper.0.weight": [16, 1280, 1, 1],
    "mapper.1.running_mean": [16],
    "mapper.1.running_var": [16],
    "mapper.1.num_batches_tracked": [],
}
FULL = {f"backbone.{name}": shape for name, shape in RECORDED["shapes"].items()} | MAPPER
NARROW = EffnetConfig(
    8,
    (
        (BlockConfig(8, 8),),
        (BlockConfig(8, 12, 16), BlockConfig(12, 12, 24)),
        (BlockConfig(12, 16, 24),),
        (BlockConfig(16, 20, 32, 4),),
        (BlockConfig(20, 20, 40, 5),),
        (BlockConfig(20, 24, 40, 5), BlockConfig(24, 24, 48, 6)),
    ),
    48,
)


def pseudo(name, shape):
    """Numbers in (-1,1) that depend on name and position alone, the ones of the recording."""
    seed = sum(ord(c) * (k + 1) for k, c in enumerate(name))
    line = torch.arange(prod(shape), dtype=torch.float64)
    return (torch.sin(line * 12.9898 + seed) * 43758.5453 % 2 - 1).view(list(shape)).float()


def weights(shapes):
    out = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            out[name] = torch.tensor(0)
        elif len(shape) == 4:
            out[name] = pseudo(name, shape) * (3 / prod(shape[1:])) ** 0.5
        else:
            out[name] = 0.2 * pseudo(name, shape) + name.endswith((".weight", "running_var"))
    return out


def test_the_tree_is_torchvisions():
    config = EffnetConfig.of(FULL)
    assert [len(stage) for stage in config.stages] == [2, 4, 4, 6, 9, 15]
    with torch.device("meta"):
        state = EffnetEncoder(config).state_dict()
    assert {name: list(p.shape) for name, p in state.items()} == FULL


@torch.no_grad()
def test_outputs_are_torchvisions():
    net = EffnetEncoder(EffnetConfig.of(FULL)).eval()
    net.backbone.load_state_dict(weights(RECORDED["shapes"]))
    x = (pseudo("picture", (1, 3, 64, 96)) + 1) / 2
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    y = net.backbone((x - mean) / std).flatten()
    recorded = torch.tensor(RECORDED["features"])
    assert recorded.std() > 0.1
    torch.testing.assert_close(y[:: len(y) // 24][:24], recorded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(net(x), net.mapper(net.backbone((x - mean) / std)))


@torch.no_grad()
def test_a_narrow_one_and_its_sizes():
    net = EffnetEncoder(NARROW).eval()
    assert EffnetConfig.of({name: p.shape for name, p in net.state_dict().items()}) == NARROW
    x = torch.rand(1, 3, 128, 192)
    assert net.encode(x, 42).shape == (1, 16, 3, 4)
    assert net.encode(x, 64).shape == (1, 16, 2, 3)
    torch.testing.assert_close(net.encode(x, 32), net(x))
    smaller = F.interpolate(x, (96, 128), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(net.encode(x, 42), net(smaller))


@pytest.mark.parametrize("channel", range(3))
def test_colours_are_normalised_as_imagenets(channel):
    net = EffnetEncoder(NARROW).eval()
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 32, 32) + torch.tensor(STD).view(1, 3, 1, 1))
    torch.testing.assert_close(seen[0][:, channel], torch.ones(1, 32, 32))
