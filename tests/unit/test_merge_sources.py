"""Files are mapped, not read; what is no .safetensors file is refused by its name."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from sd_prism.errors import PrismError
from sd_prism.merge.sources import DTYPES, Entry, File, Tensors, identity_of, open_source


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_every_type_reads_back(path):
    given = {}
    for i, dtype in enumerate(DTYPES.values()):
        given[f"x{i}"] = tensor(3, 4, seed=i).mul(50).to(dtype)
    given |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}
    save_file(given, path, metadata={"author": "somebody"})
    file = File(path)
    assert file.metadata == {"author": "somebody"} and file.label == "model.safetensors"
    assert file.entries == {name: Entry(one.dtype, tuple(one.shape)) for name, one in given.items()}
    for name, one in given.items():
        found = file.tensor(name)
        assert found.dtype == one.dtype and found.shape == one.shape
        assert torch.equal(found.reshape(-1).view(torch.uint8), one.reshape(-1).view(torch.uint8))


def test_tensors_are_views_of_the_file(path):
    save_file({"x": tensor(1000, 1000), "y": tensor(10)}, path)
    file = File(path)
    x, y = file.tensor("x"), file.tensor("y")
    assert x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
    assert file.tensor("x").data_ptr() == x.data_ptr()


def test_a_misaligned_tensor_is_copied(path):
    data = tensor(4)
    entries = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]},
    }
    file = File(raw(path, entries, b"\1" + data.numpy().tobytes()))
    assert torch.equal(file.tensor("x"), data)


def test_a_file_can_be_replaced_while_it_is_mapped(path, tmp_path):
    save_file({"x": torch.ones(5000)}, path)
    file = File(path)
    old = file.tensor("x")
    save_file({"x": torch.zeros(5000)}, tmp_path / "new")
    os.replace(tmp_path / "new", path)
    assert old.sum() == 5000
    assert identity_of(path) != file.identity and File(path).tensor("x").sum() == 0
    file.release()
    with pytest.raises(PrismError, match="has changed since its header was read"):
        file.tensor("x")


def test_release_lets_go_and_maps_again(path):
    save_file({"x": torch.ones(5)}, path)
    file = File(path)
    file.tensor("x")
    file.release()
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps") as maps:
            assert str(path) not in maps.read()
    assert file.tensor("x").sum() == 5


def test_held_files_are_not_mapped(path):
    save_file({"x": torch.ones(5)}, path)
    file = File(path, hold=True)
    file.tensor("x")
    path.write_bytes(b"")
    assert file.tensor("x").sum() == 5


def test_writing_to_a_view_does_not_change_the_file(path):
    save_file({"x": torch.ones(5)}, path)
    before = path.read_bytes()
    File(path).tensor("x").zero_()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], r"has \d+ bytes, its header announces \d+; it is cut off or damaged"),
        (lambda data: data + b"x", "its header announces"),
        (lambda data: data[:20], "is no .safetensors file, or is cut off"),
        (lambda data: b"", "is no .safetensors file"),
        (lambda data: b"<html>not found</html>", "is no .safetensors file"),
        (lambda data: b"GGUF" + data, "is no .safetensors file"),
        (lambda data: pickle.dumps({"x": 1}), "is a pickle, which can run any code"),
        (lambda data: b"PK\x03\x04" + data, "is a pickle"),
        (lambda data: data[:8] + b"[" + data[9:], "has a damaged header"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(path, damage, says):
    save_file({"x": torch.ones(5)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PrismError, match=says) as error:
        File(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        [],
        7,
    ],
)
def test_an_impossible_entry_is_refused(path, entry):
    with pytest.raises(PrismError, match="has a damaged header"):
        File(raw(path, {"x": entry}, b"1234"))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(PrismError, match="does not exist; check the path"):
        File(tmp_path / "nothing.safetensors")
    with pytest.raises(PrismError, match=r"is a folder; name the \.safetensors file inside it"):
        File(tmp_path)
    with pytest.raises(PrismError, match="does not exist"):
        File("a\0b")


def test_a_source_is_made_of_what_there_is(path):
    save_file({"x": torch.ones(5)}, path)
    module = torch.nn.Linear(2, 3)
    assert isinstance(open_source(path), File) and isinstance(open_source(str(path)), File)
    assert open_source(module).entries["weight"] == Entry(torch.float32, (3, 2))
    assert not open_source(module).tensor("weight").requires_grad
    source = Tensors({"x": torch.ones(5)}, "mine")
    assert open_source(source) is source and source.label == "mine"


def test_identities_tell_dicts_apart_by_the_object():
    one, other = {"x": torch.ones(5)}, {"x": torch.ones(5)}
    assert identity_of(one) == identity_of(one) == open_source(one).identity != identity_of(other)
    assert len({identity_of(one), identity_of(one), identity_of(other)}) == 2
