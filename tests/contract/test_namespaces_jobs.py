"""What "Prism Namespaces" promises over HTTP, the same in every host: rendered prompts are encoded and never seen."""

from __future__ import annotations

import base64
import io
import json
import time

import pytest
from contract.hosts import STYLE
from contract.jobs import (
    AS_WRITTEN,
    HIRES,
    JOB,
    PROBE_TITLE,
    batches,
    difference,
    inpainting,
    namespaces,
    tagged,
    told,
    unescaped,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_prism.settings import NAMESPACES

NAME = NAMESPACES.title.lower()
TAGS = "species:seal, year:1990"
SOTE = {"dialect": "sote"}
GRID = "x/y/z plot"
HIRES_LATENT = {**HIRES, "hr_second_pass_steps": 1}


def pixels(pictures):
    return [one.pixels for one in pictures]


def has_key(picture, key=NAMESPACES.title):
    return f"{key}: " in picture.infotext.splitlines()[-1]


# --- the script


def test_the_script_is_listed_once_with_its_declaration_in_its_order(host):
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == NAME and not one["is_img2img"]]
    assert [one["label"] for one in info["args"]] == [field.label for field in NAMESPACES.fields]
    assert [one["value"] for one in info["args"]] == [field.default for field in NAMESPACES.fields]


@pytest.mark.parametrize("prompt", [JOB["prompt"], TAGS], ids=["plain", "tags"])
def test_off_is_byte_equal_to_never_asked(host, prompt):
    (never,) = tagged(host, prompt=prompt)
    for args in ([False], [{"enabled": False, "dialect": "sote"}]):
        assert tagged(host, *args, prompt=prompt)[0].png == never.png
    assert told(host, False, prompt=prompt) == told(host, prompt=prompt)


def test_on_without_a_tag_is_byte_equal_to_off(host):
    (off,) = tagged(host, False)
    assert tagged(host, {"anti": True, "strength": "1.3", "show_rendered": True})[0].png == off.png


def test_dict_and_positional_arguments_are_one_thing(host):
    values = NAMESPACES.defaults() | {"enabled": True, "dialect": "SoteDiffusion"}
    by_name, by_place = told(host, SOTE, prompt=TAGS), told(host, *values.values(), prompt=TAGS)
    assert by_name == by_place != told(host, prompt=TAGS)
    assert told(host, True, prompt=TAGS) == told(host, {}, prompt=TAGS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"dialectt": "x"}, 'did you mean \\\\"dialect\\\\"'),
        ({"dialect": "sygill"}, "Sygil"),
        ({"strength": "speceis=1"}, "species"),
        ({"strength": "species=9"}, "between 0 and 4"),
    ],
    ids=["name", "dialect", "namespace", "range"],
)
def test_a_bad_argument_is_told_and_drawn_without_it(host, args, said):
    (made,) = tagged(host, args, prompt=TAGS)
    assert has_key(made, f"{NAMESPACES.title} error") and not has_key(made)
    assert said.replace("\\\\", "\\") in made.infotext
    assert said.replace("\\", "") in host.get("/contract/comments")
    assert made.pixels == tagged(host, prompt=TAGS)[0].pixels


# --- rendered where it is encoded, and nowhere else


def test_the_prompt_is_rendered_and_the_infotext_keeps_the_users_text(host):
    (batch,) = batches(host, AS_WRITTEN, prompt=TAGS, negative_prompt="style:1.2, iso:100")
    assert batch["prompts"] != [TAGS] and unescaped(batch["prompts"][0]) == TAGS
    (made,) = tagged(host, AS_WRITTEN, prompt=TAGS, negative_prompt="iso:100")
    assert made.infotext.startswith(f"{TAGS}\nNegative prompt: iso:100\nSteps: ")
    assert has_key(made) and "registry=" in made.infotext


def test_each_dialect_has_words_of_its_own(host):
    prompt = "species:seal, quality:best, aesthetic:0.93"
    said = {name: told(host, {"dialect": name}, prompt=prompt) for name in ("sote", "danbooru", "pony")}
    assert len(set(said.values())) == 3
    assert "extremely aesthetic" in said["sote"] and "best quality" in said["sote"]


def test_a_tag_with_a_minus_goes_to_the_other_prompt(host):
    (batch,) = batches(host, AS_WRITTEN, prompt="a pool, -species:dog", negative_prompt="blurry")
    assert "dog" not in batch["prompts"][0]
    assert "dog" in batch["negative_prompts"][0] and "blurry" in batch["negative_prompts"][0]


def test_wrong_senses_go_to_the_negative_prompt(host):
    (batch,) = batches(host, {**AS_WRITTEN, "anti": True}, prompt="species:seal", negative_prompt="blurry")
    assert "singer" in batch["negative_prompts"][0]


def test_strength_window_and_other_values_reach_the_prompt(host):
    assert "1.3" in told(host, {**AS_WRITTEN, "strength": "species=1.3"}, prompt="species:seal")
    assert "0.6" in told(host, {**AS_WRITTEN, "window": "species=0-0.6"}, prompt="species:seal")
    replaced = told(host, {**AS_WRITTEN, "replace": "species:dog"}, prompt="species:seal, studio:dc")
    assert "dog" in replaced and "seal" not in replaced and "dc" in replaced
    assert "BREAK" in told(host, {**AS_WRITTEN, "isolate": "species"}, prompt="a pool, species:seal, at noon")


def test_every_prompt_of_a_batch_is_rendered_in_its_place(host):
    fields = {"batch_size": 2, "n_iter": 2, "prompt": "quality:best"}
    made, seen = tagged(host, SOTE, **fields), batches(host, SOTE, **fields)
    assert [one["prompts"] for one in seen] == [["best quality"] * 2] * 2
    assert len(made) == 4 and all(one.infotext.startswith("quality:best\n") and has_key(one) for one in made)
    alone = [tagged(host, SOTE, prompt="quality:best", seed=seed)[0] for seed in (1, 2, 3, 4)]
    # pictures side by side in one batch differ from single ones by rounding
    assert max(map(difference, made, alone)) <= 2


def test_a_list_of_prompts_and_the_prompt_matrix_are_rendered_one_by_one(host):
    request = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "comma", 0]}
    if "prompt matrix" not in host.get("/sdapi/v1/scripts")["txt2img"]:
        pytest.skip("this host has no prompt matrix")
    seen = batches(host, SOTE, prompt="quality:best|quality:worst", **request)
    assert sorted(text for one in seen for text in one["prompts"]) == ["best quality", "best quality, worst quality"]


def test_image_to_image_is_rendered_too(host):
    seen = batches(host, SOTE, **inpainting(prompt="quality:best", steps=2))
    assert [one["prompts"] for one in seen] == [["best quality"]]


@pytest.mark.parametrize("own", ["", "quality:worst"], ids=["same", "own"])
def test_the_hires_pass_has_its_prompt_rendered_and_its_infotext_kept(host, own):
    fields = {**HIRES_LATENT, "prompt": "quality:best", "hr_prompt": own}
    (batch,) = batches(host, SOTE, **fields)
    assert batch["prompts"] == ["best quality"]
    assert batch["hr_prompts"] == ["worst quality" if own else "best quality"]
    (made,) = tagged(host, SOTE, **fields)
    assert made.infotext.startswith("quality:best\n")
    assert (f'{host.hires_prompt}: "quality:worst"' in made.infotext) == bool(own)


def test_a_hires_prompt_may_be_all_that_has_tags(host):
    (made,) = tagged(host, SOTE, **HIRES_LATENT, hr_prompt="quality:best")
    assert has_key(made)


def test_wrong_senses_of_a_hires_prompt_join_its_negative_prompt(host):
    fields = {"batch_size": 2, "hr_prompt": "species:seal", "negative_prompt": "blurry"}
    (batch,) = batches(host, {**AS_WRITTEN, "anti": True}, **HIRES_LATENT, **fields)
    assert batch["negative_prompts"] == ["blurry"] * 2
    assert all("blurry" in text and "singer" in text for text in batch["hr_negative_prompts"])


def test_tags_in_styles_are_rendered(host):
    (batch,) = batches(host, AS_WRITTEN, prompt="a fish", styles=[STYLE])
    assert [unescaped(batch[name][0]) for name in ("prompts", "negative_prompts")] == [
        "a fish, title:one #2",
        "year:1990",
    ]


def test_comments_are_cut_outside_of_quoted_values_only(host):
    if not host.comments:
        pytest.skip("this webui's prompts have no comments")
    prompt = 'title:"x-men #600 // 2", a fish # and no dog'
    (made,) = tagged(host, AS_WRITTEN, prompt=prompt)
    assert 'title:"x-men #600 // 2", a fish' in made.infotext and "dog" not in made.infotext
    said = told(host, AS_WRITTEN, prompt=prompt)
    assert "#600 // 2" in unescaped(said) and "dog" not in said
    assert "#600" not in told(host, prompt=prompt)  # without Prism


def test_a_network_that_a_template_makes_is_a_network(host):
    folder = host.data / "prism" / "namespaces"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "own.json"
    file.write_text(json.dumps({"net": {"template": {"*": "<probe:{v}:1>"}}}), encoding="utf8")
    try:
        (batch,) = batches(host, AS_WRITTEN, prompt="a fish, net:seal", **HIRES_LATENT)
        assert batch["extra_network_data"] == ["probe"] and "seal" not in batch["prompts"][0] + batch["hr_prompts"][0]
    finally:
        file.unlink()
    assert "net:seal" in told(host, AS_WRITTEN, prompt="a fish, net:seal")


def test_a_job_inside_a_job_gets_the_users_text(host):
    scripts = {**namespaces(SOTE)["alwayson_scripts"], PROBE_TITLE: {"args": ["nest"]}}
    host.get("/contract/prompts")
    outer, inner = host.draw({**JOB, "steps": 1, "prompt": "quality:best", "alwayson_scripts": scripts})
    assert [one["prompts"] for one in host.get("/contract/prompts")] == [["best quality"]] * 2
    assert outer.infotext.startswith("quality:best\n") and inner.infotext.startswith("quality:best\n")


def test_an_exception_in_a_neighbour_leaves_the_next_job_clean(host):
    (plain,) = tagged(host, prompt=TAGS)
    scripts = {**namespaces(SOTE)["alwayson_scripts"], PROBE_TITLE: {"args": ["fail everywhere"]}}
    (made,) = host.draw({**JOB, "steps": 1, "prompt": TAGS, "alwayson_scripts": scripts})
    assert made.infotext.startswith(TAGS)
    assert tagged(host, prompt=TAGS)[0].png == plain.png


def test_reload_ui_leaves_one_of_everything(host):
    state, before = host.state(), told(host, SOTE, prompt=TAGS)
    host.reload()
    assert host.state() == state and told(host, SOTE, prompt=TAGS) == before


# --- infotext, out and back


@pytest.mark.parametrize(
    "values",
    [
        SOTE,
        {"preset": "Pony"},
        {"strength": "species=1.2 studio=0.8", "window": "0-0.5", "replace": 'studio:"warner, bros"'},
        {"sets": "sygil", "order": "alphabetical", "isolate": "species"},
    ],
    ids=["dialect", "preset", "numbers", "sets"],
)
def test_an_infotext_gives_its_picture_back(host, values):
    (made,) = tagged(host, values, prompt="species:seal, studio:dc", negative_prompt="year:1990")
    (again,) = host.draw({"infotext": made.infotext})
    assert (again.pixels, again.infotext) == (made.pixels, made.infotext)


def test_the_rendered_prompt_is_told_where_it_differs_and_was_asked_for(host):
    shown = {**SOTE, "show_rendered": True}
    (made,) = tagged(host, shown, prompt="quality:best", negative_prompt="blurry")
    assert "Prism rendered prompt: best quality" in made.infotext and "rendered negative" not in made.infotext
    assert "rendered" not in tagged(host, SOTE, prompt="quality:best")[0].infotext
    assert "rendered" not in tagged(host, shown)[0].infotext


# --- pasted text


def pasted(host, text):
    """What the host takes a text for, as a picture's infotext."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(file, format="PNG", pnginfo=info)
    image = base64.b64encode(file.getvalue()).decode()
    return host.post("/sdapi/v1/png-info", {"image": image})["parameters"]


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("species:seal, studio:dc, series:batman", None, ""),
        ("a seal, species:seal, studio:dc, series:batman, red hat", None, ""),
        ("<lora:seal:1>, (red hat:1.2), species:seal, studio:dc, series:batman", None, ""),
        ('species:"a, b", (studio:dc:1.2), -series:x, rating:safe', None, ""),
        (
            "species:seal\nNegative prompt: year:1990, species:dog, studio:dc",
            "species:seal",
            "year:1990, species:dog, studio:dc",
        ),
        ("a\nb\nspecies:seal, studio:dc, series:batman", None, ""),
        ("species:seal, studio:dc, series:x, re:zero", None, ""),
        ("a cat, at 12:30, species:seal, studio:dc, series:x", None, ""),
        ("species:seal, studio:dc, series:x, http://a.b", None, ""),
        ("species:seal, foo:bar, studio:dc", None, ""),
        ("score:9, source:pony, rating:safe, Seed: 4", None, ""),
    ],
)
def test_a_pasted_prompt_of_tags_stays_a_prompt(host, text, prompt, negative):
    """Rows 39 and 41, and other colons beside the tags."""
    params = pasted(host, text)
    assert (params["Prompt"], params["Negative prompt"]) == (prompt or text, negative)
    assert not {"species", "studio", "series", "year", "rating", "re", "foo", "http", "Seed"} & set(params)


def test_real_parameters_and_keys_without_a_tag_stay_parameters(host):
    params = pasted(host, "species:seal\nSteps: 20, Sampler: Euler, Seed: 5, Size: 64x64")
    assert [str(params[name]) for name in ("Prompt", "Steps", "Size-1")] == ["species:seal", "20", "64"]
    assert str(pasted(host, "a cat\nSteps: 20, rating: safe, species: seal")["Steps"]) == "20"
    assert pasted(host, "a cat\nrating: safe, Sampler: Euler, species: seal")["Sampler"] == "Euler"
    assert str(pasted(host, "a cat\nSize: 64x48, Seed: 5, CFG scale: 3")["Size-2"]) == "48"
    assert pasted(host, "tone: warm, mood: calm, hat: red")["mood"] == "calm"


# --- the grid


def test_dialects_and_values_are_axes_of_the_grid(host):
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == GRID and not one["is_img2img"]]
    axes = next(one["choices"] for one in info["args"] if one["label"] == "X type")
    labels = {field.name: label for label, field in NAMESPACES.axes()}
    assert [axes.count(label) for label in labels.values()] == [1] * len(labels)
    asked = {
        "X type": axes.index(labels["dialect"]),
        "Y type": axes.index(labels["replace"]),
        "Z type": axes.index(labels["strength"]),
        "Y values": 'species:dog,"species:cat, quality:worst"',
        "Z values": "species=1.2",
        "Include Sub Images": True,
        "Include Sub Grids": False,
        "Draw legend": False,
    }
    args = [asked.get(one["label"], one["value"]) for one in info["args"]]
    x_values = next(index for index, one in enumerate(info["args"]) if one["label"] == "X values")
    args[x_values : x_values + 2] = ["sygil, sote", ["sygil", "sote"]]  # the text, then the menu of the same label
    host.get("/contract/prompts")
    prompt = "species:seal, quality:best"
    made = tagged(host, {}, prompt=prompt, script_name=GRID, script_args=args)
    said = [unescaped(one["prompts"][0]) for one in host.get("/contract/prompts")]
    assert said == [
        "(species:dog:1.2), best quality",
        "best quality, (dog:1.2)",
        "(species:cat:1.2), worst quality",
        "worst quality, (cat:1.2)",
    ]
    assert all(one.infotext.startswith(prompt) for one in made)
    assert ["SoteDiffusion" in one.infotext for one in made[1:]] == [False, True, False, True]


# --- the way around A1111's schedule parser

SCHEDULES = ("a (fish:1.2), sea", "[a fish:a cat:0.5]", "[a|b] c", "a [b", "((a), [b]", "", "a \\[ b : c")


def test_the_way_around_the_schedule_parser_changes_no_reading(host):
    option = {"prism_fast_prompts": False}
    if not option.keys() <= host.get("/sdapi/v1/options").keys():
        pytest.skip("this host's own parser is a fast one")

    def read():
        return [host.post("/contract/read", {"prompt": text, "steps": 20}) for text in SCHEDULES]

    heavy = ", ".join(f"(word{i}:1.{i % 8 + 1})" for i in range(60))
    (plain,) = tagged(host, prompt=heavy)
    slow, before = seconds(host, heavy), read()
    host.post("/sdapi/v1/options", {"prism_fast_prompts": True})
    try:
        assert read() == before
        assert seconds(host, heavy) < slow / 2
        assert tagged(host, prompt=heavy)[0].png == plain.png
        host.reload()
        assert seconds(host, heavy) < slow / 2
    finally:
        host.post("/sdapi/v1/options", option)
    assert seconds(host, heavy) > slow / 2


def seconds(host, text):
    """How long the host reads a prompt, the best of three."""

    def once():
        start = time.perf_counter()
        host.post("/contract/read", {"prompt": text, "steps": 20})
        return time.perf_counter() - start

    return min(once() for _ in range(3))
