"""Each mode against its formula in fp64, whole tensors at once, written independently of the kernels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_prism.merge import kernels, modes
from sd_prism.merge.kernels import Scratch, Step, write

SHAPES = [(24, 18), (6, 5, 3, 3), (40,)]
weights = st.floats(-0.5, 1.5)


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def three(shape):
    return [tensor(*shape, seed=seed) for seed in range(3)]


def run(kernel, a, others, w, stat=None, options=None):
    out = torch.empty_like(a)
    w = w if isinstance(w, tuple) else (w,)
    write(out, a, [Step(kernel, w, tuple(others), stat, options or {})], Scratch())
    return out.double()


def close(found, exact, tolerance=2e-6):
    exact = torch.as_tensor(exact)
    assert (found - exact).abs().max() <= tolerance * (1 + exact.abs().max())


@pytest.fixture(params=["one tile", "many tiles"], autouse=True)
def tiles(request, monkeypatch):
    if request.param == "many tiles":
        monkeypatch.setattr(kernels, "TILE", 40)


@pytest.mark.parametrize("shape", SHAPES)
@given(w=weights)
@settings(max_examples=10, deadline=None)
def test_add_difference(shape, w):
    a, b, c = three(shape)
    close(run(modes.add_difference, a, (b, c), w), a.double() + w * (b.double() - c.double()))


def test_a_difference_is_not_rounded_before_it_is_scaled():
    a, b, c = (torch.tensor([x], dtype=torch.float16) for x in (-512.0, 1.0, 1 / 4096))
    out = torch.empty_like(a)
    write(out, a, [Step(modes.add_difference, (512.0,), (b, c))], Scratch())
    assert out.item() == -1 / 8  # in fp16 b - c is 1, which gives 0


@pytest.mark.parametrize("shape", SHAPES)
@given(w=weights)
@settings(max_examples=10, deadline=None)
def test_train_difference(shape, w):
    a, b, c = three(shape)
    b.view(-1)[0] = c.view(-1)[0]  # nothing is learned there
    b.view(-1)[1] = c.view(-1)[1] = a.view(-1)[1]
    x, y, z = (one.double().numpy() for one in (a, b, c))
    near, far = np.abs(y - z), np.abs(y - x)
    share = np.divide(far, near + far, out=np.zeros_like(far), where=near + far > 0)
    close(run(modes.train_difference, a, (b, c), w), x + 1.8 * w * np.sign(y - z) * near * share)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 3, 3), (2, 3)])
def test_smooth_add_is_scipys_median_and_gaussian(shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    a, b, c = three(shape)
    calm = ndimage.gaussian_filter(ndimage.median_filter((b - c).double().numpy(), size=3), sigma=1)
    close(run(modes.smooth_add, a, (b, c), 0.7), a.double().numpy() + 0.7 * calm)


def similarity(a, b, unit):
    """(column cosine + whole cosine) / 2, as supermerger's cosine A and B have it."""
    if unit:
        a, b = (one / one.norm(dim=0) for one in (a, b))
    columns = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))
    return (columns + (a * b).sum() / (a.norm() * b.norm())) / 2


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("w", [0.0, 0.3, 0.8, 1.0])
def test_cosine(unit, w):
    pairs = {f"x{i}": (tensor(*shape, seed=i), tensor(*shape, seed=9 + i)) for i, shape in enumerate(SHAPES)}
    raw = {name: similarity(a.double(), b.double(), unit) for name, (a, b) in pairs.items()}
    values = np.concatenate([np.atleast_1d(one.numpy()).ravel() for one in raw.values()])
    values = values[values >= np.percentile(values, 1, method="midpoint")]
    values = values[values <= np.percentile(values, 99, method="midpoint")]
    found = modes.Similarity(((name, a, b) for name, (a, b) in pairs.items()), unit=unit)
    for name, (a, b) in pairs.items():
        k = ((raw[name] - values.min()) / (values.max() - values.min()) - w).clip(0, 1)
        got = run(modes.cosine, a, (b,), w, found.of(name))
        close(got, b.double() * (1 - k) + a.double() * k, 2e-5)


def test_cosine_of_a_column_of_zeros_takes_b():
    a, b = tensor(4, 3), tensor(4, 3, seed=1)
    a[:, 1] = 0
    for unit in (True, False):
        found = modes.Similarity([("x", a, b)], unit=unit)
        assert torch.isfinite(run(modes.cosine, a, (b,), 0.5, found.of("x"))).all()


def slerp(a, b, w):
    angle = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    along = (math.sin((1 - w) * angle) * a / a.norm() + math.sin(w * angle) * b / b.norm()) / math.sin(angle)
    return along * (a.norm() + w * (b.norm() - a.norm()))


def stat(a, b):
    return modes.products([(a, b)])


@pytest.mark.parametrize("shape", SHAPES)
@given(w=st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_slerp(shape, w):
    a, b, _ = three(shape)
    close(run(modes.slerp, a, (b,), w, stat(a, b)), slerp(a.double(), b.double(), w))


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0])
def test_slerp_of_parallel_opposite_and_zero_tensors_is_a_lerp(factor):
    a = tensor(30)
    b = a * factor
    close(run(modes.slerp, a, (b,), 0.25, stat(a, b)), a.double() + 0.25 * (b.double() - a.double()))


def test_slerp_keeps_the_norm_where_a_lerp_shrinks():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    close(run(modes.slerp, a, (b,), 0.5, stat(a, b)), [math.sqrt(0.5), math.sqrt(0.5)])


@pytest.mark.parametrize(
    ("w", "beta", "rows"),
    [
        (0.0, 0.5, []),
        (0.3, 0.0, [0, 1, 2]),
        (0.1, 0.7, [7]),  # 0.1 + 0.7 is a little below 0.8
        (0.5, 0.5, [5, 6, 7, 8, 9]),
        (0.5, 0.8, [0, 1, 2, 8, 9]),  # wraps around
        (1.0, 0.0, list(range(10))),
        (1.0, 0.4, list(range(10))),
    ],
)
def test_swap(w, beta, rows):
    a, b = torch.zeros(10, 7), torch.ones(10, 7)
    found = run(modes.swap, a, (b,), w, options={"beta": beta})
    assert found.sum(1).nonzero().flatten().tolist() == rows
    assert set(found.flatten().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_dare_keeps_a_share_and_makes_up_for_the_rest(keep):
    a, b = torch.zeros(300, 41), torch.ones(300, 41)
    found = run(modes.dare, a, (b, a), 0.7, options={"keep": keep, "key": (3, 0, 5)})
    values = found.unique()
    close(values, [0, 0.7 / keep] if keep < 1 else [0.7])
    spread = 4 * math.sqrt((1 - keep) / (keep * found.numel()))  # four standard deviations of the mean
    assert abs(found.mean() / 0.7 - 1) <= spread + 1e-6


def test_dares_choice_is_its_seeds_names_and_terms_alone():
    def choice(*key, start=0, stop=50):
        return modes.bernoulli(modes.dare_key(*key), 0.5, start, stop).tolist()

    whole = choice(1, 0, "x")
    assert whole[7:23] == choice(1, 0, "x", start=7, stop=23)
    assert len({tuple(one) for one in (whole, choice(2, 0, "x"), choice(1, 1, "x"), choice(1, 0, "y"))}) == 4
    # Recorded: an infotext with a seed must give the same picture in years to come.
    assert "".join("01"[bit] for bit in whole[:24]) == "101001100100000101111110"


@given(st.integers(1, 300), st.floats(0.01, 1), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_threshold_is_the_k_th_largest_magnitude(size, keep, seed):
    b, c = tensor(size, seed=seed, dtype=torch.float16), tensor(size, seed=seed + 99, dtype=torch.float16)
    magnitudes = (b.float() - c.float()).abs().sort(descending=True).values
    assert modes.threshold(b, c, keep) == magnitudes[math.ceil(keep * size) - 1].item()
    wide = b.float()
    assert modes.threshold(wide, c.float(), keep) == magnitudes[math.ceil(keep * size) - 1].item()
    assert torch.equal(wide, b.float())  # sources stay as they are


def ties(a, pairs, w, keeps):
    """Yadav et al. 2023: trim, elect the sign of the sum, mean of those that agree."""
    trimmed = []
    for (b, c), keep in zip(pairs, keeps):
        d = (b - c).double()
        limit = d.abs().flatten().sort(descending=True).values[math.ceil(keep * d.numel()) - 1]
        trimmed.append(torch.where(d.abs() >= limit, d, torch.zeros_like(d)))
    d = torch.stack([one * x for one, x in zip(trimmed, w)])
    agree = (d.sign() == d.sum(0).sign()) & (d != 0)
    return a.double() + (d * agree).sum(0) / agree.sum(0).clip(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keeps", [(0.2, 0.2), (0.5, 1.0), (0.05, 0.3)])
def test_ties_elects_signs(shape, keeps):
    a, b, c = three(shape)
    pairs, w = [(b, a), (c, a)], (0.6, 0.9)
    stat = tuple(modes.threshold(x, y, keep) for (x, y), keep in zip(pairs, keeps))
    found = run(modes.ties, a, (b, a, c, a), w, stat)
    close(found, ties(a, pairs, w, keeps))


def test_ties_on_numbers_one_can_follow():
    a, b, c = torch.zeros(4), torch.tensor([4.0, 3.0, -2.0, 0.1]), torch.tensor([2.0, -5.0, -4.0, 0.2])
    stat = tuple(modes.threshold(x, a, 0.75) for x in (b, c))
    assert run(modes.ties, a, (b, a, c, a), (1.0, 1.0), stat).tolist() == [3.0, -5.0, -3.0, 0.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("w", "beta", "gamma"), [(0.0, 0.0, 1.0), (0.3, 0.4, 2.0), (1.0, 1.0, 0.5)])
def test_extract(shape, w, beta, gamma):
    a, b, c = three(shape)
    x, y = b.double() - a.double(), c.double() - a.double()
    cos = (x * y).sum(-1, keepdim=True) / (x.norm(dim=-1, keepdim=True) * y.norm(dim=-1, keepdim=True))
    d = ((cos + 1) / 2) ** gamma
    exact = a.double() + (x + w * (y - x)) * (d + beta * (1 - 2 * d))
    close(run(modes.extract, a, (b, c), w, options={"beta": beta, "gamma": gamma}), exact, 1e-5)


def test_every_mode_of_a_recipe_has_a_kernel():
    from sd_prism.merge.recipe import MODES

    assert set(modes.KERNELS) == set(MODES)
