"""Builds read from the shapes of weights; the published ones are in the tests of the networks."""

from dataclasses import replace

import pytest
import torch
from sd_prism.cascade.config import STAGE_B, STAGE_C, UNetConfig
from sd_prism.cascade.unet import StageB, StageC
from sd_prism.errors import PrismError
from unit.cascade_nets import TINY_B, TINY_C


def shapes(config):
    with torch.device("meta"):
        net = (StageC if config.kind == "C" else StageB)(config)
    return {name: tuple(one.shape) for name, one in net.state_dict().items()}


@pytest.mark.parametrize(
    "config",
    [
        TINY_C,
        TINY_B,
        replace(TINY_C, down_repeats=(2, 1), up_repeats=(1, 3)),
        replace(
            TINY_B,
            hidden=(16, 32),
            levels=("CT", "CTA"),
            down=(2, 1),
            up=(1, 2),
            down_repeats=(1, 1),
            up_repeats=(2, 1),
        ),
        replace(TINY_C, levels=("CTA", "CT"), conditions=("sca",), c_r=32, tokens=2),
    ],
    ids=["C", "B", "repeated", "two levels", "other patterns"],
)
def test_a_build_is_known_by_its_shapes(config):
    assert UNetConfig.of(shapes(config), {"prism.cascade.head_width": str(config.head_width)}) == config


def test_heads_are_64_wide_unless_the_file_says_otherwise():
    assert UNetConfig.of(shapes(TINY_C)) == replace(TINY_C, head_width=64)


def test_the_published_builds_differ_in_kind():
    assert (STAGE_C.kind, STAGE_C.patch, STAGE_B.kind, STAGE_B.patch) == ("C", 1, "B", 2)


def test_what_is_neither_stage_is_told():
    with pytest.raises(PrismError, match=r'stage B of Stable Cascade needs "clip_mapper.weight", which this file does'):
        UNetConfig.of({"model.weight": (1, 2)})


def test_a_level_that_repeats_no_pattern_is_told():
    given = {name: shape for name, shape in shapes(TINY_C).items() if not name.startswith("down_blocks.1.4.")}
    with pytest.raises(PrismError, match=r"down_blocks.1 has the blocks CTACACTA, which do not repeat one pattern"):
        UNetConfig.of(given)


def test_a_level_that_is_missing_is_told():
    given = {name: shape for name, shape in shapes(TINY_C).items() if not name.startswith("up_blocks.1.")}
    with pytest.raises(PrismError, match=r"2 levels down and 1 up"):
        UNetConfig.of(given)


def test_a_width_that_is_missing_is_told():
    given = shapes(TINY_B)
    del given["down_blocks.2.0.depthwise.weight"]
    with pytest.raises(PrismError, match=r'needs "down_blocks.2.0.depthwise.weight", which this file does not have'):
        UNetConfig.of(given)
