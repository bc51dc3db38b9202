import json
from pathlib import Path

import pytest
from sd_prism.errors import PrismError, UnknownName
from sd_prism.merge.blocks import Layout
from sd_prism.merge.others import Listed, command, fitting, presets_of, tsv
from sd_prism.merge.presets import PRESETS
from sd_prism.merge.recipe import Term

PUBLISHED = json.loads((Path(__file__).parent / "data" / "merge_presets.json").read_text(encoding="utf-8"))
RAMP = [round(i / 100, 2) for i in range(26)]


def layout(inputs):
    spine = [f"input_blocks.{i}.0" for i in range(inputs)] + ["middle_block.1"]
    spine += [f"output_blocks.{i}.0" for i in range(inputs)]
    names = [f"model.diffusion_model.{block}.bias" for block in [*spine, "time_embed.0", "out.2"]]
    return Layout.of(dict.fromkeys([*names, "cond_stage_model.x.bias", "first_stage_model.y.bias"], (4,)))


SD1, SDXL = layout(12), layout(9)


def row(weights):
    return ",".join(map(str, weights))


# --- presets -----------------------------------------------------------------------------------------------------


def test_merge_block_weighteds_table_is_the_classic_presets():
    table = "preset_name\tpreset_weights\n"
    table += "".join(f"{name}\t{row(weights)}\n" for name, weights in PUBLISHED["sd"].items())
    listed = presets_of(table)
    assert [(one.name, one.line) for one in listed] == [(name, i) for i, name in enumerate(PUBLISHED["sd"], 2)]
    assert [list(one.weights) for one in listed] == list(PUBLISHED["sd"].values())
    assert fitting(listed, SD1) == {}


def test_supermergers_text_with_tabs_colons_and_remarks():
    text = f'# mine\n\nRAMP\t{row(RAMP)}\r\n a:b c :{row(RAMP)},\n"QUOTED"\t"{row(RAMP)}"\n'
    assert presets_of(text) == [
        Listed("RAMP", tuple(RAMP), 3),
        Listed("a:b c", tuple(RAMP), 4),
        Listed("QUOTED", tuple(RAMP), 5),
    ]


@pytest.mark.parametrize("text", [f"RAMP\t{row(RAMP)}", f'{{"RAMP": {RAMP}}}'])
def test_a_byte_order_mark_is_no_part_of_a_name(text):
    assert presets_of("\ufeff" + text) == [Listed("RAMP", tuple(RAMP), 1)]


def test_model_mixers_table_serves_both_models_by_length():
    xl = PUBLISHED["sdxl"]
    table = f"RAMP\t{row(RAMP)}\n" + "".join(f"{name}\t{row(weights)}\n" for name, weights in xl.items())
    table += f"RAMP\t{row(RAMP[:20])}\n"
    listed = presets_of(table)
    assert fitting(listed, SD1) == {"RAMP": tuple(RAMP)}
    own = fitting(listed, SDXL)
    assert own.pop("RAMP") == tuple(RAMP[:20])
    assert set(own) == {  # where model-mixer's numbers are not those of the formulas
        *("RING08_5 (own)", "SMOOTHSTEP/4 (own)", "R_SMOOTHSTEP/4 (own)", "COSINE (own)", "REVERSE_COSINE (own)"),
        *("CUBIC_HERMITE (own)", "REVERSE_CUBIC_HERMITE (own)"),
    }
    assert own["COSINE (own)"] == tuple(xl["COSINE"])


@pytest.mark.parametrize(
    "text",
    [
        f"WEIGHTS = {{\n    # comment\n    'RAMP': {RAMP},\n    \"2SMOOTHSTEP\": {RAMP[:20]},\n}}\n",
        f"\n\nRAMP = {RAMP}",
        f'{{"presets":\n {{\n"RAMP": {RAMP}}}}}',
        f"x = 1\n\nRAMP = {tuple(RAMP)}",
    ],
    ids=["SD.Next", "assignment", "JSON", "tuple"],
)
def test_lists_in_python_and_json(text):
    assert presets_of(text)[0] == Listed("RAMP", tuple(RAMP), 3)


def test_a_table_written_reads_back():
    listed = [
        Listed("mine", PRESETS["COSINE"].weights(25), 2),
        Listed("other", (0.1, *PRESETS["GRAD_V"].weights(19)), 3),
    ]
    assert presets_of(tsv(listed)) == listed


def test_presets_for_other_block_counts_do_not_fit():
    listed = [Listed("a", (0.0,) * 19), Listed("b", (0.0,) * 25), Listed("c", (0.0,) * 27), Listed("d", (0.0,) * 21)]
    assert set(fitting(listed, SD1)) == {"b", "c"}
    assert set(fitting(listed, SDXL)) == {"a", "d"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"A\t{row(RAMP)}\nB\t1,2,3\n", r"line 2 \(B\) has 3 weights; expected 25, or 26 with BASE first"),
        (f"A\t{row([0] * 110)}", r"line 1 \(A\) has 110 weights"),
        (f"A\t{row(RAMP[:24])},R,0", r'line 1 \(A\): "R" is drawn by lot at each merge'),
        (f"A\t{row(RAMP[:24])},y,0", r'line 1 \(A\): "y" is no number'),
        (f"A\t{row(RAMP[:24])},99,0", r"line 1 \(A\) is 99; it must lie between -10 and 10"),
        (f"A\t{row(RAMP)}\nwhat is this", 'line 2: "what is this" is no preset'),
        (f'{{"A": {RAMP},\n"B": [1, 2}}', "line 2 is neither Python nor JSON"),
        (f'{{"A": {RAMP},\n"B": [1, f(2)]}}', r'line 2 \(B\): "f\(2\)" is no number'),
    ],
)
def test_errors_name_the_line(text, said):
    with pytest.raises(PrismError, match=said):
        presets_of(text)


# --- runtime-block-merge's command -------------------------------------------------------------------------------


def levels(text):
    return Term("B", command(text)).levels(SD1)


def test_a_weight_command_sets_the_unets_sliders():
    found = levels("base:0.5, In00:1, OUT09 : 0.8 ,time_embed:0,\nout:-1")
    others = set(SD1.spine) - {"IN00", "OUT09"}
    assert {found[block] for block in others} == {0.5}
    assert (found["IN00"], found["OUT09"], found["TIME_EMBED"], found["OUT"]) == (1, 0.8, 0, -1)
    assert (found["BASE"], found["VAE"]) == (0, 0)


def test_a_command_without_base_leaves_the_other_blocks():
    assert {block for block, weight in levels("M00:0.4").items() if weight} == {"M00"}


def test_a_command_of_25_or_27_weights():
    assert levels(row(RAMP[:25]))["OUT11"] == 0.24
    found = levels(row([0.5] * 25 + [0.1, 0.2]))
    assert (found["OUT11"], found["TIME_EMBED"], found["OUT"]) == (0.5, 0.1, 0.2)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("in00:1, in99x:1", UnknownName, '"in99x" does not exist; did you mean'),
        ("vae:1", UnknownName, 'slider of runtime-block-merge "VAE" does not exist'),
        ("in00:1, in01", PrismError, '"in01" of the weight command has no weight; write in01:0.5'),
        ("in00:y", PrismError, '"y" is no number'),
        ("1,2,3", PrismError, "has 3 weights"),
    ],
)
def test_errors_of_a_command(text, error, said):
    with pytest.raises(error, match=said):
        command(text)
