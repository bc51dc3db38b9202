"""`python prism.py COMMAND`, inside the environment."""

import json

import pytest
import torch
from safetensors.torch import save_file
from sd_prism.errors import PrismError, UnknownName
from sd_prism.miniatures import MINI_V1 as MINI
from sd_prism.studio import cli


def said(capsys, *argv):
    code = cli.main(argv)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_wrong_command_names_the_nearest(capsys):
    code, _, err = said(capsys, "genrate", "a fish")
    assert code == 2 and 'command "genrate" does not exist; did you mean "generate"?' in err


def test_a_wrong_option_names_the_nearest(capsys):
    for wrong, right in (("--freeu.presett", "--freeu.preset"), ("--samplr-name", "--sampler-name")):
        code, _, err = said(capsys, "generate", "a fish", wrong, "x")
        assert code == 2 and f'did you mean "{right}"?' in err


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [("preset", "none such", 'Preset "none such" does not exist'), ("b1", "9", "must lie between -1 and 4")],
)
def test_a_wrong_value_is_told_before_anything_is_loaded(capsys, monkeypatch, option, value, text):
    monkeypatch.setitem(__import__("sys").modules, "sd_prism.studio.generate", None)
    code, _, err = said(capsys, "generate", "a fish", f"--freeu.{option}", value)
    assert code == 2 and text in err


def test_panel_options_become_the_apis_dictionary():
    args = cli.parser().parse_args(["generate", "a fish", "--seed", "7", "--freeu.preset", "SDXL (authors)"])
    request = cli.request_of(args)
    assert request["prompt"] == "a fish" and request["seed"] == 7
    (values,) = request["alwayson_scripts"]["Prism FreeU"]["args"]
    assert (values["enabled"], values["preset"], values["b1"]) == (True, "SDXL (authors)", 1.3)


def test_without_panel_options_no_panel_is_asked():
    assert cli.request_of(cli.parser().parse_args(["generate", "a fish"]))["alwayson_scripts"] == {}


def test_a_second_pass_and_a_picture_to_start_from_become_the_apis_fields(tmp_path):
    read = lambda *options: cli.request_of(cli.parser().parse_args(["generate", "a fish", *options]))  # noqa: E731
    assert {"enable_hr", "hr_scale", "init_images", "denoising_strength"}.isdisjoint(read())
    found = read("--hr-scale", "1.5", "--denoising-strength", "0.4")
    assert (found["enable_hr"], found["hr_scale"], found["denoising_strength"]) == (True, 1.5, 0.4)
    file = tmp_path / "a.png"
    file.write_bytes(b"picture")
    found = read("--init-image", str(file), "--mask", str(file), "--resize-mode", "1")
    assert (found["init_images"], found["mask"], found["resize_mode"]) == (["cGljdHVyZQ=="], "cGljdHVyZQ==", 1)
    for options, text in (
        (["--mask", str(file)], "name the picture with --init-image"),
        (["--init-image", str(tmp_path / "b.png")], "cannot be read: No such file"),
        (["--init-image", str(file), "--hr-scale", "2"], "--hr-scale is for pictures without --init-image"),
    ):
        with pytest.raises(PrismError, match=text):
            read(*options)


def test_inspect_says_what_a_file_is(capsys):
    code, out, _ = said(capsys, "inspect", str(MINI))
    assert code == 0 and "family: sd1" in out and "prediction: v_prediction" in out and "size: 128" in out
    facts = json.loads(said(capsys, "inspect", str(MINI), "--json")[1])
    assert facts["parts"] == ["unet", "vae", "text"]
    assert facts["card"] == 'Prism mini-v1: the file calls itself "mini-v1"'


def test_inspect_tells_a_lora_and_a_missing_file(capsys, tmp_path):
    save_file({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(1, 1)}, tmp_path / "l.safetensors")
    assert "family: lora" in said(capsys, "inspect", str(tmp_path / "l.safetensors"))[1]
    code, _, err = said(capsys, "inspect", str(tmp_path / "none.safetensors"))
    assert code == 2 and "does not exist" in err


def test_bake_writes_a_merge_with_what_is_known_of_its_base(capsys, tmp_path):
    out = tmp_path / "half.safetensors"
    code, text, _ = said(capsys, "bake", f"{MINI} + {MINI}:0.5:IN04=1", "--out", str(out), "--dtype", "fp32", "--json")
    assert code == 0 and json.loads(text)["bytes"] == out.stat().st_size > 1.9 * MINI.stat().st_size
    told = said(capsys, "inspect", str(out))[1]
    assert "prediction: v_prediction" in told
    assert f"merge: {MINI} + {MINI}:0.5:IN04=1" in told and f"merged: {MINI.name}" in told
    for recipe, told in ((f"{MINI}:0.5", "write the base first"), (f"{MINI} + neon:1", "the path of its .safetensors")):
        code, _, err = said(capsys, "bake", recipe, "--out", str(tmp_path / "none.safetensors"))
        assert code == 2 and told in err and not (tmp_path / "none.safetensors").exists()


def test_bake_replaces_a_file_only_by_force(capsys, tmp_path):
    out = tmp_path / "there.safetensors"
    out.write_text("mine")
    bake = "bake", f"{MINI} + {MINI}:0.5", "--out", str(out)
    code, _, err = said(capsys, *bake)
    assert code == 2 and "exists already" in err and "--force" in err and out.read_text() == "mine"
    assert said(capsys, *bake, "--force")[0] == 0 and out.stat().st_size > 4


def test_generate_writes_the_picture_and_says_what_ran(capsys, tmp_path):
    from PIL import Image

    out = tmp_path / "fish.png"
    argv = ["generate", "species:fish, place:sea", "--seed", "7", "--steps", "4", "--out", str(out), "--json"]
    code, text, _ = said(
        capsys, *argv, "--freeu.preset", "SD 1.5 (authors)", "--ckpt", str(MINI), "--data-dir", str(tmp_path)
    )
    did = json.loads(text)
    assert code == 0
    assert (did["steps"], did["seed"], did["panels"]) == (4, 7, ["Prism FreeU"]) and did["seconds"] > 0
    assert did["model"].startswith("mini-v1.safetensors [")
    infotext = Image.open(out).text["parameters"]
    assert infotext.startswith("species:fish, place:sea\nSteps: 4, Sampler: DPM++ 2M")
    assert "Prism FreeU: preset=SD 1.5 (authors); version=2; b1=1.5" in infotext


@pytest.mark.parametrize("name", ["", "picture.jpg", "taken/fish.png"])
def test_a_place_that_cannot_be_written_is_told_before_drawing(capsys, monkeypatch, tmp_path, name):
    (tmp_path / "taken").write_text("a file, no folder")
    monkeypatch.setitem(__import__("sys").modules, "sd_prism.studio.generate", None)
    code, _, err = said(capsys, "generate", "a fish", "--out", str(tmp_path / name))
    assert code == 2 and ("must be the name of a PNG file" in err or "could not be written" in err)


def test_a_missing_folder_is_made(tmp_path):
    cli._check_out(tmp_path / "new" / "folder" / "fish.png")
    assert (tmp_path / "new" / "folder").is_dir()


def test_unknown_name_is_a_prism_error_with_what_was_given():
    error = UnknownName("thing", "x" * 300, ["a"])
    assert len(str(error)) < 200 and error.given == "x" * 300


def test_the_webuis_to_test_in_are_handed_on_and_the_rest_goes_to_pytest(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "launch.py").touch()
    python = tmp_path / "python"
    python.touch()
    folders = [str(tmp_path / name) for name in ("one", "two")]
    options = ["--webui", folders[0], "--webui", folders[1], "--webui-python", str(python), "--webui-args=--a 'b c'"]
    args, rest = cli.parser().parse_known_args(["test", *options, "tests/contract", "-k", "grid"])
    assert rest == ["tests/contract", "-k", "grid"]
    assert cli.webuis_of(args) == [{"path": one, "python": str(python), "args": ["--a", "b c"]} for one in folders]


def test_a_folder_that_is_no_webui_is_told_before_any_test_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(cli.subprocess, "call", lambda *args, **kwargs: pytest.fail("something ran"))
    assert cli.main(["test", "--webui", str(tmp_path)]) == 2
    assert "it has no launch.py" in capsys.readouterr().err
    (tmp_path / "launch.py").touch()
    assert cli.main(["test", "--webui", str(tmp_path)]) == 2
    assert "--webui-python" in capsys.readouterr().err
