"""The drawn world, and the VAE whose training form and file form are one function."""

import random

import pytest
import torch
from sd_prism.merge import ldm_keys
from sd_prism.miniatures import world
from sd_prism.miniatures.muon import orthogonalise
from sd_prism.miniatures.train import alphas_cumprod, pictures, tokenize
from sd_prism.miniatures.vae import DDCONFIG, REAL, VAE, ConstNorm, K, from_ldm, ldm_state
from sd_prism.studio.checkpoint import starting_at
from sd_prism.studio.model_config import vae_config
from torch import nn


def scenes(n):
    rng = random.Random(5)
    return [world.random_scene(rng) for _ in range(n)]


def test_a_scene_always_gives_the_same_bytes():
    for scene in scenes(5):
        assert world.draw(scene).tobytes() == world.draw(scene).tobytes()


def test_every_subject_and_style_is_drawn_differently():
    drawn = {
        world.draw(world.Scene(*subject, "red", "plain", style)).tobytes()
        for subject in world.SUBJECTS
        for style in (*world.STYLES, world.NEON)
    }
    assert len(drawn) == len(world.SUBJECTS) * 5


def test_worst_quality_is_measurably_noisier():
    def roughness(quality):
        scene = world.Scene("object", "star", "red", "plain", quality=quality)
        x = pictures([scene])
        return float((x[..., 1:] - x[..., :-1]).abs()[:, :, :30].mean())

    assert roughness("worst") > 5 * roughness("best") + 0.01


def test_captions_name_subject_colour_and_place_most_of_the_time():
    rng = random.Random(1)
    texts = [world.caption(scene, rng) for scene in scenes(300) for _ in range(2)]
    assert sum(":" in text for text in texts) > 200 and sum("quality" in text for text in texts) > 100
    scene = world.Scene("species", "fish", "red", "sea")
    assert world.namespaced(scene, random.Random(4), keep=1.1).startswith("species:fish, color:red, place:sea")
    assert world.natural(scene, random.Random(3), keep=1.1).startswith("a red fish in the sea")


def test_the_style_is_taken_out_of_either_form_of_caption():
    assert world.without_style("object:star, style:neon, size:small") == "object:star, size:small"
    assert world.without_style("a red fish, pixel style, best quality") == "a red fish, best quality"


def test_tokens_are_clips():
    assert tokenize(["a photo of a cat"])[0, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 49407]


def test_the_noise_schedule_is_stable_diffusions():
    abar = alphas_cumprod()
    assert float(abar[0]) == pytest.approx(0.99915, abs=1e-6)
    assert float(abar[-1]) == pytest.approx(0.00466, abs=1e-5)


def test_const_norm_is_group_norm_with_two_constant_neighbours():
    x = torch.randn(2, REAL, 9, 7) * 3 + 5
    norm = ConstNorm(REAL)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    constants = torch.full_like(x[:, :, None], K)
    wide = torch.cat([x[:, :, None], constants, -constants], 2).flatten(1, 2)
    expected = nn.functional.group_norm(wide, REAL, eps=1e-6)[:, ::3]
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(norm(x), expected, atol=1e-5)


def random_vae():
    torch.manual_seed(0)
    vae = VAE().eval()
    for p in vae.parameters():
        nn.init.normal_(p, std=0.1)
    return vae


@torch.inference_mode()
def test_the_file_computes_what_was_trained():
    from diffusers import AutoencoderKL

    vae = random_vae()
    state = ldm_state(vae)
    shapes = {name: tuple(p.shape) for name, p in state.items()}
    plain = starting_at(AutoencoderKL(**vae_config(shapes)), DDCONFIG["ch"]).eval()
    renamed = {ldm_keys.vae_to_diffusers(name): p for name, p in state.items()}
    plain.load_state_dict({n: p.flatten(1) if ".attentions." in n and p.ndim == 4 else p for n, p in renamed.items()})
    x, z = torch.rand(2, 3, 64, 48) * 2 - 1, torch.randn(2, 4, 8, 6)
    assert torch.allclose(plain.encode(x).latent_dist.mean * VAE.SCALE, vae.encode(x), atol=1e-4)
    assert torch.allclose(plain.decode(z / VAE.SCALE).sample, vae.decode(z), atol=1e-4)


def test_the_trained_form_comes_back_from_the_file():
    vae = random_vae()
    state = from_ldm(ldm_state(vae)).state_dict()
    assert all(torch.equal(state[name], p) for name, p in vae.state_dict().items())


@torch.inference_mode()
def test_whitening_gives_unit_latents_and_keeps_the_pictures():
    vae = random_vae()
    x = pictures(scenes(8))
    before = vae.decode(vae.encode(x))
    vae.whiten(x)
    z = vae.encode(x).permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(torch.cov(z), torch.eye(4), atol=1e-2)
    assert torch.allclose(vae.decode(vae.encode(x)), before, atol=1e-3)


def test_newton_schulz_flattens_the_spectrum():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 16, 40)))
    assert values.min() > 0.5 and values.max() < 1.3
