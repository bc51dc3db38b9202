"""Cards and saved presets on the command line."""

import json

import pytest
from sd_prism.cards import Preset
from sd_prism.cards.card import Card
from sd_prism.cards.preset import CARD
from sd_prism.settings import FREEU
from sd_prism.studio import cli, presets

MINE = Preset("freeu", "mine", {"b1": 1.35, "s2": 0.4}, author="me")
GIGAFRACTAL = "Gigafractal Diffusion"


@pytest.fixture
def said(capsys, tmp_path):
    """A command with the data folder of one test."""

    def run(command, *argv):
        code = cli.main([command, *argv, "--data-dir", str(tmp_path)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def store(tmp_path):
    yield presets.store(tmp_path)
    FREEU.set_saved({})


def request(tmp_path, *argv):
    return cli.request_of(cli.parser().parse_args(["generate", "a fish", "--data-dir", str(tmp_path), *argv]))


def test_a_saved_preset_is_drawn_by_its_name_and_sent_by_value(tmp_path, store):
    store.save(MINE)
    (values,) = request(tmp_path, "--freeu.preset", "MINE", "--freeu.b2", "1.7")["alwayson_scripts"][FREEU.title][
        "args"
    ]
    assert (values["b1"], values["s2"], values["b2"], values["enabled"]) == (1.35, 0.4, 1.7, True)


def test_the_settings_folder_is_where_presets_lie(tmp_path, monkeypatch):
    monkeypatch.delenv("PRISM_DATA_DIR", raising=False)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    folder = presets.host.data_folder()
    assert presets.store(None).folder == folder / "prism" / "presets"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"prism_data_dir": str(tmp_path / "elsewhere")}))
    assert presets.store(None).folder == tmp_path / "elsewhere" / "prism" / "presets"
    (folder / "config.json").write_text("[]")
    assert presets.store(None).folder == folder / "prism" / "presets"
    monkeypatch.setenv("PRISM_DATA_DIR", str(tmp_path / "named"))
    assert presets.store(None).folder == tmp_path / "named" / "prism" / "presets"


def test_what_is_given_wins_over_the_card_and_the_card_over_defaults(tmp_path, store):
    given = request(tmp_path, "--card", GIGAFRACTAL, "--steps", "7", "--negative-prompt", "rain", "--freeu.b1", "1.1")
    assert "cfg_scale" not in given and "sampler_name" not in given and cli.DEFAULTS["steps"] == 20
    card = Card.of(store.get(CARD, GIGAFRACTAL))
    found = presets.by_card(card, given, {})
    assert (found["steps"], found["cfg_scale"], found["sampler_name"]) == (7, 12.5, "Euler a")
    assert "gigafractal artstyle" in found["prompt"] and "a fish" in found["prompt"]
    assert "rain" in found["negative_prompt"] and "worst quality" in found["negative_prompt"]
    assert found["alwayson_scripts"][FREEU.title]["args"][0]["b1"] == 1.1
    assert "sampler_name" not in presets.by_card(card, given, {"host.sampler": "not here"})


def test_a_card_sets_options_and_panels_and_leaves_a_given_picture_its_size():
    values = {"host": {"width": 600, "clip_skip": 2}, "freeu": {"enabled": True, "b1": 1.2}}
    card = Card.of(Preset(CARD, "one", values))
    found = presets.by_card(card, {"prompt": "a"}, {})
    assert found["width"] == 600 and found["override_settings"] == {"CLIP_stop_at_last_layers": 2}
    assert FREEU.read(found["alwayson_scripts"][FREEU.title]["args"])["b1"] == 1.2
    assert "width" not in presets.by_card(card, {"prompt": "a", "init_images": [""]}, {})


def test_presets_are_listed_shown_and_searched(said, store):
    store.save(MINE)
    assert "freeu: mine\tuser\tme" in said("presets", "freeu")[1]
    assert said("presets", "freeu", "--search", "no such words")[1] == ""
    assert json.loads(said("presets", "freeu", "mine")[1]) == store.get("freeu", "mine").to_json()
    assert [one["name"] for one in json.loads(said("cards", "--search", "gigafractal", "--json")[1])] == [GIGAFRACTAL]
    assert json.loads(said("cards", GIGAFRACTAL)[1])["feature"] == CARD
    code, _, err = said("presets", "freeu", "mien")
    assert code == 2 and 'did you mean "mine"?' in err


def test_presets_travel_as_one_file(said, store, tmp_path):
    file = tmp_path / "mine.json"
    code, _, err = said("presets", "freeu", "--export", str(file))
    assert code == 2 and "nothing to export" in err and not file.exists()
    store.save(MINE)
    assert said("presets", "--export", str(file))[1].strip() == str(file)
    code, _, err = said("presets", "--export", str(file))
    assert code == 2 and "could not be written" in err
    store.delete("freeu", "mine")
    assert "freeu: mine\tuser\tme" in said("presets", "--import", str(file))[1]
    assert store.get("freeu", "mine").values == MINE.values
    code, _, err = said("presets", "--import", str(tmp_path / "none.json"))
    assert code == 2 and "none.json" in err
