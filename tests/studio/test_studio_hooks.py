"""The measured order of hooks, and what happens when they fail."""

from __future__ import annotations

import sys

import pytest
from sd_prism.studio import host, pictures

BOOT = ["list_unets", "before_ui", "ui_settings", *["ui"] * 6]  # three times for each tab
CALL = ["cfg_denoiser", "cfg_denoised", "cfg_after_cfg"]
BATCH = [
    "before_process_batch",
    "activate",
    "after_extra_networks_activate",
    "process_batch",
    "process_before_every_sampling",
    *CALL,
    *CALL,
    "post_sample",
    "postprocess_batch",
    "postprocess_batch_list",
]
PICTURE = [
    "postprocess_image",
    "postprocess_maskoverlay",
    "postprocess_image_after_composite",
    "before_image_saved",
    "image_saved",
]


def request(**fields):
    from modules.api.models import Txt2ImgRequest

    return Txt2ImgRequest(**{"prompt": "a cat", "steps": 2, "seed": 1, "cfg_scale": 5, **fields})


def first_words(lines):
    return [line.split()[0] for line in lines]


def test_hooks_fire_in_the_measured_order(open_host, recorder):
    open_host(recorder.folder)
    assert first_words(recorder.lines()) == BOOT
    recorder.log.write_text("")
    host.run(request(prompt="a cat <net:one:2>", save_images=True, n_iter=2))
    expected = ["setup", "before_process", "process", *BATCH, *PICTURE, *BATCH, *PICTURE, "image_grid", "deactivate"]
    lines = recorder.lines()
    # The checkpoint is loaded for its native size before the job starts, as a running host has it loaded.
    assert first_words(lines) == ["model_loaded", "activate", *expected, "postprocess"]
    assert "activate [['one', '2']]" in lines
    assert (
        "before_process_batch ['batch_number', 'prompts', 'seeds', 'subseeds'] ['a cat <net:one:2>'] (4, 8, 8)" in lines
    )
    assert "process_batch ['batch_number', 'prompts', 'seeds', 'subseeds'] ['a cat '] True" in lines
    assert "process_before_every_sampling ['c', 'noise', 'uc', 'x'] True" in lines
    assert "cfg_denoiser 1 (2, 4, 8, 8)" in lines


def test_without_tags_deactivate_is_not_called(open_host, recorder):
    open_host(recorder.folder)
    host.run(request())
    lines = recorder.lines()
    assert "deactivate" not in lines and "activate []" in lines


def test_override_checkpoint_is_loaded_before_process(open_host, recorder):
    open_host(recorder.folder)
    host.run(request(width=64, height=64))
    recorder.log.write_text("")
    host.run(request(width=64, height=64, override_settings={"sd_model_checkpoint": "tiny"}))
    words = first_words(recorder.lines())
    # Both have one build, so the weights go into the modules that are there, and networks are not called.
    assert words[:4] == ["setup", "before_process", "model_loaded", "process"]
    assert any(line.startswith("process tiny ") for line in recorder.lines())
    from modules import shared

    assert shared.opts.sd_model_checkpoint.startswith("tiny-two.safetensors [")


def test_an_exception_in_every_hook_is_reported_and_not_fatal(open_host, recorder, monkeypatch, capsys):
    open_host(recorder.folder)
    plain = pictures.png_bytes(host.run(request()).processed.images[0])
    monkeypatch.setenv("RECORDER_FAILS", "1")
    recorder.log.write_text("")
    open_host(recorder.folder)
    # ui() fails too, so the script has no arguments; the picture is the same.
    outcome = host.run(request())
    assert pictures.png_bytes(outcome.processed.images[0]) == plain
    err = capsys.readouterr().err
    for hook in ("setup", "before_process_batch", "post_sample", "postprocess_image", "postprocess", "cfg_denoiser"):
        assert f"on purpose: {hook}" in err
    assert "*** Error running post_sample" in err


def test_guidance_1_skips_the_uncond_rows_after_the_callback(open_host, recorder):
    open_host(recorder.folder)
    host.run(request(cfg_scale=1))
    assert "cfg_denoiser 0 (2, 4, 8, 8)" in recorder.lines()


def scripts_of_extensions():
    from modules import scripts

    first, *rest, last = scripts.scripts_data
    assert [first.module.__name__, last.module.__name__] == ["xyz_grid.py", "comments.py"]  # the host's own folders
    return rest


SIMPLE = """
from modules import scripts
class {name}(scripts.Script):
    def title(self): return "{name}"
    def show(self, is_img2img): return scripts.AlwaysVisible
"""


def test_a_script_module_has_its_file_name_and_is_in_no_sys_modules(open_host, extension):
    source = "import sys\nPATH = list(sys.path)\nfrom modules import scripts\nHERE = scripts.basedir()\n"
    folder = extension("one", probe=source + SIMPLE.format(name="Probe"))
    path = list(sys.path)
    open_host(folder)
    from modules import scripts

    (data,) = scripts_of_extensions()
    assert (data.script_class.__name__, data.module.__name__) == ("Probe", "probe.py")
    assert "probe.py" not in sys.modules and "probe" not in sys.modules
    assert data.module.PATH[0] == str(folder) and str(folder) not in sys.path
    assert [entry for entry in sys.path if entry != str(host.WEBUI)] == path
    assert data.module.HERE == str(folder) == data.basedir
    assert scripts.basedir() != str(folder)


def test_every_class_in_the_namespace_is_registered_and_a_broken_file_stops_nobody(open_host, extension, capsys):
    two = SIMPLE.format(name="A") + SIMPLE.format(name="B")
    base = "from modules.scripts import Script\n"
    folder = extension("one", a_two=two, b_base=base, c_broken="1/0", d_last=SIMPLE.format(name="D"))
    open_host(folder)

    assert [data.script_class.__name__ for data in scripts_of_extensions()] == ["A", "B", "Script", "D"]
    assert "Error loading script: c_broken.py" in capsys.readouterr().err


def test_a_script_that_exits_ends_nothing(open_host, extension, capsys):
    exits = "import sys\nfrom modules import scripts\n"
    at_import = exits + "class Gone(BaseException): pass\nraise Gone('early')"
    in_hook = (
        exits
        + """
class Hook(scripts.Script):
    def title(self): return "Exits in a hook"
    def show(self, is_img2img): return scripts.AlwaysVisible
    def process(self, p): sys.exit("in the hook")
class Job(scripts.Script):
    def title(self): return "Exits in run"
    def run(self, p): sys.exit(3)
"""
    )
    open_host(extension("leaving", a_exit=exits + "sys.exit(2)", b_gone=at_import, c_hook=in_hook))
    told = capsys.readouterr().err
    assert "a_exit.py" in told and "SystemExit: 2" in told and "b_gone.py" in told and "Gone: early" in told
    assert len(host.run(host.request_of({"steps": 1})).processed.images) == 1
    assert "Error running process" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match=r"c_hook.py called exit\(3\)"):
        host.run(host.request_of({"steps": 1, "script_name": "exits in run"}))


def test_metadata_orders_scripts(open_host, extension):
    one = extension("one", s=SIMPLE.format(name="One"))
    two = extension("two", s=SIMPLE.format(name="Two"))
    (one / "metadata.ini").write_text("[scripts]\nAfter = two\n")
    open_host(one, two)

    assert [data.script_class.__name__ for data in scripts_of_extensions()] == ["Two", "One"]


def test_elem_ids_and_infotext_values(open_host, recorder):
    open_host(recorder.folder)
    from modules import scripts

    script = scripts.scripts_txt2img.script("test recorder")
    assert script.elem_id("on") == "script_txt2img_test_recorder_on"
    assert script.name == "test recorder" and script.api_info.args[1].maximum == 10
    with pytest.raises(RuntimeError, match="not found"):
        scripts.scripts_txt2img.set_named_arg([0], "nobody", "x", 1)
    args = scripts.scripts_txt2img.set_named_arg((0, False, 3), "test recorder", script.elem_id("on"), True)
    assert args == (0, True, 3)


def test_reopening_the_host_unloads_the_scripts_first(open_host, recorder):
    open_host(recorder.folder)
    recorder.log.write_text("")
    open_host(recorder.folder)
    assert first_words(recorder.lines()) == ["script_unloaded", *BOOT]


def test_the_studio_refuses_a_process_that_has_a_real_webui(monkeypatch, tmp_path):
    from types import ModuleType

    from sd_prism.errors import PrismError

    foreign = ModuleType("modules.shared")
    foreign.__file__ = str(tmp_path / "modules" / "shared.py")
    monkeypatch.setitem(sys.modules, "modules.shared", foreign)
    with pytest.raises(PrismError, match="inside a running webui"):
        host.open_host(data_dir=tmp_path, builtin=False)
