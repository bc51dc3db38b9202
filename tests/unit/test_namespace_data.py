"""The shipped sets and lexicons: they load, agree with one another, and no name means two things."""

import csv
import json
import re
from itertools import combinations

import pytest
from sd_prism.miniatures import world
from sd_prism.namespaces import dialects
from sd_prism.namespaces.registry import DEFAULT_SETS, FOLDER, SETS, Registry, fold

LEXICON = FOLDER.parent / "lexicon"
LEXICONS = sorted(LEXICON.glob("*.csv"))
EVERY = (*DEFAULT_SETS, "sote")
GROUPS = {group for dialect in dialects.DIALECTS.values() for group in dialect.order}
CONTENTS = {
    "sygil": "species studio series character creator medium rating gender clothing person meta subreddit category "
    "title uploader booru text",
    "sote": "aesthetic quality date custom rating character series",
    "booru": "artist character copyright species meta general lore",
    "pony": "score source rating",
    "photo": "year era lens iso film aspect ratio age",
    "mini": "species object color place style count size quality",
}


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def rows(file):
    return list(csv.reader(file.read_text(encoding="utf-8").splitlines(), strict=True))


def brightness(color):
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("name", SETS)
def test_a_set_holds_the_namespaces_of_its_models(name):
    extra = {"pixiv work"} if name == "sygil" else set()
    assert set(Registry.of(name).namespaces) == {*CONTENTS[name].split(), *extra}
    assert {file.stem for file in FOLDER.glob("*.json")} == set(SETS)


@pytest.mark.parametrize("sets", [DEFAULT_SETS, EVERY], ids=["default", "with sote"])
def test_no_alias_means_two_namespaces(sets):
    owners = {}
    for one in Registry.of(*sets).namespaces.values():
        for written in (one.name, *one.aliases):
            assert owners.setdefault(fold(written), one.name) == one.name, written
        assert len({fold(written) for written in (one.name, *one.aliases)}) == 1 + len(one.aliases), one.name


@pytest.mark.parametrize("name", Registry.of(*EVERY).namespaces)
def test_a_namespace_has_aliases_in_japanese_chinese_or_both_and_spanish_and_a_visible_color(name):
    one = Registry.of(*EVERY).namespaces[name]
    assert any(re.search("[\u3040-\u30ff\u4e00-\u9fff]", alias) for alias in one.aliases)
    assert any(re.fullmatch("[a-záéíóúñ ]+", alias) for alias in one.aliases)
    assert re.fullmatch("#[0-9a-f]{6}", one.color)
    light = brightness(one.color)
    assert 1.05 / (light + 0.05) >= 3  # on white
    assert (light + 0.05) / (brightness("#1f2937") + 0.05) >= 3  # on the webui's dark panels


@pytest.mark.parametrize(("written", "name"), [
    ("especie", "species"), ("种类", "species"), ("物种", "species"), ("種類", "species"), ("種", "species"),
    ("Año", "year"), ("年", "year"), ("ASPECT_RATIO", "aspect"), ("pixiv-work", "pixiv work"),
    ("creador", "creator"), ("artista", "artist"), ("画师", "artist"), ("作者", "creator"), ("キャラ", "character"),
    ("風格", "style"), ("风格", "style"), ("分级", "rating"), ("分級", "rating"), ("colour", "color"),
])  # fmt: skip
def test_names_in_other_languages(written, name):
    assert Registry.of(*DEFAULT_SETS).find(written).name == name


def test_a_namespace_is_the_same_in_every_set_but_for_sotes_scores_of_quality():
    differs = set()
    for one, other in combinations(SETS, 2):
        ours, theirs = read(one), read(other)
        differs |= {(name, one, other) for name in set(ours) & set(theirs) if ours[name] != theirs[name]}
    assert differs == {("quality", "sote", "mini")}
    assert read("sote")["quality"] == {**read("mini")["quality"], "type": "number", "domain": [0, 1]}


def test_only_what_differs_from_the_default_is_written():
    plain = vars(Registry.from_json({"plain": {}}).namespaces["plain"])
    for name in SETS:
        for one in Registry.of(name).namespaces.values():
            assert not [key for key in read(name)[one.name] if vars(one)[key] == plain[key]], one.name


def test_fields_agree_with_one_another():
    for one in Registry.of(*EVERY).namespaces.values():
        assert (one.type == "number") == (one.domain is not None), one.name
        assert (one.type == "enum") == bool(one.values), one.name
        assert one.domain is None or one.domain[0] < one.domain[1], one.name
        assert one.group in GROUPS | {"rest"}, one.name
    orders = [one.order for one in Registry.of(*EVERY).namespaces.values()]
    assert len(set(orders)) == len(orders)


def test_parentheses_and_brackets_are_text_where_names_have_them():
    every = Registry.of(*EVERY).namespaces.values()
    assert {one.name for one in every if one.parens == "literal"} == {
        *("character", "person", "series", "copyright", "creator", "artist", "title", "medium", "uploader"),
    }
    assert {one.name for one in every if one.brackets == "literal"} == {"uploader"}


@pytest.mark.parametrize(("name", "values", "weights"), [
    ("year", (1000, 1990, 2200), (0.5, 999, 2201)),
    ("iso", (25, 100, 6553600), (1.2, 24)),
    ("lens", (4, 50, 2000), (1.2, 3.9)),
    ("age", (0, 25), (-1,)),
    ("score", (0, 9.5, 10), (-0.1, 10.1)),
    ("pixiv work", (71448774,), (0.5,)),
    ("aesthetic", (0, 0.93, 1), (1.2,)),
    ("date", (2023,), (1.1,)),
    ("species", (), (0.5, 1990)),
    ("style", (), (1.2,)),
])  # fmt: skip
def test_bare_numbers_that_are_values(name, values, weights):
    one = Registry.of(*EVERY).namespaces[name]
    assert all(one.takes(value) for value in values)
    assert not any(one.takes(weight) for weight in weights)


def test_sotes_scores_are_no_values_while_its_set_is_off():
    assert not Registry.of(*DEFAULT_SETS).find("quality").takes(0.8)
    assert Registry.of(*EVERY).find("quality").takes(0.8)
    assert Registry.of(*DEFAULT_SETS).find("aesthetic") is None


def test_ratios_are_values_of_pictures_shapes():
    assert {one.name for one in Registry.of(*EVERY).namespaces.values() if one.ratio} == {"aspect", "ratio"}


def test_wrong_senses_are_never_the_sense_itself():
    for one in Registry.of(*EVERY).namespaces.values():
        for value, senses in one.anti.items():
            assert senses and value not in senses
            assert not (one.name in dialects.SENSES and f"{value} {dialects.SENSES[one.name]}" in senses)


def test_the_sygil_dialects_names_are_those_of_its_set():
    assert set(dialects.SYGIL_NAMES) == set(read("sygil"))


# --- lexicons ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", LEXICONS, ids=lambda file: file.stem)
def test_a_lexicon_has_four_columns_and_counts_down(file):
    assert Registry.of(*EVERY).namespaces[file.stem]
    table = rows(file)
    assert all(len(row) == 4 and row[0] == row[0].strip() and row[0] and row[1] == "" for row in table)
    assert [int(row[2]) for row in table] == list(range(len(table), 0, -1))
    assert len({fold(row[0]) for row in table}) == len(table)


def test_every_lexicon_that_a_namespace_names_is_there():
    """A file of values is shipped, or is another namespace's, which users' own files are named after."""
    known = Registry.of(*EVERY).namespaces
    named = {one.lexicon for one in known.values() if one.lexicon}
    assert named <= {file.name for file in LEXICONS} | {f"{name}.csv" for name in known}


@pytest.mark.parametrize(("name", "words"), [
    ("species", {word for namespace, word in world.SUBJECTS if namespace == "species"}),
    ("object", {word for namespace, word in world.SUBJECTS if namespace == "object"}),
    ("color", set(world.COLORS)),
    ("place", set(world.PLACES)),
    ("style", {*world.STYLES, world.NEON}),
    ("size", set(world.SIZES)),
    ("quality", set(world.QUALITIES)),
    ("count", set(world.COUNTS)),
])  # fmt: skip
def test_the_miniatures_world_is_in_the_lexicons_in_its_four_languages(name, words):
    aliases = {row[0]: row[3].split(",") for row in rows(LEXICON / f"{name}.csv")}
    assert words <= set(aliases)
    for language in world.FOREIGN.values():
        assert all(language[word] in aliases[word] for word in words & set(language))
