"""The infotext grammar: what is written is read back."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sd_prism.studio import host, pictures


@pytest.fixture(scope="module", autouse=True)
def opened(tmp_path_factory):
    host.open_host(data_dir=tmp_path_factory.mktemp("data"), builtin=False)
    yield
    host.close_host()
    assert "modules" not in sys.modules


def parse(text):
    from modules import infotext_utils

    return infotext_utils.parse_generation_parameters(text)


def job(**extra):
    return SimpleNamespace(
        steps=20,
        sampler_name="Euler",
        scheduler="Karras",
        sampler=None,
        eta=None,
        cfg_scale=7.0,
        width=640,
        height=480,
        batch_size=1,
        sd_model_hash="abcdef0123",
        sd_vae_name=None,
        sd_vae_hash=None,
        sd_model_name="mini",
        subseed_strength=0,
        seed_resize_from_w=0,
        seed_resize_from_h=0,
        all_seeds=[1, 2],
        all_subseeds=[0, 0],
        main_prompt="main",
        main_negative_prompt="",
        all_negative_prompts=["", "bad"],
        extra_generation_params=extra,
    )


def infotext(p, index=0, prompts=("a cat", "a dog")):
    from modules import processing

    return processing.create_infotext(p, list(prompts), p.all_seeds, p.all_subseeds, index=index)


def test_the_last_line_is_the_hosts():
    assert infotext(job()) == (
        "a cat\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 640x480, "
        "Model hash: abcdef0123, Model: mini, RNG: CPU, Version: Prism 0.1.0"
    )
    assert infotext(job(), 1).startswith("a dog\nNegative prompt: bad\nSteps: 20")


def test_extra_values_may_be_text_lists_or_callables(capsys):
    def broken(**kwargs):
        raise ValueError("no")

    extra = {"One": ["x", "y"], "Two": lambda p, index, **kwargs: f"{p.steps}/{index}", "Three": broken, "Four": None}
    found = parse(infotext(job(**extra), 1))
    assert (found["One"], found["Two"]) == ("y", "20/1")
    assert "Three" not in found and "Four" not in found
    assert 'Error creating infotext for key "Three"' in capsys.readouterr().err


keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_ ]{1,20}[A-Za-z0-9]", fullmatch=True).map(lambda k: "X" + k)
line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    # What the grammar itself cannot carry: outer blanks and quotes of values that need no quoting, and sizes.
    lambda v: (
        v == v.strip() and v[0] != '"' and "x" not in v and not set(v) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)


@given(prompt=line, negative=line, extra=st.dictionaries(keys, values, max_size=4))
def test_prompts_and_extra_values_come_back(prompt, negative, extra):
    p = job(**extra)
    p.all_negative_prompts = [negative]
    found = parse(infotext(p, prompts=[prompt]))
    if not prompt.strip().startswith("Negative prompt:"):
        assert found["Prompt"] == prompt.strip()
        assert found["Negative prompt"] == negative.strip()
    assert (found["Steps"], found["Size-1"], found["Size-2"]) == ("20", "640", "480")
    for key, value in extra.items():
        assert found[key] == value


@given(st.text(max_size=200))
def test_any_text_can_be_parsed_and_unquoted(text):
    from modules import infotext_utils

    parse(text)
    assert infotext_utils.unquote(str(infotext_utils.quote("," + text))) == "," + text


def test_fewer_than_three_pairs_are_prompt():
    assert parse("a cat\nSteps: 20, Seed: 1")["Prompt"] == "a cat\nSteps: 20, Seed: 1"


def test_paste_rules():
    import gradio as gr
    from modules.infotext_utils import field_update

    def new(component, target, params):
        return field_update(component, target, params).get("value", "no update")

    flag, number, amount = SimpleNamespace(value=True), SimpleNamespace(value=3), SimpleNamespace(value=0.5)
    assert new(flag, "On", {"On": "False"}) is False
    assert new(number, "N", {"N": "7"}) == 7.0
    assert new(number, "N", {"N": str(2**53 + 1)}) == 2**53 + 1
    for text in ("nan", "inf", "1e400", "9" * 30, "9" * 5000):
        assert new(number, "N", {"N": text}) == "no update"
    assert new(amount, "A", {"A": "nan"}) == "no update"
    assert new(amount, "A", {"A": "fast"}) == "no update"
    assert new(amount, "A", {}) == "no update"
    assert new(flag, lambda params: "On" in params, {}) is False
    assert new(flag, lambda params: 1 / 0, {}) == "no update"
    assert new(flag, lambda params: gr.update(value=5), {}) == 5


def test_settings_that_cannot_be_converted_are_left_out():
    from modules import infotext_utils

    params = {"Clip skip": "abc", "Eta": "x", "ENSD": "31337", "Sigma noise": "inf"}
    assert infotext_utils.get_override_settings(params) == [("ENSD", "eta_noise_seed_delta", 31337)]
    pairs = [f"{key}: {value}" for key, value in params.items()]
    assert infotext_utils.create_override_settings_dict(pairs) == {"eta_noise_seed_delta": 31337}


def test_a_png_carries_its_infotext_in_the_chunk_parameters(tmp_path):
    from modules import images

    text = "ein Bär, 熊\nSteps: 1, Sampler: Euler, Seed: 2"
    name, _ = images.save_image(Image.new("RGB", (8, 8)), str(tmp_path), "", seed=2, info=text)
    assert Image.open(name).text == {"parameters": text}
    assert images.read_info_from_image(Image.open(name)) == (text, {})
    picture = Image.new("RGB", (8, 8))
    picture.info["parameters"] = text
    assert Image.open(io.BytesIO(pictures.png_bytes(picture))).text == {"parameters": text}


def test_tags_are_cut_out_and_only_one_equals_sign_names_an_argument():
    from modules import extra_networks

    prompt, tags = extra_networks.parse_prompt("a <lora:x:0.5:te=1:a=b=c> cat <unknown:y>")
    assert prompt == "a  cat "
    assert tags["lora"][0].positional == ["x", "0.5", "a=b=c"] and tags["lora"][0].named == {"te": "1"}
    assert "unknown" in tags


def test_patches_can_be_undone_once():
    from modules import patches

    thing = type("Thing", (), {"f": 1})
    assert patches.patch("me", thing, "f", 2) == 1 and thing.f == 2
    with pytest.raises(RuntimeError, match="already applied"):
        patches.patch("me", thing, "f", 3)
    assert patches.original("me", thing, "f") == 1
    patches.undo("me", thing, "f")
    assert thing.f == 1
    with pytest.raises(RuntimeError, match="no patch"):
        patches.undo("me", thing, "f")


def test_settings_keep_types_and_survive_a_damaged_file(tmp_path, capsys):
    from modules.options import OptionInfo, Options

    opts = Options({"size": OptionInfo(3, "Size"), "on": OptionInfo(True, "On")})
    assert opts.size == 3 and opts.set("size", 4) and not opts.set("size", 4)
    assert opts.cast_value("size", "5") == 5 and opts.cast_value("on", "False") is False
    opts.save(tmp_path / "config.json")
    kept = ("broken.json.damaged", "broken.json.damaged-2", "broken.json.damaged-3")
    for text, name in zip(("{", "[1]", "[" * 100_000), kept):
        (tmp_path / "broken.json").write_text(text)
        opts.load(tmp_path / "broken.json")
        told = capsys.readouterr().err
        assert "could not be read" in told and f"{tmp_path / name}." in told
        opts.save(tmp_path / "broken.json")
        assert (tmp_path / name).read_text() == text
    fresh = Options({"size": OptionInfo(3, "Size")})
    fresh.load(tmp_path / "config.json")
    assert fresh.size == 4
    with pytest.raises(AttributeError, match="no setting 'nothing'"):
        _ = fresh.nothing


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PRISM_DATA_DIR", str(tmp_path / "env"))
    assert host.data_folder() == tmp_path / "env" and host.data_folder(tmp_path) == tmp_path
    monkeypatch.delenv("PRISM_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert host.data_folder() == tmp_path / "prism"
