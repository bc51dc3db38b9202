"""Cascade's schedule: the published levels, no trap at its ends, and DDPM as an ancestral Euler sampler."""

import math
from itertools import pairwise

import pytest
import torch
from sd_prism.cascade.denoise import Denoiser
from sd_prism.cascade.sampling import Step, euler_ancestral
from sd_prism.cascade.schedule import LEVELS, SCHEDULES, SHIFT_B, SHIFT_C, Schedule, sigmas
from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio import schedules as hosts

# What ComfyUI and the official sampler give for ten steps, in float32.
SGM_C = [99.995, 12.0487, 6.0557, 3.9035, 2.7547, 2.0117, 1.4699, 1.0394, 0.6733, 0.3433, 0]
SGM_B = [99.9942, 6.0243, 3.0279, 1.9518, 1.3774, 1.0058, 0.7350, 0.5197, 0.3366, 0.1717, 0]
OFFICIAL = [99.995, 6.3646, 3.1037, 1.9807, 1.3908, 1.0124, 0.7379, 0.5204, 0.3357, 0.1694, 0]


def in_float32(shift):
    """The table of 10,000 levels as ComfyUI keeps it, in float32 from beginning to end."""
    s = torch.tensor(0.008)
    t = torch.arange(1, LEVELS + 1) / LEVELS
    alpha = torch.cos((t + s) / (1 + s) * torch.pi / 2) ** 2 / torch.cos(s / (1 + s) * torch.pi / 2) ** 2
    if shift != 1:
        alpha = ((alpha / (1 - alpha)).log() - 2 * math.log(shift)).sigmoid()
    alpha = alpha.clamp(0.0001, 0.9999)
    return ((1 - alpha) / alpha).sqrt().double()


@pytest.mark.parametrize(
    ("name", "shift", "levels"),
    [("SGM Uniform", SHIFT_C, SGM_C), ("SGM Uniform", SHIFT_B, SGM_B), ("Linear", SHIFT_B, OFFICIAL)],
)
def test_ten_steps_have_the_published_levels(name, shift, levels):
    assert sigmas(name, 10, Schedule(shift)).tolist() == pytest.approx(levels, abs=1e-4, rel=1e-5)


def test_the_network_is_told_the_time_of_the_unshifted_level():
    for shift in (SHIFT_B, SHIFT_C):
        schedule = Schedule(shift)
        assert schedule.r(schedule.sigma_max) == pytest.approx(0.993583, abs=2e-6)
        assert schedule.r(schedule.sigma_min) == pytest.approx(0.002257, abs=2e-6)
        t = torch.linspace(0.02, 0.98, 99, dtype=torch.float64)
        assert torch.allclose(schedule.t(schedule.sigma(t)), t, atol=1e-12)
        assert torch.allclose(Schedule(1.0).r(schedule.sigma(t) / shift), t, atol=1e-12)


@pytest.mark.parametrize(("shift", "tolerance"), [(SHIFT_B, 3.5e-4), (SHIFT_C, 1.5e-3)])
def test_the_table_agrees_with_comfyuis(shift, tolerance):
    ours, theirs = Schedule(shift).table(), in_float32(shift)
    inside = (theirs > theirs.min() * 1.0001) & (theirs < theirs.max() * 0.9999)
    assert inside.sum() > 0.98 * LEVELS
    assert ((ours / theirs - 1).abs()[inside]).max() < tolerance
    assert ours[[0, -1]].tolist() == pytest.approx(theirs[[0, -1]].tolist(), rel=1e-3)
    assert (Schedule(1.0).r(ours) - Schedule(1.0).r(theirs)).abs()[inside].max() < 1e-5
    assert bool((ours.float().diff() > 0).all())


@pytest.mark.parametrize("shift", [0.25, SHIFT_B, SHIFT_C, 8.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_fall_strictly_for_every_number_of_steps(name, shift):
    schedule = Schedule(shift)
    for n in range(1, 101):
        levels = sigmas(name, n, schedule).float()
        assert len(levels) == n + 1 and levels[-1] == 0
        assert bool(levels.isfinite().all()) and bool((levels.diff() < 0).all()), n
        assert schedule.sigma_min * 0.9999 < levels[-2] and levels[0] < schedule.sigma_max * 1.0001
        assert bool(schedule.r(levels[:-1]).isfinite().all())


@pytest.mark.parametrize("shift", [SHIFT_B, SHIFT_C])
def test_the_webuis_own_schedules_give_the_same_levels(shift):
    schedule = Schedule(shift)
    denoiser = Denoiser(lambda x, r: x, schedule)
    same = {
        "SGM Uniform": hosts.sgm_uniform,
        "Karras": hosts.karras,
        "Exponential": hosts.exponential,
        "Simple": hosts.simple,
    }
    for name, theirs in same.items():
        for n in (1, 2, 10, 30):
            levels = theirs(n, denoiser).double()
            assert torch.allclose(sigmas(name, n, schedule)[:-1], levels, rtol=3e-5), (name, n)


@pytest.mark.parametrize("shift", [SHIFT_B, SHIFT_C])
def test_the_highest_level_is_no_trap(shift):
    schedule = Schedule(shift)
    denoiser = Denoiser(lambda x, r: x, schedule)
    for top in (denoiser.sigma_max, denoiser.sigmas[-1:], denoiser.sigma_max.half(), denoiser.sigma_max.bfloat16()):
        t = denoiser.sigma_to_t(top)
        assert t.dtype == torch.float32 and t.shape == top.shape and bool(t.isfinite().all())
        assert 0.99 < float(t) < 1 and bool(denoiser.t_to_sigma(t).isfinite().all())
    assert bool(denoiser.get_sigmas(20).isfinite().all()) and len(denoiser.get_sigmas()) == LEVELS + 1
    assert schedule.sigma(1.0) == pytest.approx(schedule.sigma_max) and schedule.sigma(0.0) == schedule.sigma_min
    assert schedule.sigma(torch.tensor(0)).dtype == torch.float32 and isinstance(schedule.sigma(1), float)


def test_the_alphas_of_a_thousand_steps_fall():
    for shift in (SHIFT_B, SHIFT_C):
        alphas = Schedule(shift).alphas_cumprod(1000)
        assert alphas.shape == (1000,) and bool((alphas.float().diff() < 0).all())
        assert alphas[0] > 0.999 and float(alphas[-1]) == pytest.approx(1e-4)


def test_ddpm_is_euler_ancestral():
    """Each step in float64 against diffusers' scheduler, which works on x / sqrt(1 + sigma^2)."""
    from diffusers import DDPMWuerstchenScheduler

    n, schedule, generator = 20, Schedule(1.0), torch.Generator().manual_seed(0)
    theirs = DDPMWuerstchenScheduler()
    theirs.s = torch.tensor([0.008], dtype=torch.float64)
    theirs._init_alpha_cumprod = torch.cos(theirs.s / (1 + theirs.s) * torch.pi * 0.5) ** 2
    theirs.set_timesteps(timesteps=torch.linspace(1, 0, n + 1, dtype=torch.float64))
    levels = sigmas("Linear", n, schedule).tolist()
    for i, (sigma, sigma_next) in enumerate(pairwise(levels[:-1])):
        x, eps = (torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        expected = theirs.step(eps, theirs.timesteps[i].expand(2), x, torch.Generator().manual_seed(i)).prev_sample
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        wide = x * math.sqrt(1 + sigma**2)
        moved, up = euler_ancestral(wide, wide - sigma * eps, Step(sigma, sigma_next, None, 0.0))
        ours = (moved + up * noise) / math.sqrt(1 + sigma_next**2)
        assert ((ours - expected).abs() / expected.abs().amax()).max() < 1e-12


def test_the_denoiser_is_exact_where_the_network_is():
    """A network that knows the noise gives the picture back, at every level, for one level or one per picture."""
    schedule, generator = Schedule(SHIFT_C), torch.Generator().manual_seed(1)
    picture, noise = (torch.randn(2, 16, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    seen = []

    def net(x, r):
        seen.append((x.dtype, r.dtype, x.std().item(), r))
        return noise.to(x.dtype)

    denoiser = Denoiser(net, schedule)
    for sigma in (torch.tensor(99.995), torch.tensor([0.3, 40.0])):
        x = picture + sigma.double().reshape(-1, 1, 1, 1) * noise
        assert torch.allclose(denoiser(x, sigma), picture, atol=1e-5)
    assert all(0.5 < std < 2 and r_type == torch.float32 for _, r_type, std, _ in seen)
    assert seen[0][3].shape == seen[1][3].shape == (2,)
    Denoiser(net, schedule, torch.bfloat16)(picture.float(), torch.tensor(3.0))
    assert seen[-1][:2] == (torch.bfloat16, torch.float32)


def test_what_is_no_schedule_is_refused():
    with pytest.raises(UnknownName, match='did you mean "Karras"'):
        sigmas("Karas", 10, Schedule())
    with pytest.raises(PrismError, match="at least 1"):
        sigmas("Karras", 0, Schedule())
    for shift in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(PrismError, match="shift"):
            Schedule(shift)
