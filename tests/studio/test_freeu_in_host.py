"""Prism FreeU through the whole house: every form of its arguments, its infotext, its errors, its traces."""

from __future__ import annotations

import copy
import io
import json
import sys

import pytest
from PIL import Image
from sd_prism.miniatures import MINI_V1 as MINI
from sd_prism.studio import generate, host

JOB = {"prompt": "a red fish in the sea", "steps": 2, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
BOOM = """
from modules import scripts, shared


class Boom(scripts.Script):
    def title(self):
        return "Boom"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process_before_every_sampling(self, p, *args, **kwargs):
        if "BOOM" in p.prompt:
            def hook(module, inputs, output):
                handle.remove()
                raise RuntimeError("in mid sampling")

            handle = shared.sd_model.model.diffusion_model.register_forward_hook(hook)
"""


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    boom = folder / "boom"
    (boom / "scripts").mkdir(parents=True)
    (boom / "scripts" / "boom.py").write_text(BOOM)

    def drawn(*args, title="Prism FreeU", **fields):
        scripts = {"alwayson_scripts": {title: {"args": list(args)}}} if args else {}
        return generate.generate({**JOB, **scripts, **fields}, data_dir=folder, extensions=[boom], checkpoint=MINI)

    yield drawn
    host.close_host()


FREEU = {"preset": "SD 2.1 (authors)"}


def pixels(result):
    return Image.open(io.BytesIO(result.images[0])).tobytes()


def hooks():
    unet = sys.modules["modules.shared"].sd_model.model.diffusion_model
    return sum(len(module._forward_pre_hooks) for module in unet.modules())


def test_off_is_byte_equal_to_never_asked(draw):
    plain = draw()
    assert "Prism" not in plain.infotexts[0].replace("Version: Prism", "")
    assert draw(False).images == draw({"enabled": False}).images == plain.images


def test_dict_positional_and_short_arguments_agree(draw):
    named = draw(FREEU)
    assert pixels(named) != pixels(draw())
    assert draw(True, "SD 2.1 (authors)").images == named.images
    assert draw(True, "Custom", "2", 1.4, 0.9, 1.6, 0.2, title="prism freeu").images == named.images
    assert draw(True).images != named.images


def test_neutral_values_change_nothing(draw):
    assert pixels(draw({"b1": 1, "b2": 1, "s1": 1, "s2": 1})) == pixels(draw())


def test_infotext_gives_the_picture_back_by_value(draw):
    made = draw({"b1": 1.23, "version": 1})
    assert "Prism FreeU: version=1; b1=1.23; s1=0.9; b2=1.6; s2=0.2," in made.infotexts[0]
    again = generate.generate(
        {"infotext": made.infotexts[0]}, data_dir=_data(), extensions=_extensions(), checkpoint=MINI
    )
    assert again.images == made.images


def _data():
    return sys.modules["modules.paths"].data_path


def _extensions():
    return [x.path for x in sys.modules["modules.extensions"].active() if x.canonical_name == "boom"]


def test_a_bad_argument_is_told_in_the_infotext_and_the_picture_is_drawn(draw):
    made = draw({"presett": "x"})
    assert 'did you mean \\"preset\\"' in made.infotexts[0] and "Prism FreeU error" in made.infotexts[0]
    assert "Prism FreeU: " not in made.infotexts[0]
    assert pixels(made) == pixels(draw())


def test_hooks_are_gone_after_a_run_and_after_one_that_failed(draw):
    plain = draw()
    draw(FREEU)
    assert hooks() == 0
    with pytest.raises(RuntimeError, match="in mid sampling"):
        draw(FREEU, prompt="BOOM")
    assert draw().images == plain.images
    assert hooks() == 0


def test_batches_and_two_call_samplers_are_hooked_throughout(draw):
    for fields in ({"batch_size": 2, "n_iter": 2}, {"sampler_name": "Heun", "steps": 4}):
        assert pixels(draw(FREEU, **fields)) != pixels(draw(**fields))


class Job:
    """What a script sees of a job."""

    def __init__(self):
        self.extra_generation_params = {}


def test_what_stays_on_p_can_be_copied_and_dumped(draw):
    freeu = sys.modules["sd_prism.hosts.freeu"]

    p = Job()
    freeu.process(p, (True, "SDXL (authors)"))
    assert json.loads(json.dumps(p._prism_freeu)) == copy.deepcopy(p._prism_freeu) == freeu.host.current(p)


def test_cells_of_a_grid_do_not_leak_into_each_other(draw):
    """Cells are shallow copies of p with one shared infotext dictionary."""
    freeu = sys.modules["sd_prism.hosts.freeu"]

    p, fields = Job(), dict(freeu.FREEU.axes())
    on, b1 = (freeu.host._apply(fields[f"[Prism FreeU] {name}"]) for name in ("Enabled", "Stage 1 backbone"))
    cell = copy.copy(p)
    on(cell, "true", [])
    b1(cell, "1.1", [])
    freeu.process(cell, (False,))
    assert cell._prism_freeu["b1"] == 1.1 and "Prism FreeU" in p.extra_generation_params
    other = copy.copy(p)
    on(other, "false", [])
    freeu.process(other, (True,))
    assert other._prism_freeu is None and p.extra_generation_params == {}
    assert not hasattr(p, "_prism_xyz")


def test_a_preset_axis_runs_presets_and_custom_runs_the_panel(draw):
    freeu = sys.modules["sd_prism.hosts.freeu"]
    args = (True, "Custom", "1", 1.1, 0.5, 1.2, 0.3)
    ran = {}
    for name in ("Custom", "SD 1.4 (authors)"):
        cell = Job()
        freeu.host._apply(freeu.FREEU["preset"])(cell, name, [])
        freeu.process(cell, args)
        ran[name] = (cell._prism_freeu["version"], cell._prism_freeu["b1"])
    assert ran == {"Custom": ("1", 1.1), "SD 1.4 (authors)": ("2", 1.3)}


def test_a_bad_value_on_an_axis_spoils_its_own_cell_only(draw):
    freeu = sys.modules["sd_prism.hosts.freeu"]
    cell = Job()
    freeu.host._apply(freeu.FREEU["b1"])(cell, 9.0, [])
    freeu.process(cell, (True,))
    assert cell._prism_freeu is None
    assert "Stage 1 backbone is 9; it must lie between -1 and 4" in cell.extra_generation_params["Prism FreeU error"]
    freeu.host._apply(freeu.FREEU["enabled"])(cell, "false", [])
    freeu.process(cell, (True,))
    assert cell.extra_generation_params == {}
