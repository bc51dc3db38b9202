"""What binding promises over HTTP, the same in every host; and the same pictures in the studio as in a webui."""

from __future__ import annotations

import pytest
from contract.hosts import SECOND
from contract.jobs import AS_WRITTEN, HIRES, JOB, PROBE_TITLE, difference, inpainting, namespaces
from safetensors.torch import load_file, save_file
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import NAMESPACES

PROMPT = "a wax stamp, (species:seal:1.2) in the sea"
NEGATIVE = "snow, object:seal"
GRID = "x/y/z plot"


def bound(bind=None, schedule="", prompt=PROMPT, **fields):
    """A request with such a binding; without one the script is not asked."""
    args = namespaces({**AS_WRITTEN, "bind": bind, "bind_schedule": schedule}) if bind is not None else {}
    return {**JOB, "prompt": prompt, "negative_prompt": NEGATIVE, **args, **fields}


def pixels(host, *args, **fields):
    return [one.pixels for one in host.draw(bound(*args, **fields))]


# --- the pictures


def test_binding_changes_the_picture_and_strength_zero_does_not(host):
    plain = pixels(host, "")
    assert pixels(host, "0") == pixels(host, "species=0") == pixels(host, "studio=1") == plain
    assert len({pixels(host, bind)[0] for bind in ("", "0.3", "1", "species=1")}) == 4
    assert pixels(host, "1", "0@0 0@1") == plain and pixels(host, "1", "0.3") == pixels(host, "0.3")


def test_strength_may_change_over_the_steps(host):
    assert pixels(host, "1", "1@0 0@1", steps=1) == pixels(host, "1", steps=1)
    made = [pixels(host, "1", schedule, steps=2)[0] for schedule in ("1", "0", "1@0 1@0.4 0@0.5", "0@0 0@0.4 1@0.5")]
    assert len(set(made)) == 4


def test_a_tag_alone_is_what_it_is_alone(host):
    alone = {"prompt": "species:seal", "negative_prompt": ""}
    assert pixels(host, "1", **alone) == pixels(host, "", **alone)


def test_nothing_is_bound_without_a_tag(host):
    plain = {"prompt": "a seal, re:zero", "negative_prompt": "wax"}
    assert pixels(host, "1", **plain) == pixels(host, **plain)


def test_the_pictures_of_a_batch_are_those_of_single_jobs(host):
    singles = [pixels(host, "1", seed=seed)[0] for seed in range(1, 5)]
    assert pixels(host, "1", n_iter=4) == singles
    both = host.draw(bound("1", batch_size=2, n_iter=2))
    one = [host.draw(bound("1", seed=seed))[0] for seed in range(1, 5)]
    # pictures side by side in one batch differ from single ones by rounding
    assert len(both) == 4 and max(map(difference, both, one)) <= 2


def test_a_job_that_broke_leaves_no_binding_behind(host):
    plain, whole = pixels(host, ""), pixels(host, "1")
    broken = bound("1")
    broken["alwayson_scripts"] |= {PROBE_TITLE: {"args": ["break the job"]}}
    assert host.ask(broken).status_code == host.broken
    assert pixels(host, "") == plain and pixels(host, "1") == whole


def test_an_infotext_gives_the_bound_picture_back(host):
    made = host.draw(bound("0.6", "1@0 0.2@1"))[0]
    assert host.draw({"infotext": made.infotext})[0].pixels == made.pixels


# --- the host's cond cache: positive and negative conds of the first pass, then of the hires pass


def conds(host, *args, **fields):
    host.draw(bound(*args, **fields))
    found = host.get("/contract/conds")
    if not found:
        pytest.skip("this webui has one cache, of the conds of whole passes")
    return found


SAME, OWN = HIRES, {**HIRES, "hr_prompt": "a wax species:bat, snow", "hr_negative_prompt": "wax"}


def test_the_cond_cache_knows_the_binding_and_keeps_what_it_does_not_touch(host):
    plain, zero, half, again, species, other, fewer = (
        conds(host, bind)[:2] for bind in ("", "0", "0.5", "0.5", "species=1", "species=1 studio=1", "species=0.5")
    )
    assert plain == zero and half == again and species == other
    assert len({one[0] for one in (plain, half, species, fewer)}) == 4
    assert species[1] == fewer[1] not in (plain[1], half[1]), "of the negative prompt no tag is bound"


@pytest.mark.parametrize("fields", [SAME, OWN], ids=["same prompt", "own prompt"])
def test_the_cache_of_the_hires_pass_knows_the_binding_too(host, fields):
    plain, half, again = (conds(host, bind, **fields) for bind in ("", "0.5", "0.5"))
    assert half == again and not {*plain[::2]} & {*half[::2]}
    assert (plain[3] == half[3]) == (fields is OWN)


def test_a_tag_that_stands_in_the_hires_prompt_only_is_bound_there(host):
    hires = {**OWN, "denoising_strength": 1.0, "prompt": "a wax fish", "negative_prompt": "wax"}
    plain, whole = (host.draw(bound(bind, **hires))[0] for bind in ("", "1"))
    assert difference(plain, whole) > 0
    first = {**hires, "enable_hr": False}
    assert pixels(host, "1", **first) == pixels(host, "", **first)


# --- X/Y/Z


def test_the_cells_of_a_grid_are_bound_each_by_itself(host):
    (info,) = [x for x in host.get("/sdapi/v1/script-info") if x["name"] == GRID and not x["is_img2img"]]
    axes = next(one["choices"] for one in info["args"] if one["label"] == "X type")
    label = next(label for label, field in NAMESPACES.axes() if field.name == "bind")
    asked = {
        "X type": axes.index(label),
        "Y type": axes.index("Nothing"),
        "Z type": axes.index("Nothing"),
        "Include Sub Images": True,
        "Include Sub Grids": False,
        "Draw legend": False,
    }
    args = [asked.get(one["label"], one["value"]) for one in info["args"]]
    x_values = next(index for index, one in enumerate(info["args"]) if one["label"] == "X values")
    args[x_values] = "0, 1, species=0.5"
    cells = pixels(host, "", script_name=GRID, script_args=args)[1:]
    assert cells == [pixels(host, bind)[0] for bind in ("0", "1", "species=0.5")]


# --- the studio and a webui

IMG2IMG = {name: value for name, value in inpainting().items() if "mask" not in name}
JOBS = {
    "emphasis": {},
    "editing": {"prompt": "a wax [species:seal:species:bat:0.5] in the sea"},
    "alternation and AND": {"prompt": "a wax [species:seal|species:bat] AND red species:fish :0.7"},
    "two chunks": {"prompt": "a wax stamp, " * 18 + "on it species:seal, a red species:fish"},
    "a shared token": {"prompt": "a wax character:seal (animal), in the sea"},
    "clip skip": {"skip": 2},
    "schedule": {"schedule": "1@0 0@1"},
    "two calls a step": {"schedule": "1@0 0@1", "sampler_name": "Heun"},
    "hires": {**HIRES, "schedule": "1@0 0@1", "hr_prompt": "a wax species:bat, snow", "hr_second_pass_steps": 3},
    "hires checkpoint": {**HIRES, "schedule": "1@0 0@1", "hr_checkpoint_name": SECOND},
    "img2img": {**IMG2IMG, "prompt": PROMPT, "schedule": "1@0 0@1"},
}


@pytest.mark.parametrize("fields", JOBS.values(), ids=JOBS)
def test_the_studio_and_a_webui_bind_alike(studio, webui, fields):
    if not webui.schedules:
        pytest.skip("this webui's samplers, noise and emphasis are its own, with and without Prism")
    given = {name: value for name, value in fields.items() if name not in ("schedule", "skip")}
    # a webui restores only settings that were once saved, so every job says its own
    given["override_settings"] = {"CLIP_stop_at_last_layers": fields.get("skip", 1)}
    schedule = fields.get("schedule", "")
    ours, theirs = (host.draw(bound("1", schedule, **given))[0] for host in (studio, webui))
    assert difference(ours, theirs) <= 2
    assert difference(theirs, webui.draw(bound("", **given))[0]) > 2


# --- embeddings


def look_for_embeddings(host):
    host.post("/sdapi/v1/refresh-embeddings")
    if host.hires:  # Forge looks for them with each model that it loads
        host.draw(bound(override_settings={"sd_model_checkpoint": SECOND}))


@pytest.fixture
def word(host):
    """An embedding of two vectors with this name."""
    if "/sdapi/v1/refresh-embeddings" not in host.get("/openapi.json")["paths"]:
        pytest.skip("this webui loads embeddings with the model")
    (table,) = (tensor for name, tensor in load_file(MINI_V1).items() if name.endswith("token_embedding.weight"))
    folder = host.data / "embeddings"
    folder.mkdir(exist_ok=True)
    save_file({"emb_params": table[5:7].float().flip(0).contiguous()}, folder / "shinyword.safetensors")
    look_for_embeddings(host)
    yield "shinyword"
    (folder / "shinyword.safetensors").unlink()
    look_for_embeddings(host)


def test_an_embedding_in_a_tag_is_bound_and_named_once(host, word):
    """Hosts that keep what they have noted with the conds of a negative prompt tell it of the next job with that."""

    def drawn(bind, name, negative=""):
        prompt = f"a wax species:{name}, {name} in the sea"
        return host.draw(bound(bind, prompt=prompt, negative_prompt=negative))[0]

    jobs = [("", word), ("1", word), ("1", "seal")]
    assert len({drawn(*job).pixels for job in jobs}) == 3
    texts = [drawn(*job, f"red {number}").infotext for number, job in enumerate(jobs)]
    assert [text.splitlines()[-1].count(word) for text in texts] == [1, 1, 0]  # with its hash in most hosts
