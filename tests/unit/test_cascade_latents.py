"""Files of stage C's latents: what is saved is read, and any other file is told."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from sd_prism.errors import PrismError
from sd_prism.hosts.cascade.latents import FORMAT, Picture, read

PICTURE = Picture(
    torch.randn(16, 9, 12),
    (512, 384),
    torch.randn(32),
    torch.randn(32),
    seed=2**31,
    subseed=5,
    subseed_strength=0.25,
    resized_from_width=256,
    resized_from_height=128,
    checkpoint="folder/main",
    settings={"steps": 12, "decoder": "b [0123]", "preview_only": False},
    infotext='a "fish"\nSteps: 3, Seed: 1',
)


@pytest.fixture
def content(tmp_path):
    PICTURE.save(tmp_path / "one.safetensors")
    return (tmp_path / "one.safetensors").read_bytes()


def test_what_is_saved_is_read(content):
    found = read(content, "one")
    for name in ("latent", "pooled", "negative"):
        assert torch.equal(getattr(found, name), getattr(PICTURE, name))
    rest = [name for name in vars(PICTURE) if name not in ("latent", "pooled", "negative")]
    assert [getattr(found, name) for name in rest] == [getattr(PICTURE, name) for name in rest]


def test_an_infotext_is_added_later():
    assert PICTURE.told("other").infotext == "other" and PICTURE.infotext.startswith("a")


@given(st.binary(max_size=200))
def test_other_files_are_told(content):
    with pytest.raises(PrismError, match="holds no latents"):
        read(content, "one")


def test_a_file_that_is_cut_off_is_told(content):
    for length in (0, 7, 8, 100, len(content) - 1):
        with pytest.raises(PrismError, match="one"):
            read(content[:length], "one")


def changed(folder, tensors=None, **told):
    """The file with other tensors, or another text."""
    PICTURE.save(folder / "one.safetensors")
    old = {name: getattr(PICTURE, name) for name in ("latent", "pooled", "negative")}
    text = json.dumps({**json.loads(_metadata(folder)[FORMAT]), **told})
    save_file({**old, **(tensors or {})}, folder / "two.safetensors", metadata={FORMAT: text})
    return (folder / "two.safetensors").read_bytes()


def _metadata(folder):
    raw = (folder / "one.safetensors").read_bytes()
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": [512, 385]}, "multiples of 8"),
        ({"size": [512]}, "holds no latents"),
        ({"size": [1e9, 8]}, "multiples of 8"),
        ({"size": "12"}, "multiples of 8"),
        ({"seed": "x"}, "cannot be read"),
        ({"subseed_strength": float("nan")}, "cannot be read"),
        ({"settings": 3}, "cannot be read"),
        ({"infotext": None}, "cannot be read"),
        ({"new": 1}, "holds no latents"),
        ({"tensors": {"latent": torch.zeros(4, 9, 12)}}, "4 channels"),
        ({"tensors": {"latent": torch.full((16, 9, 12), float("inf"))}}, "no finite tensor"),
        ({"tensors": {"pooled": torch.zeros(2, 2)}}, "pooled is no finite tensor of 1 dimensions"),
        ({"tensors": {"negative": torch.zeros(0)}}, "negative"),
    ],
)
def test_wrong_contents_are_told(tmp_path, given, said):
    with pytest.raises(PrismError, match=said):
        read(changed(tmp_path, **given), "two")


def test_a_file_of_another_kind_is_told():
    with pytest.raises(PrismError, match="holds no latents"):
        read(save({"latent": torch.zeros(16, 2, 2)}), "other")
