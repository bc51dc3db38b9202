"""A card of what stands on a page gives the page back, wherever it is read."""

import sys

import pytest
from sd_prism.cards import Preset, Store, card, live
from sd_prism.cards.card import HOST, SET, Card, cards_of
from sd_prism.cards.change import applied
from sd_prism.cards.match import Loaded, match
from sd_prism.cards.saving import groups_of, match_of
from sd_prism.cards.shipped import presets
from sd_prism.errors import OutOfRange
from sd_prism.settings import CASCADE, CUSTOM, FREEU, MERGE, NAMESPACES
from sd_prism.settings.cascade import LITE

BAKA = "Baka-Diffusion (from its card)"
SHIPPED = cards_of(presets("card"))


def page(**given):
    """What stands on a page that was just opened."""
    found = {f"host.{one.name}": one.default for one in HOST} | {"prompt": "", "negative": ""}
    for panel in SET:
        found |= {f"{panel.name}.{name}": value for name, value in panel.read(panel.off).items()}
    return found | given


def card_of(current, *texts):
    return Card.of(Preset("card", "mine", groups_of(current, texts)))


def kept(current):
    """What of a page a card says: of a panel that is off only the switch."""
    told = {f"host.{one.name}" for one in HOST}
    for panel in SET:
        names = ("enabled",) if current.get(f"{panel.name}.enabled") is False else ("enabled", "preset", *panel.kept)
        told |= {f"{panel.name}.{name}" for name in names}
    return {key: value for key, value in current.items() if key in told}


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.name)
def test_a_page_with_a_card_applied_comes_back(card):
    before = page(**{"freeu.b1": 1.23})
    current = before | applied(card, before)
    other = page(**{f"cascade.{name}": value for name, value in CASCADE.presets[LITE].items()})
    again = other | applied(card_of(current), other)
    assert kept(again) == kept(current)


def test_values_at_their_defaults_are_said():
    current = page(**{"cascade.preset": "SoteDiffusion (card)"})
    assert groups_of(current, ())["cascade"] == {
        "preset": "SoteDiffusion (card)",
        **{name: CASCADE[name].default for name in CASCADE.kept},
    }


def test_an_empty_slot_keeps_its_name():
    current = page(**{"freeu.enabled": True, "freeu.preset": BAKA, "freeu.b1": 1.4})
    values = card_of(current).values
    assert values["freeu.preset"] == BAKA and values["freeu.b1"] == 1.4


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Presets of the user's own, gone after the test."""
    monkeypatch.setitem(sys.modules, card.__name__, card)  # another test may have reloaded the page, and forgotten it
    store = Store(tmp_path / "here")
    store.save(Preset("freeu", "Mine", {"b1": 1.25}))
    live.refresh(store)
    yield
    live.refresh(Store(tmp_path / "elsewhere"))


def test_a_preset_of_the_users_own_is_said_by_value(saved, tmp_path):
    mine = {f"freeu.{name}": value for name, value in FREEU.all_presets["Mine"].items()}
    current = page(**mine, **{"freeu.enabled": True, "freeu.preset": "Mine"})
    current |= {"merge.enabled": True, "merge.model": "neon", "merge.weights": "0.5 1"}
    assert card_of(current).values["freeu.preset"] == "Mine"  # here it has that name
    groups = groups_of(current, ())
    assert "preset" not in groups["freeu"] and groups["freeu"]["b1"] == 1.25
    live.refresh(Store(tmp_path / "elsewhere"))
    there = Card.of(Preset("card", "mine", groups)).values
    assert there["freeu.preset"] == CUSTOM and there["freeu.b1"] == 1.25
    assert there["merge.weights"] == "0.5 1"


def test_a_file_that_names_a_preset_of_the_users_own_is_kept_with_its_values(saved, tmp_path):
    kept = Store(tmp_path / "here").save(Preset("card", "x", {"freeu": {"preset": "mine", "s1": 0.5}, "host": {}}))
    assert kept.values == {"freeu": {**FREEU.saved["Mine"], "s1": 0.5}, "host": {}}
    own = {"freeu": {"preset": BAKA}, "merge": {"model": "neon"}}
    assert Preset("card", "x", own).checked("").values == own


def test_of_panels_that_are_off_only_that_is_said():
    groups = groups_of(page(), ())
    assert all(groups[panel.name] == {"enabled": False} for panel in (FREEU, NAMESPACES, MERGE))


def test_texts_are_said_where_they_are_wanted():
    current = page(prompt=" a fish ", negative="blurry")
    assert card_of(current, "prompt").values["prompt.before"] == "a fish"
    assert not {"prompt.before", "negative.before"} & set(card_of(current).values)


def test_what_a_page_does_not_have_is_not_said():
    assert groups_of({"host.steps": 12}, ("prompt",)) == {"host": {"steps": 12}}


def test_a_value_that_cannot_be_is_refused():
    with pytest.raises(OutOfRange, match="Sampling steps is 0"):
        groups_of({"host.steps": 0}, ())


def test_a_card_knows_its_checkpoint_again():
    loaded = Loaded("folder/My Mix v2-fp16.safetensors [0123456789]", shorthash="0123456789")
    mine = Card.of(Preset("card", "mine", {}, extra={"match": match_of(loaded)}))
    assert match_of(loaded) == {"names": ["mymixv2"], "hashes": ["0123456789"]}
    assert match(Loaded("renamed", shorthash="0123456789"), [mine])[0].sure
    assert match(Loaded("my_mix_v2.ckpt"), [mine])[0].sure
