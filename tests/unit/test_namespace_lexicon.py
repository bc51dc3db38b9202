"""Completion from CSV files of tagcomplete's shape."""

import logging
import random
import threading
import time

import pytest
from sd_prism.namespaces import lexicon
from sd_prism.namespaces.lexicon import Entry, Lexicon, Shelf, fold

SPECIES = """\
seal,,900,"pinniped,海豹,アザラシ,foca"
harbor_seal,,100,"phoca vitulina,foca_común"
sea_lion,,300,
sealyham_terrier,,50,"dog, small"
handler_(monster_hunter),,10,
o_o,,5,
"""


@pytest.fixture()
def species(tmp_path):
    file = tmp_path / "species.csv"
    file.write_text(SPECIES, encoding="utf8")
    return Lexicon.of([file])


def values(entries):
    return [entry.value for entry in entries]


def test_what_was_typed_comes_first_then_beginnings_then_words_each_by_count(species):
    assert values(species.complete("species", "seal")) == ["seal", "sealyham terrier", "harbor seal"]
    assert values(species.complete("species", "sea")) == ["seal", "sea lion", "sealyham terrier", "harbor seal"]
    assert species.complete("species", "seal", 1) == [Entry("seal", 900)]


def test_an_exact_value_comes_before_a_longer_one_with_a_higher_count():
    found = Lexicon({"x": [("cat ears", 900, []), ("cat", 20, []), ("bobcat", 5000, [])]}).complete("x", "cat")
    assert values(found) == ["cat", "cat ears"]


@pytest.mark.parametrize("typed", ["harbor_se", "harbor se", "HARBOR  Se", " harbor_se"])
def test_case_blanks_and_underscores_do_not_matter(species, typed):
    assert values(species.complete("species", typed)) == ["harbor seal"]


@pytest.mark.parametrize(("typed", "value", "alias"), [("海", "seal", "海豹"), ("アザ", "seal", "アザラシ")])
def test_aliases_in_any_script_lead_to_their_value(species, typed, value, alias):
    assert species.complete("species", typed) == [Entry(value, 900, alias)]


def test_accents_do_not_matter_and_a_word_inside_an_alias_counts(species):
    assert species.complete("species", "comun") == [Entry("harbor seal", 100, "foca común")]
    assert species.complete("species", "foca com") == [Entry("harbor seal", 100, "foca común")]
    assert species.complete("species", "vitul") == [Entry("harbor seal", 100, "phoca vitulina")]


def test_a_value_that_its_name_found_is_not_told_by_its_alias():
    found = Lexicon({"x": [("seal", 9, ["seals", "seal"])]}).complete("x", "sea")
    assert found == [Entry("seal", 9)]


def test_words_begin_behind_punctuation_and_faces_keep_their_underscore(species):
    assert values(species.complete("species", "monster h")) == ["handler (monster hunter)"]
    assert values(species.complete("species", "(mon")) == []
    assert values(species.complete("species", "o_")) == ["o_o"]


def test_nothing_typed_gives_the_most_used(species):
    assert values(species.complete("species", "", 2)) == ["seal", "sea lion"]
    assert species.complete("studio", "a") == []
    assert species.sizes == {"species": 6}


BOARD = "mika,1,5,\nre:zero,3,4,\nrem,4,3,\nsolo,0,2,\nhighres,5,1,\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("danbooru.csv", BOARD, {"artist", "copyright", "character", "general", "meta"}),
        ("my list.csv", BOARD, {"artist", "copyright", "character", "general", "meta"}),
        ("e621.csv", BOARD, {"artist", "copyright", "character", "general", "species"}),
        ("other.csv", BOARD + "canon,8,1,\n", {"artist", "copyright", "character", "general", "species", "lore"}),
        ("danbooru_e621_merged.csv", "solo,0,9,\nwolf,12,8,\nhi_res,14,7,\n", {"general", "species", "meta"}),
        ("film.csv", "kodak portra,0,9,\nagfa vista,,8,\nilford\n", {"film"}),
        ("mixed.csv", "seal,Species,9,\ndc,studio,8,\n", {"species", "studio"}),
        ("danbooru.csv", "odd,2,9,\nsolo,0,8,\n", {"general"}),
    ],
)
def test_categories_are_those_of_the_board_that_the_file_is_of(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf8")
    assert set(Lexicon.of([tmp_path / name]).sizes) == expected


def test_two_files_of_one_namespace_add_up(tmp_path):
    (tmp_path / "species.csv").write_text("harbor_seal,,3,phoca\n", encoding="utf8")
    (tmp_path / "e621.csv").write_text('Harbor seal,5,7,"phoca,海豹"\n', encoding="utf8")
    both = Lexicon.of([tmp_path / "species.csv", tmp_path / "e621.csv"])
    assert both.complete("species", "海") == [Entry("harbor seal", 7, "海豹")]
    assert both.sizes == {"species": 1}


def test_damaged_lines_are_told_once_per_file_and_left_out(tmp_path, caplog):
    file = tmp_path / "species.csv"
    file.write_bytes(
        b'name,category,count,aliases\nseal,,5,\n,,3,\n"open,,1,\n\xff\xfe,,2,\n\ndog,,many,\nfox,,4,"kit"\n'
    )
    with caplog.at_level(logging.WARNING, "prism"):
        found = Lexicon.of([file, tmp_path / "missing.csv"])
    assert values(found.complete("species", "")) == ["seal", "fox"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert str(file) in lines[0] and "line 3, 4, 5, 7 skipped" in lines[0]
    assert "missing.csv" in lines[1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbfseal,,1,\n",
        b"\x00\x00,\n",
        b"seal\r\nseal\r\n",
        b",,,,,,\n",
        b"seal,,-5,\n",
        b"seal,,1" + b"0" * 30,
    ],
)
def test_no_file_is_too_odd(tmp_path, data):
    (tmp_path / "species.csv").write_bytes(data)
    found = Lexicon.of([tmp_path / "species.csv"]).complete("species", "se")
    assert values(found) in ([], ["seal"])


def reference(rows, typed, limit):
    """What `complete` must give, by looking at every row."""
    typed, ranked = fold(typed).lstrip(), []
    for value, count, aliases in rows:
        name = fold(value)
        others = [fold(alias) for alias in aliases]
        kinds = (
            name == typed,
            name.startswith(typed),
            inside(name, typed),
            any(one.startswith(typed) for one in others),
            any(inside(one, typed) for one in others),
        )
        if any(kinds):
            ranked.append((kinds.index(True), -count, value))
    return [value for _, _, value in sorted(ranked)[:limit]]


def inside(text, typed):
    return any(text.startswith(typed, word.start()) for word in lexicon.WORD.finditer(text))


def test_the_index_gives_what_a_look_at_every_row_gives():
    pick = random.Random(7)
    words = ["sea", "seal", "lion", "a", "ab", "cat", "猫", "é", "(x)", ":d", "of"]

    def phrase():
        return " ".join(pick.choices(words, k=pick.randint(1, 3)))

    rows = [
        (one, pick.randint(0, 9), [phrase() for _ in range(pick.randint(0, 3))])
        for one in {phrase() for _ in range(300)}
    ]
    index = Lexicon({"x": rows})
    for typed in ["s", "sea", "seal", "seal l", "a", "ab", "猫", "e", "(", "(x", ":", "x", "of a", "zz", "lion"]:
        for limit in (1, 5, 1000):
            assert values(index.complete("x", typed, limit)) == reference(rows, typed, limit), (typed, limit)


def test_a_shelf_waits_once_and_then_builds_behind_the_scenes(tmp_path, monkeypatch):
    file = tmp_path / "species.csv"
    file.write_text("seal\n", encoding="utf8")
    shelf = Shelf(lambda: tmp_path.glob("*.csv"))
    first = shelf.lexicon()
    assert shelf.lexicon() is first and first.sizes == {"species": 1}

    go, build = threading.Event(), Lexicon.of
    monkeypatch.setattr(Lexicon, "of", lambda files: (go.wait(10), build(files))[1])
    file.write_text("seal\nfox\n", encoding="utf8")
    assert shelf.lexicon() is first  # the old one, while the new one is made
    assert shelf.lexicon() is first
    builders = [thread for thread in threading.enumerate() if thread.name == "lexicon"]
    assert len(builders) == 1
    go.set()
    builders[0].join(10)
    assert shelf.lexicon().sizes == {"species": 2}


def test_many_threads_build_it_once(tmp_path, monkeypatch):
    (tmp_path / "species.csv").write_text("seal\n", encoding="utf8")
    built, build = [], Lexicon.of
    monkeypatch.setattr(Lexicon, "of", lambda files: (built.append(1), time.sleep(0.05), build(files))[2])
    shelf = Shelf(lambda: tmp_path.glob("*.csv"))
    threads = [threading.Thread(target=shelf.lexicon) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
