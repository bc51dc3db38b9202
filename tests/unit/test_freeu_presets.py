"""The settings value and the authors' presets, which must load without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.freeu import PRESETS, FreeU, presets
from sd_prism.settings import AUTOMATIC, FREEU

LIB = Path(__file__).parents[2] / "lib"


VALUES = {
    "SD 1.4 (authors)": (2, 1.3, 1.4, 0.9, 0.2),
    "SD 1.5 (authors)": (2, 1.5, 1.6, 0.9, 0.2),
    "SD 2.1 (authors)": (2, 1.4, 1.6, 0.9, 0.2),
    "SDXL (authors)": (2, 1.3, 1.4, 0.9, 0.2),
    "SD 1.4 v1": (1, 1.2, 1.4, 0.9, 0.2),
    "SD 2.1 v1": (1, 1.1, 1.2, 0.9, 0.2),
    "SDXL v1 (Nasir Khalid)": (1, 1.1, 1.2, 0.6, 0.4),
    "Subtle": (2, 1.01, 1.02, 0.99, 0.95),
    "Text-to-video (Zeroscope)": (1, 1.2, 1.4, 0.9, 0.2),
    "SD 1.5 colour-safe": (1, 1.2, 1.2, 1.0, 1.0),
    "SDXL PirateDiffusion": (1, 1.2, 1.4, 0.9, 0.2),
    "SD 1.5 as diffusers": (1, 1.5, 1.6, 0.9, 0.2),
    "SDXL as diffusers": (1, 1.3, 1.4, 0.9, 0.2),
}


def test_published_values():
    known = {name: preset.values for name, preset in PRESETS.items() if preset.values}
    assert {name: (v.version, v.b1, v.b2, v.s1, v.s2) for name, v in known.items()} == VALUES
    assert [name for name, values in known.items() if values.rule == "resolution"] == [
        "SD 1.5 as diffusers",
        "SDXL as diffusers",
    ]


def test_every_preset_says_where_it_comes_from_and_for_what():
    assert all(preset.source and preset.families for preset in PRESETS.values())


def test_a_preset_that_nobody_published_as_numbers_has_none_and_says_why():
    (baka,) = [preset for preset in PRESETS.values() if preset.values is None]
    assert baka.name == "Baka-Diffusion (from its card)" and "picture" in baka.note
    values = FREEU.read({"preset": baka.name, "b1": 1.23})
    assert (values["preset"], values["b1"]) == (baka.name, 1.23)


@pytest.mark.parametrize("family", presets.OF_FAMILY)
def test_the_automatic_preset_follows_the_model(family):
    chosen = FREEU.read({"preset": AUTOMATIC, "s1": 0.5}, family)
    assert chosen == {**FREEU.read({"preset": presets.OF_FAMILY[family]}), "s1": 0.5, "preset": chosen["preset"]}
    assert FREEU.read((True, AUTOMATIC, "1", 3, 3, 3, 3), family)["preset"] == presets.OF_FAMILY[family]


def test_no_automatic_preset_for_other_models():
    with pytest.raises(PrismError, match="No FreeU preset was published for models of the family cascade"):
        FREEU.read({"preset": AUTOMATIC}, "cascade")
    assert FREEU.read({"preset": AUTOMATIC})["preset"] == AUTOMATIC


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
    with pytest.raises(UnknownName, match='FreeU rule "channel" does not exist; did you mean "channels"'):
        FreeU(rule="channel")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        from sd_prism import freeu

        freeu.nothing  # noqa: B018


def test_a_value_says_what_is_wrong_when_it_is_made():
    assert FreeU(version="2") == FreeU() and FreeU(schedule=0.5).curve().constant == 0.5
    assert FreeU(blocks=None).blocks == "" and FreeU(blocks="3=1.23456789/.5").blocks == "OUT03=1.23456789/0.5"
    for wrong, told in (
        ({"b1": "x"}, "b1 is 'x'; it must be a number"),
        ({"s1": None}, "s1 is None"),
        ({"schedule": None}, "of the curve"),
        ({"compatible": "false"}, "compatible is 'false'; it must be True or False"),
        ({"blocks": {}}, None),
    ):
        if told is None:
            assert FreeU(**wrong).blocks == ""
        else:
            with pytest.raises(PrismError, match=told):
                FreeU(**wrong)
