"""Stages C and B against diffusers' StableCascadeUNet on random weights."""

import math
from dataclasses import replace

import pytest
import torch
from sd_prism.cascade.config import STAGE_B, STAGE_B_LITE, STAGE_C, STAGE_C_LITE, UNetConfig
from sd_prism.cascade.layers import ratio_embedding
from sd_prism.cascade.unet import StageB, StageC
from unit.cascade_nets import TINY_B, TINY_C, near, random_net, ratios

REPEATED = {"down_repeats": (2, 1, 1, 3), "up_repeats": (2, 2, 2, 2)}
ARCHITECTURES = {
    "C": TINY_C,
    "C lite": replace(TINY_C, hidden=(32, 32), down=(1, 3), up=(3, 1)),
    "C, repeated": replace(TINY_C, down_repeats=(2, 1), up_repeats=(1, 3)),
    "B": TINY_B,
    "B lite": replace(TINY_B, hidden=(16, 24, 48, 48), down=(1, 2, 4, 1), up=(1, 4, 2, 1), up_repeats=(2, 2, 2, 2)),
    "B, repeated": replace(TINY_B, **REPEATED),
}


def in_diffusers(net):
    """The same network, built and run by diffusers."""
    diffusers = pytest.importorskip("diffusers")
    config = net.config
    heads = [
        width // config.head_width if "A" in letters else -1 for width, letters in zip(config.hidden, config.levels)
    ]
    kinds = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}
    inputs = (
        {"clip_text_in_channels": config.text, "clip_image_in_channels": config.image, "switch_level": (False,)}
        if config.kind == "C"
        else {"effnet_in_channels": config.effnet, "pixel_mapper_in_channels": 3}
    )
    theirs = diffusers.StableCascadeUNet(
        in_channels=config.channels,
        out_channels=config.channels,
        timestep_ratio_embedding_dim=config.c_r,
        patch_size=config.patch,
        conditioning_dim=config.c_cond,
        block_out_channels=config.hidden,
        num_attention_heads=heads,
        down_num_layers_per_block=config.down,
        up_num_layers_per_block=config.up,
        down_blocks_repeat_mappers=config.down_repeats,
        up_blocks_repeat_mappers=config.up_repeats,
        block_types_per_layer=[[kinds[letter] for letter in letters] for letters in config.levels],
        clip_text_pooled_in_channels=config.pooled,
        clip_seq=config.tokens,
        timestep_conditioning_type=config.conditions,
        dropout=0.0,
        **inputs,
    )
    renamed = {}
    for name, weight in net.state_dict().items():
        name = name.replace("attention.attn.to_", "attention.to_").replace(
            "attention.attn.out_proj", "attention.to_out.0"
        )
        renamed[name.replace("clip_mapper", "clip_txt_pooled_mapper") if config.kind == "B" else name] = weight
    theirs.load_state_dict(renamed, strict=True)
    return theirs.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["C", "C lite", "C, repeated"])
@pytest.mark.parametrize("count, size, chunks, images", [(1, (24, 24), 1, 1), (2, (5, 7), 3, 4), (1, (36, 24), 2, 0)])
def test_stage_c_equals_diffusers(name, count, size, chunks, images):
    ours = random_net(ARCHITECTURES[name])
    theirs = in_diffusers(ours)
    x, r = torch.randn(count, 16, *size), ratios(count)
    text, pooled, vectors = torch.randn(count, 77 * chunks, 40), torch.randn(count, 24), torch.randn(count, images, 12)
    expected = theirs(x, r, pooled[:, None], text, vectors if images else torch.zeros(count, 1, 12), return_dict=False)[
        0
    ]
    clip = ours.condition(text, pooled, vectors if images else None)
    assert clip.shape == (count, 77 * chunks + 4 + 4 * max(images, 1), 48)
    near(ours(x, r, clip), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["B", "B lite", "B, repeated"])
@pytest.mark.parametrize(
    "count, size, latent", [(1, (32, 32), (3, 3)), (2, (38, 54), (5, 4)), (2, (48, 32), (6, 4)), (1, (34, 18), None)]
)
def test_stage_b_equals_diffusers(name, count, size, latent):
    ours = random_net(ARCHITECTURES[name])
    theirs = in_diffusers(ours)
    x, r, pooled = torch.randn(count, 4, *size), ratios(count), torch.randn(count, 24)
    latents = None if latent is None else torch.randn(count, 16, *latent)
    given = torch.zeros(count, 16, 8, 8) if latents is None else latents
    expected = theirs(x, r, pooled[:, None], effnet=given, return_dict=False)[0]
    effnet = ours.effnet(latents, (size[0] // 2, size[1] // 2))
    near(ours(x, r, ours.condition(pooled), effnet), expected)


@pytest.mark.parametrize(
    "config, weights",
    [
        (STAGE_C, 3_589_103_632),
        (STAGE_C_LITE, 1_030_785_040),
        (STAGE_B, 1_562_941_136),
        (STAGE_B_LITE, 699_471_248),
    ],
    ids=["C", "C lite", "B", "B lite"],
)
def test_the_published_builds_have_their_number_of_weights(config, weights):
    with torch.device("meta"):
        net = (StageC if config.kind == "C" else StageB)(config)
    assert sum(one.numel() for one in net.parameters()) == weights
    assert UNetConfig.of({name: one.shape for name, one in net.state_dict().items()}) == config


def test_weights_can_be_assigned_to_a_net_without_any():
    full = random_net(TINY_B)
    with torch.device("meta"):
        net = StageB(TINY_B)
    net.load_state_dict(full.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        x, effnet = torch.randn(1, 4, 16, 16), full.effnet(torch.randn(1, 16, 2, 2), (8, 8))
        clip = full.condition(torch.randn(1, 24))
        assert torch.equal(net(x, ratios(1), clip, effnet), full(x, ratios(1), clip, effnet))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_timestep_is_embedded_in_float32_whatever_the_nets_type(dtype):
    r = torch.tensor([0.993583, 0.731, 0.33, 0.002257], dtype=torch.float64)
    k = torch.arange(32, dtype=torch.float64)
    angles = 10000 * r[:, None] * torch.exp(-k * math.log(10000) / 31)
    exact = torch.cat([angles.sin(), angles.cos()], 1)
    got = ratio_embedding(r.float(), 64)
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() < 2e-3  # 10000 r itself, in float32
    net, seen = random_net(TINY_C).to(dtype), []
    net.down_blocks[0][1].mapper.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, clip = torch.zeros(4, 16, 2, 2, dtype=dtype), torch.zeros(4, 1, 48, dtype=dtype)
    with torch.no_grad():
        net(x, r.float(), clip)
    assert torch.equal(seen[0], got.to(dtype))


@torch.no_grad()
def test_conditions_beside_the_timestep_are_embedded_as_it_is():
    net, x, clip = random_net(TINY_C), torch.randn(1, 16, 4, 4), torch.randn(1, 8, 48)
    seen = {}
    for name in ("sca", "crp"):
        layer = getattr(net.down_blocks[0][1], f"mapper_{name}")
        layer.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    zeros = net(x, ratios(1), clip)
    assert seen["sca"].tolist() == seen["crp"].tolist() == [[0.0] * 32 + [1.0] * 32]
    assert not torch.equal(net(x, ratios(1), clip, sca=0.2, crp=0.7), zeros)
    assert torch.equal(seen["crp"], ratio_embedding(torch.tensor([0.7]), 64))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_batch_equals_single_pictures(dtype):
    net = random_net(TINY_B).to(dtype)
    x, pooled, latent = (torch.randn(shape).to(dtype) for shape in ((3, 4, 64, 48), (3, 24), (3, 16, 5, 4)))

    def step(i):
        return net(x[i], ratios(3)[i], net.condition(pooled[i]), net.effnet(latent[i], (32, 24)))

    together = step(slice(None))
    alone = torch.cat([step(slice(i, i + 1)) for i in range(3)])
    assert (together - alone).abs().max() <= (1e-5 if dtype == torch.float32 else 0.03) * alone.abs().max()
