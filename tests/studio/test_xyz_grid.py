"""The X/Y/Z plot: its value grammar, its cells, its order, its pictures and its texts."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.studio import host

JOB = {"prompt": "a red cat", "steps": 2, "seed": 5, "cfg_scale": 5, "width": 64, "height": 64}
SIZE = (64, 64)


@pytest.fixture()
def grid(served):
    """The grid's module in an open host; axes that a test adds are gone afterwards."""
    from modules import scripts

    module = next(x.module for x in scripts.scripts_data if x.script_class.__module__ == "xyz_grid.py")
    kept, shown = list(module.axis_options), list(script().current_axis_options)
    yield module
    module.axis_options[:], script().current_axis_options = kept, shown
    for menu in axis_menus():
        del menu.choices[len(shown) :]


@pytest.fixture()
def recorder(served):
    return served.recorder


def script():
    from modules import scripts

    return next(x for x in scripts.scripts_txt2img.selectable_scripts if x.title() == "X/Y/Z plot")


def axis_menus():
    return script().controls[:9:3]


def show_axis(option):
    """Show an axis in an open page."""
    script().current_axis_options.append(option)
    for menu in axis_menus():
        menu.choices.append((option.label, option.label))


def arguments(x=("Nothing", ""), y=("Nothing", ""), z=("Nothing", ""), **given):
    """The script's 18 arguments; texts are read as CSV."""
    defaults = {
        "draw_legend": False,
        "include_lone_images": True,
        "include_sub_grids": False,
        "no_fixed_seeds": False,
        "vary_seeds_x": False,
        "vary_seeds_y": False,
        "vary_seeds_z": False,
        "margin_size": 0,
        "csv_mode": True,
    }
    assert given.keys() <= defaults.keys()
    labels = [option.label for option in script().current_axis_options]
    axes = [value for label, text in (x, y, z) for value in (labels.index(label), text, [])]
    return [*axes, *{**defaults, **given}.values()]


def plot(*axes, job=(), **given):
    fields = {**JOB, **dict(job), "script_name": "x/y/z plot", "script_args": arguments(*axes, **given)}
    return host.run(host.request_of(fields)).processed


def single(**fields):
    return host.run(host.request_of({**JOB, **fields})).processed.images[0].tobytes()


def pixels(pictures):
    return [picture.tobytes() for picture in pictures]


def cell_of(picture, column, row):
    left, top = column * SIZE[0], row * SIZE[1]
    return picture.crop((left, top, left + SIZE[0], top + SIZE[1])).tobytes()


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        (int, "1, 2,3", [1, 2, 3]),
        (int, "1-5", [1, 2, 3, 4, 5]),
        (int, "1-5 (+2)", [1, 3, 5]),
        (int, "10-5 (-3)", [10, 7]),
        (int, "1-10 [5]", [1, 3, 5, 7, 10]),
        (int, "-3 - -1", [-3, -2, -1]),
        (int, '"4", 5-6', [4, 5, 6]),
        (float, "0.5, 1", [0.5, 1.0]),
        (float, "1-3", [1.0, 2.0, 3.0]),
        (float, "0-1 (+0.5)", [0.0, 0.5, 1.0]),
        (float, "0-1 [3]", [0.0, 0.5, 1.0]),
        (float, "2-1 (-0.5)", [2.0, 1.5, 1.0]),
        (int, "1,,2,", [1, 2]),
    ],
)
def test_numbers(grid, kind, text, values):
    option = grid.AxisOption("Steps", kind, grid.apply_field("steps"))
    assert grid.values_of(option, text, None, "X") == values


def test_texts_may_be_quoted_and_orders_are_all_of_them(grid):
    words = grid.AxisOption("Prompt S/R", str, grid.apply_prompt)
    assert grid.values_of(words, 'cat, "dog, big" , fish', None, "X") == ["cat", "dog, big", "fish"]
    orders = grid.AxisOption("Prompt order", grid.str_permutations, grid.apply_order)
    assert grid.values_of(orders, "a,b", None, "X") == [("a", "b"), ("b", "a")]
    given = grid.AxisOption("Own", str, grid.do_nothing, prepare=lambda text: text.split("|"))
    assert grid.values_of(given, "a, b|c", None, "X") == ["a, b", "c"]


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        (("Steps", "1, two"), 'X/Y/Z plot: X values (Steps) has "two", which is not a whole number'),
        (("Steps", ""), "X/Y/Z plot: X values (Steps) is empty; give at least one value"),
        (("Steps", "5-1"), "of 0 values; it must give 1 to 10000"),
        (("Seed", "1-9999999999"), "it must give 1 to 10000"),
        (("Sampler", "Euler, Eulr"), 'sampler "Eulr" does not exist; did you mean "Euler"?'),
        (("Schedule type", "Karas"), 'did you mean "Karras"?'),
        (("Checkpoint name", "tinny"), 'checkpoint "tinny" does not exist'),
        (("Clip skip", "99"), "CLIP_stop_at_last_layers is 99; it must lie between 1 and 12"),
        (("Denoising", "0-2"), "Denoising is 2; it must lie between 0 and 1"),
        (("Size", "64x64, 64"), 'Size has "64"; it must look like 64x128'),
        (("Prompt S/R", "dog, fish"), 'Prompt S/R looks for "dog"'),
        (("Prompt order", "cat, dog"), 'Prompt order looks for "dog"'),
        (("Eta", "1-9999"), "The grid would have 655 megapixels"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is(grid, recorder, axis, told):
    recorder.log.write_text("")
    with pytest.raises(PrismError) as error:
        plot(axis, job={"width": 256, "height": 256})
    assert told in str(error.value)
    assert "cfg_denoiser" not in recorder.log.read_text()


def test_cells_equal_single_pictures_byte_for_byte(grid):
    result = plot(("Seed", "1-3"), ("Steps", "1, 3"), ("CFG Scale", "2, 7.5"))
    whole, *cells = result.images
    expected = [
        single(seed=seed, steps=steps, cfg_scale=cfg) for cfg in (2, 7.5) for steps in (1, 3) for seed in (1, 2, 3)
    ]
    assert pixels(cells) == expected
    assert whole.size == (2 * 3 * SIZE[0], 2 * SIZE[1])
    places = [cell_of(whole, column, row) for cfg in (0, 1) for row in (0, 1) for column in range(3 * cfg, 3 * cfg + 3)]
    assert places == expected
    assert result.all_seeds == [1, 2, 3] * 4 and result.index_of_first_image == 1


@pytest.mark.parametrize(
    ("axis", "cells"),
    [
        (("Prompt S/R", "red, blue"), [{}, {"prompt": "a blue cat"}]),
        (("Sampler", "Euler, DPM++ 2M"), [{"sampler_name": "Euler"}, {"sampler_name": "DPM++ 2M"}]),
        (("Schedule type", "Karras, Exponential"), [{"scheduler": "Karras"}, {"scheduler": "Exponential"}]),
        (("Size", "64x64, 64 x 128"), [{}, {"height": 128}]),
        (("Clip skip", "1,2"), [{}, {"override_settings": {"CLIP_stop_at_last_layers": 2}}]),
        (
            ("Checkpoint name", "tiny, tiny-two"),
            [{"override_settings": {"sd_model_checkpoint": name}} for name in ("tiny", "tiny-two")],
        ),
        (("Var. strength", "0, 0.5"), [{"subseed": 9}, {"subseed": 9, "subseed_strength": 0.5}]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_axis_is_the_requests_field(grid, axis, cells):
    made = pixels(plot(axis, job={"subseed": 9, "steps": 4}).images[1:])
    assert made == [single(steps=4, **fields) for fields in cells]
    assert len(set(made)) == 2


HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}


@pytest.mark.parametrize(
    ("axis", "cells"),
    [
        (("Hires steps", "1, 3"), [{"hr_second_pass_steps": steps} for steps in (1, 3)]),
        (("Hires upscaler", "Latent, Lanczos"), [{"hr_upscaler": name} for name in ("Latent", "Lanczos")]),
        (("Hires sampler", "Euler, DPM++ 2M"), [{"hr_sampler_name": name} for name in ("Euler", "DPM++ 2M")]),
        (("Denoising", "0.3, 0.8"), [{"denoising_strength": strength} for strength in (0.3, 0.8)]),
        (("Extra noise", "0, 0.5"), [{"override_settings": {"img2img_extra_noise": amount}} for amount in (0, 0.5)]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_axis_of_the_second_pass_is_the_requests_field(grid, axis, cells):
    job = {**HIRES, "steps": 4}
    made = pixels(plot(axis, job=job).images[1:])
    assert made == [single(**{**job, **fields}) for fields in cells]
    assert len(set(made)) == 2


def test_the_steps_of_the_second_pass_are_counted(grid, monkeypatch):
    from modules import shared

    told = []
    monkeypatch.setattr(shared.total_tqdm, "updateTotal", told.append)
    plot(("Steps", "1, 3"), ("Seed", "1, 2"))
    assert told.pop(0) == 8
    plot(("Hires steps", "1, 3"), job=HIRES)
    assert told[0] == 2 * 2 + 4


def test_prompt_order_puts_the_parts_into_every_order(grid):
    made = plot(("Prompt order", "cat, red"))
    assert made.all_prompts == ["a cat red", "a red cat"]
    assert made.images[1].tobytes() == single(prompt="a cat red")


def test_after_a_checkpoint_axis_the_chosen_one_is_back(grid):
    from modules import shared

    single()
    before = shared.sd_model.sd_checkpoint_info.name
    plot(("Checkpoint name", "tiny, tiny-two"))
    assert shared.sd_model.sd_checkpoint_info.name == before
    assert shared.opts.sd_model_checkpoint.startswith(before)


def drawn(recorder):
    """The cells' values in drawing order, as the axes below noted them."""
    return [line.split()[1] for line in recorder.lines() if line.startswith("cell ")]


def add_axis(grid, recorder, label, cost):
    def apply(p, x, xs):
        p.noted = f"{getattr(p, 'noted', '')}{x}"
        if len(p.noted) == 3:
            with recorder.log.open("a") as log:
                log.write(f"cell {p.noted}\n")

    show_axis(grid.AxisOption(label, str, apply, cost=cost))


@pytest.mark.parametrize(
    ("costs", "order"),
    [
        ((0, 0, 0), "acx bcx adx bdx acy bcy ady bdy"),
        ((1, 0, 0), "acx adx acy ady bcx bdx bcy bdy"),
        ((0, 1, 0), "acx bcx acy bcy adx bdx ady bdy"),
        ((0.5, 1, 0), "acx acy bcx bcy adx ady bdx bdy"),
        ((1, 0.5, 0.2), "acx acy adx ady bcx bcy bdx bdy"),
    ],
)
def test_costly_axes_change_least_often(grid, recorder, costs, order):
    for letter, cost in zip("XYZ", costs):
        add_axis(grid, recorder, f"Own {letter}", cost)
    recorder.log.write_text("")
    made = plot(("Own X", "a,b"), ("Own Y", "c,d"), ("Own Z", "x,y"))
    assert drawn(recorder) == order.split()
    assert len(made.images) == 1 + 8


def test_an_extensions_axis_stays_out_of_the_other_tab(grid):
    grid.axis_options += [
        grid.AxisOptionTxt2Img("Mine", str, grid.do_nothing),
        grid.AxisOptionImg2Img("Theirs", str, grid.do_nothing),
    ]
    import gradio as gr

    with gr.Blocks():
        script().ui(is_img2img=False)
    labels = [option.label for option in script().current_axis_options]
    assert "Mine" in labels and "Theirs" not in labels


def test_a_cell_that_fails_is_empty_and_told_and_the_others_are_drawn(grid, capsys):
    def apply(p, x, xs):
        if x == "bad":
            raise RuntimeError("on purpose")

    show_axis(grid.AxisOption("Own", str, apply))
    result = plot(("Own", "good, bad"), ("Steps", "1, 2"))
    _, good, bad, also_good, also_bad = result.images
    assert pixels([good, also_good]) == [single(steps=1), single(steps=2)]
    assert pixels([bad, also_bad]) == [Image.new("RGB", SIZE).tobytes()] * 2
    assert [bool(text) for text in result.infotexts] == [True, True, False, True, False]
    assert "X/Y/Z plot: cell 2 of 4 failed: on purpose" in result.comments
    assert "RuntimeError: on purpose" in capsys.readouterr().err


def test_an_interrupt_leaves_the_rest_empty(grid):
    from modules import shared

    def apply(p, x, xs):
        if x == 2:
            shared.state.interrupt()

    show_axis(grid.AxisOption("Own", int, apply))
    result = plot(("Own", "1, 2, 3"))
    assert pixels(result.images[1:2]) == [single()]
    assert result.images[3].tobytes() == Image.new("RGB", SIZE).tobytes()


def test_the_legend_is_drawn_beside_unchanged_cells(grid):
    axes = (("Steps", "1, 2"), ("CFG Scale", "2, 3"))
    plain, legend = plot(*axes).images[0], plot(*axes, draw_legend=True).images[0]
    left, top = SIZE[0] * 3 // 4, legend.height - 2 * SIZE[1]
    assert legend.width == left + 2 * SIZE[0] and top > 0
    cells = legend.crop((left, top, legend.width, legend.height))
    assert cells.tobytes() == plain.tobytes()
    for box in ((left, 0, legend.width, top), (0, top, left, legend.height)):
        colours = legend.crop(box).convert("L").getextrema()
        assert colours[0] < 100 and colours[1] == 255  # dark letters on white
    one, other = (legend.crop((left + x, 0, left + x + SIZE[0], top)) for x in (0, SIZE[0]))
    assert ImageChops.difference(one, other).getbbox()  # "Steps: 1" and "Steps: 2"


def test_margins_lie_between_the_cells(grid):
    legend = plot(("Steps", "1, 2"), draw_legend=True, margin_size=10).images[0]
    assert legend.width == 2 * SIZE[0] + 10
    gap = legend.crop((SIZE[0], legend.height - SIZE[1], SIZE[0] + 10, legend.height))
    assert gap.getcolors() == [(10 * SIZE[1], (255, 255, 255))]


def test_what_is_included(grid):
    axes = (("Steps", "1, 2"), ("Nothing", ""), ("Seed", "1, 2, 3"))
    for lone in (False, True):
        for sub in (False, True):
            made = plot(*axes, include_lone_images=lone, include_sub_grids=sub)
            assert len(made.images) == len(made.infotexts) == 1 + 3 * sub + 6 * lone
            layer = (2 * SIZE[0], SIZE[1])
            assert [image.size for image in made.images[1 : 1 + 3 * sub]] == [layer] * 3 * sub


def last_line(text):
    return text.splitlines()[-1]


def test_the_grids_infotext_names_the_axes(grid):
    made = plot(("Seed", "-1, 7"), ("Prompt S/R", '"red", "blue, green"'), ("Steps", "1-2"), include_sub_grids=True)
    whole, layer, *_ = map(last_line, made.infotexts)
    seeds = made.all_seeds[2:4]
    assert seeds[0] >= 0 and seeds[1] == 7
    for text in (whole, layer):
        assert "Script: X/Y/Z plot, X Type: Seed" in text
        assert f'Fixed X Values: "{seeds[0]}, 7"' in text
        assert 'Y Values: "\\"red\\", \\"blue, green\\""' in text
    assert "Z Type: Steps, Z Values: 1-2" in whole and "Z Type" not in layer
    assert all("Script:" not in text for text in made.infotexts[3:])
    assert made.images[0].info["parameters"] == made.infotexts[0]


def test_minus_1_is_fixed_for_the_whole_plot_unless_it_is_kept(grid):
    assert len(set(plot(("Steps", "1, 2, 3"), job={"seed": -1}).all_seeds)) == 1
    assert len(set(plot(("Steps", "1, 2, 3"), job={"seed": -1}, no_fixed_seeds=True).all_seeds)) == 3


def test_varied_seeds_count_through_the_varied_axes(grid):
    axes = (("Steps", "1, 2"), ("CFG Scale", "3, 4"), ("Eta", "0, 1"))
    vary = {f"vary_seeds_{letter}": True for letter in "xyz"}
    assert plot(*axes, **vary).all_seeds == [5, 6, 7, 8, 9, 10, 11, 12]
    assert plot(*axes, vary_seeds_y=True).all_seeds == [5, 5, 6, 6, 5, 5, 6, 6]


def test_the_menus_entries_are_values_unless_text_is_asked_for(grid):
    labels = [option.label for option in script().current_axis_options]
    args = arguments(("Sampler", "DPM++ 2M"), csv_mode=False)
    args[2] = ["Euler", "Euler a"]
    fields = {**JOB, "script_name": "X/Y/Z plot", "script_args": args}
    made = host.run(host.request_of(fields)).processed
    assert pixels(made.images[1:]) == [single(sampler_name=name) for name in args[2]]
    assert 'X Values: "Euler,Euler a"' in made.infotexts[0]
    assert labels[args[0]] == "Sampler"


def test_an_axis_may_be_named_by_its_label(grid):
    args = arguments()
    args[:2] = ["Steps", "1, 2"]
    made = host.run(host.request_of({**JOB, "script_name": "X/Y/Z plot", "script_args": args})).processed
    assert pixels(made.images[1:]) == [single(steps=1), single(steps=2)]
    with pytest.raises(UnknownName, match='did you mean "Steps"'):
        script().option("Step")
    with pytest.raises(OutOfRange):
        script().option(999)


def test_progress_counts_every_cell_and_batch(grid):
    from modules import shared

    seen = []
    show_axis(grid.AxisOption("Own", int, lambda p, x, xs: seen.append((shared.state.job_count, shared.state.job))))
    plot(("Own", "1, 2"), ("Steps", "1, 2"), job={"n_iter": 2})
    assert {count for count, _ in seen} == {8}
    assert [job for _, job in seen] == [f"{number} out of 4" for number in (1, 2, 3, 4)]


def test_what_was_entered_follows_from_text_to_menu_and_back(grid):
    place = [option.label for option in script().current_axis_options].index("Sampler")
    button, text, menu = script()._selected(place, "Euler, none such", [], False)
    assert button["visible"] and (text["visible"], text["value"]) == (False, "")
    assert menu["visible"] and menu["value"] == ["Euler"] and "Euler a" in menu["choices"]
    _, text, menu = script()._selected(place, "", ["Euler", "Euler a"], True)
    assert (text["visible"], text["value"]) == (True, "Euler,Euler a") and menu["value"] == []
    button, text, menu = script()._selected(1, "1-3", [], False)
    assert not button["visible"] and not menu["visible"] and (text["visible"], text["value"]) == (True, "1-3")
    assert "Euler a" in script()._filled(place, False)[1] and "Euler a" in script()._filled(place, True)[0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], ["X values (Seed) is empty"]),
        (["zz"], ['X/Y/Z plot: argument 1 "X type" "zz" does not exist']),
        (["Step"], ['did you mean "Steps"']),
        ([999], ['"X type" is 999', "must lie between 0 and"]),
        ([True], ['"X type" is True']),
        ([float("inf")], ['"X type" is inf']),
        ([{}], ['"X type" is {}']),
        ([4, 12], ['argument 2 "X values" is 12; it must be a text']),
        ([4, "1-2", 7], ['argument 3 "X values" is 7; it must be a list']),
        ([0, "", [], 0, "", [], 0, "", [], "zz"], ["\"Draw legend\" is 'zz'; it must be true or false"]),
        ([0, "", [], 0, "", [], 0, "", [], *[False] * 7, "wide"], ["\"Grid margins (px)\" is 'wide'"]),
        ([0, "", [], 0, "", [], 0, "", [], *[False] * 7, True], ['"Grid margins (px)" is True; it must be a number']),
    ],
)
def test_a_wrong_argument_is_refused_by_its_label(served, args, said):
    with pytest.raises(PrismError) as refused:
        host.run(host.request_of({**JOB, "script_name": "x/y/z plot", "script_args": args}))
    assert [text for text in said if text not in str(refused.value)] == []


def test_missing_arguments_are_the_defaults_and_surplus_ones_are_dropped(served):
    labels = [option.label for option in script().current_axis_options]
    for args in (
        ["Steps", "1-2"],
        [labels.index("Steps"), "1-2"],
        [*arguments(("Steps", "1-2"), draw_legend=True, include_lone_images=False, csv_mode=False), "surplus", 7],
    ):
        made = host.run(host.request_of({**JOB, "script_name": "x/y/z plot", "script_args": args})).processed
        assert "X Type: Steps, X Values: 1-2" in made.infotexts[0] and made.images[0].width >= 128


@pytest.mark.parametrize("value", [None, "zz", [], {}, {"enabled": True}, {"enabled": True, "b1": "zz"}, -1, [[]]])
def test_wrong_arguments_of_always_on_scripts_do_not_end_the_job(served, value):
    from modules import scripts

    given = {one.name: {"args": [value] * 30} for one in scripts.scripts_txt2img.alwayson_scripts if one.name}
    assert given
    answer = served.client.post("/sdapi/v1/txt2img", json={**JOB, "steps": 1, "alwayson_scripts": given})
    assert answer.status_code < 500, answer.text
