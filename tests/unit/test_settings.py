import argparse
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism import infotext
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.merge import Recipe
from sd_prism.settings import AUTOMATIC, CUSTOM, FREEU, MERGE, NAMESPACES, PANELS, Field
from sd_prism.settings.merge import recipe_of
from sd_prism.settings.namespaces import binds, dialect_of, replacements, strengths, windows


def test_positional_order_of_freeu_is_frozen():
    stages = [f"{name}{k}" for k in "123" for name in ("offset", "width", "cutoff", "high")]
    assert " ".join(FREEU.names) == (
        "enabled preset version b1 s1 b2 s2 strength start stop smoothness schedule hires_schedule domain rule b3 s3 "
        f"{' '.join(stages)} symmetric keep_mean hires_radius blocks compatible compare measure"
    )


def test_labels_titles_and_infotext_keys_are_frozen():
    assert FREEU.title == "Prism FreeU"
    assert [one.label for one in FREEU.fields] == [
        "Prism FreeU",
        "Preset",
        "Version",
        "Stage 1 backbone",
        "Stage 1 skip",
        "Stage 2 backbone",
        "Stage 2 skip",
        "Strength",
        "Start",
        "Stop",
        "Smoothness",
        "Schedule",
        "Hires schedule",
        "Schedule over",
        "Stages by",
        "Stage 3 backbone",
        "Stage 3 skip",
        *(
            f"Stage {k} {part}"
            for k in "123"
            for part in ("channel offset", "channel width", "skip cutoff", "skip high end")
        ),
        "Both diagonals",
        "Keep brightness",
        "Grow with hires",
        "Block overrides",
        "Repeat sd-webui-freeu",
        "Also draw without",
        "Measure",
    ]


def test_namespaces_order_labels_and_choices_are_frozen():
    assert {one.name: one.label for one in NAMESPACES.fields} == {
        "enabled": "Prism Namespaces",
        "preset": "Preset",
        "dialect": "Dialect",
        "strength": "Strength of tags",
        "window": "Part of the run",
        "anti": "Name wrong senses",
        "isolate": "Encode apart",
        "bind": "Bind",
        "bind_schedule": "Bind schedule",
        "order": "Order",
        "replace": "Other values",
        "sets": "Sets",
        "show_rendered": "Keep the rendered prompt",
    }
    assert NAMESPACES.title == "Prism Namespaces" and NAMESPACES["dialect"].choices[:2] == (AUTOMATIC, "As written")
    assert NAMESPACES["order"].choices == ("by dialect", "as written", "alphabetical")
    assert NAMESPACES.read(())["enabled"] is False


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_labels_are_unique_within_a_panel(panel):
    labels = [one.label for one in panel.fields]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_defaults_pass_their_own_check_and_schema(panel):
    jsonschema.Draft202012Validator.check_schema(panel.schema())
    jsonschema.validate(panel.defaults(), panel.schema())
    assert {one.name: one.check(one.default, "") for one in panel.fields} == panel.defaults()


def test_short_positional_arguments_keep_defaults():
    assert FREEU.read((True,)) == {**FREEU.defaults(), "enabled": True, "preset": "SD 1.5 (authors)"}
    assert FREEU.read(()) == {**FREEU.defaults(), "preset": "SD 1.5 (authors)"}


def test_positional_preset_wins_over_sliders_and_custom_stands_for_them():
    named = FREEU.read((True, "SD 2.1 (authors)", "1", 3.0, 3.0, 3.0, 3.0))
    assert (named["version"], named["b1"], named["s2"]) == ("2", 1.4, 0.2)
    custom = FREEU.read((True, CUSTOM, "1", 1.1, 0.7, 1.2, 0.4))
    assert custom == FREEU.defaults() | dict(zip(FREEU.names, (True, CUSTOM, "1", 1.1, 0.7, 1.2, 0.4)))


def test_dict_form_is_on_unless_it_says_otherwise():
    assert FREEU.read({"b1": 1.2})["enabled"] is True
    assert FREEU.read([{"enabled": False}])["enabled"] is False


def test_dict_form_lets_given_values_win_over_the_preset():
    values = FREEU.read({"preset": "SDXL (authors)", "b1": 1.1})
    assert (values["b1"], values["b2"], values["preset"]) == (1.1, 1.4, CUSTOM)


def test_unknown_setting_names_the_nearest():
    with pytest.raises(UnknownName, match=r'Prism FreeU setting "backbone" does not exist.*Known: enabled'):
        FREEU.read({"backbone": 1})
    with pytest.raises(UnknownName, match='did you mean "preset"'):
        FREEU.read({"presett": "x"})


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UnknownName, match=r'Preset "sd15 authors".*did you mean "SD 1.5 \(authors\)"'):
        FREEU.read({"preset": "sd15 authors"})


def test_out_of_range_names_field_range_and_nearest():
    with pytest.raises(OutOfRange, match=r"Stage 1 backbone is 7.5; it must lie between -1 and 4.*Nearest: 4"):
        FREEU.read({"b1": 7.5})


@pytest.mark.parametrize("bad", ["fast", None, float("nan"), True, [1], 10**400])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(PrismError, match=r"Stage 1 backbone is .* must be a number"):
        FREEU.read({"b1": bad})


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("on", True), ("0", False), (True, True)]
)
def test_switches_understand_words(text, value):
    assert FREEU["enabled"].check(text, "") is value


def test_numbers_keep_the_type_of_their_default():
    whole = Field("n", "N", 3, "", 0, 10)
    assert whole.check("4", "") == 4
    assert isinstance(FREEU["b1"].check(1, ""), float)


def valid(one):
    """Any value that a field takes."""
    if one.choices:
        return st.sampled_from(one.choices)
    if isinstance(one.default, bool):
        return st.booleans()
    if isinstance(one.default, str):
        return st.sampled_from(TEXTS[one.name])
    return st.floats(one.low, one.high, width=16)


CURVES = ("", "0", "1@0, 0@1", "0@0 1@.25 1@0.5, 0.5@1")
TEXTS = {"schedule": CURVES, "hires_schedule": CURVES, "blocks": ("", "OUT03=1.2/0.5", "7=1/0.25, out00=-1/2")}
values = st.fixed_dictionaries({one.name: valid(one) for one in FREEU.fields if one.name != "enabled"})


@given(values)
def test_infotext_round_trip(given_values):
    complete = FREEU.read({**given_values, "enabled": True})
    text = infotext.dumps(FREEU, complete)
    assert not set(text) & set(",:\n")
    again = infotext.loads(FREEU, text)
    assert again.keys() == complete.keys()
    for name in ("enabled", "preset", *FREEU.kept):
        value = complete[name]
        assert again[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


# --- texts of the namespaces panel


@pytest.mark.parametrize(
    ("name", "text", "normal"),
    [
        ("dialect", "SOTE", "SoteDiffusion"),
        ("dialect", "pony", "Pony"),
        ("strength", "1.20", "1.2"),
        ("strength", "species = 1.2,studio=.8", "species=1.2 studio=0.8"),
        ("window", "species=0-.60", "species=0-0.6"),
        ("bind", "0.4 pixiv_work=1", "0.4 pixiv_work=1"),
        ("bind", "0.4 species=0", "0.4 species=0"),
        ("bind", "0", ""),
        ("bind", "0.0 species=0", ""),
        ("bind_schedule", "1@0, 0@.5", "1@0 0@0.5"),
        ("isolate", "species,  studio", "species studio"),
        ("replace", 'species: dog , studio:"warner, bros"', 'species:dog, studio:"warner, bros"'),
        ("replace", r'title:"a \"b\" c"', r'title:"a \"b\" c"'),
        ("sets", "Sygil, BOORU", "sygil booru"),
    ],
)
def test_texts_have_a_normal_form_that_reads_the_same(name, text, normal):
    once = NAMESPACES.read({name: text})[name]
    assert once == normal == NAMESPACES.read({name: once})[name]


def test_texts_are_read_by_namespace():
    assert strengths("1.2 studio=0.8") == {"*": 1.2, "studio": 0.8}
    assert binds("0.4") == {"*": 0.4}
    assert windows("0-0.6 species=0.5-1") == {"*": (0.0, 0.6), "species": (0.5, 1.0)}
    assert replacements('pixiv work:1, a:"b, c"') == {"pixiv work": "1", "a": "b, c"}
    assert (dialect_of("SoteDiffusion"), dialect_of(AUTOMATIC)) == ("sote", None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"strength": "species"}, '"species" in "species" is no number'),
        ({"strength": "species=9"}, r"species is 9; it must lie between 0 and 4 \(species=9\)\. Nearest: 4"),
        ({"strength": "inf"}, "the value of all tags is inf"),
        ({"enabled": None}, r'^Prism Namespaces is "None"; it must be true or false$'),
        ({"anti": "x"}, r"true or false \(Prism Namespaces\)"),
        ({"dialect": None}, r'^Dialect "None" does not exist\. Known'),
        ({"dialect": ""}, r'^Dialect "" does not exist\. Known'),
        ({"strength": "=1"}, "cannot be read"),
        ({"bind": "1.5"}, "between 0 and 1"),
        ({"window": "0.5"}, "says no end"),
        ({"window": "0.6-0.2"}, "ends before it starts"),
        ({"replace": "dog"}, "is no tag"),
        ({"sets": "sygl"}, 'did you mean "sygil"'),
        ({"dialect": "sygill"}, 'did you mean "Sygil"'),
        ({"bind_schedule": "1@2"}, "position"),
    ],
)
def test_texts_that_cannot_be_read_are_told_with_the_field(given, told):
    with pytest.raises(PrismError, match=told) as error:
        NAMESPACES.read(given)
    assert NAMESPACES[next(iter(given))].label in str(error.value)


texts = st.fixed_dictionaries(
    {
        "dialect": st.sampled_from(NAMESPACES["dialect"].choices),
        "strength": st.sampled_from(["", "1.2", "species=0.5 studio=2"]),
        "replace": st.sampled_from(["", "species:dog", 'studio:"a; b", title:"c:d"']),
        "anti": st.booleans(),
        "order": st.sampled_from(NAMESPACES["order"].choices),
    }
)


def test_given_values_win_over_a_given_preset_and_that_over_the_panels():
    panel = NAMESPACES.read({"dialect": "sote", "bind": "0.5", "strength": "1.2"})
    values = NAMESPACES.over(panel, {"preset": "Pony", "bind": "0.3"})
    assert (values["dialect"], values["bind"], values["strength"]) == ("Pony", "0.3", "1.2")
    assert NAMESPACES.over(panel, {"preset": "Custom", "enabled": True}) == panel


@given(texts)
def test_infotext_of_namespaces_round_trip(given_values):
    complete = NAMESPACES.read(given_values)
    assert infotext.loads(NAMESPACES, f"{infotext.dumps(NAMESPACES, complete)}; registry=0123abcd") == complete


def test_what_is_for_this_run_only_is_not_kept():
    once = [one.name for one in FREEU.fields if one.once]
    assert once == ["compare", "measure"] and not set(once) & set(FREEU.kept)
    text = infotext.dumps(FREEU, FREEU.read(dict.fromkeys(once, True)))
    assert all(infotext.loads(FREEU, text)[name] is False for name in once)


def test_infotext_is_by_value():
    text = infotext.dumps(FREEU, FREEU.read({"preset": "SD 1.5 (authors)"}))
    assert text == "preset=SD 1.5 (authors); version=2; b1=1.5; s1=0.9; b2=1.6; s2=0.2"


def test_infotext_of_another_version_still_reads():
    text = "preset=Made in 2031; version=1; b1=1.25; new_thing=7; s1=0.5; b2=1; s2=1"
    values = infotext.loads(FREEU, text)
    assert (values["enabled"], values["preset"], values["b1"]) == (True, CUSTOM, 1.25)


def test_missing_infotext_is_explicitly_off():
    assert infotext.loads(FREEU, None)["enabled"] is False


@pytest.mark.parametrize("text", ['a="x; y=1"; c=2', "garbage", ";;;", '="', 'b1="unclosed', "b1=; x", "b1=99; s1=0.1"])
def test_an_infotext_that_cannot_be_read_is_off(text):
    assert infotext.loads(FREEU, text)["enabled"] is False


def test_command_line_options_come_from_the_declaration():
    parser = argparse.ArgumentParser()
    for flag, keywords in FREEU.options():
        parser.add_argument(flag, **keywords)
    parsed = parser.parse_args(["--freeu.preset", "SDXL (authors)", "--freeu.b1", "1.2"])
    assert vars(parsed)["freeu.preset"] == "SDXL (authors)"
    assert "--freeu.b1 -1..4" in parser.format_help()


def test_axes_and_table_name_every_field():
    assert [label for label, _ in FREEU.axes()][3] == "[Prism FreeU] Stage 1 backbone"
    assert FREEU.markdown().count("\n") == len(FREEU.fields) + 1


def test_preset_schema_accepts_a_saved_preset():
    schema = FREEU.preset_schema()
    saved = {"format": "prism.preset", "version": 1, "feature": "freeu", "name": "mine", "values": {"b1": 1.2}}
    jsonschema.validate(saved, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**saved, "values": {"b1": 99}}, schema)


def test_the_case_of_a_positional_preset_does_not_matter():
    assert FREEU.read((True, "sdxl (AUTHORS)", "1", 1.1, 0.9, 1.2, 0.2)) == FREEU.read((True, "SDXL (authors)"))


@given(st.floats(-1, 4))
def test_infotext_keeps_every_digit(factor):
    text = infotext.dumps(FREEU, FREEU.read({"s2": factor}))
    assert infotext.loads(FREEU, text)["s2"] == factor


def test_block_merge_order_labels_and_choices_are_frozen():
    assert {one.name: one.label for one in MERGE.fields} == {
        "enabled": "Prism Block Merge",
        "model": "Model B",
        "ratio": "Ratio",
        "preset": "Block preset",
        "weights": "Block weights",
        "blocks": "Single blocks",
        "te": "Text encoder",
        "vae": "VAE",
        "mode": "Merge mode",
        "minus": "Model C",
        "options": "Mode options",
        "include": "Only these blocks",
        "exclude": "Except these blocks",
        "steps": "Steps",
        "strength": "Merge strength",
        "recipe": "More models",
        "hires": "Hires pass",
        "everywhere": "Other checkpoints too",
    }
    assert MERGE.title == "Prism Block Merge" and MERGE["mode"].choices[:2] == ("Weighted sum", "Add difference")
    assert len(MERGE["preset"].choices) == 39 and MERGE.read(())["enabled"] is False


@pytest.mark.parametrize(
    ("given", "recipe"),
    [
        ({}, ""),
        ({"model": "neon"}, "neon:0.5:VAE=0"),
        ({"model": "neon", "vae": ""}, "neon:0.5"),
        ({"model": "neon", "preset": "grad_v", "te": 0.2}, "neon:GRAD_V:BASE=0.2,VAE=0"),
        ({"model": "neon", "weights": "0, 0.5 1"}, "neon:0,0.5,1:VAE=0"),
        ({"model": "neon", "blocks": "in4 = 0.3, /attn2=1"}, "neon:0.5:VAE=0,IN04=0.3,/attn2=1"),
        ({"model": "neon", "strength": 0.5, "blocks": "M00=1"}, "neon:0.25:VAE=0,M00=0.5"),
        ({"model": "neon", "strength": 0, "mode": "Cosine A"}, ""),
        ({"model": "a", "minus": "b", "mode": "Extract", "strength": 0, "recipe": "x + neon:0.3"}, "x + neon:0.3"),
        ({"model": "a", "minus": "b", "mode": "add_difference"}, '"a"-"b":0.5:VAE=0:add'),
        ({"model": "neon", "mode": "DARE", "options": "keep=0.3,seed=5"}, "neon:0.5:VAE=0:dare:keep=0.3:seed=5"),
        (
            {"model": "neon", "include": "IN04-IN08", "exclude": "/bias"},
            "neon:0.5:VAE=0:include=IN04-IN08:exclude=/bias",
        ),
        ({"model": "neon", "steps": "5-20"}, "neon:0.5:VAE=0:step=5-20"),
        ({"model": "neon", "steps": "0@0 1@0.5"}, "neon:0.5:VAE=0:step=0@0,1@0.5"),
        ({"recipe": "x + neon:0.3"}, "x + neon:0.3"),
        ({"model": "neon", "recipe": "x + anime:0.3"}, "x + neon:0.5:VAE=0 + anime:0.3"),
    ],
)
def test_the_settings_of_a_merge_are_one_recipe(given, recipe):
    values = MERGE.read(given)
    assert recipe_of(values) == Recipe.parse(recipe)
    assert recipe_of(values, hires=True) == recipe_of(values)
    assert infotext.loads(MERGE, infotext.dumps(MERGE, values)) == values


def test_the_hires_pass_of_a_merge():
    def hires(text):
        return str(recipe_of(MERGE.read({"model": "neon", "hires": text}), hires=True))

    assert [hires("off"), hires("0"), hires("x:0.3")] == ["", "", "x:0.3"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": "GRAD_W"}, "GRAD_V"),
        ({"mode": "summ"}, "sum"),
        ({"blocks": "IN40"}, "has no weight; write IN40=0.5"),
        ({"blocks": "IN04=0,5"}, "write IN04=0.5, not IN04=0,5"),
        ({"blocks": "IX04=1"}, 'block "IX04"'),
        ({"weights": "0 x"}, '"x" is no number'),
        ({"weights": "0 99"}, "between -10 and 10"),
        ({"steps": "20"}, "step=5-20"),
        ({"options": "kep=1"}, '"keep"'),
        ({"te": "full"}, "is no number"),
        ({"te": "0,5"}, '"0,5" is no number; write 0.5'),
        ({"weights": "50%"}, "write 0.5 as the ratio"),
        ({"weights": "base:0.5, in99:1"}, '"IN99" does not exist'),
        ({"ratio": "0,5"}, "between -1 and 2 (Prism Block Merge); write 0.5"),
        ({"recipe": "neon"}, "no weight"),
        ({"ratio": 3}, "between -1 and 2"),
    ],
)
def test_wrong_settings_of_a_merge_are_told(given, said):
    with pytest.raises(PrismError, match=re.escape(said)):
        MERGE.read(given)
