"""The studio's `modules` against A1111's source: the recorded v1.10.1, and that of each webui which keeps to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.comparison import Difference, accepts, differences, reason_for, table
from contract.conftest import GIVEN
from contract.hosts import OWN_CODE
from contract.record import SOURCE, load
from contract.source import STUDIO, Source
from contract.usage import uses

KEEPING = [name for name, one in GIVEN.items() if not any((Path(one["path"]) / file).exists() for file in OWN_CODE)]
RECORDED = "A1111 v1.10.1 as recorded"
NATIVE_SIZE = "left out, the size is the one that the model was trained at"
STUDIO_MAKES_IT = "made by the studio itself, never by an extension"
# What may differ, and why: patterns of "kind name".
ALLOWED = {
    "signatures modules/extensions.py:Extension": STUDIO_MAKES_IT,
    "signatures *:KDiffusionSampler": STUDIO_MAKES_IT,
    "requests *.width": NATIVE_SIZE,
    "requests *.height": NATIVE_SIZE,
    "routes * /internal/reload-ui": "gradio 3's button asks the host itself",
    "routes * /sdapi/v1/*loras": "the host has it in an extension of its own, Lora",
    "routes * /studio-file/*": "style.css and javascript of extensions; the host's page has gradio 3's file route",
    "options quicksettings_list": "the menu of VAEs is at hand",
    "options outdir_*": "the host computes it from its folder, the studio from the data folder",
    "options grid_save": "a grid is shown, its pictures are what is kept",
    "ids *_extra_*": "written as HTML by the host",
    "ids pnginfo_html": "an element without an id in the host",
    "ids *_task": "an element without an id in the host",
    "signatures *:apply_override": "for the axes of the grid's own file",
    "ids ui_defaults_review": "an element without an id in the host",
    "options randn_source": "noise of the CPU is the same on every machine",
}
# Interfaces of which nothing may be missing.
WHOLE = ("modules/scripts.py:Script.", "modules/script_callbacks.py:on_", "modules/patches.py:")
PROCESSING = "modules/processing.py:StableDiffusionProcessing"
PARAMS = "modules/script_callbacks.py:", "Params"
ROUTES = (
    *("POST txt2img", "POST img2img", "POST png-info", "GET progress", "POST interrupt", "POST skip", "GET options"),
    *("POST options", "GET sd-models", "GET samplers", "GET schedulers", "POST refresh-checkpoints"),
    *("GET scripts", "GET script-info"),
)


@pytest.fixture(scope="module")
def ours():
    return Source(STUDIO).facts(Source(STUDIO).files())


@pytest.fixture(scope="module", params=[RECORDED, *KEEPING])
def theirs(request):
    if request.param == RECORDED:
        return load(SOURCE)["facts"]
    return Source(Path(GIVEN[request.param]["path"])).facts(Source(STUDIO).files())


def members(facts):
    """All names; what the two kinds of jobs have counts for `p`, which may be either."""
    names = {*facts["names"], *facts["signatures"]}
    jobs = [f"modules/processing.py:StableDiffusionProcessing{kind}." for kind in ("Txt2Img", "Img2Img")]
    either = {name.replace(job, "modules/processing.py:StableDiffusionProcessing.") for job in jobs for name in names}
    return names | either


def test_every_difference_is_an_allowed_one(ours, theirs):
    found = differences(ours, theirs)
    assert not [one for one in found if reason_for(one, ALLOWED) is None], "\n" + "\n".join(table(found, ALLOWED))


def test_the_record_covers_every_module_that_both_have():
    record = load(SOURCE)
    assert set(Source(STUDIO).files()) & set(record["files"]) <= set(record["compared"]), "record anew"


def test_no_allowance_is_out_of_date(ours):
    found = differences(ours, load(SOURCE)["facts"])
    unused = {pattern: why for pattern, why in ALLOWED.items() if not any(reason_for(x, {pattern: why}) for x in found)}
    assert not unused


def test_nothing_that_prism_uses_differs(ours, theirs):
    different = {one.name for one in differences(ours, theirs)}
    for use in uses():
        missing = [who for who, facts in (("studio", ours), ("webui", theirs)) if use.name not in members(facts)]
        assert use.optional or not missing, f"{use.place} uses {use.name}, which the {' and the '.join(missing)} lacks"
        assert use.name not in different, f"{use.place} uses {use.name}, which differs"


def test_prisms_uses_are_found():
    names = {use.name for use in uses()}
    assert {
        "modules/scripts.py:Script.process",
        "modules/shared.py:sd_model",
        "scripts/xyz_grid.py:AxisOption",
    } <= names
    assert all(use.optional for use in uses() if use.name.endswith("InputAccordion"))


def test_hooks_callbacks_and_their_parameters_are_complete(ours, theirs):
    wanted = {
        name
        for name in members(theirs)
        if name.startswith(WHOLE) or (name.startswith(PARAMS[0]) and PARAMS[1] in name.partition(":")[2])
    }
    assert len(wanted) > 80
    assert not wanted - members(ours)


@pytest.mark.parametrize("route", ROUTES)
def test_the_route_is_in_both(ours, theirs, route):
    verb, name = route.split()
    assert {f"{verb} /sdapi/v1/{name}"} <= ours["routes"].keys() & theirs["routes"].keys()


@pytest.mark.parametrize(
    ("mine", "wanted", "fits"),
    [
        ("(p, *args)", "(p, *args)", True),
        ("(p, more=1)", "(p)", True),
        ("(p, more)", "(p)", False),
        ("(q)", "(p)", False),
        ("(p, xs)", "(p, _)", True),
        ("(p)", "(p, more=1)", False),
        ("(p, more=2)", "(p, more=1)", False),
        ("(p, more=0.0)", "(p, more=0)", True),
        ("(p)", "(p, *args)", False),
        ("(p, **kwargs)", "(p, *, name=None)", True),
        ("(p)", "(p, *, name=None)", False),
        ("(p, *, name)", "(p)", False),
    ],
)
def test_a_signature_fits_when_every_call_does(mine, wanted, fits):
    assert accepts(mine, wanted) is fits


def test_a_difference_is_seen_and_told():
    def facts(**kinds):
        empty = ("signatures", "patterns", "requests", "answers", "routes", "options", "pasted", "ids")
        return {kind: {} for kind in empty} | kinds

    studio = facts(options={"a": "1", "b": "2"}, ids={"*_x": "", "y": ""}, routes={"GET /z": ""})
    webui = facts(options={"a": "1", "b": "3"}, ids={"txt2img_*": ""}, routes={"GET /z": ""})
    found = differences(studio, webui)
    assert found == [Difference("options", "b", "2", "3"), Difference("ids", "y", "", "-")]
    assert table(found[:1], {"options b": "because"}) == ["options b: studio 2, webui 3\n    because"]
