"""What hosts are told of stage C's noise, the names that LoRA files have for its layers, previews without a network."""

from types import SimpleNamespace

import pytest
import torch
from sd_prism.cascade.colours import colours
from sd_prism.cascade.lora import file_names, translated
from sd_prism.cascade.schedule import Schedule
from sd_prism.hosts.cascade.denoiser import CascadeDenoiser, alphas_cumprod, sigma_at


def denoiser(shift):
    return CascadeDenoiser(SimpleNamespace(schedule=Schedule(shift), predict=lambda x, r, cond: cond * x))


@pytest.mark.parametrize("shift", [0.25, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("steps", [1, 2, 30, 150, 1000])
def test_levels_even_in_time_have_no_step_of_no_length(shift, steps):
    one = denoiser(shift)
    start, end = map(one.sigma_to_t, (one.sigma_max, one.sigma_min))
    levels = torch.stack([one.t_to_sigma(t) for t in torch.linspace(start, end, steps + 1)[:-1]])
    assert levels[0] == pytest.approx(99.995 * min(shift, 1), rel=1e-4)
    assert one.t_to_sigma(end) == pytest.approx(float(one.sigma_min) * max(shift, 1), rel=1e-3)
    assert (levels[1:] < levels[:-1]).all() and levels.isfinite().all()


def test_levels_below_the_bound_are_the_schedules_own():
    times = torch.linspace(0.01, 0.98, 50)
    assert torch.equal(denoiser(2.0).t_to_sigma(times), Schedule(2.0).sigma(times))


def test_the_network_is_asked_in_unit_variance_and_gives_noise():
    x = torch.randn(2, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([2.0, 0.5])
    factor = (1 - 0.25 * sigma / (1 + sigma**2).sqrt()).view(-1, 1, 1, 1)
    assert torch.allclose(denoiser(2.0)(x, sigma, cond=0.25), x * factor, atol=1e-6)


def test_a_place_in_the_table_is_its_noise_level():
    schedule = Schedule(2.0)
    alphas = alphas_cumprod(schedule)
    levels = sigma_at(alphas, torch.arange(1000))
    assert len(alphas) == 1000
    assert torch.allclose(1 / (1 + levels**2), alphas, rtol=1e-4)
    between = sigma_at(alphas, torch.tensor([500.0, 500.5, 501.0, 5000.0]))
    assert between[0] < between[1] < between[2] and between[3] == levels[-1]


def test_names_of_layers_in_files():
    to_q, out = "down_blocks.0.2.attention.attn.to_q", "up_blocks.1.5.attention.attn.out_proj"
    assert file_names("stage_c", to_q) == (
        "lora_prior_unet_down_blocks_0_2_attention_attn_to_q",
        "lora_prior_unet_down_blocks_0_2_attention_to_q",
        "diffusion_model.down_blocks.0.2.attention.attn.to_q",
    )
    assert "lora_prior_unet_up_blocks_1_5_attention_to_out_0" in file_names("stage_c", out)
    assert file_names("text", "text_projection") == ("lora_prior_te_text_projection",)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("lora_prior_unet_clf_1.lora_up.weight", "host.lora_up.weight"),
        ("lora_prior_unet_clf_1.alpha", "host.alpha"),
        ("diffusion_model.clf.1.lora_down.weight", "host.lora_down.weight"),
        ("diffusion_model.clf.10.lora_down.weight", "diffusion_model.clf.10.lora_down.weight"),
        ("lora_unet_clf_1.alpha", "lora_unet_clf_1.alpha"),
        ("nothing", "nothing"),
    ],
)
def test_keys_of_files_get_the_hosts_name(key, given):
    names = dict.fromkeys(file_names("stage_c", "clf.1"), "host")
    assert translated(key, names) == given


def latents(seed=0, count=2):
    return torch.randn(count, 16, 6, 5, generator=torch.Generator().manual_seed(seed))


def test_colours_are_a_picture_that_follows_the_latents():
    """The direction of most change is light: the one channel that varies here makes a grey ramp."""
    picture = colours(latents())
    assert picture.shape == (2, 3, 48, 40)
    assert 0 <= picture.min() < 0.3 and 0.7 < picture.max() <= 1
    ramp = torch.zeros(1, 16, 8, 8)
    ramp[:, 3] = torch.linspace(-1, 1, 8)
    grey = colours(ramp)[0, :, 4::8, 4::8]
    assert torch.allclose(grey[0], grey[1], atol=1e-5) and torch.allclose(grey[0], grey[2], atol=1e-5)
    assert (grey[0, :, 1:] > grey[0, :, :-1]).all()


@pytest.mark.parametrize("latent", [torch.zeros(1, 16, 2, 2), torch.full((1, 16, 2, 2), float("nan"))])
def test_colours_of_nothing_are_finite(latent):
    assert colours(latent).isfinite().all()


def test_neighbouring_steps_have_neighbouring_colours():
    latent = latents()
    near = latent + 0.001 * latents(1)
    assert (colours(latent) - colours(near)).abs().max() < 0.05
