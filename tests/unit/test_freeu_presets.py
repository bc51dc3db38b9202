"""The settings value and the authors' presets, which must load without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from sd_prism.errors import OutOfRange, UnknownName
from sd_prism.freeu import PRESETS, FreeU

LIB = Path(__file__).parents[2] / "lib"


def test_the_authors_values():
    assert {name: (p.values.b1, p.values.b2, p.values.s1, p.values.s2) for name, p in PRESETS.items()} == {
        "SD 1.4 (authors)": (1.3, 1.4, 0.9, 0.2),
        "SD 1.5 (authors)": (1.5, 1.6, 0.9, 0.2),
        "SD 2.1 (authors)": (1.4, 1.6, 0.9, 0.2),
        "SDXL (authors)": (1.3, 1.4, 0.9, 0.2),
    }
    for preset in PRESETS.values():
        assert (preset.values.version, preset.values.rule) == (2, "channels")
        assert "ChenyangSi/FreeU" in preset.source
        assert preset.families


def test_the_default_is_the_authors_sd_1_5():
    assert FreeU() == PRESETS["SD 1.5 (authors)"].values


def test_presets_cost_no_torch():
    code = "import sys, sd_prism.freeu.presets, sd_prism.freeu as f; f.FreeU(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(LIB)})


def test_a_value_is_hashable_compares_and_reads_as_one_line():
    assert hash(FreeU(1, 2)) == hash(FreeU(1.0, 2.0))
    assert str(FreeU()) == "v2 b 1.5/1.6 s 0.9/0.2"
    assert str(FreeU(version=1, rule="resolution")) == "v1 b 1.5/1.6 s 0.9/0.2 rule resolution"
    with pytest.raises(FrozenInstanceError):
        FreeU().b1 = 2


def test_identity():
    assert FreeU(1, 1, 1, 1).identity
    for name in ("b1", "b2", "s1", "s2"):
        assert not replace(FreeU(1, 1, 1, 1), **{name: 0}).identity


@pytest.mark.parametrize("name", ["b1", "b2", "s1", "s2"])
@pytest.mark.parametrize("factor", [-5, 11, float("nan"), float("inf")])
def test_factors_out_of_range_are_named(name, factor):
    with pytest.raises(OutOfRange, match=rf"{name} is .* between -4 and 10 \(Prism FreeU\)"):
        FreeU(**{name: factor})


def test_unknown_version_and_rule_are_named():
    with pytest.raises(UnknownName, match='FreeU version "3"'):
        FreeU(version=3)
    with pytest.raises(UnknownName, match='"channel" does not exist; did you mean "channels"'):
        FreeU(rule="channel")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        from sd_prism import freeu

        freeu.nothing  # noqa: B018
