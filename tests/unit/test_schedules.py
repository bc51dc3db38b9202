"""Noise schedules against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio.denoiser import Denoiser, scaled_linear_alphas, zero_terminal_snr
from sd_prism.studio.samplers import sampler
from sd_prism.studio.schedules import SCHEDULES, ddim_timesteps, ending_in_zero, polyexponential, sigmas

DENOISER = Denoiser(lambda x, t, cond=None: x)
LOW, HIGH = 0.029167, 14.614642


def test_the_model_runs_from_the_known_levels_of_sd():
    assert float(DENOISER.sigma_min) == pytest.approx(LOW, rel=1e-4)
    assert float(DENOISER.sigma_max) == pytest.approx(HIGH, rel=1e-4)


def test_karras_formula():
    want = [(HIGH ** (1 / 7) + i / 4 * (LOW ** (1 / 7) - HIGH ** (1 / 7))) ** 7 for i in range(5)]
    assert sigmas("Karras", 5, DENOISER).tolist() == pytest.approx([*want, 0.0], rel=1e-3)


def test_exponential_formula():
    want = [math.exp(math.log(HIGH) + i / 3 * (math.log(LOW) - math.log(HIGH))) for i in range(4)]
    assert sigmas("exponential", 4, DENOISER).tolist() == pytest.approx([*want, 0.0], rel=1e-3)


def test_polyexponential_is_a_power_of_an_even_ramp_in_log_sigma():
    recorded = [14.6146, 0.9629, 0.1380, 0.0430, 0.0292, 0.0]  # k-diffusion's, at rho 2
    assert ending_in_zero(polyexponential(5, DENOISER, rho=2.0)).tolist() == pytest.approx(recorded, abs=1e-4)
    assert torch.allclose(sigmas("Polyexponential", 9, DENOISER), sigmas("Exponential", 9, DENOISER))


def test_kl_optimal_is_even_in_the_angle_and_ends_at_the_lowest_level():
    want = [math.tan(i / 4 * math.atan(LOW) + (1 - i / 4) * math.atan(HIGH)) for i in range(5)]
    assert sigmas("KL Optimal", 4, DENOISER).tolist() == pytest.approx(want, rel=1e-3)


def test_sgm_uniform_leaves_the_last_timestep_out():
    want = DENOISER.sigmas[[999, 666, 333]].tolist()
    assert sigmas("SGM Uniform", 3, DENOISER).tolist() == pytest.approx([*want, 0.0], rel=1e-5)


def test_simple_takes_every_nth_level_from_the_top():
    want = DENOISER.sigmas[[999, 749, 499, 249]].tolist()
    assert sigmas("Simple", 4, DENOISER).tolist() == [*want, 0.0]


def test_uniform_goes_from_the_last_timestep_to_the_first():
    want = DENOISER.sigmas[[999, 666, 333, 0]].tolist()
    assert sigmas("Uniform", 4, DENOISER).tolist() == pytest.approx([*want, 0.0], rel=1e-5)


def test_automatic_depends_on_the_sampler():
    assert torch.equal(sampler("DPM++ 2M").sigmas("Automatic", 8, DENOISER), sigmas("Karras", 8, DENOISER))
    assert torch.equal(sampler("Euler a").sigmas("", 8, DENOISER), sigmas("Uniform", 8, DENOISER))
    lcm = sampler("LCM").wrap(DENOISER)
    assert [int(lcm.sigma_to_t(s)) for s in sampler("LCM").sigmas("Automatic", 2, lcm)[:-1]] == [999, 19]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n", [1, 2, 20, 150])
def test_shape_and_order(name, n):
    levels = sigmas(name, n, DENOISER)
    end = DENOISER.sigma_min if name == "KL Optimal" else 0
    assert levels.shape == (n + 1,) and levels.dtype == torch.float32 and levels[-1] == pytest.approx(float(end))
    assert torch.isfinite(levels).all() and (levels[1:] < levels[:-1]).all()


def test_ddim_timesteps_are_a1111s():
    assert ddim_timesteps(20).tolist() == list(range(1, 1000, 50))
    assert len(ddim_timesteps(30)) == 31 and ddim_timesteps(1000)[-1] == 999
    assert sampler("DDIM").sigmas("Karras", 20, DENOISER).tolist() == DENOISER.sigmas[range(951, 0, -50)].tolist()


def test_sigma_and_t_are_inverse():
    t = torch.tensor([0.0, 0.25, 10.5, 998.75, 999.0])
    assert torch.allclose(DENOISER.sigma_to_t(DENOISER.t_to_sigma(t)), t, atol=2e-2)
    assert DENOISER.sigma_to_t(torch.tensor([0.0, 1e-4, 100.0])).tolist() == [0, 0, 999]


def test_epsilon_and_v_agree_on_the_same_noise():
    clean, eps, sigma = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -1.25), torch.tensor([2.0])
    abar = 1 / (1 + sigma**2)
    v = Denoiser(lambda x, t: abar.sqrt() * eps - (1 - abar).sqrt() * clean, prediction_type="v_prediction")
    x = clean + sigma * eps
    assert v(x, sigma).item() == pytest.approx(0.5, abs=1e-6) and v.epsilon(x, sigma).item() == pytest.approx(-1.25)
    assert Denoiser(lambda x, t: eps)(x, sigma).item() == pytest.approx(0.5, abs=1e-6)


def test_zero_terminal_snr_keeps_the_first_step():
    alphas = zero_terminal_snr(scaled_linear_alphas())
    assert alphas[0] == pytest.approx(float(scaled_linear_alphas()[0])) and alphas[-1] < 1e-6


def test_errors_name_the_value():
    with pytest.raises(PrismError, match="steps is 0"):
        sigmas("Karras", 0, DENOISER)
    with pytest.raises(UnknownName, match='did you mean "Karras"'):
        sigmas("Karas", 5, DENOISER)
    with pytest.raises(PrismError, match="steps is 1001"):
        ddim_timesteps(1001)
