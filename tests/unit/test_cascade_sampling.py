"""The decoder's samplers against what k-diffusion gave, and guidance that leaves out what it does not need."""

import json
from pathlib import Path

import pytest
import torch
from sd_prism.cascade.guidance import Guidance
from sd_prism.cascade.sampling import SAMPLERS, sample
from sd_prism.errors import OutOfRange, UnknownName
from sd_prism.studio.samplers import sampler

RECORDED = json.loads(Path(__file__).with_name("data").joinpath("k_diffusion.json").read_text(encoding="utf8"))
LEVELS = RECORDED["sigmas"]


def recorded_noise(index):
    k = torch.arange(8.0)
    sigma, sigma_next = (torch.tensor(LEVELS[i]) for i in (index - 1, index))
    return 1.2 * torch.cos(3 * k * k + 7 * torch.log1p(sigma) + 5 * sigma_next).view(2, 4, 1, 1)


def recorded_model(x, sigma):
    gaussian = x * 0.7**2 / (0.7**2 + sigma**2)
    return torch.tanh(gaussian) + 0.05 * torch.sin(3 * x / (1 + sigma))


def start():
    return (torch.arange(8.0) / 3.5 - 1).view(2, 4, 1, 1) * LEVELS[0]


@pytest.mark.parametrize("name", ["Euler a", "DPM++ 2M", "DPM++ 2M SDE"])
def test_agrees_with_what_k_diffusion_gave(name):
    ours = sample(name, recorded_model, start(), LEVELS, recorded_noise)
    assert ours.flatten().tolist() == pytest.approx(RECORDED["results"][name], abs=5e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_agrees_with_the_studios_samplers(name):
    index = {round(level, 3): i for i, level in enumerate(LEVELS)}
    theirs = sampler("Euler a" if name == "DDPM" else name).function(
        lambda x, sigma: recorded_model(x, float(sigma[0])),
        start(),
        torch.tensor(LEVELS),
        noise_sampler=lambda sigma, sigma_next: recorded_noise(index[round(float(sigma_next), 3)]),
    )
    assert torch.allclose(sample(name, recorded_model, start(), LEVELS, recorded_noise), theirs, atol=5e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_callback_is_told_every_step_and_may_end_the_run(name):
    steps, seen = [], []

    def model(x, sigma):
        seen.append(recorded_model(x, sigma))
        return seen[-1]

    sample(name, model, start(), LEVELS, recorded_noise, steps.append)
    assert steps == list(range(len(LEVELS) - 1))
    seen.clear()
    ended = sample(name, model, start(), LEVELS, recorded_noise, lambda i: i == 2)
    assert len(seen) == 3 and torch.equal(ended, seen[-1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_gives_what_the_network_sees(name):
    x = start()
    assert torch.allclose(
        sample(name, recorded_model, x, [LEVELS[0], 0.0], recorded_noise), recorded_model(x, LEVELS[0])
    )


def test_an_unknown_sampler_is_told():
    with pytest.raises(UnknownName, match="DPM\\+\\+ 2M"):
        sample("DPM+ 2M", recorded_model, start(), LEVELS, recorded_noise)


def pair(n=3):
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1.0, n + 1).view(n, 1, 1, 1)
    return (torch.randn(n, 4, 8, 8, generator=generator) * scale for _ in range(2))


def test_guidance_goes_beyond_the_prediction_without_the_prompt():
    cond, uncond = pair()
    assert torch.allclose(Guidance(3.0).mix(cond, uncond), uncond + 3 * (cond - uncond))


def test_rescaling_is_each_pictures_own():
    cond, uncond = pair()
    guidance = Guidance(4.0, rescale=0.7)
    whole = guidance.mix(cond, uncond)
    singles = [guidance.mix(cond[i : i + 1], uncond[i : i + 1]) for i in range(3)]
    assert torch.allclose(whole, torch.cat(singles), atol=1e-6)
    full = Guidance(4.0, rescale=1.0).mix(cond, uncond)
    assert torch.allclose(full.std((1, 2, 3)), cond.std((1, 2, 3)), rtol=1e-5)
    plain = Guidance(4.0).mix(cond, uncond)
    assert torch.allclose(whole, 0.7 * full + 0.3 * plain, atol=1e-5)


@pytest.mark.parametrize(
    ("guidance", "guided"),
    [
        (Guidance(1.0), []),
        (Guidance(1.0, rescale=0.7), []),
        (Guidance(2.0), [0, 1, 2, 3]),
        (Guidance(0.0), [0, 1, 2, 3]),
        (Guidance(2.0, start=0.25, stop=0.5), [1, 2]),
        (Guidance(2.0, stop=0.0), [0]),
    ],
)
def test_the_prediction_without_the_prompt_is_made_where_it_is_needed(guidance, guided):
    cond, uncond = pair()
    asked = []
    for step in range(4):
        found = guidance(step / 4, lambda: cond, lambda step=step: asked.append(step) or uncond)
        assert torch.equal(found, guidance.mix(cond, uncond) if step in guided else cond)
    assert asked == guided


def test_shares_lie_between_0_and_1():
    for wrong in ({"rescale": 1.1}, {"start": -0.1}, {"stop": 2.0}):
        with pytest.raises(OutOfRange):
            Guidance(2.0, **wrong)
