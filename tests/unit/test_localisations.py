"""Every language has every text, and nothing else."""

import json
import re
from collections import Counter

import pytest
import visible

FOLDER = visible.ROOT / "localizations"
LANGUAGES = ("de_DE", "es_ES", "fr_FR", "ja_JP", "ko_KR", "zh_CN", "zh_TW")
KEPT = re.compile(
    r"\{\w+\}|\[\S+?\]|[\w./-]*[=@][\w.@/-]*\d|\w+\.(?:py|json)\b|\b[A-Z]{2,}\d+\b", re.ASCII
)  # values, examples, files and blocks
EMOJI = re.compile("[\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff]")  # the webui leaves texts with them alone


@pytest.fixture(params=LANGUAGES)
def language(request):
    return json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf8"))


def test_these_are_the_languages():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(LANGUAGES)


def test_every_text_of_the_page_is_there(language):
    missing = sorted(visible.texts() - language.keys())
    assert not missing, "not translated:\n" + "\n".join(missing)


def test_nothing_is_there_that_the_page_does_not_say(language):
    unused = sorted(language.keys() - visible.texts())
    assert not unused, "no longer on the page:\n" + "\n".join(unused)


def test_a_translation_is_a_text_with_the_values_and_examples_of_the_original(language):
    for text, said in language.items():
        assert isinstance(said, str) and said.strip() == said != "", text
        assert Counter(KEPT.findall(said)) == Counter(KEPT.findall(text)), (text, said)


def test_the_webui_finds_every_text():
    for text in visible.texts():
        assert text == " ".join(text.split()) and not EMOJI.search(text) and not re.fullmatch(r"[.\d]+", text), text


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_text_is_there_twice(name):
    pairs = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf8"), object_pairs_hook=list)
    assert [text for text, count in Counter(text for text, _ in pairs).items() if count > 1] == []


def test_scripts_say_their_texts_in_the_language_of_the_page():
    assert visible.unspoken() == []
