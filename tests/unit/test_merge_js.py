"""The page's bars stand where the merge puts the weights, and what they write into the panel is what they show."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from sd_prism.errors import PrismError
from sd_prism.merge.blocks import Layout
from sd_prism.merge.presets import PRESETS
from sd_prism.settings import MERGE
from sd_prism.settings.merge import FLAT, recipe_of

PAGE = Path(__file__).with_name("merge_weights.test.js")
CASES = 400
CLOSE = 1e-3  # texts have four decimals


def layout(family: str, ways: int, outer: tuple[str, ...]) -> Layout:
    spine = [f"IN{i:02d}" for i in range(ways)] + ["M00"] + [f"OUT{i:02d}" for i in range(ways)]
    return Layout(family, ("BASE", *spine, *outer, "VAE"), {}, {})


SD1 = layout("sd1", 12, ("TIME_EMBED", "OUT"))
SDXL = layout("sdxl", 9, ("TIME_EMBED", "LABEL_EMB", "OUT"))
BARE = Layout("sd1", SD1.blocks[1:-1], {}, {})  # a file of a UNet alone


def levels(fields: dict[str, object], model: Layout) -> dict[str, float]:
    """What the merge does."""
    (term,) = recipe_of(MERGE.read({"model": "neon", **fields})).terms
    return term.levels(model)


def some(source: random.Random) -> float:
    return round(source.uniform(-0.5, 1.5), 2)


def rule(source: random.Random, model: Layout) -> str:
    first, last = source.choices(model.blocks, k=2)
    selector = source.choice((first, first.lower(), f"{first}-{last}", "/attn2", f"{first}/norm"))
    return f"{selector}{source.choice(('=', ' = '))}{some(source)}"


def command(source: random.Random) -> str:
    """runtime-block-merge's."""
    names = source.sample(
        ("base", "IN00", "in5", "M00", "Out11", "TIME_EMBED", "out", "OUT12"), k=source.choice((1, 3, 5))
    )
    return ", ".join(f"{name}{source.choice((':', ' : '))}{some(source)}" for name in names)


def case(source: random.Random, model: Layout) -> dict[str, object]:
    size = len(model.spine)
    count = source.choice((0, 0, 0, size, size + 1, size + 2, 25, 26, 27, 7))
    written = source.choice((" ", ", ")).join(str(some(source)) for _ in range(count))
    fields = {
        "ratio": some(source),
        "preset": source.choice((FLAT, *PRESETS)),
        "weights": source.choice((written, written, written, command(source))),
        "blocks": source.choice((" ", ", ")).join(rule(source, model) for _ in range(source.choice((0, 0, 1, 3)))),
        "te": source.choice(("", "", str(some(source)))),
        "vae": source.choice(("0", "0", "", str(some(source)))),
    }
    labels = source.sample(model.blocks, source.choice((1, 1, 2, 8)))
    return {
        "fields": fields,
        "changes": {label: some(source) for label in labels},
        "label": source.choice(model.blocks),
    }


def node() -> str:
    """Node.js; where there is none, only a person's machine may skip."""
    found = shutil.which("node")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no Node.js on this machine")
    assert found, "Node.js is missing"
    return found


def page(model: Layout, cases: list[dict[str, object]]) -> list[dict[str, object]]:
    """What the page makes of the cases."""
    size = len(model.spine)
    presets = {name: [one.base, *one.weights(size)] for name, one in PRESETS.items()}
    own = {"mine": presets["GRAD_A"][1:]}
    given = {"model": {"blocks": model.blocks, "spine": model.spine, "presets": presets, "own": own}, "cases": cases}
    run = subprocess.run([node(), str(PAGE)], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("model", (SD1, SDXL, BARE), ids=("sd1", "sdxl", "unet alone"))
def test_bars_show_and_write_the_weights_of_the_merge(model):
    source = random.Random(5)
    cases = [case(source, model) for _ in range(CASES)]
    refused = 0
    for one, made in zip(cases, page(model, cases), strict=True):
        fields, changes = one["fields"], one["changes"]
        try:
            expected = levels(fields, model)
        except PrismError:
            assert "error" in made, one
            refused += 1
            continue
        assert made["levels"] == pytest.approx(expected), one
        changed = levels(made["changed"], model)
        kept = {label for label in model.blocks if label in model.spine or label in made["own"] or label == "BASE"}
        for label in kept | set(changes):
            assert changed[label] == pytest.approx(changes.get(label, expected.get(label)), abs=CLOSE), (one, label)
    assert 0 < refused < CASES / 2


def test_a_name_stands_for_a_list():
    fields = {"ratio": 0.5, "preset": FLAT, "blocks": "", "te": "", "vae": "0"}
    names = ("mine", "grad_a", "nobody's")
    cases = [{"fields": {**fields, "weights": name}, "changes": {"M00": 0.25}, "label": "M00"} for name in names]
    mine, classic, nobody = page(SD1, cases)
    expected = levels({**fields, "preset": "GRAD_A"}, SD1)
    assert mine["levels"] == classic["levels"] == pytest.approx(expected)
    assert levels(mine["changed"], SD1) == pytest.approx({**expected, "M00": 0.25}, abs=CLOSE)
    assert nobody == {"error": "“nobody's” is no preset"}


@pytest.mark.parametrize("model", (SD1, SDXL), ids=("sd1", "sdxl"))
def test_a_bar_goes_back_to_the_preset_and_with_the_last_one_the_list_goes(model):
    source = random.Random(6)
    for preset in (FLAT, "GRAD_V", "ALL_B"):
        fields = {"ratio": 0.4, "preset": preset, "weights": "", "blocks": "", "te": "", "vae": "0"}
        for label in source.sample(model.blocks, 8):
            changes = {label: 0.77}
            (moved,) = page(model, [{"fields": fields, "changes": changes, "label": label}])
            assert moved["changed"] != fields and moved["reset"] == fields
            (back,) = page(model, [{"fields": moved["changed"], "changes": changes, "label": label}])
            assert back["reset"] == fields
