"""`prism.py`: the set-up of the environment, and what it says when that cannot be done."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def door(tmp_path, monkeypatch):
    """prism.py of a folder of its own, with a project file that pins nothing that exists."""
    shutil.copy(ROOT / "prism.py", tmp_path)
    lists = {"dependencies": "torch==0.0.0", "test": "prism-no-such-package==1.0"}
    project = "[project]\n" + "".join(f'{name} = [\n    "{pin}",\n]\n' for name, pin in lists.items())
    (tmp_path / "pyproject.toml").write_text(project)
    spec = importlib.util.spec_from_file_location("prism_door", tmp_path / "prism.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_lists_of_the_project_are_exact_pins(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import prism

    for extra in ("", "test"):
        pins = prism.pins(extra)
        assert len(pins) > 5
        assert all("==" in pin.split(";")[0] for pin in pins), pins
    assert prism.pins("")[0].startswith("torch==")


def test_the_door_parses_on_the_oldest_python_that_may_meet_it():
    ast.parse((ROOT / "prism.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_an_unsupported_python_is_told_which_ones_are(door, monkeypatch, capsys):
    monkeypatch.setattr(door, "VERSIONS", ((3, 50), (3, 52)))
    with pytest.raises(SystemExit):
        door.check_python()
    said = capsys.readouterr().err
    assert "Python 3.50 to 3.52" in said and sys.version.split()[0] in said and sys.executable in said


def test_a_full_disk_is_said_before_anything_is_made(door, monkeypatch, capsys):
    monkeypatch.setattr(door, "NEEDED_GB", 10_000_000)
    with pytest.raises(SystemExit):
        door.set_up([])
    assert "10000000 GB" in capsys.readouterr().err
    assert not door.VENV.exists()


def test_a_disk_that_fills_up_on_the_way_is_recognised(door):
    assert "disk is full" in door.reason("OSError: [Errno 28] No space left on device")


def test_offline_is_said_and_the_next_try_goes_on(door, tmp_path):
    """Real environment, real pip, an index that nobody serves."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(tmp_path / "prism.py")]
    first = subprocess.run(command, capture_output=True, text=True, env=env)
    assert first.returncode == 1
    assert "seems to be offline" in first.stderr and "run the same command again" in first.stderr
    assert "making the environment" in first.stdout
    second = subprocess.run(command, capture_output=True, text=True, env=env)
    assert "making the environment" not in second.stdout


def test_a_finished_set_up_is_not_repeated(door, monkeypatch):
    door.venv_python().parent.mkdir(parents=True)
    door.venv_python().touch()
    door.READY.write_text(json.dumps({"": door.digest(door.pins(""))}))
    monkeypatch.setattr(door, "step", lambda *_: pytest.fail("set up again"))
    door.set_up([])


def test_changed_pins_are_installed_again(door, monkeypatch):
    door.venv_python().parent.mkdir(parents=True)
    door.venv_python().touch()
    door.READY.write_text('{"": "of an older version"}')
    steps = []
    monkeypatch.setattr(door, "has_pip", lambda: True)
    monkeypatch.setattr(door, "step", lambda text, command: steps.append(text))
    door.set_up(["test"])
    assert steps == ["installing torch", "installing torch", "installing prism-no-such-package"]
    assert set(door.read_ready()) == {"", "test"}


def test_an_environment_that_was_interrupted_is_made_anew(door, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(door.VENV)], check=True)
    steps = []
    monkeypatch.setattr(door, "step", lambda text, command: steps.append(text))
    door.set_up([])
    assert steps[0] == "making the environment"
