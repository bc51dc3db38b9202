"""The skip filter against a Fourier transform in double precision, on pure waves, and in every memory layout."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_prism.errors import OutOfRange
from sd_prism.freeu import skip_filter, skip_filter_
from torch import Tensor


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mask(n: int, cutoff: float) -> Tensor:
    """Which bins of a shifted spectrum the authors' box takes on an axis: n//2 - R .. n//2 + R - 1."""
    r, centre = max(1, math.floor(n // 2 * cutoff)), n // 2
    k = torch.arange(n)
    return (k >= centre - r) & (k < centre + r)


def by_fft(x: Tensor, scale: float, high: float = 1.0, cutoff: float = 0.0, symmetric: bool = False) -> Tensor:
    height, width = x.shape[-2:]
    box = torch.fft.ifftshift(mask(height, cutoff)[:, None] & mask(width, cutoff))
    weight = box.double()
    if symmetric:  # what the real part does to (1,1) is done to (1,-1) as well: mirror the symmetrised box
        mirrored = weight[-torch.arange(height)][:, -torch.arange(width)]
        weight = (weight + mirrored) / 2
        weight = torch.maximum(weight, weight[:, -torch.arange(width)])
    gain = high + (scale - high) * weight
    return torch.fft.ifft2(torch.fft.fft2(x.double()) * gain).real


SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (7, 1), (2, 5), (3, 3), (4, 4), (5, 8), (13, 7), (16, 16), (33, 20)]


@pytest.mark.parametrize("size", [*SIZES, (64, 64), (52, 38)])
@pytest.mark.parametrize("cutoff", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_the_fourier_transform(size, cutoff, symmetric):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    for scale, high in ((0.2, 1.0), (0.0, 1.0), (-0.5, 0.7)):
        y = skip_filter(x, scale, high=high, cutoff=cutoff, symmetric=symmetric)
        expected = by_fft(x, scale, high, cutoff, symmetric)
        assert (y - expected).abs().max() <= 2e-6 * max(1, x.abs().max())


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    cutoff=st.floats(0, 1),
    scale=st.floats(-4, 10),
    high=st.floats(-1, 3),
    symmetric=st.booleans(),
)
def test_equals_the_fourier_transform_anywhere(height, width, cutoff, scale, high, symmetric):
    x = torch.randn(2, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = skip_filter(x, scale, high=high, cutoff=cutoff, symmetric=symmetric)
    assert torch.allclose(y, by_fft(x, scale, high, cutoff, symmetric), rtol=0, atol=1e-12 * (1 + abs(scale)))


def wave(u: int, v: int, n: int = 16) -> Tensor:
    theta = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.cos(u * theta[:, None] + v * theta)[None, None]


@pytest.mark.parametrize(
    ("frequency", "gain", "symmetric_gain"),
    [
        ((0, 0), 0.2, 0.2),
        ((1, 0), 0.6, 0.6),
        ((0, 1), 0.6, 0.6),
        ((1, 1), 0.6, 0.6),
        ((1, -1), 1.0, 0.6),
        ((2, 0), 1, 1),
    ],
)
def test_gain_of_a_pure_wave(frequency, gain, symmetric_gain):
    x = wave(*frequency)
    assert torch.allclose(skip_filter(x, 0.2), gain * x, rtol=0, atol=1e-14)
    assert torch.allclose(skip_filter(x, 0.2, symmetric=True), symmetric_gain * x, rtol=0, atol=1e-14)


def test_high_scales_what_is_outside_the_box():
    assert torch.allclose(skip_filter(wave(3, 5), 0.2, high=0.5), 0.5 * wave(3, 5), rtol=0, atol=1e-14)


def test_zero_acts():
    x = torch.full((1, 2, 6, 4), 3.0)
    assert skip_filter(x, 0.0).abs().max() < 1e-6


def test_one_is_bit_identical():
    x = torch.randn(2, 3, 9, 8)
    assert torch.equal(skip_filter(x, 1.0), x)
    assert torch.equal(skip_filter(x, 1.0, cutoff=0.5, symmetric=True), x)


def test_nothing_in_nothing_out():
    assert skip_filter(torch.empty(0, 4, 8, 8), 0.2).shape == (0, 4, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cutoff", [0.0, 0.4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_half_types_are_within_an_ulp(dtype, cutoff, layout):
    x = torch.randn(2, 24, 32, 24, generator=torch.Generator().manual_seed(3)).to(dtype)
    y = skip_filter(x.to(memory_format=layout), 0.2, cutoff=cutoff).double()
    expected = by_fft(x, 0.2, cutoff=cutoff)
    ulp = torch.finfo(dtype).eps * torch.maximum(expected.abs(), x.abs().double()).clamp_min(0.25)
    assert ((y - expected).abs() <= ulp).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mean", [1000.0, 6000.0])
def test_large_means_stay_finite_in_half(dtype, mean):
    x = (mean + torch.randn(1, 2, 128, 128)).to(dtype)
    y = skip_filter(x, 0.2)
    assert y.isfinite().all()
    assert (y.double() - by_fft(x, 0.2)).abs().max() <= 1.5 * torch.finfo(dtype).eps * mean


@pytest.mark.parametrize("mean", [1000.0, 6000.0])
def test_scaling_keeps_native_half_products_finite(mean):
    """The path that devices other than a CPU take; the coefficients, too, are half there."""
    from sd_prism.freeu.filter import plane_waves_

    x = (mean + torch.randn(1, 2, 128, 128)).half()
    y = x.clone()
    plane_waves_(y, 0.2, 1.0, False)
    assert (y.double() - by_fft(x, 0.2)).abs().max() <= 3e-3 * mean


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("cutoff", [0.0, 0.4])
def test_input_is_untouched(dtype, cutoff):
    for size in ((8, 8), (40, 24), (2, 2), (1, 1)):
        x = torch.randn(2, 20, *size).to(dtype)
        before = x.clone()
        y = skip_filter(x, 0.2, cutoff=cutoff)
        assert torch.equal(x, before)
        assert y.dtype == dtype
        assert not torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cutoff", [0.0, 0.4])
def test_in_place_on_the_skip_part_of_a_concatenation(dtype, layout, cutoff):
    cat = torch.randn(3, 50, 12, 20).to(dtype).to(memory_format=layout)
    before, h = cat.clone(), 20
    part = cat[:, h:]
    assert skip_filter_(part, 0.2, cutoff=cutoff) is part
    assert torch.equal(cat[:, :h], before[:, :h])
    expected = by_fft(before[:, h:], 0.2, cutoff=cutoff)
    assert (cat[:, h:].double() - expected).abs().max() <= 16 * torch.finfo(dtype).eps


def test_any_strides():
    base = torch.randn(2, 6, 10, 9)
    for view in (base[..., 1:8], base[:, ::2, 1:9], base.permute(0, 1, 3, 2), base.permute(0, 2, 1, 3), base[..., :1]):
        x = view.clone(memory_format=torch.preserve_format)
        expected = by_fft(view, 0.2)
        assert (skip_filter(view, 0.2) - expected).abs().max() < 2e-6
        assert (skip_filter_(x, 0.2) - expected).abs().max() < 2e-6
        assert (skip_filter_(view, 0.2) - expected).abs().max() < 2e-6


def test_autocast_does_not_lower_the_precision():
    x = torch.randn(2, 4, 16, 16)
    for cutoff in (0.0, 0.5):
        plain = skip_filter(x, 0.2, cutoff=cutoff)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(skip_filter(x, 0.2, cutoff=cutoff), plain)


@pytest.mark.parametrize("size", [(5, 4), (2, 3)])
@pytest.mark.parametrize("cutoff", [0.0, 1.0])
def test_gradients_flow_even_after_inference_mode(size, cutoff):
    with torch.inference_mode():
        skip_filter(torch.randn(1, 2, *size, dtype=torch.float64), 0.2, cutoff=cutoff)
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: skip_filter(x, 0.2, cutoff=cutoff), x)


def test_cutoff_beyond_the_spectrum_is_named():
    with pytest.raises(OutOfRange, match=r"cutoff is 1.5; it must lie between 0 and 1"):
        skip_filter(torch.zeros(1, 1, 4, 4), 0.5, cutoff=1.5)


def test_in_place_allocates_next_to_nothing():
    x = torch.randn(2, 64, 64, 64)
    skip_filter_(x, 0.9)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        skip_filter_(x, 0.9)
    held = [event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0]
    assert sum(held) < 0.02 * x.numel() * x.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (1, 7), (5, 1), (2, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"high": 1.2}, {"cutoff": 0.6}, {"cutoff": 1.0}, {"symmetric": True}, {"least": 3}]
)
def test_keep_mean_leaves_every_planes_mean_and_the_other_waves(height, width, dtype, options):
    x = torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(0)).to(dtype) + 2
    plain = skip_filter(x, 0.3, **options).double()
    kept = skip_filter(x, 0.3, keep_mean=True, **options).double()
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    means = [one.mean((2, 3), keepdim=True) for one in (x.double(), plain, kept)]
    assert (means[2] - means[0]).abs().max() < tolerance
    assert ((kept - means[2]) - (plain - means[1])).abs().max() < 2 * tolerance


def test_a_smallest_radius_widens_the_box():
    x = torch.randn(1, 3, 16, 24)
    by_least, by_cutoff = skip_filter(x, 0.3, least=8), skip_filter(x, 0.3, cutoff=1.0, least=8)
    assert not torch.equal(by_least, skip_filter(x, 0.3))
    assert (by_cutoff - x * 0.3).abs().max() < 1e-6
    square = torch.randn(1, 3, 16, 16)
    assert torch.equal(skip_filter(square, 0.3, least=4), skip_filter(square, 0.3, cutoff=0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [0.5, 0.0])
def test_equal_gains_of_both_kinds_of_waves_are_one_factor(dtype, factor):
    x = torch.randn(3, 48, 64, 38).to(dtype)
    for one in (x, x.contiguous(memory_format=torch.channels_last)):
        assert (skip_filter(one, factor, high=factor) - factor * x).abs().max() <= 1e-2
