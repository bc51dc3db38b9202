"""What "Prism FreeU" promises over HTTP, the same in every host."""

from __future__ import annotations

import pytest
from contract.jobs import HIRES, JOB, difference, freeu, inpainting
from sd_prism.settings import AUTOMATIC, FREEU

NAME = FREEU.title.lower()
PRESET = "SD 2.1 (authors)"
GRID = "x/y/z plot"


def draw(host, *args, title=FREEU.title, **fields):
    """The pictures of one request, with the script's arguments if there are any."""
    return host.draw({**JOB, **(freeu(*args, title=title) if args else {}), **fields})


def pixels(pictures):
    return [one.pixels for one in pictures]


def has_key(picture, key=FREEU.title):
    return f"{key}: " in picture.infotext.splitlines()[-1]


def script_info(host, name):
    """What the API says of a script of text to image; every script is listed once a tab."""
    (found,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == name and not one["is_img2img"]]
    return found


def test_the_script_is_listed_once(host):
    assert host.get("/sdapi/v1/scripts")["txt2img"].count(NAME) == 1


def test_its_arguments_are_the_declaration_in_its_order(host):
    info = script_info(host, NAME)
    assert info["is_alwayson"]
    assert [one["label"] for one in info["args"]] == [field.label for field in FREEU.fields]
    assert [one["value"] for one in info["args"]] == [field.default for field in FREEU.fields]


def test_an_unknown_script_is_refused(host):
    assert host.ask({**JOB, **freeu(True, title="Prism FreeUU")}).status_code == 422


def test_off_is_byte_equal_to_never_asked(host):
    (plain,) = draw(host)
    for args in ([False], [{"enabled": False}], [False, PRESET]):
        assert draw(host, *args)[0].png == plain.png


def test_on_differs_from_off(host):
    assert pixels(draw(host, True)) != pixels(draw(host))


def test_dict_positional_and_short_arguments_give_the_same_picture(host):
    (short,) = draw(host, True)
    assert draw(host, {})[0].png == short.png
    assert draw(host, FREEU.defaults() | {"enabled": True})[0].png == short.png
    assert draw(host, True, *list(FREEU.defaults().values())[1:])[0].png == short.png


def test_the_titles_case_is_ignored(host):
    assert draw(host, True, title=FREEU.title.upper())[0].png == draw(host, True)[0].png


@pytest.mark.parametrize("name", FREEU.presets)
def test_a_named_preset_equals_its_numbers(host, name):
    numbers = dict(FREEU.presets[name])
    by_name = draw(host, {"preset": name})
    assert pixels(by_name) == pixels(draw(host, numbers)) == pixels(draw(host, True, name))
    assert pixels(by_name) != pixels(draw(host))


def test_the_infotext_names_freeu_exactly_when_it_is_on(host):
    assert has_key(draw(host, True)[0])
    assert not has_key(draw(host, False)[0])
    assert not has_key(draw(host)[0])


@pytest.mark.parametrize("args", [[], [{"b1": 1.23, "version": 1}], [{"preset": PRESET}]], ids=["off", "own", "preset"])
def test_an_infotext_gives_its_picture_back(host, args):
    made = draw(host, *args)
    again = host.draw({"infotext": made[0].infotext})
    assert pixels(again) == pixels(made)
    assert has_key(again[0]) == bool(args)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([{"presett": "x"}], "did you mean"),
        ([{"b1": 9}], "Stage 1 backbone is 9; it must lie between -1 and 4"),
        ([True, "SD 9"], "SD 9"),
    ],
    ids=["name", "range", "preset"],
)
def test_a_bad_argument_is_told_and_drawn_without_freeu(host, args, told):
    (made,) = draw(host, *args)
    assert has_key(made, f"{FREEU.title} error") and told in made.infotext and not has_key(made)
    assert made.pixels == draw(host)[0].pixels


@pytest.mark.parametrize("fields", [{"batch_size": 2}, {"n_iter": 2}], ids=["batch size", "iterations"])
def test_every_picture_of_a_job_gets_freeu(host, fields):
    plain, on = draw(host, **fields), draw(host, True, **fields)
    assert len(plain) == len(on) == 2
    assert all(one.pixels != other.pixels for one, other in zip(plain, on, strict=True))
    assert all(has_key(one) for one in on) and not any(has_key(one) for one in plain)


def test_two_iterations_are_two_jobs(host):
    both = draw(host, True, n_iter=2)
    assert pixels(both) == [draw(host, True, seed=seed)[0].pixels for seed in (1, 2)]


def test_a_sampler_of_the_second_order_gets_freeu_and_gives_itself_back(host):
    plain = draw(host, sampler_name="Heun")
    on = draw(host, True, sampler_name="Heun")
    assert pixels(on) != pixels(plain) and has_key(on[0])
    assert pixels(draw(host, sampler_name="Heun")) == pixels(plain)


def test_a_picture_does_not_depend_on_what_ran_before(host):
    plain, on = draw(host), draw(host, {"preset": PRESET})
    draw(host, {"b1": 2, "version": 1}, width=128, batch_size=2)
    assert draw(host, {"preset": PRESET})[0].png == on[0].png
    draw(host, {"b1": 9})
    assert draw(host)[0].png == plain[0].png


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ SDE", "DDIM"])
def test_a_schedule_spans_the_pass_whatever_the_sampler_calls(host, sampler):
    plain, on = (draw(host, *args, sampler_name=sampler)[0].pixels for args in ([], [True]))
    halves = [
        draw(host, {"schedule": text}, sampler_name=sampler)[0].pixels for text in ("1@0 1@0.5 0@0.5", "0@0.5 1@0.5")
    ]
    assert len({plain, on, *halves}) == 4
    for never in ({"schedule": "0"}, {"strength": 0}, {"start": 0.3, "stop": 0.3}):
        assert draw(host, never, sampler_name=sampler)[0].pixels == plain
    assert draw(host, {"schedule": "1@0 1@1", "start": 0.9}, sampler_name=sampler)[0].pixels == on


def test_steps_and_sigma_put_the_same_curve_in_other_places(host):
    curve = "0@0 1@1"
    steps, sigma = (draw(host, {"schedule": curve, "domain": domain})[0].pixels for domain in ("steps", "sigma"))
    assert len({steps, sigma, draw(host)[0].pixels, draw(host, True)[0].pixels}) == 4


def test_start_and_stop_are_the_schedule_of_their_text(host):
    by_numbers = draw(host, {"start": 0.25, "stop": 0.75, "smoothness": 0.5})[0]
    assert draw(host, {"schedule": "0@0 0.5@0.25 1@0.25 0.5@0.75 0@0.75"})[0].pixels == by_numbers.pixels


def test_the_automatic_preset_is_the_one_of_the_models_family(host):
    automatic = draw(host, True, AUTOMATIC)[0]
    assert automatic.pixels == draw(host, {"preset": "SD 1.5 (authors)"})[0].pixels
    assert "preset=SD 1.5 (authors)" in automatic.infotext


def test_the_dict_of_the_well_known_extension_is_understood(host):
    stages = [{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}]
    theirs = draw(host, {"start_ratio": 0.0, "stop_ratio": 0.5, "version": "2", "stage_infos": stages})[0]
    ours = {"b1": 1.2, "s1": 0.9, "b2": 1.4, "s2": 0.2, "stop": 0.5}
    assert theirs.pixels == draw(host, ours)[0].pixels and has_key(theirs)
    assert draw(host, ours | {"compatible": True})[0].pixels != theirs.pixels


def test_infotexts_of_other_programs_are_understood(host):
    made = draw(host, {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "version": "2"})[0]
    lines = draw(host)[0].infotext
    forge = "freeu_enabled: True, freeu_b1: 1.3, freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2"
    assert host.draw({"infotext": f"{lines}, {forge}"})[0].pixels == made.pixels


def test_details_and_overrides_change_the_picture_and_come_back_from_the_infotext(host):
    base = draw(host, True)[0].pixels
    for one in (
        {"b3": 1.4},
        {"cutoff2": 1.0},
        {"offset1": 0.25},
        {"high2": 1.2},
        {"symmetric": True},
        {"keep_mean": True},
        {"rule": "resolution"},
        {"blocks": "OUT11=1.3/0.5"},
        {"strength": 0.5},
    ):
        made = draw(host, one)[0]
        assert made.pixels != base, one
        assert host.draw({"infotext": made.infotext})[0].pixels == made.pixels, one


def test_a_comparison_puts_the_picture_beside_the_one_without(host):
    (plain,), (on,) = draw(host), draw(host, True)
    both, first, second = draw(host, {"compare": True})
    assert (first.pixels, second.pixels) == (on.pixels, plain.pixels)
    assert both.image.size == (2 * on.image.width, on.image.height)
    assert both.image.crop((0, 0, 64, 64)).tobytes() == on.pixels
    assert both.image.crop((64, 0, 128, 64)).tobytes() == plain.pixels
    assert has_key(both) and has_key(first) and not has_key(second)
    assert draw(host, True)[0].png == on.png


def test_a_comparison_of_an_inpainting_is_the_two_jobs_side_by_side(host):
    (plain,) = host.draw(inpainting())
    (on,) = host.draw({**inpainting(), **freeu(True)})
    both, first, second = host.draw({**inpainting(), **freeu({"compare": True})})
    assert difference(first, on) <= host.noise and difference(second, plain) <= host.noise < difference(on, plain)
    assert both.image.width == 2 * on.image.width


def test_measuring_changes_no_picture(host):
    assert draw(host, {"measure": True})[0].pixels == draw(host, True)[0].pixels


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"schedule": "fast"}, 'Schedule: "fast" of the curve'),
        ({"blocks": "OUT55=1/1"}, "OUT55 does not exist in this UNet; its last block is OUT11"),
        ({"start": 0.8, "stop": 0.2}, "The schedule starts at 0.8, after it stops at 0.2"),
    ],
    ids=["curve", "block", "window"],
)
def test_settings_that_do_not_fit_are_told_and_drawn_without_freeu(host, args, told):
    (made,) = draw(host, args)
    assert told.replace('"', '\\"') in made.infotext and not has_key(made)
    assert made.pixels == draw(host)[0].pixels


@pytest.fixture
def grid(host):
    """The X/Y/Z plot's arguments by label, as the page would send them."""
    return script_info(host, GRID)["args"]


def axes_of(grid):
    return next(one["choices"] for one in grid if one["label"] == "X type")


def test_every_setting_is_an_axis_of_the_grid_once(grid):
    axes = axes_of(grid)
    assert [axes.count(label) for label, field in FREEU.axes()] == [1] * len(FREEU.fields)


def test_the_cells_of_a_grid_do_not_leak_into_each_other(host, grid):
    axes, backbones = axes_of(grid), (1.1, 2.0)
    labels = {field.name: label for label, field in FREEU.axes()}
    asked = {
        "X type": axes.index(labels["enabled"]),
        "Y type": axes.index(labels["b1"]),
        "Z type": axes.index("Nothing"),
        "Y values": ", ".join(map(str, backbones)),
        "Include Sub Images": True,
        "Include Sub Grids": False,
        "Draw legend": False,
    }
    args = [asked.get(one["label"], one["value"]) for one in grid]
    x_values = next(index for index, one in enumerate(grid) if one["label"] == "X values")
    args[x_values : x_values + 2] = ["true, false", ["true", "false"]]  # the text, then the menu of the same label
    cells = draw(host, script_name=GRID, script_args=args)[1:]
    (plain,) = draw(host)
    on = [draw(host, {"b1": backbone})[0] for backbone in backbones]
    assert pixels(cells) == [on[0].pixels, plain.pixels, on[1].pixels, plain.pixels]
    assert [has_key(one) for one in cells] == [True, False, True, False]


def test_a_hires_pass_gets_freeu_and_gives_itself_back(host):
    hires = {**HIRES, "denoising_strength": 1.0}
    plain, on = draw(host, **hires), draw(host, True, **hires)
    assert plain[0].image.size == on[0].image.size == (128, 128)
    assert has_key(on[0]) and not has_key(plain[0])
    # At full strength little is left of the first pass: FreeU in that one alone changes no pixel by this much.
    assert difference(on[0], plain[0]) > 64
    assert draw(host, **hires)[0].png == plain[0].png


@pytest.mark.parametrize("args", [[], [True], [{"preset": PRESET}]], ids=["off", "defaults", "preset"])
def test_the_studio_and_a_webui_draw_the_same_picture(studio, webui, args):
    if not webui.schedules:
        pytest.skip("this webui's samplers and noise are its own, with and without Prism")
    fields = {"sampler_name": "DPM++ 2M", "scheduler": "Karras", "steps": 20, "width": 128, "height": 128}
    assert difference(draw(studio, *args, **fields)[0], draw(webui, *args, **fields)[0]) <= 2


def test_a_hires_pass_may_have_a_schedule_of_its_own_or_none(host):
    hires = {**HIRES, "denoising_strength": 0.6}
    same, off, own, none = (
        draw(host, args, **hires)[0].pixels
        for args in ({}, {"hires_schedule": "0"}, {"hires_schedule": "0.5"}, {"enabled": False})
    )
    assert len({same, off, own, none}) == 4
    wider = draw(host, {"hires_radius": True}, **hires)[0].pixels
    assert wider != same and draw(host, {"hires_radius": True})[0].pixels == draw(host, True)[0].pixels
