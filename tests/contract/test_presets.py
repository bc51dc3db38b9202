"""Presets of the user's own over HTTP, the same in every host: by name, in grids, and in pictures by value."""

from __future__ import annotations

import json

import pytest
from contract.hosts import SECOND
from contract.jobs import JOB, difference, freeu
from sd_prism.settings import FREEU, MERGE, NAMESPACES

VALUES = {"b1": 1.3, "s1": 0.7, "strength": 0.8}
GRID = "x/y/z plot"
ROUNDED = 0


@pytest.fixture
def save(host):
    """save("mine", b1=1.3) writes a file as another program would; all are gone after the test."""
    folder = host.data / "prism" / "presets"
    made = []

    def write(name, panel=FREEU, **values):
        file = folder / panel.name / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = {"format": "prism.preset", "version": 1, "feature": panel.name, "name": name, "values": values}
        file.write_text(json.dumps(whole), encoding="utf8")
        made.append(file)
        return file

    yield write
    for file in made:
        file.unlink(missing_ok=True)


def grid(host, axis, values, second=("Nothing", "")):
    """The X/Y/Z plot's arguments for an axis, and perhaps a second one, as the page would send them."""
    (info,) = [x for x in host.get("/sdapi/v1/script-info") if x["name"] == GRID and not x["is_img2img"]]
    axes = next(one["choices"] for one in info["args"] if one["label"] == "X type")
    asked = {"X type": axes.index(axis), "Y type": axes.index(second[0]), "Z type": axes.index("Nothing")}
    asked |= {"Y values": second[1], "Include Sub Images": True, "Include Sub Grids": False, "Draw legend": False}
    args = [asked.get(one["label"], one["value"]) for one in info["args"]]
    x_values = next(index for index, one in enumerate(info["args"]) if one["label"] == "X values")
    args[x_values : x_values + 2] = [", ".join(values), list(values)]  # the text, then the menu of the same label
    return args


def draw(host, *args, **fields):
    return host.draw({**JOB, "steps": 2, **freeu(*args), **fields})


def test_one_by_name_equals_its_values(host, save):
    save("mine", **VALUES)
    (by_value,) = draw(host, VALUES)
    for args in ([{"preset": "mine"}], [{"preset": "MINE"}], [True, "mine"]):
        (by_name,) = draw(host, *args)
        assert by_name.pixels == by_value.pixels
        assert "Prism FreeU: preset=mine; " in by_name.infotext
        for name, value in VALUES.items():
            assert f"{name}={value}" in by_name.infotext


def test_given_values_win_over_it(host, save):
    save("mine", **VALUES)
    (picture,) = draw(host, {"preset": "mine", "b1": 1.1})
    assert picture.pixels == draw(host, {**VALUES, "b1": 1.1})[0].pixels
    assert "preset=" not in picture.infotext.splitlines()[-1]


def test_a_picture_is_drawn_again_where_the_preset_has_other_values_or_is_gone(host, save):
    """The infotext that an API's request carries goes through the paste of the page."""
    file = save("mine", **VALUES)
    (first,) = draw(host, {"preset": "mine"})
    save("mine", b1=0.8)
    assert difference(draw(host, {"preset": "mine"})[0], first) > ROUNDED
    for change in (lambda: None, file.unlink):
        change()
        (again,) = host.draw({"infotext": first.infotext})
        assert difference(again, first) <= ROUNDED


def test_one_that_is_gone_is_named_and_the_picture_is_drawn_without(host, save):
    save("mine", **VALUES)
    (picture,) = draw(host, {"preset": "mein"})
    assert "does not exist; did you mean" in picture.infotext and "mine" in picture.infotext
    assert picture.pixels == draw(host, False)[0].pixels


def test_it_takes_the_place_of_a_built_in_one_of_its_name(host, save):
    name, values = next((name, values) for name, values in FREEU.presets.items() if values)
    built_in = draw(host, {"preset": name})[0].pixels
    file = save(name, **VALUES)
    assert draw(host, {"preset": name})[0].pixels == draw(host, VALUES)[0].pixels != built_in
    file.unlink()
    assert draw(host, {"preset": name})[0].pixels == built_in == draw(host, dict(values))[0].pixels


def test_a_grid_goes_over_saved_and_built_in_ones(host, save):
    save("mine", **VALUES)
    name = next(name for name, values in FREEU.presets.items() if values)
    cells = draw(host, False, script_name=GRID, script_args=grid(host, "[Prism FreeU] Preset", ("mine", name)))[1:]
    assert cells[0].pixels == draw(host, VALUES)[0].pixels
    assert cells[1].pixels == draw(host, {"preset": name})[0].pixels
    assert "s1=0.7" in cells[0].infotext and "s1=0.7" not in cells[1].infotext


@pytest.mark.parametrize(
    ("panel", "values"),
    [
        (FREEU, {"b1": 1.25}),
        (NAMESPACES, {"dialect": "Pony", "strength": "0.5"}),
        (MERGE, {"model": SECOND, "ratio": 0.25}),
    ],
    ids=["freeu", "namespaces", "merge"],
)
def test_every_panel_takes_one_by_name_and_tells_its_values(host, save, panel, values):
    save("mine", panel, **values)
    fields = {"prompt": "species:fish in the sea"}
    (by_name,) = host.draw({**JOB, "steps": 2, **fields, **freeu({"preset": "mine"}, title=panel.title)})
    (by_value,) = host.draw({**JOB, "steps": 2, **fields, **freeu(values, title=panel.title)})
    (without,) = host.draw({**JOB, "steps": 2, **fields})
    assert by_name.pixels == by_value.pixels != without.pixels
    for name, value in values.items():
        assert f"{name}={value}" in by_name.infotext
