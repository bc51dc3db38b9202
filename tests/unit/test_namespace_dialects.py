"""What each dialect says: every row of the table, every threshold and what lies beside it."""

import math
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism.errors import UnknownName
from sd_prism.miniatures import world
from sd_prism.namespaces import dialects
from sd_prism.namespaces.dialects import DIALECTS, Said, get
from sd_prism.namespaces.registry import DEFAULT_SETS, Registry, for_dialect
from sd_prism.namespaces.wording import number, with_article, words

LIB = Path(dialects.__file__).resolve().parents[2]
EVERY = Registry.of(*DEFAULT_SETS, "sote")
CHAIN = "score_9, score_8_up, score_7_up, score_6_up, score_5_up, score_4_up"


def said(dialect, name, value, registry=EVERY):
    return DIALECTS[dialect].say(registry.find(name), value)


def text(dialect, name, value):
    """The plain words of a tag, None where it is dropped."""
    one = said(dialect, name, value)
    assert all(literal for _, literal in one.parts)
    return None if one.place == "drop" else "".join(part for part, _ in one.parts)


def custom(**fields):
    return Registry.from_json({"thing": fields})


# --- the table --------------------------------------------------------------------------------------------------

PROMPT = (("quality", "best"), ("species", "seal"), ("studio", "dc"), ("style", "gigafractal"), ("rating", "safe"))


@pytest.mark.parametrize(("dialect", "expected"), [
    ("pass", ["quality:best", "species:seal", "studio:dc", "style:gigafractal", "rating:safe"]),
    ("sygil", ["best quality", "species:seal", "studio:dc", "gigafractal style", "rating:safe"]),
    ("sote", ["best quality", "seal (animal)", "dc comics", "gigafractal style", "general"]),
    ("danbooru", ["masterpiece, best quality", "seal_(animal)", "dc_comics", "gigafractal style", "safe"]),
    ("sd1", ["best quality", "a seal, an animal", "by DC Comics", "gigafractal style", None]),
    ("gigafractal", ["best quality", "a seal, an animal", "by DC Comics", "gigafractal artstyle", None]),
    ("pony", [CHAIN, "seal, feral", "dc comics", "gigafractal style", "rating_safe"]),
    ("animagine", ["masterpiece, best quality", "seal (animal)", "dc comics", "gigafractal style", "safe"]),
])  # fmt: skip
def test_one_prompt_in_every_dialect(dialect, expected):
    assert [text(dialect, name, value) for name, value in PROMPT] == expected


def test_only_gigafractals_trigger_leaves_its_place():
    for name, dialect in DIALECTS.items():
        places = {said(name, *tag).place for tag in PROMPT}
        assert places - {"here", "drop"} == ({"end"} if name == "gigafractal" else set()), dialect
    assert said("gigafractal", "style", "Gigafractal artstyle") == Said((("gigafractal artstyle", True),), "end")
    assert said("gigafractal", "style", "pixel") == Said((("pixel style", True),))


@pytest.mark.parametrize(("name", "order"), [
    ("pass", ""),
    ("sygil", ""),
    ("sote", "aesthetic quality date custom rating character series rest"),
    ("danbooru", "quality count character series rest"),
    ("sd1", ""),
    ("gigafractal", ""),
    ("pony", "score source rating rest"),
    ("animagine", "count character series rest quality"),
])  # fmt: skip
def test_orders_and_sets(name, order):
    dialect = DIALECTS[name]
    assert dialect.sets == (() if name == "pass" else ("sote",))
    beside = {"pony": "quality"}.get(name, "score")  # what is said in the same words stands beside it
    assert [group for group in dialect.order if group != beside] == order.split()
    if order:
        grades = sorted(dialect.order.index(group) for group in ("quality", "score"))
        assert grades[1] - grades[0] == 1


def test_the_menu():
    assert list(DIALECTS) == ["pass", "sygil", "sote", "danbooru", "sd1", "gigafractal", "pony", "animagine"]
    assert all(name == dialect.name and dialect.title for name, dialect in DIALECTS.items())
    assert get("sote") is DIALECTS["sote"]
    with pytest.raises(UnknownName, match='did you mean "pony"'):
        get("poni")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialects_rules_are_for_namespaces_that_exist(name):
    known = for_dialect(name).namespaces if name in ("sote", "animagine") else EVERY.namespaces
    assert set(DIALECTS[name].rules) <= set(known)


# --- scores and dates -------------------------------------------------------------------------------------------

AESTHETIC = [
    (0.90, "extremely aesthetic", "very aesthetic"),
    (0.80, "very aesthetic", "aesthetic"),
    (0.70, "aesthetic", "slightly aesthetic"),
    (0.50, "slightly aesthetic", "not displeasing"),
    (0.40, "not displeasing", "not aesthetic"),
    (0.30, "not aesthetic", "slightly displeasing"),
    (0.25, "slightly displeasing", "displeasing"),
    (0.10, "displeasing", "very displeasing"),
]
QUALITY = [
    (0.980, "best quality", "high quality"),
    (0.900, "high quality", "great quality"),
    (0.750, "great quality", "medium quality"),
    (0.500, "medium quality", "normal quality"),
    (0.250, "normal quality", "bad quality"),
    (0.125, "bad quality", "low quality"),
    (0.025, "low quality", "worst quality"),
]
ANIMAGINE_QUALITY = [
    (0.95, "masterpiece", "best quality"),
    (0.85, "best quality", "great quality"),
    (0.75, "great quality", "good quality"),
    (0.50, "good quality", "normal quality"),
    (0.25, "normal quality", "low quality"),
    (0.10, "low quality", "worst quality"),
]
ANIMAGINE_AESTHETIC = [
    (0.71, "very aesthetic", "aesthetic"),
    (0.45, "aesthetic", "displeasing"),
    (0.27, "displeasing", "very displeasing"),
]


@pytest.mark.parametrize(("dialect", "name", "threshold", "above", "at"), [
    *(("sote", "aesthetic", *row) for row in AESTHETIC),
    *(("sote", "quality", *row) for row in QUALITY),
    *(("animagine", "aesthetic", *row) for row in ANIMAGINE_AESTHETIC),
    *(("animagine", "quality", *row) for row in ANIMAGINE_QUALITY),
])  # fmt: skip
def test_a_score_must_be_greater_than_the_threshold(dialect, name, threshold, above, at):
    assert text(dialect, name, repr(math.nextafter(threshold, 1))) == above
    assert text(dialect, name, f"{threshold + 0.001:.3f}") == above
    assert text(dialect, name, f"{threshold:.3f}") == at
    assert text(dialect, name, f"{threshold - 0.001:.3f}") == at


@pytest.mark.parametrize(("dialect", "name", "value", "expected"), [
    ("sote", "aesthetic", "0", "very displeasing"), ("sote", "aesthetic", "1", "extremely aesthetic"),
    ("sote", "quality", "0", "worst quality"), ("sote", "quality", "1.0", "best quality"),
    ("sote", "aesthetic", "0.93", "extremely aesthetic"), ("sote", "aesthetic", ".93", "extremely aesthetic"),
    ("sote", "quality", "0.76", "great quality"),
    ("sygil", "quality", "0.76", "great quality"), ("sd1", "aesthetic", "0.93", "extremely aesthetic"),
    ("danbooru", "quality", "0.99", "best quality"),
    ("sote", "aesthetic", "7.5", "aesthetic"), ("sote", "aesthetic", "1.5", "displeasing"),
    ("animagine", "aesthetic", "99", "very aesthetic"), ("sote", "aesthetic", "-1", "very displeasing"),
    ("sote", "quality", "9", "best quality"), ("animagine", "quality", "8", "great quality"),
    ("danbooru", "quality", "99", "masterpiece, best quality"), ("sd1", "quality", "-1", "worst quality"),
    ("pony", "quality", "9", CHAIN), ("pony", "quality", "-1", "score_4"),
    ("sote", "aesthetic", "extremely", "extremely aesthetic"),
    ("sote", "aesthetic", "very displeasing", "very displeasing"), ("sote", "aesthetic", "aesthetic", "aesthetic"),
])  # fmt: skip
def test_scores_from_0_to_1(dialect, name, value, expected):
    assert text(dialect, name, value) == expected


@pytest.mark.parametrize("name", ["date", "year"])
@pytest.mark.parametrize(("dialect", "years"), [
    ("sote", {"oldest": (2005, 2010), "early": (2011, 2014), "mid": (2015, 2018), "recent": (2019, 2021),
              "newest": (2022, 2024)}),
    ("animagine", {"oldest": (2005, 2010), "early": (2011, 2014), "mid": (2015, 2017), "recent": (2018, 2020),
                   "newest": (2021, 2024)}),
])  # fmt: skip
def test_years(dialect, years, name):
    for word, (first, last) in years.items():
        assert {text(dialect, name, str(year)) for year in range(first, last + 1)} == {word}
        assert text(dialect, name, word) == word
    assert text(dialect, name, "1990") == text(dialect, name, "2004") == "oldest"
    assert text(dialect, name, "2025") == text(dialect, name, "2190") == "newest"
    assert text(dialect, name, "2023-05-01") == "newest"
    assert text(dialect, name, "20231") == "20231"


@pytest.mark.parametrize("dialect", ["sygil", "danbooru", "sd1", "gigafractal", "pony"])
def test_a_year_is_its_number_elsewhere(dialect):
    assert text(dialect, "year", "1990") == "1990"


@pytest.mark.parametrize(("score", "expected"), [
    ("9", CHAIN), ("10", CHAIN), ("9.5", CHAIN), ("8.9", CHAIN.replace("score_9, score_8_up", "score_8")),
    ("7", "score_7, score_6_up, score_5_up, score_4_up"), ("6", "score_6, score_5_up, score_4_up"),
    ("5", "score_5, score_4_up"), ("4", "score_4"), ("3", "score_4"), ("0", "score_4"), ("9" * 400, CHAIN),
    ("score_9", "score 9"), ("8_up", "score_8_up"), ("8 Up", "score_8_up"), ("round_up", "round up"),
])  # fmt: skip
def test_ponys_chain(score, expected):
    assert text("pony", "score", score) == expected


@pytest.mark.parametrize(("dialect", "score", "expected"), [
    ("sote", "9", "best quality"), ("sote", "10", "best quality"), ("sote", "8", "high quality"),
    ("sote", "6", "medium quality"), ("sote", "2.9", "worst quality"), ("sote", "-1", "worst quality"),
    ("danbooru", "9.5", "masterpiece, best quality"), ("animagine", "8", "great quality"),
    ("sote", "8_up", "high quality"), ("sd1", "7", "great quality"),
    ("sygil", "5", "normal quality"), ("sygil", "high", "high"),
])  # fmt: skip
def test_a_score_is_a_quality_where_there_are_no_scores(dialect, score, expected):
    assert text(dialect, "score", score) == expected


@pytest.mark.parametrize(("dialect", "value", "expected"), [
    ("sygil", "best quality", "best quality"), ("sygil", "best_quality", "best quality"),
    ("sygil", "Masterpiece", "Masterpiece"), ("sygil", "Worst", "Worst quality"),
    ("sote", "masterpiece", "best quality"), ("sote", "good", "medium quality"), ("sote", "low", "low quality"),
    ("danbooru", "Best", "masterpiece, best quality"), ("danbooru", "worst", "worst quality"),
    ("animagine", "high", "great quality"), ("animagine", "good", "good quality"),
    ("pony", "best", CHAIN), ("pony", "masterpiece", CHAIN),
    ("pony", "good quality", "score_6, score_5_up, score_4_up"),
    ("pony", "worst", "score_4"), ("pony", "0.99", CHAIN), ("pony", "0.01", "score_4"), ("pony", "odd", "odd quality"),
])  # fmt: skip
def test_grades_of_quality(dialect, value, expected):
    assert text(dialect, "quality", value) == expected


# --- ratings, sources, people, works ------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "expected"), [
    ("sygil", ["rating:s", "rating:safe", "rating:general", "rating:sensitive", "rating:questionable",
               "rating:mature", "rating:explicit"]),
    ("sote", ["general", "general", "general", "sensitive", "nsfw", "nsfw", "explicit nsfw"]),
    ("danbooru", ["safe", "safe", "general", "sensitive", "questionable", "mature", "explicit"]),
    ("sd1", [None] * 7),
    ("pony", ["rating_safe", "rating_safe", "rating_safe", "rating_safe", "rating_questionable",
              "rating_questionable", "rating_explicit"]),
    ("animagine", ["safe", "safe", "safe", "sensitive", "nsfw", "nsfw", "explicit, nsfw"]),
])  # fmt: skip
def test_ratings(dialect, expected):
    ratings = ("s", "safe", "general", "sensitive", "questionable", "mature", "explicit")
    assert [text(dialect, "rating", rating) for rating in ratings] == expected
    assert text(dialect, "rating", "Safe") == expected[1] and text(dialect, "rating", "e") in (expected[-1], "rating:e")


@pytest.mark.parametrize("source", ["pony", "furry", "cartoon", "anime"])
def test_ponys_sources(source):
    assert text("pony", "source", source.upper()) == f"source_{source}"
    assert text("sd1", "source", source) == source
    assert text("pony", "source", "manga") == "manga"


@pytest.mark.parametrize(("dialect", "character", "series", "creator"), [
    ("pass", "character:handler (monster hunter world)", "series:monster hunter: world", "creator:chris rallis"),
    ("sygil", "character:handler (monster hunter world)", "series:monster hunter: world", "creator:chris rallis"),
    ("sote", "handler (monster hunter world)", "monster hunter: world", "art by chris rallis"),
    ("danbooru", "handler_(monster_hunter_world)", "monster_hunter:_world", "chris_rallis"),
    ("sd1", "handler from monster hunter world", "from monster hunter: world", "by chris rallis"),
    ("gigafractal", "handler from monster hunter world", "from monster hunter: world", "by chris rallis"),
    ("pony", "handler (monster hunter world)", "monster hunter: world", "chris rallis"),
    ("animagine", "handler (monster hunter world)", "monster hunter: world", "chris rallis"),
])  # fmt: skip
def test_characters_series_and_creators(dialect, character, series, creator):
    assert text(dialect, "character", "handler (monster hunter world)") == character
    assert text(dialect, "series", "monster hunter: world") == series
    assert text(dialect, "creator", "chris rallis") == creator


def test_a_character_without_a_series_is_only_named():
    assert text("sd1", "character", "barnaby_brooks_jr.") == "barnaby brooks jr."


def test_sotes_custom_forms():
    assert text("sote", "text", "text") == 'The text says "text"'
    assert text("sote", "creator", "Display Name") == "art by Display Name"
    assert text("sote", "series", "Full_VN_Name (abc)") == "Full_VN_Name (abc)"
    assert text("sote", "custom", "Full_VN_Name (abc), visual novel cg") == "Full_VN_Name (abc), visual novel cg"


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("species", "Harbor_Seal", "species:harbor seal"), ("studio", "DC", "studio:dc"),
    ("uploader", "i_burn_cereal", "uploader:i_burn_cereal"), ("uploader", "[deleted]", "uploader:[deleted]"),
    ("pixiv work", "71448774", "pixiv work:71448774"), ("title", "Uncanny X-Men #600", "title:uncanny x-men #600"),
    ("medium", "photoshop (medium)", "medium:photoshop (medium)"),
    ("artist", "Zoma", "creator:zoma"), ("copyright", "Batman", "series:batman"),
    ("general", "long_hair", "long hair"), ("color", "red", "red"), ("object", "boat", "boat"),
])  # fmt: skip
def test_sygil_keeps_its_own_namespaces(name, value, expected):
    assert text("sygil", name, value) == expected


@pytest.mark.parametrize("dialect", ["sote", "danbooru", "sd1", "gigafractal", "pony", "animagine"])
def test_where_a_picture_was_found_is_told_to_sygil_only(dialect):
    for name in ("uploader", "subreddit", "booru", "pixiv work"):
        assert said(dialect, name, "1") == Said((), "drop")
        assert text("sygil", name, "1") == f"{name}:1"


@pytest.mark.parametrize("dialect", ["danbooru", "animagine"])
def test_gender_is_counted_where_tags_count(dialect):
    assert [text(dialect, "gender", one) for one in ("female", "Male", "other")] == ["1girl", "1boy", "other"]
    assert text("sote", "gender", "female") == "female"


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("lens", "50", "50mm lens"), ("lens", "wide angle", "wide angle lens"), ("lens", "fisheye lens", "fisheye lens"),
    ("iso", "400", "iso 400"), ("film", "kodak portra 400", "kodak portra 400 film"), ("film", "old film", "old film"),
    ("age", "25", "25 years old"), ("age", "old", "old"), ("aspect", "16:9", "16:9 aspect ratio"),
    ("era", "1980s", "1980s"), ("style", "flat style", "flat style"), ("style", "pixel_art", "pixel art style"),
])  # fmt: skip
def test_words_that_a_value_needs(name, value, expected):
    assert text("sd1", name, value) == text("sote", name, value) == expected


def test_danbooru_joins_words_with_underscores():
    assert text("danbooru", "species", "red  panda") == "red_panda"
    assert text("danbooru", "general", "Long hair") == "long_hair"
    assert text("danbooru", "artist", "chris_rallis") == "chris_rallis"


# --- senses and articles ----------------------------------------------------------------------------------------


def test_the_sense_is_said_of_words_with_several_only():
    for dialect, expected in (("sote", "cat"), ("danbooru", "cat"), ("sd1", "a cat"), ("pony", "cat")):
        assert text(dialect, "species", "cat") == expected
    assert text("sote", "species", "Bat") == "Bat (animal)"
    assert text("danbooru", "object", "bat") == "bat_(object)"
    assert text("sd1", "object", "seal") == "a seal, an object"
    registry = Registry.from_json({"species": {"anti": {"boxer": ["a man who boxes"]}}})
    assert said("sote", "species", "boxer", registry).parts == (("boxer (animal)", True),)


@pytest.mark.parametrize(("value", "expected"), [
    ("seal", "a seal"), ("elk", "an elk"), ("unicorn", "a unicorn"), ("umbrella", "an umbrella"), ("ewe", "a ewe"),
    ("Eagle", "an Eagle"), ("eucalyptus", "a eucalyptus"), ("user", "a user"), ("usher", "an usher"),
    ("hourglass", "an hourglass"), ("horse", "a horse"), ("red fox", "a red fox"), ("octopus", "an octopus"),
    ("glass", "a glass"), ("ibis", "an ibis"), ("wolves", "wolves"), ("two cats", "two cats"), ("3 cats", "3 cats"),
    ("the cat", "the cat"), ("a cat", "a cat"), ("theater", "a theater"), ("鱼", "鱼"), ("", ""), ("(odd)", "(odd)"),
    ("seal (animal)", "a seal (animal)"),
])  # fmt: skip
def test_articles(value, expected):
    assert with_article(value) == expected


def test_underscores_are_blanks_in_a_value_without_blanks():
    assert words("harbor_seal") == "harbor seal"
    assert words("Full_Name (abc)") == "Full_Name (abc)"
    assert words("_seal_") == "seal"


# --- templates --------------------------------------------------------------------------------------------------


def test_a_template_comes_before_the_rule():
    registry = Registry.from_json({"species": {"template": {"sote": "{v}, animal", "*": "one {v}"}}})
    assert said("sote", "species", "harbor_seal", registry).parts == (("harbor seal, animal", True),)
    for dialect in set(DIALECTS) - {"sote"}:
        assert said(dialect, "species", "seal", registry).parts == (("one seal", True),)


def test_the_other_form_of_danboorus_parentheses_is_a_template():
    registry = Registry.from_json({"species": {"template": {"danbooru": "{v} (animal)"}}})
    assert said("danbooru", "species", "seal", registry).parts == (("seal (animal)", True),)


def test_gigafractal_takes_the_templates_of_natural_language():
    registry = custom(template={"sd1": "{a}, seen from afar", "*": "{v}"})
    assert said("gigafractal", "thing", "elk", registry).parts == (("an elk, seen from afar", True),)
    assert said("pass", "thing", "elk", registry).parts == (("elk", True),)


def test_host_syntax_of_a_template_stays_syntax():
    registry = custom(template={"*": "in {v} style (so) <lora:{v}:1>"})
    assert said("pony", "thing", "my_style", registry).parts == (
        ("in my style style (so) ", True),
        ("<lora:my_style:1>", False),
    )


@pytest.mark.parametrize("value", ["x:5>", "<x", "a:b:c", "x><lora:y:1"])
def test_a_value_cannot_leave_the_host_syntax_it_stands_in(value):
    ((inside, literal),) = said("pass", "thing", value, custom(template={"*": "<lora:{v}:1>"})).parts
    assert not literal
    assert inside.startswith("<lora:") and inside.endswith(":1>")
    assert inside.count(":") == 2 and inside.count("<") == inside.count(">") == 1


def test_marks_inside_a_value_are_text():
    registry = custom(template={"*": "{a} and {v}, {x}"})
    assert said("sote", "thing", "{v}", registry).parts == (("{v} and {v}, {x}", True),)


def test_an_empty_template_drops_the_tag():
    assert said("sote", "thing", "x", custom(template={"sote": ""})) == Said((), "drop")


# --- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_as_written_is_what_the_miniature_was_trained_on(seed):
    rng = random.Random(seed)
    caption = world.namespaced(world.random_scene(rng), rng)
    tags = [tag.split(":") for tag in caption.split(", ") if tag]
    assert ", ".join(text("pass", name, value) for name, value in tags) == caption


def test_a_long_value_is_read_in_linear_time():
    started = time.process_time()
    for value in ("9" * 200_000 + "x", "(" * 200_000, " " * 200_000 + "quality", "a" * 200_000 + "(b"):
        assert number(value) is None
        assert all(DIALECTS[name].say(EVERY.find(tag), value) for name in DIALECTS for tag in ("character", "quality"))
    assert time.process_time() - started < 5  # a quadratic reader takes minutes


@given(st.sampled_from(sorted(DIALECTS)), st.sampled_from(sorted(EVERY.namespaces)), st.text(min_size=1))
def test_every_value_can_be_said(dialect, name, value):
    one = said(dialect, name, value)
    assert one.place in ("here", "end", "negative", "drop")
    assert bool(one.parts) == (one.place != "drop") and all(part for part, _ in one.parts)


def test_importing_it_loads_nothing_heavy_and_reads_no_data():
    code = (
        "import sys, builtins, io; sys.path.insert(0, sys.argv[1]); opened = []; sys.addaudithook("
        "lambda event, args: opened.append(str(args[0])) if event == 'open' else None);"
        "import sd_prism.namespaces.dialects, sd_prism.namespaces.detect;"
        "print([n for n in ('torch', 'numpy', 'csv') if n in sys.modules],"
        "[f for f in opened if f.endswith(('.json', '.csv'))])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(LIB)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] []"


def test_custom_text_of_several_tags_stays_several_tags():
    assert text("danbooru", "custom", "Red Hat, blue dress") == "red_hat, blue_dress"


def test_the_name_and_the_work_of_a_character_are_both_words():
    assert text("sd1", "character", "Full_Name (some_work)") == "Full Name from some work"
    assert text("sd1", "character", "full_name_(some_work)") == "full name from some work"
    assert text("sd1", "character", "full_name") == "full name"
