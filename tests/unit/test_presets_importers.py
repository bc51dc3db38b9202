"""Presets of other programs, pictures and their texts, from literal samples of each."""

from __future__ import annotations

import json
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from sd_prism import infotext
from sd_prism.cards import Store, importers, pictures
from sd_prism.errors import PrismError
from sd_prism.merge.presets import PRESETS
from sd_prism.settings import CARDS, CASCADE, FREEU, MERGE, NAMESPACES

RAMP = [round(i / 100, 2) for i in range(26)]
STATE = {
    "enable": True,
    "start_ratio": 0.2,
    "stop_ratio": 0.8,
    "stage_infos": [
        {"backbone_factor": 1.2, "skip_factor": 0.9},
        {"backbone_factor": 1.4, "skip_factor": 0.2, "backbone_offset": 0.25},
    ],
}
FREEU_VALUES = {"version": "1", "b1": 1.2, "b2": 1.4, "offset2": 0.25, "start": 0.2, "stop": 0.8}
FORGE = """import os
os.abort()
presets_custom = [
    ('Forge default', 1.01, 1.02, 0.99, 0.95, 0.0, 1.0),
    ('Late', 1.3, 1.4, 0.9, 0.2, 0.5, 1.0),
]
"""
STYLES = """\ufeffname,prompt,negative_prompt
Cinema,"film still, {prompt}, grain","lowres, bad"
"Two, words", oil painting,
# remark,x,y
------,,
"""
PROMPT = "a seal, {red|blue} eyes\nsecond line\nNegative prompt: lowres,\nbad hands\n"
HOST = "Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 1, Size: 512x768, "
HOST += "Model hash: abcdef1234, Model: neon, Clip skip: 2"


def row(weights):
    return ",".join(map(str, weights))


def found(source, file_name="file.txt"):
    return [(one.feature, one.name, one.values) for one in importers.read(source, file_name)]


# --- other programs


def test_presets_json_of_sd_webui_freeu():
    (one, two) = importers.read(json.dumps({"Mine": STATE, "Other": {**STATE, "version": "2"}}))
    assert (one.feature, one.name, one.values) == ("freeu", "Mine", FREEU_VALUES)
    assert two.values == {name: value for name, value in FREEU_VALUES.items() if name != "version"}
    assert "saves no version" in one.notes


def test_one_state_of_sd_webui_freeu_is_named_after_its_file():
    assert found(json.dumps(STATE), "glow.json") == [("freeu", "glow", FREEU_VALUES)]
    assert found(json.dumps(STATE), "") == [("freeu", "Imported", FREEU_VALUES)]


def test_forges_list_is_read_and_its_code_is_not_run():
    assert found(FORGE, "freeu_presets.py") == [
        ("freeu", "Forge default", {"b1": 1.01, "b2": 1.02, "s1": 0.99, "s2": 0.95}),
        ("freeu", "Late", {"b1": 1.3, "b2": 1.4, "start": 0.5}),
    ]
    with pytest.raises(PrismError, match="no freeu_presets"):
        importers.read("presets_custom = [('x', *map(float, '111111'))]")


@pytest.mark.parametrize(
    "text",
    [
        f"preset_name\tpreset_weights\nRAMP\t{row(RAMP)}\n",
        f"# mine\nRAMP:{row(RAMP)},\n",
        f"RAMP = {RAMP}",
        json.dumps({"RAMP": RAMP}),
        json.dumps({"sd": {"RAMP": RAMP}}),
        f'\ufeffRAMP\t"{row(RAMP)}"\r\n',
    ],
    ids=["mbw", "supermerger", "python", "json", "nested", "windows"],
)
@pytest.mark.parametrize("encode", [str, lambda text: text.encode(), lambda text: text.encode("utf-16")])
def test_lists_of_block_weights(text, encode):
    assert found(encode(text)) == [("merge", "RAMP", {"weights": " ".join(f"{one:g}" for one in RAMP)})]
    assert MERGE.read(dict(found(text)[0][2]))["weights"] == " ".join(f"{one:g}" for one in RAMP)


def test_classic_block_presets_are_known_already_and_others_of_their_name_are_told_apart():
    table = "".join(f"{name}\t{row(one.weights(25))}\n" for name, one in PRESETS.items())
    assert found(table) == []
    xl = "".join(f"{name}\t{row([0, *one.weights(19)])}\n" for name, one in PRESETS.items())
    assert found(xl) == []
    assert found(f"grad_v\t{row([0.1] * 25)}")[0][1] == "grad_v (own)"


def test_styles_become_cards_of_prompts_alone():
    expected = [
        (
            "card",
            "Cinema",
            {"prompt": {"before": "film still, ", "after": ", grain"}, "negative": {"after": "lowres, bad"}},
        ),
        ("card", "Two, words", {"prompt": {"after": "oil painting"}}),
    ]
    assert found(STYLES) == found(STYLES.encode()) == expected


# --- pictures and their texts


def drawn(*panels):
    """An infotext as a webui writes it."""
    told = [f"{panel.title}: {json.dumps(text) if ',' in text or ':' in text else text}" for panel, text in panels]
    return ", ".join([PROMPT + HOST, *told])


def png(text, kind="tEXt"):
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "x")
    if kind == "iTXt":
        info.add_itxt("parameters", text, zip=False)
    elif kind == "zipped iTXt":
        info.add_itxt("parameters", text, zip=True)
    else:
        info.add_text("parameters", text, zip=kind == "zTXt")
    stream = BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


FREEU_TEXT = infotext.dumps(FREEU, FREEU.read({"b1": 1.1, "schedule": "1@0 0@1"}) | {"preset": "Glow, soft"})
MERGE_TEXT = infotext.dumps(MERGE, MERGE.read({"model": "neon, v2", "preset": "GRAD_V"}))
TEXT = drawn((FREEU, FREEU_TEXT), (MERGE, MERGE_TEXT), (CASCADE, infotext.dumps(CASCADE, CASCADE.read({"steps": 12}))))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "zipped iTXt"])
def test_a_picture_gives_each_panels_preset_and_a_card_of_all(kind):
    freeu, merge, cascade, card = importers.read(png(TEXT, kind), "00001-7.png")
    assert importers.read(TEXT, "00001-7.txt") == [freeu, merge, cascade, card]
    assert (freeu.feature, freeu.name) == ("freeu", "Glow, soft")  # as it was called where it was drawn
    assert freeu.values == {"b1": 1.1, "schedule": "1@0 0@1"}
    assert (merge.name, merge.values) == ("00001-7", {"model": "neon, v2", "preset": "GRAD_V"})
    assert (cascade.feature, cascade.values) == ("cascade", {"steps": 12})
    assert card.values == {
        "host": {
            "sampler": "DPM++ 2M",
            "scheduler": "Karras",
            "steps": 24,
            "cfg": 5.5,
            "width": 512,
            "height": 768,
            "clip_skip": 2,
        },
        "negative": {"before": "lowres,\nbad hands"},
        "freeu": {"enabled": True, **freeu.values},
        "merge": {"enabled": True, **merge.values},
        "cascade": {"steps": 12},
    }
    assert card.extra["match"] == {"names": ["neon"], "hashes": ["abcdef1234"]}


def test_an_imported_preset_draws_what_the_picture_says(tmp_path):
    store = Store(tmp_path)
    store.import_(png(TEXT), "a.png")
    values = FREEU.read(dict(store.get("freeu", "Glow, soft").values))
    assert values == infotext.loads(FREEU, FREEU_TEXT)
    (tmp_path / "a.png").write_bytes(png(TEXT))
    assert [one.name for one in store.import_(tmp_path / "a.png")] == ["Glow, soft", "a", "a", "a"]
    assert [one.name for one in store.list("card")].count("a") == 1


def test_a_card_in_a_picture_keeps_its_name():
    assert importers.read(drawn((CARDS, "card=Neon style")), "1.png")[0].name == "Neon style"


@pytest.mark.parametrize(
    "preset", ["Automatic (by model)", "SDXL (authors)", "Text-to-video (Zeroscope)", "SD 1.4 (authors)"]
)
def test_a_card_of_a_picture_names_the_preset_that_the_picture_names(preset):
    """Several presets have the same values."""
    values = FREEU.read({"preset": preset, "start": 0.25})
    *_, card = importers.read(drawn((FREEU, infotext.dumps(FREEU, values))))
    assert {name: value for name, value in card.values["freeu"].items() if name in values} == {
        name: values[name] for name in ("enabled", "preset", *FREEU.kept)
    }


def test_other_programs_freeu_in_a_picture_is_a_preset_too():
    text = f"{HOST}, freeu_enabled: True, freeu_b1: 1.1, freeu_b2: 1.2, freeu_s1: 0.9, freeu_s2: 0.2"
    freeu, card = importers.read(text, "forge.png")
    assert (freeu.name, freeu.values) == ("forge", {"b1": 1.1, "b2": 1.2})
    assert card.values["freeu"] == {"enabled": True, "b1": 1.1, "b2": 1.2}


def test_our_own_file_with_an_infotext_in_it_is_no_infotext():
    data = {"format": "prism.preset", "version": 1, "feature": "freeu", "name": "N", "values": {}, "notes": TEXT}
    assert found(json.dumps(data)) == [("freeu", "N", {})]


def test_the_panel_named_in_a_prompt_is_no_preset():
    assert [one.feature for one in importers.read(f"Prism FreeU: b1=3, x: y\n{HOST}")] == ["card"]


# --- what cannot be read


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "there is no preset in it"),
        ("hello", '"hello" is no preset; write a name, a tab or colon, weights'),
        ("{}", "line 1"),
        (b"\xff\xd8\xff\xe0JFIF", "neither a PNG nor a text in UTF-8"),
        (png("x")[:40], "holds no parameters"),
        (pictures.PNG + b"\0\0\0\x20iTXtparameters\0\1\0\0\0broken", "is damaged"),
        (b"RIFF1234WEBP\xff", "neither a PNG"),
        (f"{HOST}, Prism FreeU: b1=99", "Stage 1 backbone is 99"),
        (json.dumps({"Mine": {**STATE, "stage_infos": "x"}}), "could not be read"),
        (f"RAMP\t{row(RAMP[:5])}", "has 5 weights"),
        ('{"format": "prism.presets", "version": 1, "presets": 5}', '"presets" must be a list'),
        ("name,prompt\n" + "x" * 200 + ",y", "longer than 120 characters"),
        ("-" * 100_000 + "1:[", "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_files_name(source, told, tmp_path):
    store = Store(tmp_path / "presets")
    with pytest.raises(PrismError, match=r"^a\.x.*") as caught:
        store.import_(source, "a.x")
    assert told in str(caught.value) and not store.folder.exists()


def test_a_text_that_grows_without_end_is_refused():
    bomb = zlib.compress(b"x" * (pictures.LONGEST + 1), 9)
    chunk = b"parameters\0\0" + bomb
    picture = pictures.PNG + struct.pack(">I4s", len(chunk), b"zTXt") + chunk + b"\0" * 4
    with pytest.raises(PrismError, match="longer than 1 MiB"):
        pictures.text_of(picture)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(PrismError, match=r"none\.json cannot be read: No such file"):
        Store(tmp_path).import_(Path(tmp_path / "none.json"))
    assert os.listdir(tmp_path) == []


def test_namespaces_come_back_from_a_text_by_value():
    values = NAMESPACES.read({"strength": "species=1.2", "bind": "0.4"})
    preset, _ = importers.read(drawn((NAMESPACES, infotext.dumps(NAMESPACES, values))), "n.png")
    assert NAMESPACES.read(dict(preset.values)) == values
