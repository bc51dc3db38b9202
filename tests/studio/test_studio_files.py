"""Odd files, gone checkpoints and unusable folders do not stop the studio."""

from __future__ import annotations

import os
import struct

import pytest
from sd_prism.errors import PrismError
from sd_prism.studio import header, host


def write(data, name, text):
    (data / "models" / "Stable-diffusion" / name).write_bytes(struct.pack("<Q", len(text)) + text)


def names():
    from modules import sd_models

    return [info.name for info in sd_models.checkpoints_list.values()]


def test_odd_files_are_listed_and_stop_nobody(open_host, data):
    write(data, "a-null.safetensors", b'{"__metadata__": null}')
    write(data, "a-deep.safetensors", b"[" * 100_000)
    write(data, "a-list.safetensors", b'{"__metadata__": [1, 2]}')
    open_host()
    assert {"a-null.safetensors", "a-deep.safetensors", "a-list.safetensors", "tiny.safetensors"} <= set(names())


def test_files_that_cannot_be_read_are_left_out_with_one_line(open_host, data, monkeypatch, capsys):
    from pathlib import Path

    real = Path.open

    def guarded(self, *args, **options):
        if self.name == "tiny-two.safetensors":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    if os.name == "posix":
        (data / "models" / "Stable-diffusion" / os.fsdecode(b"tiny-\xff.safetensors")).write_bytes(b"x")
    open_host()
    assert "tiny-two.safetensors" not in names() and "tiny.safetensors" in names()
    lines = [line for line in capsys.readouterr().err.splitlines() if "is not listed" in line]
    assert len(lines) == 1 + (os.name == "posix") and any("tiny-two.safetensors" in line for line in lines)


def test_without_a_choice_the_first_that_can_be_loaded_is_taken(open_host, data):
    (data / "models" / "Stable-diffusion" / "a-damaged.safetensors").write_bytes(b"x")
    open_host()
    from modules import sd_models

    assert names()[0] == "a-damaged.safetensors"
    assert sd_models.select_checkpoint().name == "tiny-two.safetensors"


@pytest.mark.parametrize(("family", "parts"), [("lora", ()), ("sd1", ("unet",))])
def test_a_lora_or_a_part_is_not_taken(open_host, monkeypatch, family, parts):
    from types import SimpleNamespace

    open_host()
    from modules import sd_models

    real = header.inspect
    odd = SimpleNamespace(family=family, parts=parts)
    monkeypatch.setattr(header, "inspect", lambda path: odd if path.endswith("two.safetensors") else real(path))
    assert sd_models.select_checkpoint().name == "tiny.safetensors"


def test_a_saved_checkpoint_that_is_gone_is_named_once(open_host, capsys):
    open_host()
    from modules import sd_models, shared

    shared.opts.data["sd_model_checkpoint"] = "gone.safetensors [0123456789]"
    for _ in range(2):
        assert sd_models.select_checkpoint().name == "tiny-two.safetensors"
    told = capsys.readouterr().err
    assert told.count("gone.safetensors [0123456789]") == 1 and "using tiny-two.safetensors instead" in told


@pytest.mark.parametrize("name", ["file/below", "nul\0", "x" * 5000])
def test_an_impossible_data_folder_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrismError, match=r"The data folder .* cannot be used.*--data-dir"):
        host.open_host(data_dir=tmp_path / name, builtin=False)


def test_a_picture_without_numbers_is_one_clear_error(open_host):
    import torch

    open_host()
    from modules import devices

    with pytest.raises(PrismError, match="NaNs was produced in the VAE; lower the CFG scale"):
        devices.test_for_nans(torch.full((2,), float("nan")), "vae")
