"""Stage A against diffusers' PaellaVQModel, with the same weights."""

import pytest
import torch
from sd_prism.cascade.stage_a import SCALE, StageA, StageAConfig


@pytest.fixture(scope="module", params=[{"hidden": 24, "blocks": 3}, {"hidden": 32, "levels": 3, "blocks": 1}])
def config(request) -> StageAConfig:
    return StageAConfig(codes=8, **request.param)


@pytest.fixture(scope="module")
def theirs(config: StageAConfig):
    module = pytest.importorskip("diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model")
    torch.manual_seed(0)
    net = module.PaellaVQModel(
        embed_dim=config.hidden, levels=config.levels, bottleneck_blocks=config.blocks, num_vq_embeddings=config.codes
    )
    for name, p in net.named_parameters():
        if name.endswith("gammas"):
            torch.nn.init.normal_(p, std=0.5)
    for name, p in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(p, 0.5, 1.5)
    return net.eval()


def canonical(state):
    return {name.replace("vquantizer.embedding", "vquantizer.codebook"): p for name, p in state.items()}


def test_names_and_sizes_are_read_off_the_shapes(config, theirs):
    state = canonical(theirs.state_dict())
    assert StageAConfig.of({name: p.shape for name, p in state.items()}) == config
    assert {n: p.shape for n, p in StageA(config).state_dict().items()} == {n: p.shape for n, p in state.items()}


@torch.no_grad()
def test_both_directions_equal_diffusers(config, theirs):
    net = StageA(config).eval()
    net.load_state_dict(canonical(theirs.state_dict()))
    x = torch.rand(2, 3, 32, 48)
    z = net.encode(x)
    torch.testing.assert_close(z * SCALE, theirs.encode(x).latents, atol=1e-5, rtol=0)
    y = theirs.decode(z * SCALE).sample
    torch.testing.assert_close(net.pixels(z), y, atol=1e-5, rtol=0)
    assert y.min() < 0  # the weights are such that clamping shows
    torch.testing.assert_close(net.decode(z), y.clamp(0, 1), atol=1e-5, rtol=0)


def test_the_published_size():
    with torch.device("meta"):
        net = StageA(StageAConfig())
    assert sum(p.numel() for p in net.state_dict().values()) == 18_406_903
    assert StageAConfig.of({name: p.shape for name, p in net.state_dict().items()}) == StageAConfig()


@torch.no_grad()
def test_bf16_weights_work(config):
    net = StageA(config).bfloat16().eval()
    assert net.decode(torch.zeros(1, 4, 4, 4, dtype=torch.bfloat16)).dtype is torch.bfloat16
