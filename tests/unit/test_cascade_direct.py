"""What is done without calling layers, and kept, ends where somebody hooks, replaces or changes them."""

import copy

import pytest
import torch
from sd_prism.cascade import direct as module
from sd_prism.cascade.direct import attention, conv, direct, product, tolerate
from torch import nn
from unit.cascade_nets import TINY_B, TINY_C, near, random_net, ratios


class Stage:
    """A network and a step of it."""

    def __init__(self, config):
        torch.manual_seed(1)
        self.net, self.r, self.kind = random_net(config), ratios(2), config.kind
        self.x = torch.randn(2, 16, 6, 5) if self.kind == "C" else torch.randn(2, 4, 32, 48)
        shapes = ((2, 77, 40), (2, 24), (2, 3, 12)) if self.kind == "C" else ((2, 24),)
        self.given = [torch.randn(shape) for shape in shapes]
        self.latent = torch.randn(2, 16, 3, 4)

    def __call__(self, net=None):
        net = net or self.net
        more = () if self.kind == "C" else (net.effnet(self.latent, (16, 24)),)
        return net(self.x, self.r, net.condition(*self.given), *more)

    def of_a_new_net(self):
        """The same of a copy, which has kept nothing."""
        fresh = random_net(self.net.config)
        fresh.load_state_dict(self.net.state_dict())
        return self(fresh)


@pytest.fixture(params=[TINY_C, TINY_B], ids=["C", "B"])
def stage(request):
    return Stage(request.param)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def layers(net):
    """One layer of every kind of use."""
    kinds = (
        "channelwise.0",
        "channelwise.4",
        "depthwise",
        "mapper",
        "mapper_sca",
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.out_proj",
        "kv_mapper.1",
        "clip_mapper",
        "clip_txt_mapper",
        "clip_txt_pooled_mapper",
        "clip_img_mapper",
        "embedding.1",
        "clf.1",
        "down_downscalers.1.1",
        "down_downscalers.1.1.blocks.0",
        "up_upscalers.0.1",
        "up_upscalers.0.1.blocks.1",
        "up_repeat_mappers.0.0",
        "effnet_mapper.0",
        "pixels_mapper.2",
    )
    found = {name: module for name, module in net.named_modules() if hasattr(module, "weight")}
    return {kind: next((one for name, one in found.items() if f".{name}".endswith(f".{kind}")), None) for kind in kinds}


def doubled(original):
    return lambda layer, *given: 2 * original(layer, *given)


def test_the_quick_way_the_called_way_and_the_way_with_gradients_agree(stage, monkeypatch):
    quick, again = stage(), stage()
    assert torch.equal(quick, again)
    with torch.enable_grad():
        slow = stage()
    near(quick, slow.detach())
    for kind in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d):
        monkeypatch.setattr(kind, "forward", lambda layer, x, original=kind.forward: original(layer, x))
    near(quick, stage())


def test_torch_without_onednn_computes_the_same(stage, monkeypatch):
    quick = stage()
    monkeypatch.setattr(module, "_onednn_dtypes", frozenset)
    near(quick, stage())


def test_under_autocast_layers_are_called(monkeypatch):
    layer = nn.Linear(2, 2)
    assert direct(layer)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda: True)
    assert not direct(layer)


def test_gradients_reach_every_weight(stage):
    with torch.enable_grad():
        stage().square().sum().backward()
    assert not [name for name, one in stage.net.named_parameters() if one.grad is None]


@pytest.mark.parametrize("how", ["hook", "pre-hook", "forward", "weight", "detached weight", "bias", "parameter"])
def test_what_is_done_to_a_layer_counts_at_once_and_no_longer_than_it_lasts(stage, how):
    before = stage()
    for name, layer in layers(stage.net).items():
        if layer is None:
            continue
        undo = change(layer, how)
        changed, called = stage(), with_all_layers_called(stage)
        undo()
        assert not torch.equal(before, changed), name
        near(changed, called)
        assert torch.equal(stage(), before), name


def change(layer, how):
    """Something that doubles what the layer does, or its weight; gives what ends it."""
    if how == "hook":
        return layer.register_forward_hook(lambda _layer, _given, out: 2 * out).remove
    if how == "pre-hook":
        return layer.register_forward_pre_hook(lambda _layer, given: (2 * given[0] + 1,)).remove
    if how == "forward":
        layer.forward = lambda x: 2 * type(layer).forward(layer, x)
        return lambda: delattr(layer, "forward")
    old, name = layer.weight, "bias" if how == "bias" else "weight"
    if how == "parameter":
        layer.weight = nn.Parameter(2 * old)
        return lambda: setattr(layer, "weight", old)
    tensor = getattr(layer, name).detach() if "detached" in how else getattr(layer, name)
    saved = tensor.clone()
    tensor.mul_(2).add_(0.1)
    return lambda: tensor.copy_(saved)


def with_all_layers_called(stage):
    """The step while every layer is hooked by somebody who changes nothing."""
    hooks = [layer.register_forward_pre_hook(lambda _layer, _given: None) for layer in stage.net.modules()]
    try:
        return stage()
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
def test_a_class_whose_forward_is_replaced_is_called_layer_by_layer(stage, kind, monkeypatch):
    """As LoRA does in A1111."""
    before, seen = stage(), []
    original = kind.forward

    def forward(layer, x):
        seen.append(layer)
        return original(layer, x) + 0.5

    monkeypatch.setattr(kind, "forward", forward)
    changed = stage()
    assert {id(one) for one in seen} == {id(one) for one in stage.net.modules() if isinstance(one, kind)}
    assert torch.equal(changed, stage()) and torch.equal(changed, stage.of_a_new_net())
    assert not torch.allclose(changed, before)
    monkeypatch.undo()
    assert torch.equal(stage(), before)


def test_a_replaced_forward_that_idles_needs_no_call(stage, monkeypatch):
    before, seen, active = stage(), [], []
    original = nn.Linear.forward

    def forward(layer, x):
        seen.append(layer)
        return original(layer, x) * (2 if layer in active else 1)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    monkeypatch.setattr(module, "_idle", {})
    tolerate(forward, lambda layer: layer not in active)
    assert direct(*stage.net.down_blocks[0][0].channelwise.values())
    assert torch.equal(stage(), before)
    active.append(stage.net.down_blocks[0][0].channelwise["4"])
    assert not torch.equal(stage(), before) and active[0] in seen
    active.clear()
    assert torch.equal(stage(), before)


def test_hooks_on_all_modules_are_served(stage):
    before = stage()
    hook = nn.modules.module.register_module_forward_hook(
        lambda layer, _given, out: 2 * out if isinstance(layer, nn.Linear) else None
    )
    try:
        assert not torch.equal(stage(), before)
    finally:
        hook.remove()
    assert torch.equal(stage(), before)


def test_the_prompts_own_work_is_done_once_a_prompt(stage):
    counted = []
    net = stage.net
    block = next(one for name, one in net.named_modules() if name.endswith(".2") and hasattr(one, "kv_mapper"))
    original = block.prompts.get
    block.prompts.get = lambda clip, weights, make: original(clip, weights, lambda: counted.append(1) or make())
    for _ in range(3):
        stage()
    assert len(counted) == 1
    stage.given = [2 * one for one in stage.given]  # another prompt
    stage()
    stage.given = [one / 2 for one in stage.given]  # equal to the first, in new tensors
    stage()
    assert len(counted) == 2
    block.kv_mapper["1"].bias.add_(1)
    stage()
    assert len(counted) == 3


def test_what_is_kept_goes_with_its_prompt(stage):
    stage()
    blocks = [one for one in stage.net.modules() if hasattr(one, "kv_mapper")]
    assert all(len(block.prompts.results) == 1 for block in blocks)
    for i in range(10):
        stage.given = [one + i for one in stage.given]
        stage()
    assert all(len(block.prompts.results) == module.KEPT_PROMPTS for block in blocks)


def test_nothing_is_kept_of_prompts_in_a_net_that_is_moved(stage):
    before = stage()
    blocks = [one for one in stage.net.modules() if hasattr(one, "kv_mapper")]
    nn.Sequential(stage.net).double()  # as a part of a larger model
    assert not any(len(block.prompts.results) for block in blocks)
    stage.net.float()
    assert torch.equal(stage(), before)


def test_weights_of_inference_mode_are_never_trusted():
    with torch.inference_mode():
        stage = Stage(TINY_C)
        before = stage()
        stage.net.down_blocks[0][2].kv_mapper["1"].weight.mul_(2)
        assert not torch.equal(stage(), before)
        assert torch.equal(stage(), stage.of_a_new_net())


def test_a_copy_of_a_net_has_its_own_memory(stage):
    before = stage()
    other = copy.deepcopy(stage.net)
    assert torch.equal(stage(other), before)
    for weight in other.parameters():
        weight.mul_(1.5)
    assert not torch.equal(stage(other), before)
    assert torch.equal(stage(), before)


@pytest.mark.parametrize("dtype, limit", [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_attention_head_by_head_equals_torchs(dtype, limit):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 3, 16).to(dtype).transpose(1, 2) for length in (module.MANY, 450, 450))
    expected = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert (attention(q, k, v).double() - expected).abs().max() < limit
    assert torch.equal(attention(q[:1], k[:1], v[:1]), attention(q, k, v)[:1])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 1),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.Conv2d(6, 8, 2, stride=2),
        nn.ConvTranspose2d(6, 8, 2, stride=2),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
    ],
    ids=str,
)
def test_a_convolution_as_a_product_equals_torchs(layer):
    x = torch.randn(2, 7, 5, 6)
    near(conv(layer, x), layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_a_product_has_its_bias_and_gelu():
    x, weight, bias = torch.randn(2, 5, 8), torch.randn(6, 8), torch.randn(6)
    near(product(x, weight, bias), x @ weight.t() + bias)
    near(product(x, weight, None), x @ weight.t())
    near(product(x, weight, bias, gelu=True), torch.nn.functional.gelu(x @ weight.t() + bias))
