"""The backbone gain of both versions: which channels, how much, and what constant maps give."""

from __future__ import annotations

import pytest
import torch
from sd_prism.errors import OutOfRange, UnknownName
from sd_prism.freeu import backbone_


def published_v2(h, b):
    """The formula of the authors' README, per sample, in double precision."""
    h = h.double()
    m = h.mean(1, keepdim=True)
    lo, hi = m.amin((2, 3), keepdim=True), m.amax((2, 3), keepdim=True)
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * (1 + (b - 1) * (m - lo) / (hi - lo)), h[:, half:]], 1)


def test_version_1_scales_the_first_half():
    h = torch.ones(1, 4, 1, 2)
    assert backbone_(h, 1.5, version=1) is h
    assert h[0, :, 0].tolist() == [[1.5, 1.5], [1.5, 1.5], [1.0, 1.0], [1.0, 1.0]]


def test_version_2_scales_where_the_features_are_strong():
    h = torch.tensor([0.0, 1.0, 2.0, 4.0]).expand(1, 2, 4).reshape(1, 2, 2, 2).clone()
    backbone_(h, 3.0)
    assert torch.allclose(h[0, 0].flatten(), torch.tensor([0.0, 1.5, 4.0, 12.0]))
    assert h[0, 1].flatten().tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)]
)
def test_version_2_is_the_published_formula_per_sample(dtype, limit, layout):
    cat = torch.randn(3, 90, 9, 16, generator=torch.Generator().manual_seed(1)).to(dtype).to(memory_format=layout)
    cat[1] *= 0.5
    before, h = cat.clone(), cat[:, :64]
    backbone_(h, 1.6)
    assert (h.double() - published_v2(before[:, :64], 1.6)).abs().max() < limit
    assert torch.equal(cat[:, 32:], before[:, 32:])
    assert not torch.equal(cat[:, :32], before[:, :32])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("channels", [1280, 640, 7, 5, 4, 2])
def test_exactly_half_the_channels(version, channels):
    h = torch.rand(1, channels, 3, 3) + 1
    before = h.clone()
    backbone_(h, 1.5, version=version)
    changed = (h != before).flatten(2).any(2)[0]
    assert changed.nonzero().flatten().tolist() == list(range(channels // 2))


@pytest.mark.parametrize(
    ("offset", "width", "scaled"),
    [(0, 0.25, [0, 1]), (0.5, 0.5, [4, 5, 6, 7]), (0.75, 0.5, [0, 1, 6, 7]), (0, 1, [*range(8)]), (0.3, 0, [])],
)
def test_the_window_moves_and_wraps_around(offset, width, scaled):
    h = torch.ones(1, 8, 1, 1)
    backbone_(h, 2.0, version=1, offset=offset, width=width)
    assert (h[0, :, 0, 0] == 2).nonzero().flatten().tolist() == scaled


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 13)])
def test_a_constant_map_is_left_as_it_is(dtype, size):
    h = torch.randn(2, 320, 1, 1).to(dtype).expand(2, 320, *size).clone()
    before = h.clone()
    backbone_(h, 3.0)
    assert torch.allclose(h, before, rtol=max(4e-3, torch.finfo(dtype).eps), atol=0)
    zeros = torch.zeros(1, 4, *size, dtype=dtype)
    assert torch.equal(backbone_(zeros, 3.0), torch.zeros_like(zeros))


@pytest.mark.parametrize("version", [1, 2])
def test_one_is_bit_identical(version):
    h = torch.randn(2, 6, 5, 5)
    assert torch.equal(backbone_(h.clone(), 1.0, version=version), h)


def test_large_half_features_stay_finite():
    h = (6000 + torch.randn(1, 64, 16, 16)).half()
    assert backbone_(h, 1.6).isfinite().all()


def test_gradients_flow():
    h = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: backbone_(h.clone(), 1.6), h)


def test_errors_name_the_value():
    h = torch.ones(1, 4, 2, 2)
    with pytest.raises(UnknownName, match='FreeU version "3" does not exist'):
        backbone_(h, 1.5, version=3)
    with pytest.raises(OutOfRange, match=r"width is 2; it must lie between 0 and 1"):
        backbone_(h, 1.5, width=2)


@pytest.mark.parametrize(
    ("width", "offset", "count"), [(0.5, 0.0, 641), (0.25, 0.9, 319), (1.0, 0.0, 1280), (0.25, 0.25, 321)]
)
def test_the_inclusive_window_is_the_well_known_extensions(width, offset, count):
    h = backbone_(torch.ones(1, 1280, 1, 1), 2.0, version=1, offset=offset, width=width, window="inclusive")
    assert int((h == 2).sum()) == count


def test_an_unknown_window_is_named():
    with pytest.raises(UnknownName, match='FreeU window "inclusiv" does not exist; did you mean "inclusive"'):
        backbone_(torch.ones(1, 2, 1, 1), 2.0, window="inclusiv")
