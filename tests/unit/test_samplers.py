"""Samplers against diffusers' schedulers, against closed forms, and against formulas written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio.denoiser import Denoiser, scaled_linear_alphas
from sd_prism.studio.samplers import SAMPLERS, sampler
from sd_prism.studio.sampling import ancestral_step, brownian_noise

DDPM_KEYS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SPREAD = 0.7  # standard deviation of the Gaussian data below


def network(x, t, cond=None):
    """A smooth stand-in for a UNet, different at every timestep."""
    mix = torch.tensor([[0.2, -0.3, 0.1, 0.4], [0.5, 0.1, -0.2, 0.3], [-0.4, 0.2, 0.3, 0.1], [0.1, 0.4, 0.2, -0.3]])
    return torch.tanh(torch.einsum("oc,nchw->nohw", mix, x) + torch.sin(t / 300).view(-1, 1, 1, 1)) + 0.3 * x


def gaussian(x, sigma):
    """The exact denoiser of data that is N(0, SPREAD^2)."""
    return x * SPREAD**2 / (SPREAD**2 + sigma.view(-1, 1, 1, 1) ** 2)


def noise(seed=0, n=2):
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def diffusers_run(scheduler, x, timesteps=None, count=10):
    scheduler.set_timesteps(timesteps=timesteps) if timesteps is not None else scheduler.set_timesteps(count)
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        out = network(model_input, torch.as_tensor(t).float().expand(len(x)))
        x = scheduler.step(out, t, x).prev_sample
    return x


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("Euler", "EulerDiscreteScheduler"),
        ("Heun", "HeunDiscreteScheduler"),
        ("DPM++ 2M", "DPMSolverMultistepScheduler"),
    ],
)
def test_agrees_with_diffusers_on_karras_levels(name, scheduler):
    import diffusers

    extra = {"final_sigmas_type": "zero", "euler_at_final": True} if "DPM" in scheduler else {}
    theirs = getattr(diffusers, scheduler)(**DDPM_KEYS, use_karras_sigmas=True, timestep_spacing="linspace", **extra)
    theirs.set_timesteps(10)
    sigmas = theirs.sigmas.clone()
    sigmas = torch.cat([sigmas[:1], sigmas[1::2]]) if name == "Heun" else sigmas
    x = noise() * sigmas[0]
    scale = 1 / (1 + sigmas[0] ** 2) ** 0.5 if "DPM" in scheduler else 1.0  # DPMSolver keeps unit variance
    reference = diffusers_run(theirs, x * scale)
    # diffusers rounds the timestep of a level in DPM++; give our network the same ones
    denoiser = Denoiser(network)
    if "DPM" in scheduler:
        exact = denoiser.sigma_to_t
        denoiser.sigma_to_t = lambda sigma: exact(sigma).round()
    ours = sampler(name).function(denoiser, x, sigmas)
    assert torch.allclose(ours, reference, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_agrees_with_diffusers_on_a1111_timesteps(eta):
    from diffusers import DDIMScheduler

    denoiser, ddim = Denoiser(network), sampler("DDIM")
    sigmas = ddim.sigmas("Karras", 10, denoiser)
    ours = ddim.function(
        denoiser, ddim.begin(noise(), sigmas), sigmas, eta=eta, noise_sampler=lambda s, _: noise(int(s * 100))
    )
    theirs = DDIMScheduler(**DDPM_KEYS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    theirs.set_timesteps(10)
    assert theirs.timesteps.tolist() == list(range(901, 0, -100))
    x = noise()
    for t, sigma in zip(theirs.timesteps[:-1], sigmas):  # A1111 stops at timestep 1
        drawn = noise(int(sigma * 100)) if eta else None
        x = theirs.step(network(x, t.float().expand(2)), t, x, eta=eta, variance_noise=drawn).prev_sample
    assert torch.allclose(ours, x, atol=1e-4)


def test_plms_agrees_with_ldm_written_out():
    alphas, times = scaled_linear_alphas(), [1, 201, 401, 601, 801]
    x, old = noise(), []

    def move(x, eps, t, t_prev):
        clean = (x - (1 - alphas[t]).sqrt() * eps) / alphas[t].sqrt()
        return alphas[t_prev].sqrt() * clean + (1 - alphas[t_prev]).sqrt() * eps

    for t, t_prev in zip(times[:0:-1], times[-2::-1]):
        eps = network(x, torch.full((2,), float(t)))
        if len(old) == 0:
            ahead = network(move(x, eps, t, t_prev), torch.full((2,), float(t_prev)))
            step = (eps + ahead) / 2
        elif len(old) == 1:
            step = (3 * eps - old[-1]) / 2
        elif len(old) == 2:
            step = (23 * eps - 16 * old[-1] + 5 * old[-2]) / 12
        else:
            step = (55 * eps - 59 * old[-1] + 37 * old[-2] - 9 * old[-3]) / 24
        old.append(eps)
        x = move(x, step, t, t_prev)
    denoiser, plms = Denoiser(network), sampler("plms")
    sigmas = plms.sigmas("Automatic", 5, denoiser)
    assert torch.allclose(plms.function(denoiser, plms.begin(noise(), sigmas), sigmas), x, atol=1e-4)


def test_lcm_agrees_with_diffusers():
    from diffusers import LCMScheduler

    lcm, draws = sampler("LCM"), [noise(seed) for seed in range(7, 14)]
    denoiser = lcm.wrap(Denoiser(network))
    sigmas = lcm.sigmas("Automatic", 8, denoiser)  # 999, 859 ... 19: all on LCM's grid of 20
    times = [int(denoiser.sigma_to_t(s)) for s in sigmas[:-1]]
    stream = iter(draws)
    ours = lcm.function(denoiser, lcm.begin(noise(), sigmas), sigmas, noise_sampler=lambda *_: next(stream))
    theirs = LCMScheduler(**DDPM_KEYS, clip_sample=False)
    theirs.set_timesteps(timesteps=times, original_inference_steps=50)
    x = noise() * sigmas[0] / (1 + sigmas[0] ** 2) ** 0.5
    for t, drawn in zip(theirs.timesteps, [*draws, None]):
        _, clean = theirs.step(network(x, t.float().expand(2)), t, x, return_dict=False)
        if drawn is not None:
            after = theirs.alphas_cumprod[times[times.index(int(t)) + 1]]
            x = after.sqrt() * clean + (1 - after).sqrt() * drawn
    assert torch.allclose(ours, clean, atol=2e-3)


RECORDED = json.loads(Path(__file__).with_name("data").joinpath("k_diffusion.json").read_text(encoding="utf8"))


def recorded_noise(sigma, sigma_next):
    k = torch.arange(8.0)
    return 1.2 * torch.cos(3 * k * k + 7 * torch.log1p(sigma) + 5 * sigma_next).view(2, 4, 1, 1)


def recorded_model(x, sigma):
    return torch.tanh(gaussian(x, sigma)) + 0.05 * torch.sin(3 * x / (1 + sigma.view(-1, 1, 1, 1)))


@pytest.mark.parametrize("case", RECORDED["results"])
def test_agrees_with_what_k_diffusion_gave(case):
    """k-diffusion's own functions on `recorded_model`, with eta 1, or with eta 0.5 and s_noise 1.1."""
    name, _, changed = case.partition(", ")
    extra = {"eta": 0.5, "s_noise": 1.1} if changed else {}
    if sampler(name).solver_type:
        extra["solver_type"] = sampler(name).solver_type
    sigmas = torch.tensor(RECORDED["sigmas"])
    x = (torch.arange(8.0) / 3.5 - 1).view(2, 4, 1, 1) * sigmas[0]
    ours = sampler(name).function(recorded_model, x, sigmas, noise_sampler=recorded_noise, **extra)
    assert ours.flatten().tolist() == pytest.approx(RECORDED["results"][case], abs=5e-5)


def test_some_samplers_leave_the_last_level_out():
    denoiser = Denoiser(network)
    full = sampler("DPM++ 2M").sigmas("Karras", 6, denoiser)
    assert sampler("DPM2 a").sigmas("Karras", 5, denoiser).tolist() == [*full[:5].tolist(), 0.0]


@pytest.mark.parametrize("name", ["Euler", "Heun", "LMS", "DPM2", "DPM++ 2M", "DDIM", "PLMS"])
def test_converges_to_the_exact_flow_of_gaussian_data(name):
    exact = noise() * 14.6 * SPREAD / (SPREAD**2 + 14.6**2) ** 0.5
    errors = []
    for n in (10, 40):
        sigmas = torch.cat([torch.logspace(1.1643528, -2, n), torch.zeros(1)])
        errors.append((sampler(name).function(gaussian, noise() * 14.6, sigmas) - exact).abs().max())
    assert errors[1] < 0.4 * errors[0] and errors[1] < 0.2


@pytest.mark.parametrize("name", ["Euler a", "DPM2 a", "DPM++ SDE", "DPM++ 2S a", "DPM++ 2M SDE", "DPM++ 3M SDE"])
def test_stochastic_samplers_reach_the_spread_of_gaussian_data(name):
    torch.manual_seed(0)
    sigmas = torch.cat([torch.logspace(1.1643528, -2, 400), torch.zeros(1)])
    x = torch.randn(8, 4, 16, 16) * 14.6
    assert sampler(name).function(gaussian, x, sigmas).std().item() == pytest.approx(SPREAD, abs=0.03)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_sampler_is_finite_and_reports_each_step(name, n):
    seen, s = [], sampler(name)
    denoiser = s.wrap(Denoiser(network, prediction_type="v_prediction"))
    sigmas = s.sigmas("Automatic", n, denoiser)
    x = s.function(denoiser, s.begin(noise(), sigmas), sigmas, extra_args={"cond": None}, callback=seen.append)
    assert torch.isfinite(x).all()
    assert [d["i"] for d in seen] == list(range(len(sigmas) - 1))
    assert set(seen[0]) == {"x", "i", "sigma", "sigma_hat", "denoised"}


def test_image_to_image_starts_at_the_level_of_its_strength():
    euler, denoiser = sampler("Euler"), Denoiser(network)
    sigmas = euler.sigmas("Karras", 20, denoiser)
    start, rest = euler.remaining(sigmas, 10)
    assert len(rest) == 12 and start == sigmas[9] == rest[0] and euler.scale(start) == 1


@pytest.mark.parametrize("t_enc, steps", [(0, 0), (1, 0), (10, 9)])
def test_ddim_noises_to_one_timestep_more_than_it_goes_on_from(t_enc, steps):
    ddim, denoiser = sampler("DDIM"), Denoiser(network)
    sigmas = ddim.sigmas("Automatic", 20, denoiser)  # timesteps 951, 901 ... 1
    start, rest = ddim.remaining(sigmas, t_enc)
    assert start == denoiser.sigmas[50 * t_enc + 1] and len(rest) - 1 == steps
    assert torch.isclose(ddim.scale(start) ** 2, denoiser.alphas_cumprod[50 * t_enc + 1])


def test_a_brownian_picture_does_not_depend_on_its_batch():
    sigmas = torch.tensor([10.0, 3.0, 1.0, 0.0])
    both = brownian_noise(noise(), sigmas, [3, 4])(sigmas[0], sigmas[1])
    alone = brownian_noise(noise()[1:], sigmas, [4])(sigmas[0], sigmas[1])
    assert torch.equal(both[1:], alone)


def test_brownian_noise_wants_one_seed_per_picture():
    with pytest.raises(PrismError, match="1 seeds for 2 latents"):
        brownian_noise(noise(), torch.tensor([1.0, 0.5]), [3])


def test_an_ancestral_step_keeps_the_total_variance():
    down, up = ancestral_step(torch.tensor(4.0), torch.tensor(3.0))
    assert (down**2 + up**2).item() == pytest.approx(9.0)


def test_names_and_aliases_ignore_case():
    assert sampler("EULER A") is sampler("k_euler_a") is SAMPLERS["Euler a"]
    assert sampler("Heun").total_steps(20) == 40 and sampler("Euler").total_steps(20) == 20


def test_an_unknown_sampler_gets_the_nearest_name():
    with pytest.raises(UnknownName, match='did you mean "DPM'):
        sampler("DPM+ 2M")
