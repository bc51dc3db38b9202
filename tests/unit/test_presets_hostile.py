"""Hostile preset files and names: none harms the store, leaves its folder or is overwritten."""

from __future__ import annotations

import json

import pytest
from sd_prism import files
from sd_prism.cards import FEATURES, Preset, Store
from sd_prism.cards.preset import LARGEST
from sd_prism.errors import PrismError

GOOD = {"format": "prism.preset", "version": 1, "feature": "freeu", "name": "Good", "values": {"b1": 1.1}}
DEVICES = ["CON", "con.json", "PRN", "AUX", "NUL", "nul.txt", "COM1", "LPT9", "COM¹"]
PATHS = ["../up", "../../etc/passwd", "..", ".", "/etc/passwd", r"\\server\share", r"C:\x", "C:x", "a/b", r"a\b", "~/x"]
PATHS += [r"..\up", "%2e%2e%2f", "file:///x", "-rf", "$HOME", "`id`", "$(id)", "%PATH%", "a|b", "a>b", "*", "?", '"']
SHAPES = ["trailing.", "trailing...", " blanks ", ".hidden", ".trash", ".lock", "a.json", "a.json.damaged", "x.undone"]
LETTERS = [
    "🎨",
    "👩\u200d🎨",
    "🏳️",
    "e\u0301",
    "é",
    "ﬁ",
    "İ",
    "ß",
    "ẞ",
    "中文",
    "עברית",
    "\u202egnp.exe",
    "a\u200db",
    "Å",
]
WORDS = ["<script>alert(1)</script>", "<lora:x:1>", "{{7*7}}", "a,b", "a: b", "a; b=1", "a=b", "preset=x", "#", "null"]
WORDS += ["NaN", "true", "0", "1e9", "[]", "{}", "'"]
NAMES = [*DEVICES, *PATHS, *SHAPES, *LETTERS, *WORDS, "x" * 120, "字" * 120, "🎨" * 120]
NO_NAMES = ["", " ", "\t", "\0", "a\0b", "a\nb", "a\rb", "\x1b[31m", "\x7f", "\ud800", "a\u2028b", "\u200b", "\u3000"]
NO_NAMES += ["x" * 300, "字" * 121, "x" * 100_000]


def with_(**more):
    return json.dumps({**GOOD, **more}).encode()


def without(key):
    return json.dumps({name: value for name, value in GOOD.items() if name != key}).encode()


WRONG_TYPES = [None, True, 0, -1, 1.5, "", "text", [], [1], {}, {"a": 1}]
RIGHT = {
    "format": ["prism.preset"],
    "version": [1],
    "feature": ["freeu"],
    "name": ["text"],
    "values": [{}, {"a": 1}],
    "author": ["", "text"],
    "notes": ["", "text"],
    "base": [[]],
}
CONTENTS = {
    **{
        f"{key} is {value!r}": with_(**{key: value})
        for key in RIGHT
        for value in WRONG_TYPES
        if value not in RIGHT[key]
    },
    **{f"no {key}": without(key) for key in ("format", "version", "feature", "name", "values")},
    **{
        f"{name} is {value!r}": with_(values={name: value})
        for name, values in {
            "b1": ["x", None, [], {}, 99, -99, True, 1e308, 10**400, "1,5", "nan", "inf"],
            "version": ["3", 7, None, [2]],
            "schedule": ["x@y", "1@2@3", 5.5, {"a": 1}],
            "blocks": ["OUT99=1", "OUT03", []],
            "symmetric": ["maybe", 2, None],
        }.items()
        for value in values
    },
    **{f"name {name[:20]!r}": with_(name=name) for name in NO_NAMES if "\ud800" not in name},
    "version is true": with_(version=True),
    "a newer version": with_(version=2),
    "a card of the wrong kind": with_(feature="card", values={"host": 5}),
    "empty": b"",
    "a blank": b" \n",
    "NUL": b"\0" * 100,
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "latin-1": json.dumps({**GOOD, "name": "é"}, ensure_ascii=False).encode("latin-1"),
    "cut short": json.dumps(GOOD).encode()[:-1],
    "two objects": json.dumps(GOOD).encode() * 2,
    "rest": json.dumps(GOOD).encode() + b"x",
    "single quotes": str(GOOD).encode(),
    "a comment": b"// mine\n" + json.dumps(GOOD).encode(),
    "a trailing comma": json.dumps(GOOD).encode()[:-1] + b",}",
    "NaN": with_(values={"b1": float("nan")}),
    "Infinity": with_(more=float("inf")),
    "a long number": with_(more=1)[:-1] + b', "n": ' + b"9" * 5000 + b"}",
    "half a character": with_(notes="\ud800"),
    "half a character in a name": with_(name="\ud800"),
    "half a character in an unknown key": with_(**{"\udfff": 1}),
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and whole": with_(more=0)[:-2] + b"[" * 900 + b"]" * 900 + b"}",
    "huge": with_(notes="x" * (LARGEST + 1)),
    "a picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'touch hacked'\ntR.",
    "a list of presets": json.dumps([GOOD]).encode(),
    "a text": b'"prism.preset"',
    "html": b"<!doctype html><p>not found",
}
READABLE = {"deep and whole"}  # unless this Python's own limit comes first


def test_there_are_200_of_them():
    assert len(CONTENTS) + len(NAMES) + len(NO_NAMES) >= 200


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "inside" / "presets")


def everything(folder):
    """All files below a folder, with their contents."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("title", CONTENTS)
def test_a_hostile_file_is_told_and_left_as_it_is(title, store, tmp_path):
    (store.folder / "freeu").mkdir(parents=True)
    file = store.folder / "freeu" / "x.json"
    file.write_bytes(CONTENTS[title])
    shown = store.unreadable
    if title not in READABLE:
        assert [one.file for one in shown] == [file] and 0 < len(shown[0].reason) < 500
    store.save(Preset("freeu", "Good", {"b1": 1.2}))
    assert store.get("freeu", "good").values == {"b1": 1.2}
    assert store.undo() == "Good" and store.unreadable == shown
    assert file.read_bytes() == CONTENTS[title]
    assert all(path.startswith(str(store.folder)) for path in everything(tmp_path))


@pytest.mark.parametrize("title", CONTENTS)
def test_a_hostile_file_can_be_given_to_the_import(title, store):
    try:
        assert all(one.feature in FEATURES for one in store.import_(CONTENTS[title], "x.json"))
    except PrismError as error:
        assert str(error).startswith("x.json") and len(str(error)) < 700
        assert not store.folder.exists()


@pytest.mark.parametrize("feature", ["freeu", "card"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_hostile_name_is_a_name_like_any_other(feature, name, store, tmp_path):
    saved = store.save(Preset(feature, name, {}))
    assert store.get(feature, name) == store.get(feature, saved.name) == saved and store.unreadable == []
    (file,) = (store.folder / feature).iterdir()
    assert files.new_name(file.name, ".json") == file.name and not file.name.startswith(".")
    store.delete(feature, name)
    assert store.undo() == saved.name
    assert all(path.startswith(str(store.folder)) for path in everything(tmp_path))


def test_hostile_names_do_not_get_in_each_others_way(store):
    saved = store.save_all([Preset("freeu", name, {"new": number}) for number, name in enumerate(NAMES)])
    last = {one.name.casefold(): one for one in saved}
    assert {one.name.casefold(): one for one in store.list("freeu") if one.origin == "user"} == last


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: ascii(name[:20]))
def test_what_is_no_name_is_refused(name, store):
    with pytest.raises(PrismError, match="is no name for a preset; it"):
        store.save(Preset("freeu", name, {}))
    assert not store.folder.exists()


@pytest.mark.parametrize("feature", ["", "..", "../x", "freeu/../..", "FREEU", ".trash", "cards", 5, ["freeu"]])
def test_a_feature_names_no_folder_of_its_own(feature, store):
    for ask in (store.get, store.delete, store.versions, lambda one, name: store.list(one)):
        with pytest.raises(PrismError, match="does not exist"):
            ask(feature, "x")
    with pytest.raises(PrismError, match="does not exist"):
        store.save(Preset(feature, "x", {}))
    assert not store.folder.exists()


@pytest.mark.parametrize(
    "values", [{"more": float("nan")}, {"more": {1, 2}}, {"more": b"x"}, {"more": "\ud800"}, {"more": object()}]
)
def test_values_that_no_file_can_hold_are_refused(values, store):
    store.save(Preset("freeu", "Soft", {"b1": 1.1}))
    before = everything(store.folder)
    with pytest.raises(PrismError, match='"Soft" cannot be written as JSON'):
        store.save(Preset("freeu", "Soft", values))
    assert everything(store.folder) == before
