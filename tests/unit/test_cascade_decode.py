"""The decoder: pictures of the asked size, the same ones alone and in a batch, by as few calls as need be."""

import random

import pytest
import torch
from sd_prism.cascade import decode
from sd_prism.cascade.config import UNetConfig
from sd_prism.cascade.decode import Decoder, DecoderSettings, SeededNoise, out_of_memory
from sd_prism.cascade.sampling import SAMPLERS
from sd_prism.cascade.schedule import Schedule
from sd_prism.cascade.stage_a import StageA, StageAConfig
from sd_prism.cascade.unet import StageB
from sd_prism.cascade.weights import fill
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from unit import cascade_files as files

SMALL = {"widths": (8, 8, 16), "blocks": (1, 1, 1), "up_repeats": (2, 1, 1)}
NOISE = {
    "Euler": [0],
    "DPM++ 2M": [0],
    "Euler a": [0, 1, 2],
    "DDPM": [0, 1, 2],
    "DPM++ 2M SDE": [0, 1, 2],
    "LCM": [0, 1, 2],
}


def decoder(dtype=torch.float32, sizes=SMALL):
    """Stage B of three levels and a stage A of two blocks, with random weights."""
    shapes_b, shapes_a = files.stage_b_shapes(**sizes), files.stage_a_shapes()
    with torch.device("meta"):
        stage_b, stage_a = StageB(UNetConfig.of(shapes_b, files.METADATA)), StageA(StageAConfig.of(shapes_a))
    fill(stage_b, {k: v.to(dtype) for k, v in files.random_state("stage_b", **sizes).items()})
    fill(stage_a, {k: v.to(dtype) for k, v in files.random_state("stage_a").items()})
    return Decoder(stage_b, stage_a)


@pytest.fixture(scope="module")
def small():
    return decoder()


def prompt(n=1, seed=0, dtype=torch.float32):
    """Latents, pooled vectors of prompts, and of negative prompts."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (n, 16, 3, 4), (n, files.TEXT), (n, files.TEXT)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def sampled_sizes(count):
    sides = range(256, 2049, 8)
    picked = random.Random(0)
    return [
        (1080, 1920),
        (1024, 1088),
        (1000, 1000),
        *((picked.choice(sides), picked.choice(sides)) for _ in range(count)),
    ]


def test_every_size_comes_out_as_asked(monkeypatch):
    """Stage B alone, as narrow as can be; what stage A makes of its latents is four times as large."""
    small = decoder(sizes={"widths": (2, 2, 8), "blocks": (1, 1, 1), "up_repeats": (1, 1, 1)})
    monkeypatch.setattr(
        small.stage_a, "decode", lambda z: torch.empty(1, 1, 1).expand(1, 3, *(4 * n for n in z.shape[2:]))
    )
    latent, pooled, _ = prompt()
    for width, height in sampled_sizes(300):
        noise = torch.zeros(1, 4, height // 4, width // 4)
        found = small.decode(latent, (width, height), pooled, noise=lambda i, noise=noise: noise, settings=ONE)
        assert found.shape == (1, 3, height, width)


ONE = DecoderSettings("Euler", steps=1)


@pytest.mark.parametrize(
    "size", [(1080, 1920), (1024, 1088), (1000, 1000), (256, 256), (32, 32), (264, 2048), (72, 120)]
)
def test_pictures_have_their_size_and_are_pictures(size, small):
    latent, pooled, _ = prompt()
    found = small.decode(latent, size, pooled, seeds=[1], settings=ONE)
    assert found.shape == (1, 3, size[1], size[0]) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0.01


def test_one_step_written_out(small):
    """z = sigma n - sigma eps(n', r) and stage A on it, with guidance between two predictions."""
    latent, pooled, negative = prompt()
    schedule = Schedule(1.0)
    top = schedule.sigma_max
    noise = SeededNoise([5], (4, 16, 24))(0)
    x, r = noise * top / (1 + top**2) ** 0.5, torch.tensor([schedule.r(top)])
    stage_b = small.stage_b
    with torch.no_grad():
        cond = stage_b(x, r, stage_b.condition(pooled), stage_b.effnet(latent, (8, 12)))
        uncond = stage_b(x, r, stage_b.condition(negative), stage_b.effnet(None, (8, 12)))
        empty = stage_b(x, r, stage_b.condition(torch.zeros_like(pooled)), stage_b.effnet(None, (8, 12)))
    for cfg, given, without in ((1.0, negative, cond), (1.5, negative, uncond), (1.5, None, empty)):
        eps = without + cfg * (cond - without)
        with torch.no_grad():
            expected = small.stage_a.decode(top * noise - top * eps)
        settings = DecoderSettings("Euler", steps=1, cfg=cfg)
        found = small.decode(latent, (96, 64), pooled, given, settings=settings, seeds=[5])
        assert torch.allclose(found, expected, atol=2e-3)  # top times the rounding of eps


@pytest.mark.parametrize(("name", "asked"), NOISE.items())
def test_noise_is_asked_for_in_order(name, asked, small):
    latent, pooled, _ = prompt()
    indices = []

    def noise(index):
        indices.append(index)
        return torch.ones(1, 4, 8, 8)

    settings = DecoderSettings(name, steps=3)
    assert small.decode(latent, (32, 32), pooled, noise=noise, settings=settings).isfinite().all()
    assert indices == asked and NOISE.keys() == SAMPLERS.keys()


def both(one, dtype, **changed):
    """Two pictures in a batch, and each alone."""
    latent, pooled, negative = prompt(2, dtype=dtype)
    settings = DecoderSettings(steps=4, **changed)
    batch = one.decode(latent, (64, 96), pooled, negative, seeds=[7, 8], settings=settings)
    singles = [
        one.decode(
            latent[i : i + 1], (64, 96), pooled[i : i + 1], negative[i : i + 1], seeds=[7 + i], settings=settings
        )
        for i in range(2)
    ]
    return batch, torch.cat(singles)


@pytest.mark.parametrize("changed", [{}, {"cfg": 1.5, "rescale": 0.7}, {"sampler": "DPM++ 2M SDE", "cfg": 2.0}])
def test_a_batch_equals_its_pictures(changed):
    """To the bit on a CPU."""
    batch, singles = both(decoder(), torch.float32, **changed)
    assert torch.equal(batch, singles) and (batch[0] - batch[1]).abs().max() > 0.1


def test_a_batch_in_one_call_equals_its_pictures(monkeypatch):
    """As graphics cards get it, in float64: up to the order in which a product adds, which depends on its size."""
    one = decoder(torch.float64)
    alone = both(one, torch.float64, cfg=1.5, rescale=0.7)[1]
    monkeypatch.setattr(decode, "at_once", len)
    latent, pooled, negative = prompt(2, dtype=torch.float64)
    settings, before = DecoderSettings(steps=4, cfg=1.5, rescale=0.7), one.calls
    whole = one.decode(latent, (64, 96), pooled, negative, seeds=[7, 8], settings=settings)
    assert (whole - alone).abs().max() < 1e-6 and one.calls - before == 8


def test_decoding_again_gives_the_same_bits_and_another_seed_another_picture(small):
    latent, pooled, negative = prompt(2)
    settings = DecoderSettings(steps=3, cfg=1.2)
    first, again, other = (
        small.decode(latent, (64, 64), pooled, negative, seeds=seeds, settings=settings)
        for seeds in ([1, 2], [1, 2], [1, 3])
    )
    assert torch.equal(first, again)
    assert torch.allclose(first[0], other[0], atol=1e-3) and not torch.allclose(first[1], other[1], atol=1e-2)


def test_without_guidance_the_network_is_called_half_as_often(small):
    latent, pooled, negative = prompt()
    calls = []
    for cfg, changed in ((1.0, {}), (1.2, {}), (1.0, {"rescale": 0.7}), (1.2, {"stop": 0.4})):
        before = small.calls
        settings = DecoderSettings(steps=10, cfg=cfg, **changed)
        small.decode(latent, (32, 32), pooled, negative, seeds=[0], settings=settings)
        calls.append(small.calls - before)
    assert calls == [10, 20, 10, 15]


def test_what_is_constant_over_the_steps_is_computed_once(small, monkeypatch):
    latent, pooled, negative = prompt()
    called = []
    for name in ("condition", "effnet"):
        real = getattr(small.stage_b, name)
        monkeypatch.setattr(small.stage_b, name, lambda *args, name=name, real=real: called.append(name) or real(*args))
    for cfg, times in ((1.0, 1), (1.2, 2)):
        called.clear()
        small.decode(latent, (32, 32), pooled, negative, seeds=[0], settings=DecoderSettings(steps=5, cfg=cfg))
        assert sorted(called) == ["condition"] * times + ["effnet"] * times


def test_a_callback_ends_it_with_what_there_is(small):
    latent, pooled, _ = prompt()
    told, before = [], small.calls
    found = small.decode(latent, (64, 64), pooled, seeds=[0], callback=lambda i: told.append(i) or i == 2)
    assert told == [0, 1, 2] and small.calls - before == 3
    assert found.shape == (1, 3, 64, 64) and found.isfinite().all()


def test_in_bf16_the_latents_stay_wide():
    narrow, latent = decoder(torch.bfloat16), prompt()
    found = narrow.decode(latent[0], (64, 64), latent[1], seeds=[0], settings=DecoderSettings(steps=3))
    assert found.dtype == torch.float32 and found.isfinite().all()
    wide = decoder().decode(latent[0], (64, 64), latent[1], seeds=[0], settings=DecoderSettings(steps=3))
    assert (found - wide).abs().mean() < 0.05


def starved(monkeypatch, network, name, rows, error):
    """Makes a network run out of memory for more than some rows."""
    real, seen = getattr(network, name), []

    def limited(x, *args):
        seen.append(x.shape[2])
        if x.shape[2] > rows:
            raise error
        return real(x, *args)

    monkeypatch.setattr(network, name, limited)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_where_memory_is_short_stage_a_decodes_in_chunks_of_rows(error, small, monkeypatch):
    latent, pooled, _ = prompt()
    whole = small.decode(latent, (40, 360), pooled, seeds=[0], settings=ONE)
    seen = starved(monkeypatch, small.stage_a, "decode", 40, error)
    chunks = small.decode(latent, (40, 360), pooled, seeds=[0], settings=ONE)
    assert (chunks - whole).abs().max() < 1e-3  # random weights give numbers in the hundreds before they are clamped
    assert seen[0] == 90 and max(seen[-4:]) <= 40


def test_what_does_not_fit_at_all_is_told_with_numbers(small, monkeypatch):
    latent, pooled, _ = prompt(2)
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB")
    says = r"does not fit into memory for 2 picture\(s\) of 512x256, 2\.00 GiB more were needed; choose a smaller size"
    with monkeypatch.context() as patch:
        starved(patch, small.stage_a, "decode", 4, error)
        with pytest.raises(PrismError, match=f"Stage A {says}"):
            small.decode(latent, (512, 256), pooled, seeds=[0, 1], settings=ONE)
    starved(monkeypatch, small.stage_b, "forward", 4, error)
    with pytest.raises(PrismError, match=f"Stage B {says}"):
        small.decode(latent, (512, 256), pooled, seeds=[0, 1], settings=ONE)
    monkeypatch.undo()
    starved(monkeypatch, small.stage_b, "forward", 4, RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        small.decode(latent, (512, 256), pooled, seeds=[0, 1], settings=ONE)
    assert not out_of_memory(ValueError("x"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"size": (1001, 64)}, "width is 1001; this decoder makes multiples of 8 from 32 on, such as 1000"),
        ({"size": (64, 24)}, "height is 24; .* such as 32"),
        ({"latent": torch.zeros(1, 4, 3, 4)}, r"\(1, 4, 3, 4\) are not stage C's"),
        ({"pooled": torch.zeros(1, 7)}, r"pooled text is of shape \(1, 7\), this decoder takes \(1, 32\)"),
        ({"negative": torch.zeros(2, files.TEXT)}, r"negative text is of shape \(2, 32\)"),
        ({"seeds": [1, 2]}, "1 pictures need 1 seeds"),
        ({"seeds": None}, "1 pictures need 1 seeds"),
        ({"noise": lambda i: torch.zeros(1)}, "1 pictures need 1 seeds, or noise in place of them"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, says, small):
    latent, pooled, negative = prompt()
    given = {"latent": latent, "size": (64, 64), "pooled": pooled, "negative": negative, "seeds": [0]} | changed
    with pytest.raises(PrismError, match=says):
        small.decode(**given)


def test_settings_are_checked():
    with pytest.raises(UnknownName, match="Euler a"):
        DecoderSettings(sampler="Eulr a")
    with pytest.raises(UnknownName, match="Karras"):
        DecoderSettings(schedule="Karas")
    with pytest.raises(OutOfRange):
        DecoderSettings(steps=0)
    with pytest.raises(OutOfRange):
        DecoderSettings(rescale=2.0)
    with pytest.raises(PrismError, match="shift"):
        DecoderSettings(shift=0.0)
