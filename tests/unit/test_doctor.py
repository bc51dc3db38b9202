"""`python prism.py doctor`: generated webuis and studios, each with one thing wrong."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sd_prism import doctor
from sd_prism.doctor import own, packages, webui

ROOT = Path(__file__).resolve().parents[2]
HOOKED = "class Script:\n    def process_before_every_sampling(self, p, *args, **kwargs):\n        pass\n"
GOOD = {"torch": "2.1.2+cu121", "safetensors": "0.4.2", "numpy": "1.26.2", "gradio": "3.41.2"}


def install(environment, versions, python="3.10.6"):
    """A virtual environment's folder, as far as the doctor looks at it."""
    site = environment / "lib" / "python3.10" / "site-packages"
    for name, version in versions.items():
        (site / f"{name}-{version}.dist-info").mkdir(parents=True)
        (site / f"{name}-{version}.dist-info" / "METADATA").touch()
    (environment / "pyvenv.cfg").write_text(f"home = /usr\nversion = {python}\n")


def extension(folder, *files, text=""):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def prism_in(folder):
    return extension(folder, "lib/sd_prism/__init__.py", "scripts/prism_freeu.py")


@pytest.fixture
def a1111(tmp_path):
    """A webui in which nothing is wrong."""
    folder = tmp_path / "webui"
    for name, text in {
        "launch.py": "",
        "modules/processing.py": "",
        "modules/scripts.py": HOOKED,
        "CHANGELOG.md": "## 1.10.1\n\n### Bug Fixes:\n* 2.5 things\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    install(folder / "venv", GOOD)
    prism_in(folder / "extensions" / "sd-webui-prism")
    return folder


def levels(folder, **kwargs):
    """(level, sentence) of what is not fine."""
    return [(one.level, one.what, one.costs) for one in webui.look(folder, **kwargs).findings if one.level != "fine"]


def only(folder, level, *texts, **kwargs):
    ((found, what, costs),) = levels(folder, **kwargs)
    assert found == level
    for text in texts:
        assert text in f"{what} {costs}"


def test_a_good_webui_has_nothing_to_tell(a1111, capsys):
    assert levels(a1111) == []
    assert doctor.main(["--webui", str(a1111)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("AUTOMATIC1111 1.10.1 (") and "Nothing is missing." in out


@pytest.mark.parametrize(
    ("folders", "files", "name"),
    [
        (
            ["modules_forge", "backend"],
            {"modules_forge/forge_version.py": "version = '2.0.1v1.10.1'\n", "modules/sd_hijack.py": ""},
            "Forge 2.0.1v1.10.1",
        ),
        (
            ["modules_forge", "backend"],
            {"modules_forge/forge_version.py": 'version = "neo"\nrelease = "2.26"\n'},
            "Forge Neo 2.26",
        ),
        (["modules_forge", "ldm_patched"], {}, "reForge 1.10.1"),
        (["modules_forge", "ldm_patched", "extensions-builtin/xyz"], {}, "Forge Classic 1.10.1"),
        ([], {"installer.py": "", "CHANGELOG.md": "# Change Log\n\n## Update for 2025-03-01\n"}, "SD.Next 2025-03-01"),
    ],
)
def test_hosts_are_told_apart_by_what_only_they_have(a1111, folders, files, name):
    for folder in folders:
        (a1111 / folder).mkdir(parents=True)
    for file, text in files.items():
        (a1111 / file).write_text(text)
    place = webui.look(a1111)
    assert place.name == name
    untried = [one.what for one in place.findings if one.what.startswith("This is ")]
    assert untried == (
        [f"This is {' '.join(name.split()[:2])}"] if name.startswith(("Forge Neo", "Forge Classic")) else []
    )


def test_a_folder_that_is_no_webui_is_told(tmp_path, capsys):
    assert doctor.main(["--webui", str(tmp_path)]) == 2
    assert "is no webui" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "level", "texts"),
    [
        ({"torch": "2.0.1"}, "missing", ("torch is 2.0.1; Prism needs torch 2.1 or newer",)),
        ({"torch": None}, "missing", ("torch is not installed",)),
        ({"safetensors": "0.3.1"}, "missing", ("Prism needs safetensors 0.4",)),
        ({"gradio": None}, "missing", ("gradio is not installed", "there is no page")),
        ({"gradio": "4.40.0"}, "risk", ("AUTOMATIC1111 is written for 3.41 and newer, below 4", "page may not open")),
        ({"gradio": "3.32.0"}, "risk", ("gradio is 3.32.0",)),
        ({"gradio": "6.32.0"}, "risk", ("too new: Prism is tested up to 6.31",)),
    ],
)
def test_versions(a1111, change, level, texts):
    shutil.rmtree(a1111 / "venv")
    install(a1111 / "venv", {name: version for name, version in {**GOOD, **change}.items() if version})
    only(a1111, level, *texts)


def test_the_webuis_python(a1111, tmp_path):
    (a1111 / "venv" / "pyvenv.cfg").write_text("version_info = 3.9.1\n")
    only(a1111, "missing", "runs on Python 3.9", "Prism is not loaded")
    shutil.move(a1111 / "venv", tmp_path / "elsewhere")
    only(a1111, "risk", "No folder venv", "stay unknown")
    only(a1111, "missing", "runs on Python 3.9", python=tmp_path / "elsewhere" / "bin" / "python")


def test_an_old_webui_without_the_hook(a1111):
    (a1111 / "modules" / "scripts.py").write_text("class Script:\n    pass\n")
    only(a1111, "missing", "no hook before every sampling", "FreeU changes nothing")


def test_prism_missing_twice_misnamed_and_switched_off(a1111):
    ours = a1111 / "extensions" / "sd-webui-prism"
    ours.rename(a1111 / "extensions" / "Prism-main")
    only(a1111, "risk", "a folder named Prism-main", "load order")
    prism_in(ours)
    assert ("missing", "2 copies of Prism are installed: Prism-main, sd-webui-prism") in [x[:2] for x in levels(a1111)]
    shutil.rmtree(a1111 / "extensions" / "Prism-main")
    (a1111 / "config.json").write_text('{"disabled_extensions": ["sd-webui-prism"]}')
    only(a1111, "missing", "switched off")
    (a1111 / "config.json").write_text('{"disable_all_extensions": "extra"}')
    only(a1111, "missing", "set to load no extensions")
    (a1111 / "config.json").unlink()
    shutil.rmtree(ours)
    only(a1111, "missing", "Prism is not installed")


def test_links(a1111, tmp_path):
    ours = a1111 / "extensions" / "sd-webui-prism"
    shutil.move(ours, tmp_path / "clone")
    ours.symlink_to(tmp_path / "clone")
    (a1111 / "extensions" / "gone").symlink_to(tmp_path / "nowhere")
    only(a1111, "risk", "gone is a link to a folder that is gone")
    assert any("Prism is linked from" in one.what for one in webui.look(a1111).findings)


@pytest.mark.parametrize(
    ("place", "files", "text", "texts"),
    [
        ("extensions/freeu", ["lib_free_u/unet.py"], "", ("applied twice", "Reload UI")),
        ("extensions/sd-webui-runtime-block-merge", ["scripts/a.py"], "", ("its merge stays in the model",)),
        ("extensions-builtin/sd_forge_freeu", ["scripts/forge_freeu.py"], "", ("applied twice",)),
        ("extensions/hostile", ["lib/__init__.py"], "", ("lib/__init__.py", "may fail to load")),
        ("extensions/hostile", ["scripts/__init__.py"], "", ("scripts/__init__.py",)),
        (
            "extensions/copy",
            ["scripts/x.py"],
            '    def title(self): return "Prism FreeU"\n',
            ("titled Prism FreeU too",),
        ),
    ],
)
def test_neighbours(a1111, place, files, text, texts):
    folder = extension(a1111 / place, *files, text=text)
    only(a1111, "risk", folder.name, *texts)
    (a1111 / "config.json").write_text(json.dumps({"disabled_extensions": [folder.name]}))
    assert levels(a1111) == []


@pytest.mark.parametrize("name", ["config.json", "ui-config.json"])
@pytest.mark.parametrize("text", ['{"a": ', "[1]", "\x00"])
def test_damaged_settings_are_told_and_left_alone(a1111, name, text):
    (a1111 / name).write_text(text)
    only(a1111, "risk", name)
    assert (a1111 / name).read_text() == text


def test_looking_changes_nothing(a1111):
    def everything():
        return {file: file.stat().st_mtime_ns for file in a1111.rglob("*")}

    before = everything()
    webui.look(a1111)
    assert everything() == before


def test_as_json_and_by_exit_code(a1111, capsys):
    shutil.rmtree(a1111 / "extensions")
    assert doctor.main(["--webui", str(a1111), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["missing"] == 1
    (place,) = said["places"]
    assert place["name"] == "AUTOMATIC1111 1.10.1" and place["path"] == str(a1111)
    missing = [one for one in place["findings"] if one["level"] == "missing"]
    assert [sorted(one) for one in missing] == [["costs", "cure", "level", "what"]]
    assert "extensions/sd-webui-prism" in missing[0]["cure"]


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A repository and a data folder in which nothing is wrong."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = [\n    "torch==2.13.0",\n    "gradio==6.31.0",\n]\n'
    )
    install(tmp_path / ".venv", {"torch": "2.13.0+cpu", "gradio": "6.31.0"})
    monkeypatch.setattr(own, "ROOT", tmp_path)
    return tmp_path


def told(folder):
    return [(one.level, one.what) for one in own.look(folder / "data").findings if one.level != "fine"]


def test_a_good_studio_has_nothing_to_tell(studio):
    assert told(studio) == []
    assert not (studio / "data").exists()


def test_the_studio_without_environment_or_packages(studio):
    shutil.rmtree(studio / ".venv")
    assert told(studio) == [("missing", "The environment .venv is not set up yet")]
    install(studio / ".venv", {"torch": "2.12.0"})
    assert told(studio) == [
        ("risk", "torch is 2.12.0; Prism is tested with 2.13.0"),
        ("missing", "The package gradio 6.31.0 is not installed"),
    ]


def test_the_studio_without_room_python_or_checkpoint(studio, monkeypatch, tmp_path):
    monkeypatch.setattr(own, "PYTHON", ((3, 50), (3, 52)))
    monkeypatch.setattr(own, "CHECKPOINTS", tmp_path / "none")
    monkeypatch.setattr(own, "ENVIRONMENT_GB", 10**9)
    shutil.rmtree(studio / ".venv")
    whats = [what for level, what in told(studio) if level == "missing"]
    assert [any(text in what for what in whats) for text in ("Python 3", "GB free", "checkpoint")] == [True] * 3


def test_a_data_folder_that_cannot_be_made(studio):
    (studio / "data").write_text("a file")
    assert told(studio)[0] == (
        "missing",
        f"The folder {studio / 'data'} cannot be used: {studio / 'data'} is a file, not a folder",
    )


def test_what_prism_needs_is_what_its_installer_says():
    tree = ast.parse((ROOT / "install.py").read_text(encoding="utf-8"))
    (needed,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "NEEDED"]
    assert ast.literal_eval(needed) == webui.NEEDED


def test_costs_are_told_for_packages_that_are_pinned():
    assert own.COSTS.keys() <= own.pins().keys()


def test_versions_are_read_as_numbers():
    assert [packages.numbers(text) for text in ("2.1.2+cu121", "2.10", "x")] == [(2, 1, 2), (2, 10), ()]


def test_the_door_looks_before_there_is_an_environment(tmp_path):
    """The real door in a folder of its own: no environment, and none is made."""
    shutil.copy(ROOT / "prism.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-S", str(tmp_path / "prism.py"), "doctor", "--data-dir", str(tmp_path / "data")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "The environment .venv is not set up yet" in run.stdout and "1 thing is missing." in run.stdout
    assert not (tmp_path / ".venv").exists()
