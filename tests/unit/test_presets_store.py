"""The folder of presets: nothing is lost, whoever writes it, whatever lies in it, and whenever a process dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sd_prism.cards import Preset, Store
from sd_prism.cards import store as store_module
from sd_prism.errors import PrismError, UnknownName

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"Preset {number}" for number in range(8)]
SAVES, KILLS = 1000, 25
SAVER = """
import sys
sys.path.insert(0, sys.argv[1])
from sd_prism.cards import Preset, Store
store, names = Store(sys.argv[2]), sys.argv[5].split(",")
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    store.save(Preset("freeu", names[number % len(names)], {"new": number}, notes=f"{number} " * 2000))
    print(number, flush=True)
"""


def saver(folder, first, last, names=NAMES):
    """A process that saves presets numbered from first to last and tells each that it has saved."""
    command = [sys.executable, "-c", SAVER, str(ROOT / "lib"), str(folder), str(first), str(last), ",".join(names)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def numbers(store):
    """The number that each of the user's presets holds; each must be whole."""
    found = {one.name: one for one in store.list("freeu") if one.origin == "user"}
    for preset in found.values():
        assert preset.notes == f"{preset.values['new']} " * 2000
    return {name: preset.values["new"] for name, preset in found.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "presets")


def soft(**more):
    return Preset("freeu", "Soft", {"b1": 1.1, **more})


# --- one program


def test_nothing_is_written_before_the_first_save(store):
    assert store.list("merge") == [] and store.unreadable == [] and not store.folder.exists()


def test_a_preset_is_one_file_that_holds_only_what_differs(store):
    store.save(Preset("freeu", "Soft glow!", {"b1": 1.1, "b2": 1.6}, "me", "for skies", ("sd1",)))
    (file,) = (store.folder / "freeu").iterdir()
    assert file.name.startswith("soft-glow-") and file.suffix == ".json"
    assert json.loads(file.read_text("utf-8")) == {
        "format": "prism.preset",
        "version": 1,
        "feature": "freeu",
        "name": "Soft glow!",
        "author": "me",
        "notes": "for skies",
        "base": ["sd1"],
        "values": {"b1": 1.1},
    }


def test_another_store_sees_what_one_does(store):
    other = Store(store.folder)
    assert other.state() == store.state()
    store.save(soft())
    assert other.get("freeu", "soft") == soft() and other.state() == store.state() != ()
    other.save(soft(s1=0.5))
    assert store.get("freeu", "SOFT").values == {"b1": 1.1, "s1": 0.5}
    other.delete("freeu", "Soft")
    with pytest.raises(UnknownName):
        store.get("freeu", "Soft")


def test_search_finds_words_in_names_authors_notes_and_families(store):
    store.save(Preset("freeu", "Soft", {"b1": 1.1}, "Zoë", "Skies at night", ("sdxl",)))
    for words in ("soft", "zoë NIGHT", "skies sdxl soft", "SOF"):
        assert "Soft" in [one.name for one in store.list(search=words)]
    assert store.list("freeu", "soft rain") == [] and store.list("merge", "soft") == []
    assert [one.name for one in store.list("freeu", "nasir")] == ["SDXL v1 (Nasir Khalid)"]


def test_unknown_keys_survive_a_rewrite_by_this_version(store):
    store.save(soft())
    (file,) = (store.folder / "freeu").iterdir()
    told = json.loads(file.read_text("utf-8"))
    told |= {"mood": {"sky": [1, None]}, "values": {**told["values"], "b9": 1.5}}
    file.write_text(json.dumps(told), "utf-8")
    store.save(soft(s1=0.5))
    again = json.loads(file.read_text("utf-8"))
    assert again == {**told, "values": {"b1": 1.1, "s1": 0.5, "b9": 1.5}}


def test_undo_walks_back_through_saves_and_deletes(store):
    store.save(soft())
    store.save(soft(s1=0.5))
    store.save(Preset("merge", "Half", {"model": "b"}))
    store.delete("freeu", "soft")
    assert [store.undo(), store.get("freeu", "Soft").values["s1"]] == ["Soft", 0.5]
    assert [store.undo(), store.list("merge")] == ["Half", []]
    assert [store.undo(), store.get("freeu", "Soft")] == ["Soft", soft()]
    assert store.undo() == "Soft"
    with pytest.raises(PrismError, match="nothing to undo"):
        store.undo()
    assert len(store.list("freeu")) == len(Store(store.folder / "none").list("freeu"))


def test_what_an_undo_took_away_is_a_version_too(store):
    for number in (0.1, 0.2, 0.3):
        store.save(soft(s1=number))
    store.undo()
    assert sorted(one.preset.values["s1"] for one in store.versions("freeu", "soft")) == [0.1, 0.3]
    store.delete("freeu", "Soft")
    newest = store.versions("freeu", "Soft")[0]
    assert newest.preset.values["s1"] == 0.2 and abs(newest.when - time.time()) < 60
    assert store.save(newest.preset) == store.get("freeu", "Soft")


def test_undo_after_a_restart_and_by_another_program(store):
    store.save(soft())
    store.delete("freeu", "Soft")
    assert Store(store.folder).undo() == "Soft" and store.get("freeu", "Soft") == soft()


def test_built_in_presets_cannot_be_deleted_but_shadowed(store):
    with pytest.raises(PrismError, match="is built in"):
        store.delete("freeu", "Subtle")
    store.save(Preset("freeu", "Subtle", {"b1": 2.0}))
    assert store.get("freeu", "subtle").values == {"b1": 2.0}
    store.delete("freeu", "Subtle")
    assert store.get("freeu", "Subtle").origin == "built-in"


def test_an_unreadable_file_is_shown_with_its_reason_and_never_overwritten(store):
    store.save(soft())
    (file,) = (store.folder / "freeu").iterdir()
    file.write_bytes(b'{"format": "prism.preset", "ver')
    ((shown, reason),) = store.unreadable
    assert shown == file and "is no JSON" in reason
    store.save(soft(s1=0.5))
    assert file.read_bytes() == b'{"format": "prism.preset", "ver' and store.get("freeu", "Soft").values["s1"] == 0.5
    assert [one.file for one in store.unreadable] == [file]


def test_of_two_files_with_one_name_the_first_counts_and_the_other_is_shown(store):
    store.save(soft())
    (file,) = (store.folder / "freeu").iterdir()
    shutil.copy(file, file.with_name("zzz from a friend.json"))
    assert [one.reason for one in store.unreadable] == [f'{file.name} has the name "Soft" as well']
    assert [one.name for one in store.list("freeu")].count("Soft") == 1


def test_a_file_in_the_folder_of_another_feature_is_shown(store):
    store.save(soft())
    (file,) = (store.folder / "freeu").iterdir()
    (store.folder / "merge").mkdir()
    file.rename(store.folder / "merge" / file.name)
    assert [one.reason for one in store.unreadable] == ["it is a preset of freeu, in the folder of merge"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(PrismError, match=r"file.* cannot be changed: "):
        Store(tmp_path / "file" / "presets").save(soft())


def test_export_and_import_are_one_file(store, tmp_path):
    store.save(soft())
    store.save(Preset("merge", "Half", {"model": "b"}, notes="x"))
    chosen = [store.get("freeu", "Soft"), store.get("merge", "Half")]
    file = tmp_path / "mine.json"
    file.write_text(store.export(chosen), "utf-8")
    other = Store(tmp_path / "other")
    assert other.import_(file) == chosen == [other.get("freeu", "Soft"), other.get("merge", "Half")]
    assert "Soft" in other.undo() and other.list("merge") == []  # all of it at once


def test_an_import_takes_nobodys_place(store, tmp_path):
    store.save(soft())
    text = store.export([soft(s1=0.5), Preset("freeu", "Subtle", {"b1": 2.0}), soft()])
    assert [one.name for one in store.import_(text)] == ["Soft (2)", "Subtle (2)", "Soft"]
    assert store.get("freeu", "Soft") == soft() and store.get("freeu", "Soft (2)").values["s1"] == 0.5
    assert [one.name for one in store.import_(text)] == ["Soft (2)", "Subtle (2)", "Soft"]  # all are there


def test_of_a_file_with_one_bad_preset_nothing_is_imported(store):
    text = store.export([soft(), Preset("freeu", "Bad", {"b1": 99})])
    with pytest.raises(PrismError, match="preset 2: Stage 1 backbone is 99"):
        store.import_(text)
    assert not store.folder.exists()


def test_the_trash_has_an_end_and_drafts_of_the_dead_are_swept(store, monkeypatch):
    monkeypatch.setattr(store_module, "KEPT", 5)
    for number in range(12):
        store.save(soft(s1=number / 10))
    assert len(list((store.folder / ".trash").iterdir())) == 5
    draft, fresh = (store.folder / "freeu" / f".soft.json.{number}-1" for number in (1, 2))
    for file in (draft, fresh):
        file.write_text("{")
    os.utime(draft, (1, 1))
    store.save(soft())
    assert not draft.exists() and fresh.exists()


# --- several programs, and dying ones


def test_kill_9_during_a_thousand_saves_loses_no_preset_and_leaves_none_half_written(store):
    chance = random.Random(5)
    told: dict[str, int] = {}  # what a saver said it had saved
    done = kills = 0
    while done < SAVES:
        process = saver(store.folder, done, 10**6)
        for _ in range(chance.randint(1, 2 * SAVES // KILLS)):
            done = int(process.stdout.readline()) + 1
            told[NAMES[(done - 1) % len(NAMES)]] = done - 1
        time.sleep(chance.random() * 0.004)  # into the midst of the next save
        process.kill()
        for line in process.communicate()[0].split():
            done = int(line) + 1
            told[NAMES[(done - 1) % len(NAMES)]] = done - 1
        kills += 1
        fresh = Store(store.folder)
        assert fresh.unreadable == []
        found = numbers(fresh)
        for name, number in told.items():
            assert found[name] in (number, done), f"{name} after kill {kills}"  # the next one may just have been saved
    assert kills >= KILLS / 2 and done >= SAVES
    store.save(Preset("freeu", "After", {"b1": 2.0}))
    assert store.undo() == "After"  # what the dead have begun stands in nobody's way


def test_kill_9_during_undo_loses_no_version(store, tmp_path):
    for number in range(1, 41):
        store.save(Preset("freeu", "Soft", {"new": number}))
    code = (
        SAVER.partition("store, names")[0] + "store = Store(sys.argv[2])\nwhile True: print(store.undo(), flush=True)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "lib"), str(store.folder)]
    for _ in range(8):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            assert process.stdout.readline() == "Soft\n"
        process.kill()
        process.communicate()
        fresh = Store(store.folder)
        every = [one.preset.values["new"] for one in fresh.versions("freeu", "Soft")]
        assert {*every, fresh.get("freeu", "Soft").values["new"]} == {*range(1, 41)} and fresh.unreadable == []


def test_two_programs_may_write_the_same_presets_at_once(store):
    processes = [saver(store.folder, first, first + 100, NAMES[:3]) for first in (0, 1000)]
    last = [process.communicate()[0].split() for process in processes]
    assert [len(lines) for lines in last] == [100, 100] and store.unreadable == []
    found = numbers(store)
    assert len(found) == 3 and all(number in (97, 98, 99, 1097, 1098, 1099) for number in found.values())
    versions = [one.preset.values["new"] for name in found for one in store.versions("freeu", name)]
    assert sorted([*versions, *found.values()]) == [*range(100), *range(1000, 1100)]  # none overwrote another unseen


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the source is no git checkout")
def test_presets_survive_an_update_by_reset_and_a_reinstall(tmp_path):
    extension, folder = tmp_path / "extensions" / "sd-webui-prism", tmp_path / "prism" / "presets"

    def git(*words):
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    def clone():
        git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(extension))
        git("-C", str(extension), "sparse-checkout", "set", "lib")
        git("-C", str(extension), "checkout", "--quiet")

    def told(code):
        code = (
            f"import sys; sys.path.insert(0, sys.argv[1]); from sd_prism.cards import *; s = Store(sys.argv[2]); {code}"
        )
        command = [sys.executable, "-B", "-c", code, str(extension / "lib"), str(folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    clone()
    told("s.save(Preset('freeu', 'Mine', {'b1': 1.1}))")
    assert git("-C", str(extension), "status", "--porcelain", "--ignored") == ""
    (extension / "lib" / "sd_prism" / "cards" / "store.py").write_text("broken")
    git("-C", str(extension), "fetch", "--all")
    git("-C", str(extension), "reset", "--hard")
    assert told("print(s.get('freeu', 'Mine').values)") == ["{'b1':", "1.1}"]
    shutil.rmtree(extension)
    clone()
    assert told("print(s.get('freeu', 'Mine').values)") == ["{'b1':", "1.1}"]
