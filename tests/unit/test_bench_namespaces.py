"""The benchmark of namespaces runs and gives what its table shows; how fast anything is, is not tested."""

import json
import sys

import pytest
from sd_prism.bench import namespaces
from sd_prism.errors import PrismError
from sd_prism.studio import cli
from sd_prism.studio.tokens import Vocabulary

PARSER = '''
"""Stands for a webui's parser; says what it was given."""

def get_multicond_prompt_list(prompts):
    assert all(isinstance(one, str) for one in prompts)
    return [[]], prompts, {}

def get_learned_conditioning_prompt_schedules(prompts, steps):
    return [[[steps, one]] for one in prompts]

def parse_prompt_attention(text):
    return [[text, 1.0]] * sum(1 for _ in range(2000))
'''


@pytest.fixture()
def quick(monkeypatch):
    """Every measurement once, of small things."""
    small = {"SIZES": (75, 150), "TARGETS": {75: 1.0}, "HOSTILE": 200, "VALUES": 2000, "MEGABYTE": 2000, "SECONDS": 0}
    for name, value in small.items():
        monkeypatch.setattr(namespaces, name, value)


@pytest.fixture()
def webui(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "prompt_parser.py").write_text(PARSER, encoding="utf8")
    (tmp_path / "launch.py").touch()
    return tmp_path


def test_prompts_have_as_many_tokens_as_they_say():
    vocabulary = Vocabulary.clip()
    for family, sizes in namespaces.prompts((75, 750)).items():
        for size, text in sizes.items():
            assert size <= len(vocabulary.ids([text])[0]) + 1 <= size + 16, family


def test_families_are_those_of_the_table():
    made = {family: sizes[75].split(", ") for family, sizes in namespaces.prompts((75,)).items()}
    plain = made["plain tags"]
    assert not set(":|[]()\\") & set("".join(plain))
    assert made["species:x in half of the tags"][:2] == [f"species:{plain[0]}", plain[1]]
    assert made["every 3rd (x:1.n)"][3] == f"({plain[3]}:1.2)"
    assert made["every 6th ((x, unbalanced"][0] == f"(({plain[0]}"


def test_it_runs_and_its_figures_fit_together(quick, capsys, monkeypatch):
    found = namespaces.run()
    rows = found["rows"]
    assert found["bench"] == "namespaces"
    kinds = [row["what"] for row in rows]
    assert kinds.count("scan and render") == len(namespaces.FAMILIES) * 2
    assert kinds.count("twice as long") == 10
    assert set(kinds) == {"scan and render", "gate, no tag", "twice as long", "import", "completion"}
    for row in rows:
        assert row["ms"]["ours"] > 0 and row["ratio"] is None
        if row["what"] == "twice as long":
            assert row["value"] == pytest.approx(row["ms"]["ours"] / row["ms"]["half"])
        else:
            assert row["value"] == row["ms"]["ours"]
    monkeypatch.setattr(namespaces, "run", lambda: found)
    assert cli.main(["bench", "namespaces", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["bench", "namespaces"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1


def test_a_missed_target_is_named():
    row = namespaces.row("import", "x", {"ours": 40.0}, 40.0, "ms", 30.0)
    assert "at most 30 ms, MISSED" in namespaces.table([row])
    assert "MISSED" not in namespaces.table([{**row, "value": 20.0}])


def test_a_webuis_parser_is_measured_on_the_same_prompts_in_one_process(quick, webui):
    made = namespaces.prompts((75,))
    times = namespaces.asked(webui, sys.executable, made)
    assert set(times) == set(made)
    for sizes in times.values():
        assert set(sizes) == {75} and sizes[75]["webui"] > 0 < sizes[75]["ours"]
    row = namespaces.scan_row("plain tags", 75, {"ours": 2.0, "webui": 6.0})
    assert row["ratio"] == 3.0 and "3x" in namespaces.table([row])


def test_a_parser_that_takes_too_long_is_not_asked_about_longer_prompts(monkeypatch):
    monkeypatch.setattr(namespaces, "TOO_LONG", 0.01)
    asked = []

    def parse(text):
        asked.append(text)
        sum(range(200_000))

    times = namespaces.times_of({"plain tags": {75: "a", 150: "b", 7500: "c"}}, parse)["plain tags"]
    assert "webui" in times[75] and "webui" not in times[7500] and "c" not in asked


def test_what_is_no_webui_is_told(quick, tmp_path, capsys):
    with pytest.raises(PrismError, match=r"no modules/prompt_parser\.py"):
        namespaces.parser_of(tmp_path)
    assert cli.main(["bench", "namespaces", "--webui", str(tmp_path)]) == 2
    assert "has no launch.py" in capsys.readouterr().err
    assert cli.main(["bench", "freeu", "--webui", str(tmp_path)]) == 2
    assert "--webui is for bench namespaces" in capsys.readouterr().err
