"""How the miniature of Cascade is trained: where its nets start, what they are told, what its text encoder says."""

import pytest
import torch
from sd_prism.cascade.config import UNetConfig
from sd_prism.cascade.denoise import Denoiser
from sd_prism.cascade.schedule import Schedule
from sd_prism.miniatures.cascade import STAGE_B, STAGE_C, Text, noised
from sd_prism.miniatures.cascade_start import new_unet
from sd_prism.miniatures.train import tokenize


def call(net, x):
    n = len(x)
    if net.config.kind == "C":
        return {"clip": net.condition(torch.randn(n, 77, 64), torch.randn(n, 64))}
    return {"clip": net.condition(torch.randn(n, 64)), "effnet": net.effnet(torch.randn(n, 16, 4, 4), (16, 16))}


@torch.no_grad()
@pytest.mark.parametrize("config", [STAGE_C, STAGE_B], ids=["C", "B"])
def test_a_fresh_net_already_tells_noise_from_nothing(config):
    torch.manual_seed(0)
    net = new_unet(config)
    assert UNetConfig.of({name: p.shape for name, p in net.state_dict().items()}) == config
    x = torch.randn(8, 16, 4, 4) if config.kind == "C" else torch.randn(8, 4, 32, 32)
    for t in (0.02, 0.3, 0.6, 0.9):
        sigma = torch.tensor(Schedule().sigma(t))
        eps = Denoiser(net, Schedule()).eps(x * (1 + sigma**2).sqrt(), sigma, **call(net, x))
        slope = (eps * x).mean() / x.square().mean()
        assert float(slope) == pytest.approx(float(sigma / (1 + sigma**2).sqrt()), abs=0.08)
        assert (eps - slope * x).std() < 0.3


def test_noise_levels_and_weights_are_those_of_v_prediction():
    x = torch.randn(64, 16, 4, 4)
    noisy, r, noise, weight = noised(x, 2.0)
    sigma = (noisy * 0 + Schedule().sigma(r)[:, None, None, None]).double()
    back = noisy * (1 + sigma**2).sqrt() - sigma * noise
    assert torch.allclose(back.float(), x, atol=2e-2)
    sigma = sigma[:, 0, 0, 0]
    inner = (sigma < 15.9) & (sigma > 0.51)
    assert inner.sum() > 20
    torch.testing.assert_close(weight.double()[inner], (sigma**2 + 1)[inner], rtol=1e-3, atol=0)
    assert float(weight.max()) < 16**2 + 2


@torch.no_grad()
def test_the_text_encoder_is_the_one_of_mini_v1():
    from sd_prism.miniatures import MINI_V1
    from sd_prism.studio.checkpoint import load

    text, caption = Text(), "a red fish in the sea"
    states, pooled = text([caption])
    theirs = load(MINI_V1).text.encoders[0].model(input_ids=tokenize([caption])).last_hidden_state
    normed = text.net.text_model.final_layer_norm(states)
    told = 8  # up to the first end; behind it the mask makes a difference
    torch.testing.assert_close(normed[:, :told], theirs[:, :told], atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled, normed[:, told - 1] @ torch.eye(64), atol=1e-5, rtol=0)
