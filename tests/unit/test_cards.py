"""Cards: what they set, what they would change, and that every value of theirs is one."""

import hashlib
import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism import infotext
from sd_prism.cards import Preset, Store
from sd_prism.cards.card import HOST, SET, SIDES, Card, cards_of, control, flat, label, of_infotext
from sd_prism.cards.change import applied, changes, joined
from sd_prism.cards.match import Loaded, match
from sd_prism.cards.schema import schema
from sd_prism.cards.shipped import FOLDER, presets
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.miniatures import MINI_CASCADE, MINI_V1, MINI_V1_NEON
from sd_prism.settings import AUTOMATIC, CARDS, FREEU, MERGE
from sd_prism.studio import cli

SHIPPED = presets("card")
BY_NAME = {card.name: card for card in cards_of(SHIPPED)}
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cards.md").read_text(encoding="utf-8")
# modules/sd_samplers_*.py and modules/sd_schedulers.py of AUTOMATIC1111 v1.10.1
A1111_SAMPLERS = {
    *("DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler"),
    *(
        "LMS",
        "Heun",
        "DPM2",
        "DPM2 a",
        "DPM fast",
        "DPM adaptive",
        "Restart",
        "DDIM",
        "DDIM CFG++",
        "PLMS",
        "UniPC",
        "LCM",
    ),
}
A1111_SCHEDULERS = {
    *("Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal"),
    *("Align Your Steps", "Simple", "Normal", "DDIM", "Beta"),
}

every_card = pytest.mark.parametrize("card", BY_NAME.values(), ids=BY_NAME)


def page(**given):
    """What stands on a page that was just opened."""
    found = {f"host.{one.name}": one.default for one in HOST} | {"prompt": "", "negative": ""}
    for panel in SET:
        found |= {f"{panel.name}.{name}": value for name, value in panel.defaults().items()}
    return found | given


# --- the shipped cards


def test_all_shipped_files_are_cards():
    assert len(SHIPPED) == len(BY_NAME) == len(list(FOLDER.iterdir())) == 8


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.name)
def test_a_file_is_as_its_schema_says(preset):
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(preset.to_json(), schema())


@every_card
def test_every_value_has_a_source_and_what_has_none_is_said(card):
    assert all(card.source(key) for key in card.values)
    stated = {*card.values, *(key.partition(".")[0] for key in card.values)}
    assert not stated & set(card.not_stated)
    told = {f"host.{one.name}" for one in HOST} | set(SIDES) | {"freeu"}
    if "freeu" not in card.not_stated and "freeu" not in stated:
        pytest.fail("the card says nothing about FreeU, and not that it says nothing")
    assert told <= stated | set(card.not_stated)


@every_card
def test_names_in_sources_advice_and_not_stated_exist(card):
    groups = {"host", *SIDES, *(panel.name for panel in SET)}
    for key in (*card.sources, *card.advice, *card.not_stated):
        group, _, name = key.partition(".")
        if group == "match":
            assert name in card.match
        elif key not in ("advice", "example"):
            assert group in groups and (not name or label(key))


@every_card
def test_advice_holds_the_cards_own_values(card):
    for key, (low, high) in card.advice.items():
        assert low < high and low <= card.values.get(key, low) <= high


@every_card
def test_samplers_and_schedules_are_the_studios_and_a1111s(card):
    from sd_prism.studio.samplers import SAMPLERS
    from sd_prism.studio.schedules import SCHEDULES

    sampler, scheduler = card.values.get("host.sampler", "Euler"), card.values.get("host.scheduler", "Automatic")
    assert sampler in A1111_SAMPLERS and sampler in SAMPLERS
    assert scheduler in A1111_SCHEDULERS and scheduler in SCHEDULES


@every_card
def test_the_panels_take_a_cards_values(card):
    for panel in SET:
        values = {
            key.partition(".")[2]: value for key, value in card.values.items() if key.startswith(f"{panel.name}.")
        }
        read = panel.read(values)
        assert {name: read[name] for name in values} == values


@every_card
def test_sizes_can_be_drawn(card):
    multiple = 128 if "cascade" in card.families else 8
    assert all(card.values.get(f"host.{side}", multiple) % multiple == 0 for side in ("width", "height"))


@every_card
def test_the_page_of_cards_names_a_card_with_its_model_and_licence(card):
    name, url = card.licence
    row = next(line for line in PAGE.splitlines() if line.startswith((f"| [{card.name}](", f"| {card.name} ")))
    assert f"[{name}]({url})" in row and card.link in row
    for one in ("sampler", "scheduler"):
        assert str(card.values.get(f"host.{one}", "")) in row
    for one, text in (("steps", "{:g} steps"), ("cfg", "CFG {:g}"), ("width", "{:g}x")):
        assert f"host.{one}" not in card.values or text.format(card.values[f"host.{one}"]) in row


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Stable Diffusion v1",
            {
                "host.sampler": "PLMS",
                "host.steps": 50,
                "host.cfg": 7.5,
                "host.width": 512,
                "freeu.b1": 1.3,
                "freeu.s2": 0.2,
            },
        ),
        (
            "Gigafractal Diffusion",
            {"prompt.before": "gigafractal artstyle,", "host.cfg": 12.5, "namespaces.dialect": "Gigafractal"},
        ),
        (
            "Baka-Diffusion [General]",
            {
                "freeu.enabled": True,
                "freeu.preset": "Baka-Diffusion (from its card)",
                "namespaces.dialect": "Danbooru (Baka)",
            },
        ),
        (
            "Baka-Diffusion [S3D]",
            {
                "host.width": 600,
                "host.height": 896,
                "negative.before": "(worst quality, low quality:1.2), lowres, bad anatomy,",
            },
        ),
        (
            "SoteDiffusion Würstchen3",
            {
                "host.sampler": "Euler a",
                "host.scheduler": "SGM Uniform",
                "host.steps": 30,
                "host.cfg": 7.0,
                "host.width": 1024,
                "host.height": 1536,
                "cascade.sampler": "Euler a",
                "cascade.schedule": "Karras",
                "cascade.steps": 10,
                "cascade.cfg": 1.0,
                "cascade.compression": 42,
                "prompt.before": "newest, extremely aesthetic, best quality,",
                "namespaces.dialect": "SoteDiffusion",
            },
        ),
        ("Sygil-Diffusion", {"host.sampler": "DPM++ 2M", "namespaces.dialect": "Sygil"}),
    ],
)
def test_a_card_says_what_its_author_does(name, said):
    values = BY_NAME[name].values
    assert {key: values[key] for key in said} == said


def test_an_empty_slot_stays_empty():
    card = BY_NAME["Baka-Diffusion [General]"]
    assert not {"freeu.b1", "freeu.s1", "host.steps", "host.cfg", "host.width"} & set(card.values)
    assert applied(card, page(**{"freeu.b1": 1.23})).get("freeu.b1") is None
    assert "picture only" in card.source("freeu.enabled") and card.advice["host.cfg"] == (3, 9)


@pytest.mark.parametrize("file", [MINI_V1, MINI_V1_NEON, MINI_CASCADE], ids=lambda file: file.name)
def test_the_shipped_checkpoints_are_known_by_their_hash(file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = match(Loaded("renamed", sha256=digest), BY_NAME.values())
    assert [one.card.name.startswith("Prism mini-") for one in found] == [True]


# --- parameter texts


@pytest.fixture
def parse(tmp_path):
    from sd_prism.studio import host

    host.open_host(data_dir=tmp_path, builtin=False)
    from modules import infotext_utils

    yield infotext_utils.parse_generation_parameters
    host.close_host()
    assert "modules" not in sys.modules


def test_gigafractals_own_parameter_text_gives_its_cards_settings(parse):
    card = BY_NAME["Gigafractal Diffusion"]
    params = parse(card.preset.extra["example"])
    pasted = of_infotext(params)
    wanted = {key: value for key, value in card.values.items() if key.startswith("host.")}
    assert {key: pasted[key] for key in wanted} == wanted
    assert params["Negative prompt"] == card.values["negative.before"]
    current = page(**pasted, prompt=params["Prompt"], negative=params["Negative prompt"])
    told = {change.key for change in changes(card, current) if not change.key.startswith("namespaces.")}
    assert told == {"prompt"}  # its own text is older than the model, and so lacks the model's words
    assert applied(card, current)["prompt"] == f"gigafractal artstyle, {params['Prompt']}"


def test_what_an_infotext_does_not_say_readably_is_left_out(parse):
    found = of_infotext(parse("a\nSteps: many, Sampler: Euler, CFG scale: 7,5, Size: 64x48, Clip skip: 2"))
    assert found == {
        "host.sampler": "Euler",
        "host.scheduler": "Automatic",
        "host.cfg": 7.0,
        "host.width": 64,
        "host.height": 48,
        "host.clip_skip": 2,
    }


# --- applying


@every_card
def test_changes_are_what_applying_makes_different(card):
    current = page(prompt="a cat", negative="blurry")
    new = current | applied(card, current)
    assert {one.key: (one.before, one.after) for one in changes(card, current)} == {
        key: (current[key], new[key]) for key in current if new[key] != current[key]
    }
    assert all(one.label and one.source for one in changes(card, current))
    assert changes(card, new) == []


def test_only_what_is_there_is_changed():
    card = BY_NAME["SoteDiffusion Würstchen3"]
    assert applied(card, {"host.steps": 20, "seed": 1}) == {"host.steps": 30}
    assert changes(card, {"host.steps": 30}) == []


def test_a_change_is_told_in_the_pages_words():
    told = {one.key: one for one in changes(BY_NAME["SoteDiffusion Würstchen3"], page(prompt="1girl"))}
    assert told["host.steps"][1:] == ("Sampling steps", 20, 30, "the model's card: settings of the main file")
    assert told["prompt"].after == "newest, extremely aesthetic, best quality, 1girl"
    assert told["namespaces.enabled"].label == "Prism Namespaces"
    assert told["namespaces.dialect"].label == "Prism Namespaces: Dialect"


@pytest.mark.parametrize(
    ("before", "text", "after", "whole"),
    [
        ("a, b,", "", "", "a, b,"),
        ("a, b", "", "", "a, b"),
        ("a, b,", "c", "", "a, b, c"),
        ("a, b,", "c, B", "", "a, c, B"),
        ("a  b", "x, (A b:1.2)", "", "x, (A b:1.2)"),
        ("best", "besting", "", "best, besting"),
        ("(a, b:1.2), c,", "d", "", "(a, b:1.2), c, d"),
        ("(a, b:1.2), c,", "(A,  b:1.2), d", "", "c, (A,  b:1.2), d"),
        ("", "c,", "z", "c, z"),
        ("a", "", "z", "a, z"),
        ("", "", "z", "z"),
        ("a", "c", "a", "a, c"),
        ("", " x ", "", " x "),
        ("a", "a cat\nBREAK dog", "", "a cat\nBREAK dog"),
    ],
)
def test_words_of_a_card_are_put_around_a_prompt_that_lacks_them(before, text, after, whole):
    assert joined(before, text, after) == whole


texts = st.text(st.sampled_from("ab ,()[]:1.\\\n<>é"), max_size=30)


@given(texts, texts, texts)
def test_words_put_twice_are_put_once(before, text, after):
    once = joined(before, text, after)
    assert joined(before, once, after) == once
    assert text.strip(" ,") in once


@given(st.sampled_from(list(BY_NAME.values())), texts, texts, st.integers(1, 150), st.booleans())
def test_a_card_applied_twice_is_applied_once(card, prompt, negative, steps, on):
    current = page(prompt=prompt, negative=negative, **{"host.steps": steps, "freeu.enabled": on})
    once = current | applied(card, current)
    assert once | applied(card, once) == once and not changes(card, once)


# --- reading a card


def test_a_part_that_names_a_preset_sets_what_that_sets_and_one_by_value_the_whole_panel():
    by_preset, by_value = flat({"freeu": {"preset": "SD 1.4 (authors)"}}), flat({"freeu": {"b1": 1.2}})
    assert by_preset["freeu.b1"] == 1.3 and "freeu.strength" not in by_preset
    assert by_value["freeu.b1"] == 1.2 and {key[6:] for key in by_value} == {"enabled", "preset", *FREEU.kept}
    assert flat({"freeu": {"enabled": False, "b1": 1.2}}) == {"freeu.enabled": False}
    assert {key[6:] for key in flat({"merge": {"model": "neon", "preset": "GRAD_V"}})} == {"enabled", *MERGE.kept}


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        (Preset("card", "x", {"hosts": {}}), r'part of a card "hosts" does not exist; did you mean "host"'),
        (Preset("card", "x", {"host": {"step": 3}}), 'setting of the webui in a card "step" .* did you mean "steps"'),
        (Preset("card", "x", {"host": {"steps": 999}}), "Sampling steps is 999; it must lie between 1 and 150"),
        (Preset("card", "x", {"host": 3}), "\"host\" is '3'; it must be names with values"),
        (Preset("card", "x", {"prompt": {"in front": "a"}}), 'place of the prompt "in front" does not exist'),
        (Preset("card", "x", {"freeu": {"b9": 1}}), 'Prism FreeU setting "b9" does not exist'),
        (Preset("card", "x", {"freeu": {"preset": "mine"}}), 'Preset "mine" does not exist'),
        (Preset("card", "x", {}, extra={"match": ["v1"]}), '"match" is .* must be names with values'),
        (Preset("card", "x", {}, extra={"match": {"names": [3]}}), '"match.names" has .* must be a text'),
        (Preset("card", "x", {}, extra={"not_stated": 3}), '"not_stated" is .* must be a list of texts'),
        (Preset("card", "x", {}, extra={"link": "javascript:alert(1)"}), "is no address of a page"),
        (Preset("card", "x", {}, extra={"licence": {"url": "data:x"}}), "is no address of a page"),
        (Preset("card", "x", {"prompt": {"before": ["a"]}}), '"prompt" has .* must be a text'),
        (Preset("card", "x", {}, extra={"advice": {"host.cfg": 3}}), 'the advice on "host.cfg" .* two numbers'),
    ],
)
def test_a_card_that_cannot_be_used_says_why(preset, told):
    with pytest.raises(PrismError, match=told) as error:
        Card.of(preset)
    assert str(error.value).startswith('Card "x": ')


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
PARTS = ("host", "prompt", "negative", "freeu", "namespaces", "merge", "cascade")
KEYS = ("match", "advice", "licence", "link", "sources", "not_stated")
NAMES = ("names", "hashes", "sha256", "metadata", "families", "steps", "preset", "enabled", "before", "url", "name")
odd = anything | st.dictionaries(st.sampled_from(NAMES), anything, max_size=3)


@given(
    st.dictionaries(st.sampled_from(PARTS), odd, max_size=2), st.dictionaries(st.sampled_from(KEYS), odd, max_size=2)
)
def test_any_file_is_a_card_or_says_why_it_is_none(values, extra):
    try:
        card = Card.of(Preset("card", "odd", values, extra=extra))
    except PrismError as error:
        assert str(error).startswith('Card "odd": ')
        return
    match(Loaded("v1-5-pruned", metadata={"modelspec.title": "x"}, family="sd1"), [card])
    current = page(prompt="a")
    assert not changes(card, current | applied(card, current))


def test_one_bad_card_does_not_hide_the_others(caplog):
    assert [card.name for card in cards_of([Preset("card", "bad", {"host": {"steps": 0}}), *SHIPPED[:1]])] == [
        SHIPPED[0].name
    ]
    assert 'Card "bad": Sampling steps is 0' in caplog.text


def test_the_controls_of_the_webui():
    assert [(one.name, one.attribute, one.element, one.option, one.key) for one in HOST] == [
        ("sampler", "sampler_name", "sampling", "", "Sampler"),
        ("scheduler", "scheduler", "scheduler", "", "Schedule type"),
        ("steps", "steps", "steps", "", "Steps"),
        ("cfg", "cfg_scale", "cfg_scale", "", "CFG scale"),
        ("width", "width", "width", "", "Size-1"),
        ("height", "height", "height", "", "Size-2"),
        ("clip_skip", "", "", "CLIP_stop_at_last_layers", "Clip skip"),
    ]
    assert control("cfg").kind is float and control("cfg").check("7", "") == 7.0
    with pytest.raises(OutOfRange):
        control("width").check(4, "")
    with pytest.raises(UnknownName, match="steps"):
        control("step")


# --- the panel and the store


def test_the_panels_declaration_is_frozen():
    assert (CARDS.title, CARDS.name, CARDS.names) == ("Prism Cards", "cards", ("enabled", "card"))
    assert {one.label for one in CARDS.fields} == {"Follow the card", "Card"}
    assert CARDS.read(()) == {"enabled": False, "card": AUTOMATIC}
    assert CARDS.read({"card": "automatic"}) == {"enabled": True, "card": AUTOMATIC}


@pytest.mark.parametrize("name", [AUTOMATIC, *BY_NAME, 'odd; "card": a, b=c'])
def test_a_cards_name_comes_back_from_an_infotext(name):
    values = CARDS.read({"card": name})
    assert infotext.loads(CARDS, infotext.dumps(CARDS, values)) == values
    assert infotext.loads(CARDS, None) == {"enabled": False, "card": AUTOMATIC}


def test_the_command_line_may_follow_a_card():
    args = cli.parser().parse_args(["generate", "a fish", "--cards.card", "Prism mini-v1"])
    scripts = cli.request_of(args)["alwayson_scripts"]
    assert scripts == {"Prism Cards": {"args": [{"enabled": True, "card": "Prism mini-v1"}]}}


def test_a_card_comes_back_from_the_users_folder(tmp_path):
    store = Store(tmp_path)
    for card in BY_NAME.values():
        store.save(
            Preset("card", f"My {card.name}", card.preset.values, "me", card.notes, card.families, card.preset.extra)
        )
    for card in BY_NAME.values():
        again = Card.of(Store(tmp_path).get("card", f"My {card.name}"))
        assert (again.values, again.match, again.advice, again.sources) == (
            card.values,
            card.match,
            card.advice,
            card.sources,
        )
        assert (again.licence, again.link, again.not_stated, again.families) == (
            card.licence,
            card.link,
            card.not_stated,
            card.families,
        )


def test_addresses_are_of_pages_not_of_files():
    for card in BY_NAME.values():
        for url in filter(None, (card.link, card.licence[1])):
            assert re.fullmatch(r"https://[\w.-]+/[\w./-]+", url) and json.dumps(url)
