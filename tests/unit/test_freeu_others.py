"""FreeU settings of other programs: sd-webui-freeu, Forge, reForge, SD.Next."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism.errors import PrismError
from sd_prism.freeu import FreeU
from sd_prism.freeu.others import Read, from_arguments, from_infotext, from_text, presets_of
from sd_prism.settings import FREEU

STATE = {
    "enable": True,
    "start_ratio": 0.2,
    "stop_ratio": 0.8,
    "transition_smoothness": 0.1,
    "version": "2",
    "stage_infos": [
        {"backbone_factor": 1.2, "skip_factor": 0.9},
        {"backbone_factor": 1.4, "skip_factor": 0.2, "backbone_offset": 0.25, "skip_cutoff": 0.1},
        {"skip_high_end_factor": 1.1},
    ],
}
EXPECTED = {
    "enabled": True,
    "version": "2",
    "start": 0.2,
    "stop": 0.8,
    "smoothness": 0.1,
    "b1": 1.2,
    "s1": 0.9,
    "b2": 1.4,
    "s2": 0.2,
    "offset2": 0.25,
    "cutoff2": 0.1,
    "high3": 1.1,
}


def full(read: Read | None):
    """The whole panel that was read."""
    assert read is not None
    return FREEU.read(read.values)


def panel(**values):
    neutral = dict.fromkeys(("b1", "s1", "b2", "s2"), 1.0)
    return FREEU.read({"enabled": True, **neutral, **values})


def test_the_dict_of_the_well_known_extension():
    assert full(from_arguments([STATE])) == panel(**EXPECTED)
    assert isinstance(FreeU.of(full(from_arguments([STATE]))), FreeU)


def test_its_flat_list_of_stages():
    flat = [1.2, 0.9, 0, 0.5, 0, 1, 1.4, 0.2, 0.25, 0.5, 0.1, 1, 1, 1, 0, 0.5, 0, 1.1]
    assert full(from_arguments([{**STATE, "stage_infos": flat}])) == panel(**EXPECTED)
    assert full(from_arguments([True, 0.2, 0.8, 0.1, "Version 2", *flat])) == panel(**EXPECTED)


@pytest.mark.parametrize(
    ("given_version", "read"),
    [({}, "1"), ({"version": "Version 2"}, "2"), ({"version": 2}, "1"), ({"version": "9"}, "1")],
)
def test_its_version_is_text_and_one_when_it_is_missing(given_version, read):
    state = {"stage_infos": [{"backbone_factor": 1.2}], **given_version}
    found = from_arguments([state])
    assert found.values["version"] == read
    assert any("no version" in note for note in found.notes) == (not given_version)


def test_a_whole_number_is_a_step():
    assert from_arguments([{"start_ratio": 5, "stop_ratio": 10}], steps=20).values["start"] == 0.25
    with pytest.raises(PrismError, match="names step 5; give it as a fraction"):
        from_arguments([{"start_ratio": 5}])


@pytest.mark.parametrize(
    ("width", "offset", "expected"), [(-0.25, 0.5, (0.25, 0.25)), (0.5, -0.25, (0.5, 0.75)), (2, 0, (1, 0))]
)
def test_windows_with_negative_numbers_become_positive_ones(width, offset, expected):
    stage = {"backbone_width": width, "backbone_offset": offset}
    values = from_arguments([{"stage_infos": [stage]}]).values
    assert (values["width1"], values["offset1"]) == pytest.approx(expected)


def test_forges_and_reforges_lists():
    read = full(from_arguments([True, 1.3, 1.4, 0.9, 0.2, 0.1, 0.7]))
    assert read == panel(version="2", b1=1.3, b2=1.4, s1=0.9, s2=0.2, start=0.1, stop=0.7)
    assert full(from_arguments([True, 1.3, 1.4, 0.9, 0.2])) == panel(version="2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    assert from_arguments([False, 1.3, 1.4, 0.9, 0.2]).values["enabled"] is False


@pytest.mark.parametrize(
    "ours",
    [[], [True], [True, "Custom"], [True, "SD 1.5 (authors)", "2", 1, 1, 1, 1], [{"b1": 1.2}], [{"version": "1"}]],
)
def test_our_own_arguments_are_not_taken_for_another_programs(ours):
    assert from_arguments(ours) is None


def test_infotext_of_the_well_known_extension():
    stages = json.dumps([{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}])
    params = {"FreeU Stages": stages, "FreeU Schedule": "0.0, 0.5, 0.0", "FreeU Version": "2", "Steps": "20"}
    assert full(from_infotext(params)) == panel(version="2", b1=1.2, s1=0.9, b2=1.4, s2=0.2, stop=0.5)
    steps = from_infotext({**params, "FreeU Schedule": "2, 10, 0.0"})
    assert (steps.values["start"], steps.values["stop"]) == (0.1, 0.5)
    del params["FreeU Version"]
    assert from_infotext(params).values["version"] == "1"


def test_infotext_of_forge_and_sd_next():
    forge = {"freeu_enabled": "True", "freeu_b1": "1.3", "freeu_b2": "1.4", "freeu_s1": "0.9", "freeu_s2": "0.2"}
    assert full(from_infotext(forge)) == panel(version="2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    assert full(from_infotext({**forge, "freeu_enabled": "False"}))["enabled"] is False
    assert full(from_infotext({**forge, "freeu_start": "0.2", "freeu_end": "0.6"}))["stop"] == 0.6
    assert full(from_infotext({"FreeU": "b1=1.2 b2=1.4 s1=0.9 s2=0.2"})) == panel(
        version="1", b1=1.2, b2=1.4, s1=0.9, s2=0.2
    )


def test_no_freeu_is_nothing():
    assert from_infotext({"Steps": "20", "Prism FreeU": "b1=1"}) is None


KEYS = ("FreeU Stages", "FreeU Schedule", "FreeU Version", "freeu_enabled", "freeu_b1", "FreeU", "Steps")
TEXTS = st.text(max_size=9) | st.sampled_from(["[1, 2, {}]", '[{"backbone_factor": "x"}]', "1, 2, 3", "True", "1e999"])


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, TEXTS)))
def test_any_infotext_is_read_or_a_prism_error(params):
    with suppress(PrismError):
        from_infotext(params)


def test_preset_files():
    state = {key: value for key, value in STATE.items() if key != "enable"}
    read = presets_of(json.dumps({"Mine": state}))
    assert full(read["Mine"]) == panel(**EXPECTED)
    assert any("saves no version" in note for note in read["Mine"].notes)
    forge = 'presets_custom = [\n    ("Mine", 1.3, 1.4, 0.9, 0.2, 0.0, 0.5),\n]\n'
    assert full(presets_of(forge)["Mine"]) == panel(version="2", b1=1.3, b2=1.4, s1=0.9, s2=0.2, stop=0.5)


@pytest.mark.parametrize(
    "text", ["[1, 2]", '{"a": 1}', "import os", "presets_custom = os.system('x')", "presets_custom = [(1,)]", "x ="]
)
def test_files_that_are_no_presets_are_told_and_never_run(text):
    with pytest.raises(PrismError, match=r"The file is"):
        presets_of(text)


def test_pasted_text_of_any_of_these_forms_is_read():
    quoted = json.dumps(json.dumps(STATE["stage_infos"]))
    infotext = f'a fish\nSteps: 20, Seed: 1, FreeU Stages: {quoted}, FreeU Schedule: "0.2, 0.8, 0.1", FreeU Version: 2'
    state = json.dumps({key: value for key, value in STATE.items() if key != "enable"})
    for text, name in ((infotext, ""), (state, ""), (f'{{"Mine": {state}}}', "Mine")):
        assert full(from_text(text)[name]) == panel(**EXPECTED)
    forge = "Steps: 4, freeu_enabled: True, freeu_b1: 1.3, freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2"
    assert full(from_text(forge)[""]) == panel(version="2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    assert full(from_text("FreeU: b1=1.2 b2=1.4 s1=0.9 s2=0.2, Steps: 3")[""])["b2"] == 1.4


@given(st.text(max_size=40))
def test_any_pasted_text_is_read_or_a_prism_error(text):
    with suppress(PrismError):
        from_text(text)


@pytest.mark.parametrize(
    "state",
    [
        {"stage_infos": 5},
        {"stage_infos": [[1, 2]]},
        {"start_ratio": None},
        {"start_ratio": "x"},
        {"stage_infos": [{"backbone_factor": "x"}]},
        {"stage_infos": [{"backbone_offset": float("inf")}]},
    ],
)
def test_arguments_that_cannot_be_read_are_told(state):
    with pytest.raises(PrismError, match="could not be read"):
        from_arguments([state])


def test_an_empty_file_holds_no_presets():
    with pytest.raises(PrismError, match=r"no presets\.json"):
        from_text("{}")


def test_a_schedule_that_stops_before_it_starts_is_never_on_and_says_so():
    read = from_arguments([{"start_ratio": 0.8, "stop_ratio": 0.2, "transition_smoothness": 1.0}])
    assert FreeU.of(full(read)).identity and any("never on" in note for note in read.notes)


def test_a_state_may_ask_for_its_own_pictures():
    assert full(from_arguments([{**STATE, "compatible": True}]))["compatible"] is True
