"""Bit by bit: what the kernels write is what fp32 arithmetic with one rounding gives, whatever the tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_prism.merge import kernels, modes
from sd_prism.merge.kernels import Scratch, Step, evaluate, write

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def tensor(*shape, seed=0, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def lerp(w, b):
    return Step(modes.weighted_sum, (w,), (b,), chain=(w,))


def equal(one, other):
    assert one.dtype == other.dtype and one.shape == other.shape
    as_bits = {2: torch.int16, 4: torch.int32, 8: torch.int64, 1: torch.uint8}[one.element_size()]
    return torch.equal(one.contiguous().view(as_bits), other.contiguous().view(as_bits))


@pytest.mark.parametrize("dtype", DTYPES)
@given(w=st.floats(-1, 2), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_weighted_sum_is_the_fp32_lerp_then_cast(dtype, w, seed):
    a, b = tensor(7, 33, seed=seed, dtype=dtype), tensor(7, 33, seed=seed + 50, dtype=dtype)
    out = torch.empty_like(a)
    write(out, a, [lerp(w, b)], Scratch())
    assert equal(out, torch.lerp(a.float(), b.float(), w).to(dtype))


@pytest.mark.parametrize("a_dtype", [*DTYPES, torch.float8_e4m3fn])
@pytest.mark.parametrize("out_dtype", [*DTYPES, torch.float8_e4m3fn, torch.float8_e5m2])
def test_mixed_types_go_through_fp32_and_are_rounded_once(a_dtype, out_dtype):
    a, b = tensor(5, 40, dtype=a_dtype), tensor(5, 40, seed=1)
    out = torch.empty(5, 40, dtype=out_dtype)
    write(out, a, [lerp(0.3, b)], Scratch())
    assert equal(out, torch.lerp(a.float(), b.float(), 0.3).to(out_dtype))


def test_fp64_is_computed_in_fp64():
    a, b, out = tensor(9, dtype=torch.float64), tensor(9, seed=1), torch.empty(9, dtype=torch.float64)
    write(out, a, [lerp(0.1, b)], Scratch())
    assert (out - (0.9 * a + 0.1 * b.double())).abs().max() < 1e-15


def test_three_models_of_one_type_are_lerps_in_a_row():
    a, b, c = (tensor(6, 10, seed=seed) for seed in range(3))
    out = torch.empty_like(a)
    write(out, a, [Step(modes.weighted_sum, (0.25, 0.5), (b, c), chain=modes.chain((0.25, 0.5)))], Scratch())
    assert equal(out, torch.lerp(torch.lerp(a, b, 0.5), c, 0.5))
    exact = 0.25 * a.double() + 0.25 * b.double() + 0.5 * c.double()
    assert (out.double() - exact).abs().max() < 2e-3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_chain_of_lerps_amounts_to_the_sum(weights, seed):
    chain = modes.chain(tuple(weights))
    if not chain:
        assert len(weights) > 1 and sum(weights) > 1 - 1e-9
        return
    a, *others = (tensor(4, seed=seed + i, dtype=torch.float64) for i in range(len(weights) + 1))
    running = a
    for w, b in zip(chain, others):
        running = torch.lerp(running, b, w)
    exact = a + sum(w * (b - a) for w, b in zip(weights, others))
    assert (running - exact).abs().max() < 1e-12


def test_a_sum_beyond_the_models_is_exact_too():
    a, b, c = (tensor(300, seed=seed) for seed in range(3))
    out = torch.empty_like(a)
    w = (0.75, 0.5)
    assert modes.chain(w) == ()
    write(out, a, [Step(modes.weighted_sum, w, (b, c), chain=())], Scratch())
    exact = a.double() + 0.75 * (b.double() - a.double()) + 0.5 * (c.double() - a.double())
    assert torch.equal(out, exact.half())


@pytest.mark.parametrize("mode", [modes.weighted_sum, modes.add_difference, modes.train_difference, modes.smooth_add])
@pytest.mark.parametrize("shape", [(17, 6), (13, 3, 3, 3), (11,), ()])
def test_tiles_change_nothing(mode, shape, monkeypatch):
    a, b, c = (tensor(*shape, seed=seed) for seed in range(3))
    step = Step(mode, (0.4,), (b, c) if mode is not modes.weighted_sum else (b,))
    whole, tiled = torch.empty_like(a), torch.empty_like(a)
    write(whole, a, [step], Scratch())
    monkeypatch.setattr(kernels, "TILE", 40)
    write(tiled, a, [step], Scratch())
    assert equal(whole, tiled)


@pytest.mark.parametrize("steps", ["none", "lerp", "add"])
def test_rows_of_a_result_can_be_had_alone(steps):
    a, b, c = (tensor(12, 5, seed=seed) for seed in range(3))
    done = {"none": [], "lerp": [lerp(0.3, b)], "add": [Step(modes.add_difference, (0.5,), (b, c))]}[steps]
    whole, part = torch.empty_like(a), torch.empty(4, 5, dtype=a.dtype)
    write(whole, a, done, Scratch())
    evaluate(part, a, done, 3, Scratch())
    assert equal(part, whole[3:7])


def test_the_target_keeps_storage_strides_and_kind():
    a, b = tensor(8, 4, 3, 3), tensor(8, 4, 3, 3, seed=1)
    parameter = torch.nn.Parameter(torch.zeros(8, 4, 3, 3, dtype=torch.float16).to(memory_format=torch.channels_last))
    place, strides = parameter.data_ptr(), parameter.stride()
    write(parameter.data, a, [lerp(0.5, b)], Scratch())
    assert (parameter.data_ptr(), parameter.stride(), parameter.requires_grad) == (place, strides, True)
    assert equal(parameter.data, torch.lerp(a, b, 0.5))


def test_sources_are_not_touched():
    a, b, c = (tensor(6, 5, seed=seed) for seed in range(3))
    before = [one.clone() for one in (a, b, c)]
    for mode in (modes.add_difference, modes.train_difference, modes.smooth_add, modes.extract):
        write(torch.empty_like(a), a, [Step(mode, (0.5,), (b, c), None, {"beta": 0.5, "gamma": 1.0})], Scratch())
    assert all(equal(one, other) for one, other in zip((a, b, c), before))


def test_no_temporary_has_the_tensors_size(monkeypatch):
    monkeypatch.setattr(kernels, "TILE", 1000)
    a, b, c = (tensor(500, 40, seed=seed) for seed in range(3))
    made = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: made.append(empty(*args, **kwargs)) or made[-1])
    write(torch.zeros_like(a), a, [Step(modes.train_difference, (0.5,), (b, c))], Scratch())
    assert len(made) == 4 and max(one.numel() for one in made) == 1000
