"""`python prism.py render`: a prompt as a model should get it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sd_prism.settings import NAMESPACES
from sd_prism.studio import cli

LIB = Path(cli.__file__).parents[2]


def said(capsys, *argv):
    code = cli.main(["render", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_prompt_is_printed_and_its_negative_on_a_second_line(capsys):
    assert said(capsys, "a cat, species:seal", "--dialect", "sygil") == (0, "a cat, species\\:seal\n", "")
    code, out, _ = said(capsys, "a cat, -species:seal", "--negative", "blurry", "--dialect", "sygil")
    assert (code, out) == (0, "a cat\nblurry, species\\:seal\n")


def test_without_tags_it_is_as_given(capsys):
    assert said(capsys, "re:zero, (cat:1.2)") == (0, "re:zero, (cat:1.2)\n", "")


def test_target_and_strength(capsys):
    assert said(capsys, "species:seal", "--target", "comfyui")[1] == "species:seal\n"
    assert said(capsys, "species:seal, studio:dc", "--dialect", "sygil", "--strength", "species=1.2")[1] == (
        "(species\\:seal:1.2), studio\\:dc\n"
    )


def test_remarks_go_to_stderr(capsys):
    code, out, err = said(capsys, "speceis:seal, species:dog")
    assert code == 0 and out.startswith("speceis:seal")
    assert err.startswith("prism: prompt 0 to") and "species" in err
    assert 'did you mean "species"' in said(capsys, "speceis:seal")[2]  # without a tag beside it too


@pytest.mark.parametrize(
    "argv", [["-species:dog"], ["--", "-species:dog"], ["a cat", "--negative", "-species:dog"]], ids=" ".join
)
def test_a_text_may_begin_with_a_minus(capsys, argv):
    code, out, err = said(capsys, *argv)
    assert (code, err) == (0, "") and out.endswith("\nspecies\\:dog\n")


def test_a_drawn_prompt_may_begin_with_a_minus_too(capsys):
    assert cli.main(["generate", "-species:dog", "--negative-prompt", "-a:b", "--seed", "-1", "--out", "x.gif"]) == 2
    assert "--out is" in capsys.readouterr().err  # the next thing that is looked at


def test_every_setting_of_rendering_is_an_option(capsys, tmp_path):
    assert set(cli.RENDER) < set(NAMESPACES.names)
    texts = {"--window": "species=0-0.6", "--order": "alphabetical", "--replace": "species:dog"}
    argv = ["species:seal, a cat", *(part for pair in texts.items() for part in pair)]
    assert said(capsys, *argv)[1] == "[species\\:dog::0.6], a cat\n"
    assert "BREAK" in said(capsys, "a cat, species:seal", "--isolate", "species")[1]
    assert "singer" in said(capsys, "species:seal", "--anti")[1]
    own = tmp_path / "own.json"
    own.write_text('{"mood": {}}', encoding="utf8")
    assert said(capsys, "mood:calm", "--registry", str(own))[1] == "mood\\:calm\n"
    code, out, err = said(capsys, "mood:calm", "--registry", str(tmp_path / "none.json"))
    assert (code, out) == (2, "") and "none.json is no file" in err


def test_json_says_what_became_of_every_tag(capsys):
    code, out, err = said(capsys, "a cat, -species:seal", "--dialect", "sygil", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["prompt"], found["negative"]) == ("a cat", "species\\:seal")
    (tag,) = found["tags"]
    assert tag == {
        "side": "prompt",
        "start": 7,
        "end": 20,
        "namespace": "species",
        "value": "seal",
        "text": "species:seal",
        "place": "negative",
    }


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--dialect", "sygl", 'did you mean "Sygil"'),
        ("--target", "a111", 'did you mean "a1111"'),
        ("--strength", "speceis=2", 'did you mean "species"'),
        ("--strength", "species=9", "must lie between 0 and 4"),
    ],
)
def test_a_wrong_choice_names_the_nearest(capsys, option, value, text):
    code, out, err = said(capsys, "species:seal", option, value)
    assert (code, out) == (2, "") and text in err


def test_it_loads_nothing_heavy():
    heavy = ["torch", "gradio", "numpy", "fastapi", "diffusers", "tokenizers"]
    code = (
        "import sys; from sd_prism.studio import cli; cli.main(['render', 'species:seal', '--dialect', 'sygil']);"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(LIB)}
    )
    assert run.stderr.strip() == "[]"
