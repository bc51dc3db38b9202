"""Files are written whole or not at all, and have names that every system takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sd_prism import files
from sd_prism.errors import PrismError
from sd_prism.files import new_name


def test_the_new_text_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    files.write_whole(file, "neü\r\nline")
    assert file.read_bytes() == "neü\r\nline".encode()
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_keeps_the_old_text(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    files.write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_text() == "new"


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from sd_prism.files import write_whole
print("ready", flush=True)
while True:
    for letter in "ab":
        write_whole(sys.argv[2], letter * 3_000_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    file, draw, lib = tmp_path / "a.txt", random.Random(1), Path(files.__file__).parents[1]
    file.write_text("a" * 3_000_000)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, lib, file], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(draw.random() / 20)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        text = file.read_text()
        assert len(text) == 3_000_000 and len(set(text)) == 1


@pytest.mark.parametrize("text", ["half", " half ", "half.safetensors", "half.SafeTensors"])
def test_a_new_name_gets_its_ending_once(text):
    assert new_name(text, ".safetensors") == "half.safetensors"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write one"),
        (".safetensors", "write one"),
        *((f"a{one}b", "without folders") for one in '<>:"/\\|?*'),
        ("../half", "without folders"),
        *((f"a{one}b", "cannot be seen") for one in "\0\n\x7f\u202e\ud800"),
        *((one, "a dot or blank") for one in (".half", "half.", "half .safetensors", "..")),
        *((one, "Windows has a device") for one in ("CON", "nul", "Com1", "lpt9.v2", "aux .x")),
        ("half.yaml", "must not end in .yaml or .vae"),
        ("half.VAE.safetensors", "must not end in .yaml or .vae"),
        ("x" * 201, "longer than 200 bytes"),
        ("鳥" * 67, "longer than 200 bytes"),
    ],
)
def test_what_is_no_name_on_some_system_is_none(text, said):
    with pytest.raises(PrismError, match=said):
        new_name(text, ".safetensors", (".yaml", ".vae"))


@pytest.mark.parametrize("text", ["x" * 200, "console", "half-0.5 (v2)", "半分", "a.b"])
def test_other_names_stay_as_they_are(text):
    assert new_name(text, ".safetensors") == f"{text}.safetensors"
