"""Seeds: the same picture from the same seed, alone or in a batch."""

from __future__ import annotations

import torch
from sd_prism.studio.rng import ImageRNG, PhiloxGenerator, slerp

SHAPE = (4, 8, 6)


def plain(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_noise_is_torchs_for_that_seed_and_goes_on():
    rng, source = ImageRNG(SHAPE, [5]), torch.Generator().manual_seed(5)
    assert torch.equal(rng.next()[0], torch.randn(SHAPE, generator=source))
    assert torch.equal(rng.next()[0], torch.randn(SHAPE, generator=source))


def test_a_batch_is_its_single_pictures():
    batch, alone = ImageRNG(SHAPE, [1, 2]), ImageRNG(SHAPE, [2])
    for _ in range(3):
        assert torch.equal(batch.next()[1], alone.next()[0])


def test_first_and_next_agree():
    assert torch.equal(ImageRNG(SHAPE, [3]).first(), ImageRNG(SHAPE, [3]).next())


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    ImageRNG(SHAPE, [1], [2], 0.5, 64, 64).next()
    assert torch.equal(torch.get_rng_state(), before)


def test_variation_strength_goes_from_seed_to_subseed():
    assert torch.equal(ImageRNG(SHAPE, [1], [2], 0.0).first()[0], plain(1))
    assert torch.allclose(ImageRNG(SHAPE, [1], [2], 1.0).first()[0], plain(2), atol=1e-5)
    assert torch.equal(ImageRNG(SHAPE, [1], [2], 0.3).first()[0], slerp(0.3, plain(1), plain(2)))


def test_a_missing_subseed_counts_as_zero():
    both = ImageRNG(SHAPE, [1, 1], [2], 0.4).first()
    assert torch.equal(both[1], slerp(0.4, plain(1), plain(0)))


def test_equal_noises_do_not_divide_by_zero():
    assert torch.allclose(slerp(0.3, plain(1), plain(1)), plain(1))


def test_seed_resize_centres_the_noise_of_the_other_size():
    small = ImageRNG((4, 8, 8), [1], seed_resize_from_h=32, seed_resize_from_w=48).first()[0]
    assert torch.equal(small[:, 2:6, 1:7], plain(1, (4, 4, 6)))
    assert torch.equal(small[:, 0], plain(1, (4, 8, 8))[:, 0])
    cut = ImageRNG((4, 4, 4), [1], seed_resize_from_h=64, seed_resize_from_w=64).first()[0]
    assert torch.equal(cut, plain(1, (4, 8, 8))[:, 2:6, 2:6])


def test_eta_noise_seed_delta_moves_only_the_later_noise():
    rng = ImageRNG(SHAPE, [1], eta_noise_seed_delta=31337)
    assert torch.equal(rng.next()[0], plain(1)) and torch.equal(rng.next()[0], plain(1 + 31337))


def test_philox_is_the_noise_of_an_nvidia_card():
    # torch.randn(3, 4, device="cuda") with seed 0, as A1111 1.10.1 documents it.
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    assert torch.allclose(PhiloxGenerator(0).randn((3, 4)), torch.tensor(expected), atol=1e-7)


def test_philox_goes_on_and_knows_seeds_of_64_bits():
    batch, alone = (ImageRNG(SHAPE, seeds, source=PhiloxGenerator) for seeds in ([1, 2**40], [2**40]))
    first, second = alone.next(), alone.next()
    assert torch.equal(batch.next()[1:], first) and torch.equal(batch.next()[1:], second)
    assert not torch.equal(first, second)
    assert not torch.equal(first, ImageRNG(SHAPE, [0], source=PhiloxGenerator).next())
