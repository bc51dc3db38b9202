"""Presets as values: files, infotexts, dicts, and what panels make of the user's own."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism import infotext
from sd_prism.cards import FEATURES, Preset, Store, live, shipped
from sd_prism.cards.preset import CARD, panel_of, parse, plain
from sd_prism.errors import PrismError, UnknownName
from sd_prism.settings import AUTOMATIC, CASCADE, CUSTOM, FREEU, MERGE, NAMESPACES, PANELS

BUILT_IN = [one for feature in FEATURES for one in shipped.presets(feature)]
OF_PANELS = [one for one in BUILT_IN if one.feature != CARD]


@pytest.fixture
def store(tmp_path):
    """An empty store; panels forget its presets afterwards."""
    made = Store(tmp_path / "presets")
    yield made
    for panel in PANELS:
        panel.set_saved({})
    live.refresh(Store(tmp_path / "none"))


def saved(store, *presets):
    store.save_all(presets)
    live.refresh(store)


def test_every_panel_with_a_preset_menu_and_cards_have_presets():
    assert FEATURES == ("freeu", "namespaces", "merge", "cascade", "card")
    assert {one.feature for one in BUILT_IN} == {"freeu", "namespaces", "cascade", "card"}


# --- round trips


@pytest.mark.parametrize("preset", BUILT_IN, ids=lambda one: f"{one.feature}-{one.name}")
def test_every_built_in_round_trips_through_a_file(preset, store):
    again = Preset.of_json(parse(plain(preset.to_json(), ""), ""), "")
    assert replace(again, origin="built-in") == preset
    copy = replace(preset, name=f"{preset.name} copy")
    assert store.save(copy) == store.get(copy.feature, copy.name) == replace(copy, origin="user")


@pytest.mark.parametrize("preset", OF_PANELS, ids=lambda one: f"{one.feature}-{one.name}")
def test_every_built_in_round_trips_through_the_infotext_and_the_api(preset):
    panel = panel_of(preset.feature)
    by_name = panel.read({"preset": preset.name})
    assert by_name["preset"] == preset.name
    assert panel.read(dict(preset.values)) | {"preset": preset.name} == by_name  # its values alone are all of it
    assert infotext.loads(panel, infotext.dumps(panel, by_name)) == by_name
    assert panel.read(json.loads(json.dumps(by_name))) == by_name


@pytest.mark.parametrize("preset", OF_PANELS, ids=lambda one: f"{one.feature}-{one.name}")
def test_every_built_in_round_trips_through_a_cell_of_a_grid(preset):
    panel = panel_of(preset.feature)
    other = next(name for name in panel.presets if name != preset.name)
    cell = panel.over(panel.read({"preset": other}), {"preset": preset.name})
    assert cell == panel.read({"preset": preset.name})
    assert panel.over(cell, {"preset": other}) == panel.read({"preset": other})


@pytest.mark.parametrize("name", MERGE["preset"].choices)
def test_every_block_preset_round_trips_through_file_infotext_dict_and_cell(name, store):
    values = MERGE.read({"preset": name, "model": "b"})
    assert infotext.loads(MERGE, infotext.dumps(MERGE, values)) == MERGE.read(dict(values)) == values
    assert MERGE.over(MERGE.read({"model": "b"}), {"preset": name}) == values
    saved(store, Preset("merge", "Mine", {"preset": name, "model": "b"}))
    assert MERGE.read({"preset": "Mine"}) == values


TEXTS = ("", "0", "0.5", "1@0 0@1", "a b", "IN04=0.3", "off", "1, 2", 'a:"b, c"')


def _valid(one):
    """Values of a field; of texts those that one field or another takes."""
    if one.choices:
        return st.sampled_from(one.choices)
    if isinstance(one.default, bool):
        return st.booleans()
    if isinstance(one.default, int):
        return st.integers(int(one.low), int(one.high))
    if isinstance(one.default, float):
        return st.floats(one.low, one.high)
    return st.sampled_from(
        [text for text in ("", "0", "0.5", "1@0 0@1", "a b", "IN04=0.3", "off") if _takes(one, text)]
    )


def _takes(one, text):
    try:
        one.check(text, "")
    except PrismError:
        return False
    return True


words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def presets(draw):
    panel = panel_of(draw(st.sampled_from(FEATURES[:-1])))
    values = draw(st.fixed_dictionaries({}, optional={name: _valid(panel[name]) for name in panel.kept}))
    unknown = draw(st.dictionaries(words.map("new_{}".format), json_values, max_size=2))
    name = "x" + draw(words)
    return Preset(panel.name, name, values | unknown, draw(words), draw(words), ("sd1",), {**unknown})


@given(presets())
def test_any_preset_round_trips_through_a_file_and_the_infotext(preset):
    checked = preset.checked("")
    assert Preset.of_json(parse(plain(checked.to_json(), ""), ""), "") == checked == checked.checked("")
    panel = panel_of(checked.feature)
    jsonschema.validate(json.loads(plain(checked.to_json(), "")), panel.preset_schema())
    values = panel.read(checked.complete())
    again = infotext.loads(panel, infotext.dumps(panel, values))
    for name in panel.kept:
        assert again[name] == values[name] or (panel[name].idle and panel[name].idle(values))


@given(presets())
def test_a_preset_holds_only_what_differs_and_what_is_not_known(preset):
    panel = panel_of(preset.feature)
    for name, value in preset.checked("").values.items():
        assert name not in panel.names or value != panel[name].default


# --- in the panels


def test_a_saved_preset_sets_everything_that_belongs_to_a_picture(store):
    saved(store, Preset("freeu", "Soft", {"b1": 1.1, "strength": 0.5}))
    assert FREEU["preset"].choices[-1] == "Soft" and FREEU.schema()["properties"]["preset"]["enum"][-1] == "Soft"
    for values in (FREEU.read({"preset": "soft"}), FREEU.read((True, "Soft", "1", 3.0, 3.0, 3.0, 3.0, 2.0))):
        assert (values["preset"], values["b1"], values["b2"], values["strength"]) == (
            "Soft",
            1.1,
            FREEU["b2"].default,
            0.5,
        )
    assert FREEU.preset_of({**values, "preset": CUSTOM}) == "Soft"
    assert FREEU.read({"preset": "Soft", "b1": 2})["preset"] == CUSTOM
    over = FREEU.over(FREEU.read({"strength": 2, "b1": 3}), {"preset": "Soft"})
    assert (over["b1"], over["strength"], over["preset"]) == (1.1, 0.5, "Soft")


def test_one_of_the_users_takes_the_place_of_a_built_in_one_of_its_name(store):
    saved(store, Preset("freeu", "sdxl (Authors)", {"b1": 2.0}))
    assert FREEU["preset"].choices.count("SDXL (authors)") == 0
    assert FREEU.read({"preset": "SDXL (authors)"})["b1"] == FREEU.read({"preset": AUTOMATIC}, "sdxl")["b1"] == 2.0
    assert [one.origin for one in store.list("freeu") if "sdxl (a" in one.name.casefold()] == ["user"]
    store.delete("freeu", "SDXL (authors)")
    live.refresh(store)
    assert FREEU.read({"preset": "SDXL (authors)"})["b1"] == 1.3


def test_the_automatic_preset_leaves_the_same_sliders_alone_whatever_is_saved(store):
    positional = (True, AUTOMATIC, "1", 3.0, 3.0, 3.0, 3.0, 0.5)
    before = FREEU.read(positional, "sd1")
    saved(store, Preset("freeu", "Soft", {"b1": 1.1}))
    assert FREEU.read(positional, "sd1") == before and before["strength"] == 0.5


def test_a_picture_holds_values_and_another_machines_preset_of_that_name_changes_nothing(store):
    saved(store, Preset("freeu", "Soft", {"b1": 1.1}))
    drawn = FREEU.read({"preset": "Soft"})
    text = infotext.dumps(FREEU, drawn)
    assert "preset=Soft" in text and infotext.loads(FREEU, text) == drawn
    store.save(Preset("freeu", "Soft", {"b1": 3.0, "smoothness": 0.5}))
    live.refresh(store)
    assert infotext.loads(FREEU, text) == {**drawn, "preset": CUSTOM}
    store.delete("freeu", "Soft")
    live.refresh(store)
    assert infotext.loads(FREEU, text) == {**drawn, "preset": CUSTOM}


def test_a_name_with_every_mark_of_the_grammar_comes_back_from_the_infotext(store):
    name = 'a; b=1, "c": \\d ポ'
    saved(store, Preset("namespaces", name, {"anti": True}))
    values = NAMESPACES.read({"preset": name})
    assert infotext.loads(NAMESPACES, infotext.dumps(NAMESPACES, values)) == values and values["preset"] == name


def test_a_saved_merge_stands_for_its_values_among_them_a_classic_preset(store):
    saved(
        store,
        Preset("merge", "Half neon", {"model": "neon", "preset": "GRAD_V", "strength": 0.5}),
        Preset("merge", "Ramp", {"weights": " ".join(["0.5"] * 25)}),
    )
    whole = MERGE.read({"preset": "half NEON"})
    assert (whole["model"], whole["preset"], whole["strength"]) == ("neon", "GRAD_V", 0.5)
    assert (
        "preset=GRAD_V" in infotext.dumps(MERGE, whole) and infotext.loads(MERGE, infotext.dumps(MERGE, whole)) == whole
    )
    weights = MERGE.over(whole, {"preset": "Ramp"})
    assert (weights["model"], weights["preset"], weights["strength"]) == ("neon", "Flat", 0.5)
    assert weights["weights"].startswith("0.5 0.5")


WORDS = {
    "freeu": ("Custom", "automatic (BY MODEL)"),
    "cascade": ("custom",),
    "merge": ("flat", "grad_v", "CUBIC_HERMITE"),
    "card": ("Automatic", "automatic (by model)"),
}


@pytest.mark.parametrize(("feature", "name"), [(feature, name) for feature, names in WORDS.items() for name in names])
def test_names_that_a_menu_has_for_something_else_are_refused(feature, name, store):
    with pytest.raises(PrismError, match=r"is a word of Prism .* itself; choose another name"):
        store.save(Preset(feature, name, {}))


def test_refreshing_tells_whether_anything_changed(store):
    live.refresh(store)
    assert live.refresh(store) is False
    store.save(Preset("cascade", "Slow", {"steps": 40}))
    assert live.refresh(store) is True and live.refresh(store) is False
    assert CASCADE.read({"preset": "Slow"})["steps"] == 40


def test_a_preset_is_checked_as_its_panel_checks():
    with pytest.raises(PrismError, match=r"here: Stage 1 backbone is 9; it must lie between -1 and 4"):
        Preset("freeu", "x", {"b1": 9}).checked("here")
    with pytest.raises(PrismError, match='feature "freu" does not exist; did you mean "freeu"'):
        Preset("freu", "x", {}).checked("here")
    assert Preset("freeu", "x", {"b1": "2", "compare": True, "b2": FREEU["b2"].default}).checked("").values == {
        "b1": 2.0
    }


def test_a_preset_that_is_not_there_is_named_with_the_nearest(store):
    with pytest.raises(UnknownName, match='did you mean "SDXL \\(authors\\)"'):
        store.get("freeu", "SDXL author")
