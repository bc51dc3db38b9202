"""Files of Cascade as diffusers' networks, and its pipelines by Prism's schedules, against Prism's own networks."""

from types import SimpleNamespace

import pytest
import torch
from sd_prism.cascade import formats
from sd_prism.cascade.decode import Decoder, DecoderSettings
from sd_prism.cascade.layers import ratio_embedding
from sd_prism.cascade.sampling import SAMPLERS, sample
from sd_prism.cascade.schedule import Schedule, sigmas
from sd_prism.cascade.text import mask_of
from sd_prism.errors import PrismError
from sd_prism.miniatures import MINI_CASCADE, MINI_CASCADE_DECODER
from sd_prism.studio.tokens import Vocabulary
from unit import cascade_files as files

pytest.importorskip("diffusers")
from sd_prism.hosts.cascade import in_diffusers

SMALL = {"image": 12, "text": 40}


def converted(path, part, dtype=None):
    make = {"stage_c": in_diffusers.unet, "stage_b": in_diffusers.unet, "stage_a": in_diffusers.stage_a}
    return make.get(part, in_diffusers.text_encoder)(formats.inspect(path).part(part), dtype)


@pytest.fixture(params=["to_q", "in_proj", "mini"])
def main(request, tmp_path):
    if request.param == "mini":
        return MINI_CASCADE
    return files.tiny_main(tmp_path / "main.safetensors", packed=request.param == "in_proj")


@pytest.fixture(params=["to_q", "in_proj", "mini"])
def decoder(request, tmp_path):
    if request.param == "mini":
        return MINI_CASCADE_DECODER
    return files.tiny_decoder(tmp_path / "decoder.safetensors", packed=request.param == "in_proj")


def near(got, expected):
    torch.testing.assert_close(got, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def test_stage_c_is_the_same_network(main):
    ours, theirs = formats.load(main, "stage_c", dtype=torch.float32), converted(main, "stage_c", torch.float32)
    config, generator = ours.config, torch.Generator().manual_seed(0)
    x, r = torch.randn(2, 16, 4, 3, generator=generator), torch.tensor([0.9, 0.2])
    text = torch.randn(2, 77, config.text, generator=generator)
    pooled, image = torch.randn(2, config.pooled, generator=generator), torch.zeros(2, 1, config.image)
    expected = theirs(x, r, pooled[:, None], text, image, return_dict=False)[0]
    near(ours(x, r, ours.condition(text, pooled)), expected)


@torch.no_grad()
def test_stage_b_and_stage_a_are_the_same_networks(decoder):
    ours, theirs = formats.load(decoder, "stage_b", dtype=torch.float32), converted(decoder, "stage_b", torch.float32)
    generator = torch.Generator().manual_seed(0)
    x, r = torch.randn(2, 4, 32, 18, generator=generator), torch.tensor([0.9, 0.2])
    pooled = torch.randn(2, ours.config.pooled, generator=generator)
    latent = torch.randn(2, 16, 3, 2, generator=generator)
    expected = theirs(x, r, pooled[:, None], effnet=latent, return_dict=False)[0]
    near(ours(x, r, ours.condition(pooled), ours.effnet(latent, (16, 9))), expected)
    ours, theirs = formats.load(decoder, "stage_a", dtype=torch.float32), converted(decoder, "stage_a", torch.float32)
    near(ours.pixels(x), theirs.decode(x * theirs.config.scale_factor).sample)


@torch.no_grad()
def test_the_text_encoder_is_the_same_network_and_its_tokens_are_the_shipped_ones(main):
    ours, theirs = formats.load(main, "text", dtype=torch.float32), converted(main, "text", torch.float32)
    texts = ["a fish, Größe 5 in the sea's", ""]
    tokens = in_diffusers.tokenizer(77)(texts, padding="max_length", max_length=77, return_tensors="pt")
    vocabulary = Vocabulary.clip()
    for row, ids in zip(tokens.input_ids.tolist(), vocabulary.ids(texts)):
        assert row == [vocabulary.start, *ids, *[vocabulary.end] * (76 - len(ids))]
    assert torch.equal(tokens.attention_mask.bool(), mask_of(tokens.input_ids))
    told = theirs(tokens.input_ids, attention_mask=tokens.attention_mask)
    near(ours(tokens.input_ids, tokens.attention_mask)[1], told.text_embeds)


def test_a_damaged_part_is_told(tmp_path):
    state = files.random_state("stage_c")
    state.pop("clf.1.bias")
    path = files.write(tmp_path / "main.safetensors", files.main_tensors({"stage_c": state}))
    with pytest.raises(PrismError, match=r"main\.safetensors cannot be loaded.*1 missing"):
        converted(path, "stage_c")


# --- sampling


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["Linear", "Karras", "SGM Uniform"])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_the_scheduler_walks_as_the_sampler(sampler, schedule, shift):
    """A network that depends on what it is told shows every difference."""
    n, shape = 7, (2, 4, 5, 3)

    def net(x, r):
        return torch.tanh(x * 0.7 + r)

    scheduler = in_diffusers.Scheduler(sampler, schedule, shift, [torch.Generator().manual_seed(i) for i in (3, 4)])
    scheduler.set_timesteps(n)
    x = scheduler.noise(shape, "cpu").double() * scheduler.init_noise_sigma
    for t in scheduler.timesteps[:-1]:
        assert scheduler.r == float(t)
        eps = net(x, scheduler.r)
        (x,) = scheduler.step(eps, t.expand(2), x, return_dict=False)

    generators = [torch.Generator().manual_seed(i) for i in (3, 4)]

    def noise(index):
        return torch.cat([torch.randn(1, *shape[1:], generator=one) for one in generators]).double()

    levels = sigmas(schedule, n, Schedule(shift)).tolist()

    def model(wide, sigma):
        told = float(torch.tensor(Schedule(shift).r(sigma)).float())
        return wide - sigma * net(wide / (1 + sigma**2) ** 0.5, told)

    expected = sample(sampler, model, noise(0) * levels[0], levels, noise)
    torch.testing.assert_close(x, expected, atol=1e-9, rtol=1e-9)


def test_at_shift_1_the_levels_are_those_of_diffusers():
    scheduler = in_diffusers.Scheduler("DDPM", "Linear", 1.0)
    scheduler.set_timesteps(20)
    theirs = scheduler._alpha_cumprod(torch.linspace(1, 0, 21).double()[:-1], "cpu")
    ours = 1 / (1 + torch.tensor(scheduler._sigmas[:-1], dtype=torch.float64) ** 2)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("schedule", ["Linear", "Karras", "SGM Uniform"])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_the_first_r_is_the_top_of_the_schedule_and_not_1(schedule, shift):
    scheduler = in_diffusers.Scheduler("DDPM", schedule, shift)
    scheduler.set_timesteps(20)
    assert scheduler.r == pytest.approx(0.99358, abs=1e-5)
    assert len(scheduler.timesteps) == 21 and scheduler.timesteps[-1] == 0


def relative(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "theirs", "ours"), [(torch.bfloat16, 0.5, 0.004), (torch.float16, 0.04, 0.0005)])
def test_r_reaches_the_embedding_in_float32(dtype, theirs, ours, record_property):
    """Diffusers calculates 10000 r in the network's format."""
    net = converted(MINI_CASCADE, "stage_c", dtype)
    scheduler = in_diffusers.Scheduler("DDPM", "Linear", 2.0)
    scheduler.set_timesteps(20)
    told = []
    net.down_blocks[0][1].register_forward_pre_hook(lambda module, args: told.append(args[1]))

    def run():
        given = {"clip_text_pooled": torch.zeros(2, 1, 64), "clip_text": torch.zeros(2, 77, 64)}
        given |= {"clip_img": torch.zeros(2, 1, net.config.clip_image_in_channels), "sample": torch.zeros(2, 16, 4, 4)}
        given = {name: one.to(dtype) for name, one in given.items()}
        return net(timestep_ratio=torch.full((2,), scheduler.r).to(dtype), return_dict=False, **given)[0]

    plain = run()
    with in_diffusers.exact(net, SimpleNamespace(guidance_scale=1.0), scheduler):
        better = run()
    again = run()
    assert torch.equal(plain, again) and not torch.equal(plain, better)
    width = net.config.timestep_ratio_embedding_dim
    exactly = ratio_embedding(torch.full((2,), scheduler.r), width).double()
    wrong, right = (relative(one[:, :width], exactly) for one in told[:2])
    record_property("errors", (wrong, right))
    assert wrong > theirs and right < ours
    assert [one.dtype for one in told] == [dtype] * 3


@torch.no_grad()
@pytest.mark.parametrize("cfg, rescale", [(1.0, 0.0), (3.0, 0.0), (3.0, 0.7)])
def test_a_decoder_of_diffusers_draws_as_prisms(cfg, rescale):
    """As the pipeline calls it: both predictions at once, mixed by lerp."""
    part = {name: formats.inspect(MINI_CASCADE_DECODER).part(name) for name in ("stage_b", "stage_a")}
    net, vqgan = in_diffusers.unet(part["stage_b"], torch.float32), in_diffusers.stage_a(part["stage_a"], torch.float32)
    ours = Decoder(*(formats.load(MINI_CASCADE_DECODER, name, dtype=torch.float32) for name in part))
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 16, 4, 3, generator=generator)
    width = ours.stage_b.config.pooled
    pooled, negative = (torch.randn(1, width, generator=generator) for _ in range(2))
    settings = DecoderSettings(sampler="Euler a", schedule="Karras", steps=4, cfg=cfg, rescale=rescale)
    expected = ours.decode(latent, (96, 128), pooled, negative, settings=settings, seeds=[5])

    scheduler = in_diffusers.Scheduler("Euler a", "Karras", 1.0, [torch.Generator().manual_seed(5)])
    scheduler.set_timesteps(4)
    x = scheduler.noise((1, 4, 32, 24), "cpu") * scheduler.init_noise_sigma
    effnet, text = torch.cat([latent, latent * 0]), torch.stack([pooled, negative])
    with in_diffusers.exact(net, SimpleNamespace(guidance_scale=cfg), scheduler, rescale):
        for t in scheduler.timesteps[:-1]:
            eps = net(
                sample=torch.cat([x] * 2),
                timestep_ratio=t.expand(2),
                clip_text_pooled=text,
                effnet=effnet,
                return_dict=False,
            )[0]
            cond, uncond = eps.chunk(2)
            x = scheduler.step(cond if cfg == 1 else torch.lerp(uncond, cond, cfg), t.expand(1), x).prev_sample
    pixels = vqgan.decode(x * vqgan.config.scale_factor).sample.clamp(0, 1)
    assert float((pixels - expected).abs().max()) < 1 / 255
