"""The page's scanner finds what Python's finds: on a recorded corpus, and on random texts.

`PYTHONPATH=lib python tests/unit/test_namespace_js.py` records what is found in the texts of the corpus anew.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from sd_prism.namespaces import json_form
from sd_prism.namespaces.registry import SETS, Registry
from sd_prism.namespaces.scanner import scan

HERE = Path(__file__).parent
CORPUS = HERE / "data" / "namespace_spans.json"
PAGE_TESTS = HERE / "namespace_page.test.js"
RANDOM_TEXTS = 2_000
PIECES = (
    *("species:", "character:", "rating:", "year:", "ratio:", "Pixiv_work:", "uploader:", "種：", "Species: ", "age:"),
    *("species:", "(species:", "[species:", "-species:", "species", "pixiv work", " species:", ", species:", ", year:"),
    *("a", "seal", "harbor seal", "1990", "3", ".5", "9.5", "1.2.3", "-5", "16:9", "re", "AND", "BREAK", "ADDCOMM"),
    *(":", ":", ":", ":", ": ", "::", "：", ",", ", ", "，", "\n", " ", " ", "|", "\\", "-", "_", ".", "!", '"', '"'),
    *"()()[][]{}（）<>#",
    *("<lora:x:1>", "🦭", "海豹", "é", "\x85"),
)

REGISTRIES = {chosen: Registry.of(*SETS, chosen=chosen) for chosen in (True, False)}
REGISTRY = json.loads(json.dumps(json_form.registry(REGISTRIES[True])))
del REGISTRY["digest"]  # it changes with what scanners do not read


def tags_of(text: str, chosen: bool) -> list[list[object]]:
    """All that both scanners say of each tag; positions count code points."""
    return [
        [
            *(tag.start, tag.end, tag.namespace.name, tag.written, tag.value, tag.negative, tag.quoted, tag.inline),
            *(tag.opens, tag.closes, list(tag.outer)),
        ]
        for tag in scan(text, REGISTRIES[chosen]).tags
    ]


def recorded(texts: list[str]) -> dict[str, object]:
    cases = [{"text": text, "chosen": tags_of(text, True), "open": tags_of(text, False)} for text in texts]
    return {"registry": REGISTRY, "cases": cases}


def in_page(texts: list[str]) -> list[list[object]]:
    """What the page's scanner says."""
    given = {"registry": REGISTRY, "texts": texts}
    run = subprocess.run(
        [node(), str(PAGE_TESTS), "--scan"], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def node() -> str:
    """Node.js; where there is none, only a person's machine may skip."""
    found = shutil.which("node")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no Node.js on this machine")
    assert found, "Node.js is missing"
    return found


def test_the_corpus_is_what_python_finds():
    corpus = json.loads(CORPUS.read_text(encoding="utf8"))
    assert corpus == recorded([case["text"] for case in corpus["cases"]])
    assert sum(len(case["chosen"]) for case in corpus["cases"]) > 100


def test_the_page_passes_its_own_tests():
    run = subprocess.run([node(), "--test", str(PAGE_TESTS)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_the_page_finds_the_same_in_random_texts():
    source = random.Random(0)
    texts = ["".join(source.choices(PIECES, k=source.randint(1, 16))) for _ in range(RANDOM_TEXTS)]
    expected = [tags_of(text, True) for text in texts]
    assert sum(map(len, expected)) > RANDOM_TEXTS / 2
    for text, ours, theirs in zip(texts, expected, in_page(texts), strict=True):
        assert theirs == ours, text


if __name__ == "__main__":
    known = [case["text"] for case in json.loads(CORPUS.read_text(encoding="utf8"))["cases"]]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in recorded(known)["cases"])
    head = json.dumps(REGISTRY, ensure_ascii=False)
    CORPUS.write_text(f'{{"registry": {head},\n"cases": [\n{lines}\n]}}\n', encoding="utf8")
