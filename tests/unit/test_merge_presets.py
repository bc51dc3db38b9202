import json
from fractions import Fraction
from pathlib import Path

import pytest
from sd_prism.merge.presets import ALIASES, PRESETS, find

PUBLISHED = json.loads((Path(__file__).parent / "data" / "merge_presets.json").read_text(encoding="utf-8"))
# What model-mixer's table for SDXL has otherwise: slips (RING08_5, SMOOTHSTEP/4, COSINE) and another polynomial.
IRREGULAR = {
    *("RING08_5", "SMOOTHSTEP/4", "R_SMOOTHSTEP/4", "COSINE", "REVERSE_COSINE"),
    *("CUBIC_HERMITE", "REVERSE_CUBIC_HERMITE"),
}
OPPOSITES = (
    ("GRAD_V", "GRAD_A"),
    ("SMOOTHSTEP", "REVERSE-SMOOTHSTEP"),
    *((f"SMOOTHSTEP{way}", f"R_SMOOTHSTEP{way}") for way in ("*2", "*3", "*4", "/2", "/3", "/4")),
    ("COSINE", "REVERSE_COSINE"),
    ("FAKE_CUBIC_HERMITE", "FAKE_REVERSE_CUBIC_HERMITE"),
    ("TRUE_CUBIC_HERMITE", "TRUE_REVERSE_CUBIC_HERMITE"),
)


def test_there_are_the_38_classic_names():
    assert len(PRESETS) == 38
    assert set(PRESETS) == set(PUBLISHED["sd"])


@pytest.mark.parametrize("name", PUBLISHED["sd"])
def test_weights_at_25_blocks_are_the_published_ones(name):
    assert PRESETS[name].weights(25) == pytest.approx(PUBLISHED["sd"][name], abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED["sdxl"]) - IRREGULAR))
def test_weights_at_19_blocks_are_the_published_ones(name):
    preset = PRESETS[find(name)]
    assert (preset.base, *preset.weights(19)) == pytest.approx(PUBLISHED["sdxl"][name], abs=1e-9)


def test_true_cubic_hermite_in_exact_arithmetic():
    def exact(t):
        return Fraction(77, 12) * t**3 - Fraction(77, 8) * t**2 + Fraction(25, 6) * t + Fraction(1, 24)

    ours = PRESETS["TRUE_CUBIC_HERMITE"].weights(37)
    assert ours == pytest.approx([0.0] + [float(exact(Fraction(i, 36))) for i in range(1, 37)], abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 9, 19, 25, 64])
def test_any_number_of_blocks_has_weights_between_0_and_1(count):
    for preset in PRESETS.values():
        weights = preset.weights(count)
        assert len(weights) == count
        assert all(0 <= weight <= 1 for weight in weights), preset.name


@pytest.mark.parametrize("count", [2, 9, 19, 25, 64])
def test_complements_add_up_to_one(count):
    for name, opposite in OPPOSITES:
        pairs = zip(PRESETS[name].weights(count), PRESETS[opposite].weights(count))
        assert [a + b for a, b in pairs] == pytest.approx([1.0] * count, abs=1e-12), name


def test_windows_keep_their_place_in_the_run_at_other_sizes():
    assert PRESETS["OUT12"].weights(9) == (0, 0, 0, 0, 0, 1, 1, 1, 1)
    assert PRESETS["WRAP08"].weights(13) == (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)


def test_only_all_b_takes_the_text_encoder():
    assert {preset.name for preset in PRESETS.values() if preset.base} == {"ALL_B"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GRAD_V", "GRAD_V"),
        (" grad_v ", "GRAD_V"),
        ("REVERSE_SMOOTHSTEP", "REVERSE-SMOOTHSTEP"),
        ("2SMOOTHSTEP", "SMOOTHSTEP*2"),
        ("4R_SMOOTHSTEP", "R_SMOOTHSTEP*4"),
        ("HALF_SMOOTHSTEP", "SMOOTHSTEP/2"),
        ("ONE_THIRD_R_SMOOTHSTEP", "R_SMOOTHSTEP/3"),
        ("ONE_FOURTH_SMOOTHSTEP", "SMOOTHSTEP/4"),
        ("CUBIC_HERMITE", "FAKE_CUBIC_HERMITE"),
        ("REVERSE_CUBIC_HERMITE", "FAKE_REVERSE_CUBIC_HERMITE"),
    ],
)
def test_every_spelling_finds_its_preset(written, name):
    assert find(written) == name


def test_aliases_lead_to_presets_and_hide_none():
    assert set(ALIASES.values()) <= set(PRESETS)
    assert not set(ALIASES) & set(PRESETS)
    assert find("LOW_OFFSET_CUBIC_HERMITE") is None
