"""Where Prism keeps what is the user's own: the command line, the environment, the settings, the webui's folder."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest
from sd_prism.studio import host

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder as Prism's scripts see it; the studio stands on its usual one, which is the test's own."""
    monkeypatch.delenv("PRISM_DATA_DIR", raising=False)
    monkeypatch.setattr(host, "data_folder", lambda given=None: Path(given or tmp_path / "usual"))
    host.open_host()
    yield sys.modules["sd_prism.hosts.data"]
    host.close_host()


def test_one_named_wins_over_the_webuis_own(place, tmp_path, monkeypatch):
    from modules import shared

    assert place.folder() == tmp_path / "usual" / "prism"
    monkeypatch.setitem(shared.opts.data, "prism_data_dir", f" {tmp_path / 'set'} ")
    assert place.folder() == tmp_path / "set" / "prism"
    monkeypatch.setenv("PRISM_DATA_DIR", str(tmp_path / "env"))
    assert place.folder() == tmp_path / "env" / "prism"
    monkeypatch.setattr(shared.cmd_opts, "prism_data_dir", str(tmp_path / "flag"))
    assert place.folder() == tmp_path / "flag" / "prism"


def test_it_is_absolute_where_the_webui_calls_its_folder_nothing(place, tmp_path, monkeypatch):
    from modules import paths

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "data_path", "")
    assert place.folder() == tmp_path / "prism"
    monkeypatch.setenv("PRISM_DATA_DIR", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place.folder() == tmp_path / "mine" / "prism"


def test_a_studio_that_was_given_a_folder_keeps_to_it(place, tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_DATA_DIR", str(tmp_path / "env"))
    host.open_host(data_dir=tmp_path / "given")
    assert sys.modules["sd_prism.hosts.data"].folder() == tmp_path / "given" / "prism"


def test_the_webuis_command_line_has_a_flag_for_it():
    spec = importlib.util.spec_from_file_location("preload", ROOT / "preload.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser = argparse.ArgumentParser()
    module.preload(parser)
    assert parser.parse_args([]).prism_data_dir is None
    assert parser.parse_args(["--prism-data-dir", "/x"]).prism_data_dir == "/x"
