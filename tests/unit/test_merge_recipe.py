import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.merge.blocks import Layout
from sd_prism.merge.presets import PRESETS
from sd_prism.merge.recipe import MODES, Recipe, Steps, Term
from sd_prism.merge.select import KNOWN, Selector
from sd_prism.schedule import Curve

LIB = Path(__file__).resolve().parents[2] / "lib"
UNET = "model.diffusion_model."


def layout(inputs, *more):
    """A model with two tensors in each block."""
    spine = [f"input_blocks.{i}.0" for i in range(inputs)] + ["middle_block.1"]
    spine += [f"output_blocks.{i}.0" for i in range(inputs)]
    names = [
        f"{UNET}{block}.{x}" for block in [*spine, "time_embed.0", "out.2", *more] for x in ("attn2.weight", "bias")
    ]
    return Layout.of(dict.fromkeys([*names, "cond_stage_model.x.bias", "first_stage_model.y.bias"], (4,)))


SD1, SDXL, SMALL = layout(12), layout(9, "label_emb.0"), layout(2)


def only(text):
    (term,) = Recipe.parse(text).terms
    return term


def levels(text, model=SMALL):
    return only(text).levels(model)


# --- what a line means -------------------------------------------------------------------------------------------


def test_a_number_is_the_weight_of_everything_and_blocks_may_differ():
    assert levels("B:0.25:IN01=0.3,M00=1") == {
        "BASE": 0.25,
        "IN00": 0.25,
        "IN01": 0.3,
        "M00": 1.0,
        "OUT00": 0.25,
        "OUT01": 0.25,
        "TIME_EMBED": 0.25,
        "OUT": 0.25,
        "VAE": 0.25,
    }


def test_a_presets_ends_reach_the_blocks_outside_its_run():
    found = levels("B:WRAP08", SD1)
    assert (found["IN03"], found["IN04"]) == (1, 0)
    assert (found["TIME_EMBED"], found["OUT"], found["BASE"], found["VAE"]) == (1, 1, 0, 0)
    assert levels("B:ALL_B", SD1) == dict.fromkeys(SD1.blocks, 1.0)


def test_presets_run_over_the_blocks_that_the_model_has():
    assert [levels("B:GRAD_V", SMALL)[block] for block in SMALL.spine] == [1, 0.5, 0, 0.5, 1]
    assert levels("B:COSINE", SDXL)["LABEL_EMB"] == 1


@pytest.mark.parametrize(
    ("text", "model", "found"),
    [
        ("B:.1,.2,.3,.4,.5", SMALL, {"BASE": 0, "IN00": 0.1, "OUT01": 0.5, "TIME_EMBED": 0.1, "OUT": 0.5, "VAE": 0}),
        ("B:.9,.1,.2,.3,.4,.5", SMALL, {"BASE": 0.9, "IN00": 0.1, "OUT01": 0.5, "VAE": 0.9}),
        ("B:" + ",".join(map(str, range(-8, 11))), SDXL, {"IN00": -8, "M00": 1, "OUT08": 10, "LABEL_EMB": -8}),
    ],
    ids=["blocks", "BASE first", "SDXL"],
)
def test_a_list_is_for_the_blocks_in_their_order(text, model, found):
    assert found.items() <= levels(text, model).items()


def test_lists_for_sd_serve_sdxl_without_the_blocks_it_lacks():
    of = {block: i / 100 for i, block in enumerate(["BASE", *SD1.spine])}
    found = levels("B:" + ",".join(map(str, of.values())), SDXL)
    assert {block: found[block] for block in ("BASE", *SDXL.spine)} == {x: of[x] for x in ("BASE", *SDXL.spine)}
    assert (found["OUT"], found["VAE"]) == (of["OUT08"], 0)


def test_lists_with_two_more_weights():
    runtime = levels("B:" + ",".join(["0"] * 25 + ["0.7", "0.8"]), SD1)
    assert (runtime["TIME_EMBED"], runtime["OUT"], runtime["BASE"]) == (0.7, 0.8, 0)
    supermerger = levels("B:" + ",".join(["0.7"] + ["0"] * 19 + ["0.8"]), SDXL)
    assert (supermerger["BASE"], supermerger["VAE"], supermerger["OUT"]) == (0.7, 0.8, 0)


def test_a_list_that_does_not_fit_is_refused_with_the_length_that_does():
    with pytest.raises(PrismError, match="3 weights does not fit Stable Diffusion 1; expected 5 for its blocks"):
        levels("B:1,2,3")


def test_names_win_over_blocks_and_what_is_left_out_is_not_touched():
    term = only("B:0.5:/attn2=1,IN01=0,IN00-IN01/bias=0.2:exclude=OUT,BASE/bias:include=IN00-OUT,BASE")
    weights = {name.removeprefix(UNET): weight for name, weight in term.weights(SMALL).items()}
    assert weights["input_blocks.0.0.attn2.weight"] == weights["input_blocks.1.0.attn2.weight"] == 1
    assert weights["input_blocks.0.0.bias"] == weights["input_blocks.1.0.bias"] == 0.2
    assert weights["output_blocks.0.0.bias"] == 0.5
    assert not {"out.2.bias", "cond_stage_model.x.bias", "first_stage_model.y.bias"} & set(weights)


def test_pieces_of_names_are_literal_but_for_the_star():
    assert Selector.parse("/to_*weight").matches("attn1.to_k.weight")
    assert not Selector.parse("/to.k").matches("attn1.to_k.weight")


def test_a_rule_about_text_encoder_or_vae_asks_nothing_of_a_file_without_one():
    bare = Layout.of(dict.fromkeys([f"{UNET}input_blocks.0.0.bias", f"{UNET}out.2.bias"], (4,)))
    assert levels("B:0.5:te=0,vae=1", bare) == {"IN00": 0.5, "OUT": 0.5}


def test_a_block_that_the_model_lacks_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match='block of SDXL "IN09" does not exist; did you mean "IN0'):
        levels("B:0.5:IN09=1", SDXL)


def test_scale_is_the_presets_factor_and_not_that_of_single_blocks():
    found = levels("B:0.5:lbw=GRAD_V:IN00=1")
    assert [found[block] for block in SMALL.spine] == [1, 0.25, 0, 0.25, 0.5]
    assert only("B:0.5:lbw=GRAD_V") == only("B:GRAD_V:scale=0.5")
    assert only("B:0.5:scale=0.5") == only("B:0.25")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("B:0.5:te=0:vae=1", "B:0.5:BASE=0,VAE=1"),
        ("B:0.5:in4=1:mid=0", "B:0.5:IN04=1,M00=0"),
        ("B:grad_v", "B:GRAD_V"),
        ("B:half_smoothstep", "B:SMOOTHSTEP/2"),
        ("B:0.5:trainDifference", "B:0.5:mode=train"),
        ("B:0.5:Add difference", "B:0.5:add"),
        ("B:0.5:start=5:stop=20", "B:0.5:step=5-20"),
        ("B:IN04=0.3,OUT05=1", "B:0:IN04=0.3,OUT05=1"),
        ("B:0.5:IN04=1,IN04=0.2", "B:0.5:IN04=0.2"),
        ("B:0.5:dare:keep=0.5:seed=0", "B:0.5:dare"),
        ("  B : 0.50 : step = 5-20  ", "B:0.5:step=5-20"),
        ("B:-0.0", "B:0"),
    ],
)
def test_other_spellings_are_the_same_recipe(text, same):
    assert Recipe.parse(text) == Recipe.parse(same)
    assert hash(Recipe.parse(text)) == hash(Recipe.parse(same))


# --- models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("my model.safetensors:0.5", "my model.safetensors"),
        ("a+b:0.5", "a+b"),
        (r"C:\models\my b.safetensors:0.5", r"C:\models\my b.safetensors"),
        ("D:/models/b:0.5", "D:/models/b"),
        ("C:0.5", "C"),
        ('"a + b:c":0.5', "a + b:c"),
        ('"say ""hi""":0.5', 'say "hi"'),
        ("folder/é-模型_v1.0 (x) [1234]:0.5", "folder/é-模型_v1.0 (x) [1234]"),
    ],
)
def test_names_of_files(text, model):
    term = only(text)
    assert (term.model, term.weight) == (model, 0.5)
    assert Recipe.parse(str(Recipe((term,)))).terms == (term,)


def test_terms_and_a_base_of_their_own():
    recipe = Recipe.parse("flat.safetensors + a+b:0.3 + C:0.2")
    assert recipe.base == "flat.safetensors"
    assert [term.model for term in recipe.terms] == ["a+b", "C"]
    assert recipe.models == ("flat.safetensors", "a+b", "C")
    assert Recipe.parse("B:0.5 + C:0.2").models == ("B", "C")


def test_the_empty_recipe():
    assert Recipe.parse("  ") == Recipe() == Recipe.from_json({}) == Recipe.from_json({"terms": []})
    assert str(Recipe()) == ""
    assert not Recipe().models


def test_two_models_in_quotes_are_a_difference():
    term = only('"my-b" - "my-c":0.6:add')
    assert (term.model, term.minus) == ("my-b", "my-c")
    assert only("my-b:0.6:add:minus=my-c") == term


def test_a_hyphen_is_a_minus_only_where_no_file_has_the_whole_name():
    recipe = Recipe.parse("my-b-c:0.6:add")
    whole = recipe.terms[0]
    assert (whole.model, whole.minus) == ("my-b-c", "")
    (split,) = recipe.resolve(["A", "my-b", "c"]).terms
    assert (split.model, split.minus) == ("my-b", "c")
    (split,) = recipe.resolve(["A", "my", "b-c"]).terms
    assert (split.model, split.minus) == ("my", "b-c")
    assert Recipe.parse("my-b:0.6").resolve(["my-b"]) == Recipe.parse("my-b:0.6")
    with pytest.raises(PrismError, match=r'subtract: choose model C, or write "my-b-c"-"C":0\.6:add'):
        recipe.resolve(["my-b-c", "my-b", "c"])


@pytest.mark.parametrize(
    ("text", "missing"), [("neno:0.5", "neno"), ('"B"-"neno":1:add', "neno"), ("neno + B:1", "neno")]
)
def test_a_missing_model_is_told_with_the_nearest(text, missing):
    with pytest.raises(UnknownName, match=f'model "{missing}" does not exist; did you mean "neon"'):
        Recipe.parse(text).resolve(["A", "B", "neon"])


def test_models_are_found_in_any_case_where_one_only_is_written_so():
    (term,) = Recipe.parse('"NEON"-"base":0.5:add').resolve(["A", "neon", "Base"]).terms
    assert (term.model, term.minus) == ("neon", "Base")
    (term,) = Recipe.parse("Neon-BASE:0.5:add").resolve(["A", "neon", "Base"]).terms
    assert (term.model, term.minus) == ("neon", "Base")
    assert Recipe.parse("flat + Neon:0.5").resolve(["FLAT", "neon"]).base == "FLAT"
    known = ["A", "neon", "Neon"]
    assert Recipe.parse("Neon:0.5").resolve(known).terms[0].model == "Neon"
    for text in ("NEON:0.5", "a:0.5"):  # two of them; the loaded model has no other name
        with pytest.raises(UnknownName):
            Recipe.parse(text).resolve(known)


def test_of_hundreds_of_models_an_error_names_the_nearest_few():
    with pytest.raises(UnknownName) as raised:
        Recipe.parse("neno:0.5").resolve(["A", *(f"model {i}" for i in range(300)), "neon", "old neon"])
    assert "Known: neon, model 0, " in str(raised.value) and str(raised.value).endswith(" and 297 more")


def test_users_own_presets_become_part_of_the_recipe_and_hide_no_classic_one():
    lists = {"mine": (0.1, 0.2, 0.3), "GRAD_V": (0.0, 0.0, 0.0)}
    assert Recipe.parse("B:mine + B:GRAD_V", lists) == Recipe.parse("B:0.1,0.2,0.3 + B:GRAD_V")
    with pytest.raises(UnknownName, match='"mime" does not exist; did you mean "mine"'):
        Recipe.parse("B:mime", lists)


# --- steps -------------------------------------------------------------------------------------------------------


def strengths(text, steps=10):
    return [only(f"B:1:{text}").strength(step, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("step=2-5", [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]),
        ("step=0.2-0.5", [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]),
        ("step=0.0-1.0", [1] * 10),
        ("step=2e-1-.5", [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]),
        ("start=8", [0] * 8 + [1] * 2),
        ("stop=2", [1] * 2 + [0] * 8),
        ("step=5-200", [0] * 5 + [1] * 5),
        ("step=0@0,1@1", [i / 9 for i in range(10)]),
        ("step=0@0.2,0.5@0.8", [0, 0, *((i / 9 - 0.2) / 1.2 for i in range(2, 8)), 0.5, 0.5]),
    ],
)
def test_steps(text, found):
    assert strengths(text) == pytest.approx(found, abs=1e-12)


def test_a_run_is_one_constant_recipe_for_each_step():
    recipe = Recipe.parse("B:GRAD_V:IN04=0.4:step=2-4 + C:0.75:step=0@0,1@0.6666666666666666")
    run = recipe.run(4)
    assert [str(state) for state in run] == [
        "",
        "C:0.375",
        "B:GRAD_V:IN04=0.4 + C:0.75",
        "B:GRAD_V:IN04=0.4 + C:0.75",
    ]
    assert recipe.run(4)[0] == Recipe()
    assert str(Recipe.parse("B:GRAD_V:IN04=0.4:step=0.5@0").run(1)[0]) == "B:GRAD_V:IN04=0.2:scale=0.5"


def test_a_base_of_its_own_stands_while_no_term_holds():
    run = Recipe.parse('X + "B"-"C":1:add:step=5-9').run(6)
    assert [str(run[0]), str(run[5])] == ["X + B:0", 'X + "B"-"C":1:add']


def test_steps_are_whole_numbers():
    with pytest.raises(PrismError, match=r"start is 2\.5, which is no step"):
        Steps(2.5, 4)


@given(st.integers(1, 60), st.integers(2, 8), st.lists(st.sampled_from([0, 0.25, 0.5, 1, 1.5]), min_size=1, max_size=5))
def test_a_run_has_few_states_and_exact_ends(steps, states, values):
    points = tuple((i / len(values), value) for i, value in enumerate(values))
    recipe = Recipe((Term("B", 1.0, when=Curve(points)), Term("C", 0.5, when=Steps(3, 7))))
    run = recipe.run(steps, states)
    assert len(run) == steps
    assert len(set(run)) <= states
    for step in (0, steps - 1):
        assert run[step] == recipe.run(steps, steps + 2)[step]


# --- round trips -------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
WEIGHTS = st.floats(-10, 10).map(lambda x: x + 0.0)
SELECTORS = st.one_of(
    st.builds(Selector, st.sampled_from(KNOWN)),
    st.builds(Selector, st.sampled_from(KNOWN), st.sampled_from(KNOWN), st.sampled_from(["", "attn2", "to_*.weight"])),
    st.builds(Selector, piece=st.sampled_from(["norm", "proj_in.*"])),
)
SOME = st.lists(SELECTORS, max_size=3, unique=True).map(tuple)
WHEN = st.one_of(
    st.none(),
    st.builds(Steps, st.integers(0, 20), st.one_of(st.none(), st.integers(21, 50))),
    st.builds(Steps, st.floats(0, 0.4), st.floats(0.5, 1), st.just(True)),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=4).map(
        lambda x: Curve(tuple(sorted(x)))
    ),
)


@st.composite
def terms(draw):
    mode = MODES[draw(st.sampled_from(sorted(MODES)))]
    options = {name: draw(st.floats(low, min(high, 1e6))) for name, (_, low, high) in mode.options.items()}
    weight = draw(
        st.one_of(WEIGHTS, st.sampled_from(sorted(PRESETS)), st.lists(WEIGHTS, min_size=3, max_size=6).map(tuple))
    )
    return Term(
        model=draw(NAMES),
        weight=weight,
        rules=tuple((selector, draw(WEIGHTS)) for selector in draw(SOME)),
        mode=mode.name,
        minus=draw(NAMES) if mode.minus != "no" else "",
        scale=1.0 if isinstance(weight, float) else draw(WEIGHTS),
        include=draw(SOME),
        exclude=draw(SOME),
        when=draw(WHEN),
        options=tuple(options.items()),
    )


RECIPES = st.builds(Recipe, st.lists(terms(), min_size=1, max_size=3).map(tuple), st.one_of(st.just("A"), NAMES))


@given(RECIPES)
def test_text_reads_back_as_the_same_recipe(recipe):
    again = Recipe.parse(str(recipe))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert str(again) == str(recipe)


@given(RECIPES)
def test_json_reads_back_as_the_same_recipe(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@given(st.text(alphabet='AB:"+ -=,./0123IN@xstep\\', max_size=40))
def test_any_text_is_a_recipe_or_a_clear_error(text):
    try:
        recipe = Recipe.parse(text)
    except PrismError as error:
        assert str(error)
    else:
        assert Recipe.parse(str(recipe)) == recipe


def test_json_leaves_out_what_is_as_usual():
    recipe = Recipe.parse('X + "B"-"C":GRAD_V:IN04=0.3:add:exclude=/norm:step=5-20 + B:1,0,1:dare:seed=7')
    assert recipe.to_json() == {
        "base": "X",
        "terms": [
            {
                "model": "B",
                "minus": "C",
                "weight": "GRAD_V",
                "mode": "add",
                "rules": {"IN04": 0.3},
                "exclude": ["/norm"],
                "step": "5-20",
            },
            {"model": "B", "weight": [1.0, 0.0, 1.0], "mode": "dare", "options": {"seed": 7.0}},
        ],
    }


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("B", r'the model "B" has no weight; write B:0.5 \(character 1 '),
        ("B:0.5 + ", r"a model's name is missing \(character 9 "),
        ("B:GRADV", r'preset \(character 3\) "GRADV" does not exist; did you mean "GRAD_V"'),
        ("B:0.5 + C:0,5,x", r'"x" is no number \(character 15 '),
        ("B:0.5:include=IN04,IN4x", r'option \(character 20\) "IN4x"'),
        ("B:0.5:lbw = GRADV", r'preset \(character 13\) "GRADV"'),
        ("B:0.5:IN4x=1", r'option \(character 7\) "IN4x" does not exist; did you mean "IN04"'),
        ("B:0.5:IN04=1,OUT99x=1", r'\(character 14\) "OUT99x" does not exist; did you mean "OUT09"'),
        ("B:0.5:steps=5-9", 'did you mean "step="'),
        ("B:0.5:sumatra", r'mode or option \(character 7\) "sumatra" does not exist; did you mean "sum"'),
        ("B:0.5:IN04=x", r'"x" is no number \(character 12 '),
        ("B:0.5:IN04=1,IN05", r'"IN05" has no weight; write IN05=0.5 \(character 14 '),
        ("B:0,5", r'"0,5" is no number; write 0.5 \(character 3 '),
        ("B:50%", r'"50%" is no number; write 0.5 \(character 3 '),
        (
            "B:0.5:IN04=0,5",
            r'"5" is no block; a number has a decimal point: write IN04=0.5, not IN04=0,5 \(character 14 ',
        ),
        ("B:0.5:scale=50%", '"50%" is no number; write 0.5'),
        ("B:0.5:start=0.2:stop=5", "step=0.2-5 has a part of the run and the step 5; write both as parts or both"),
        ("B:0.5:step=3-0.9", "step=3-0.9 has a part of the run and the step 3"),
        ("B:0,5,", r'"" is no number'),
        ("B:nope", "preset .character 3. .nope. does not exist. Known"),
        ("B:99", "weight is 99; it must lie between -10 and 10"),
        ("B:nan", "does not exist"),
        ('"B:0.5', r"a quote is opened and not closed \(character 1 "),
        ('B:0.5 + x"y":1', r"a quote stands within a name; quote whole names \(character 9 "),
        ('"B" C:0.5', r'"C" follows the name "B"; expected ":"'),
        ("B:0.5:step=9-3", r"step=9-3 ends before it starts"),
        ("B:0.5:step=9", "step=9 is no range; write step=5-20"),
        ("B:0.5:step=1-2:start=1", "leave start= and stop= away"),
        ("B:0.5:step=0@2", "position is 2; it must lie between 0 and 1"),
        ("B:0.5:beta=1", 'option of the mode "sum" "beta" does not exist'),
        ("B:0.5:dare:keep=2", "keep is 2; it must lie between 0 and 1"),
        ('"B"-"C":0.5', 'mode "sum" subtracts no model; leave "C" away'),
        ("B:0.5:include=IN04,", '"" selects nothing'),
        ("B:0.5:IN04-=1", '"IN04-" lacks a block; write IN04-OUT02'),
    ],
)
def test_errors_say_where_and_what_to_write(text, said):
    with pytest.raises(PrismError, match=said):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "a recipe is an object"),
        ({"bases": "X"}, 'entry of a recipe "bases" does not exist; did you mean "base"'),
        ({"terms": [{"model": "B"}, {"weight": 1}]}, r"terms\[1\] of the recipe: A term needs a model"),
        ({"terms": [{"model": "B", "wieght": 1}]}, r'terms\[0\].*"wieght" does not exist; did you mean "weight"'),
        ({"terms": [{"model": "B", "weight": "x"}]}, r'terms\[0\].*preset "x" does not exist'),
        ({"terms": [{"model": "B", "weight": True}]}, r"terms\[0\].*weight is true; expected a number"),
        ({"terms": [{"model": "B", "weight": 10**400}]}, r"terms\[0\].*weight is 1000"),
        ({"terms": [{"model": "B", "weight": {}}]}, r"weight is {}; expected a number, such as 0.5$"),
        ({"terms": [{"model": "B", "weight": [1, "2", 3]}]}, 'weight 2 of the list is "2"; expected a number'),
        ({"terms": [{"model": "B", "rules": [1]}]}, r'terms\[0\] of the recipe: "rules" is \[1\]; expected an object'),
        ({"terms": ["B:0.5"]}, r'terms\[0\] of the recipe: it is "B:0.5"; expected an object such as'),
        ({"terms": [{"model": "B", "step": 5}]}, r'terms\[0\] of the recipe: "step" is 5; expected a text'),
        ({"terms": [{"model": 7}]}, '"model" is 7; expected a text, such as "neon"'),
        ({"terms": [{"model": "B", "minus": None}]}, '"minus" is null; expected a text'),
        ({"terms": [{"model": "B", "include": "IN04"}]}, '"include" is "IN04"; expected a list'),
        ({"terms": [{"model": "B", "exclude": [4]}]}, '"exclude" is 4; expected a text'),
        ({"terms": [{"model": "B", "mode": "dare", "options": {"keep": "much"}}]}, 'keep is "much"; expected a number'),
        ({"terms": [{"model": "B"}], "base": 3}, '"base" is 3; expected a text'),
    ],
)
def test_errors_of_json_name_the_entry(data, said):
    with pytest.raises(PrismError, match=said):
        Recipe.from_json(data)


def test_a_base_without_terms_and_a_term_beyond_the_limit():
    with pytest.raises(PrismError, match='"X" has nothing to be merged with'):
        Recipe(base="X")
    with pytest.raises(OutOfRange):
        Term("B", 11.0)


def test_values_cost_no_torch():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from sd_prism.merge import PRESETS, Layout, Recipe; Recipe.parse('B:GRAD_V').to_json();"
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(LIB)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
