"""Stable Cascade as a checkpoint of the host's own menu: prompts, samplers, networks, previews, other menus."""

from __future__ import annotations

import base64
import io
import re
import threading

import pytest
import torch
from contract.jobs import JOB, difference
from PIL import Image
from safetensors.torch import load_file, save_file
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import CASCADE, FREEU, MERGE, NAMESPACES
from unit.cascade_files import TEXT, decoder_tensors, main_tensors, random_state, stage_c_shapes, text_shapes, write

MAIN, WIDER, DECODER, STAGE_A = "model-c", "model-c-wider", "model-c-decoder", "model-c-stage-a"
VAE, SD_VAE, BESIDE = "another-a.safetensors", "of-sd1.safetensors", "another-decoder.safetensors"
OF_MENU = re.compile(r"\b(?:VAE|Module 1): ([\w-]+)")  # in an infotext
DRAWN = {**JOB, "sampler_name": "Euler a", "scheduler": "SGM Uniform", "steps": 3, "width": 128, "height": 128}
DECODED = {CASCADE.title: {"args": [{"steps": 2}]}}
SIDE = 3  # of stage C's latents: 128 // 42
ALIKE = 6  # schedules that are others by another name, or with so few steps
MODULES = "forge_additional_modules"  # a menu of several files, where others have one of VAEs
DECODE_METHOD, DOWNCAST = "sd_vae_decode_method", "use_downcasted_alpha_bar"
OPTIONS = {
    "sd_vae": "None",
    "CLIP_stop_at_last_layers": 1,
    DECODE_METHOD: "Full",
    DOWNCAST: False,
}  # a job may override them
PREVIEWS = ("Full", "Approx NN", "Approx cheap", "TAESD")


def linear(shapes):
    """The layers that LoRA files change, with their (out, in)."""
    paths = (name.removesuffix(".weight") for name in shapes if name.endswith(".weight") and "embedding" not in name)
    return {path: shape for path in paths if len(shape := shapes[f"{path}.weight"]) == 2}


def draw(host, *scripts, **fields):
    """A quick picture, with arguments for scripts as `script` gives them."""
    given = {title: args for one in scripts for title, args in one.items()}
    (picture,) = host.draw({**DRAWN, **fields, "alwayson_scripts": {**DECODED, **given}})
    return picture


def script(panel, *args):
    return {panel.title: {"args": list(args)}}


def pixels(host, **fields):
    return draw(host, **fields).pixels


def load(host, name):
    """Choose a checkpoint as the page does."""
    return host.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})


def beside(host, *names):
    """The option that chooses files beside the checkpoint, none without names."""
    if MODULES in host.get("/sdapi/v1/options"):
        return {MODULES: list(names)}
    return {"sd_vae": "".join(names) or "None"}


def network(file, shapes, named):
    """A LoRA with layers named by a function of their path, the same weights whatever the names."""
    source, state = torch.Generator().manual_seed(7), {}
    for path, (out, inside) in linear(shapes).items():
        state[f"{named(path)}.lora_down.weight"] = torch.randn(2, inside, generator=source)
        state[f"{named(path)}.lora_up.weight"] = torch.randn(out, 2, generator=source) * 0.3
        state[f"{named(path)}.alpha"] = torch.tensor(1.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)


def furnish(host, place):
    """Checkpoints, each of another kind, and what is chosen from other menus; the files of checkpoints."""
    states = {part: random_state(part) for part in ("stage_c", "text", "previewer")}
    wider = {**states, "stage_c": random_state("stage_c", width=24), "text": random_state("text", seed=3)}
    decoder = {part: random_state(part, seed=1) for part in ("stage_b", "stage_a")}
    files = [
        write(place / f"{MAIN}.safetensors", main_tensors(states)),
        write(place / f"{WIDER}.safetensors", main_tensors(wider)),
        write(place / f"{DECODER}.safetensors", decoder_tensors(decoder)),
        write(place / f"{STAGE_A}.safetensors", decoder["stage_a"]),
    ]
    models = host.data / "models"
    write(models / "VAE" / VAE, random_state("stage_a", seed=5))
    other = {part: random_state(part, seed=5) for part in ("stage_b", "stage_a")}
    write(models / "text_encoder" / BESIDE, decoder_tensors(other))
    prefix = "first_stage_model."
    own = {name.removeprefix(prefix): one for name, one in load_file(MINI_V1).items() if name.startswith(prefix)}
    write(models / "VAE" / SD_VAE, own)
    lora = models / "Lora"
    network(lora / "kohya.safetensors", stage_c_shapes(), lambda path: f"lora_prior_unet_{path.replace('.', '_')}")
    network(lora / "dotted.safetensors", stage_c_shapes(), lambda path: f"diffusion_model.{path}")
    network(lora / "text.safetensors", text_shapes(), lambda path: f"lora_prior_te_{path.replace('.', '_')}")
    vectors = torch.randn(2, TEXT, generator=torch.Generator().manual_seed(2))
    embeddings = host.data / "embeddings"
    embeddings.mkdir(exist_ok=True)
    save_file({"emb_params": vectors}, embeddings / "plainly.safetensors")
    save_file({"clip_g": vectors, "clip_l": torch.zeros(2, 768)}, embeddings / "halved.safetensors")
    save_file({"emb_params": torch.zeros(1, 768)}, embeddings / "foreign.safetensors")
    return files


@pytest.fixture(scope="module", autouse=True)
def furniture(host):
    """With Cascade's files until the last test, and one of them chosen as checkpoint."""
    if host.own_cascade:
        pytest.skip("prompts, samplers and menus are those of this webui's own pipeline; see test_cascade_pipeline")
    place = host.data.parent / "checkpoints" if host.name != "studio" else host.data / "models" / "Stable-diffusion"
    files = furnish(host, place)
    for what in ("checkpoints", "loras", "vae"):
        host.post(f"/sdapi/v1/refresh-{what}")
    host.refresh_menus()
    known = host.get("/sdapi/v1/options")
    host.post("/sdapi/v1/options", {name: value for name, value in OPTIONS.items() if name in known})
    load(host, MINI_V1.name)
    host.sd1 = pixels(host)
    load(host, MAIN)
    yield host
    load(host, MINI_V1.name)
    for file in files:
        file.unlink()
    host.post("/sdapi/v1/refresh-checkpoints")
    assert pixels(host) == host.sd1


@pytest.fixture(scope="module")
def plain(host):
    """The picture of the checkpoint as it is."""
    return draw(host)


@pytest.fixture(autouse=True)
def restored(host, plain):
    """Whatever a test did: a plain job has the plain picture."""
    yield
    assert pixels(host) == plain.pixels


# --- the checkpoint


def test_it_is_a_checkpoint_like_any_other(host, plain):
    assert plain.image.size == (128, 128)
    assert f"Model: {MAIN}" in plain.infotext and "rror" not in plain.infotext
    assert host.state()["model"] == ["is_cascade"]


def test_switches_leave_nothing_behind(host, plain):
    for _ in range(3):
        load(host, MINI_V1.name)
        assert pixels(host) == host.sd1
        assert host.state()["model"] == ["is_sd1"] and host.state()["cascade models"] == 0
        load(host, MAIN)
        assert pixels(host) == plain.pixels


def test_another_file_of_cascade_may_have_other_networks(host, plain):
    load(host, WIDER)
    other = pixels(host)
    load(host, MAIN)
    assert pixels(host) == plain.pixels != other
    assert pixels(host, override_settings={"sd_model_checkpoint": WIDER}) == other
    assert host.state()["cascade models"] == 1


def test_reload_ui_twice(host, plain):
    before = host.state()
    for _ in range(2):
        host.reload()
        assert pixels(host) == plain.pixels
        assert pixels(host, prompt=f"{JOB['prompt']} <lora:kohya:1>") != plain.pixels
    assert host.state() == before
    load(host, MINI_V1.name)
    assert pixels(host) == host.sd1
    load(host, MAIN)


@pytest.mark.parametrize(("name", "what"), [(DECODER, "the decoder"), (STAGE_A, "stage A")])
def test_a_part_alone_is_no_checkpoint(host, name, what):
    for checkpoint in (MAIN, MINI_V1.name):
        load(host, checkpoint)
        before = pixels(host, prompt="a (red:1.3) fish")
        answer = host.ask({**DRAWN, "override_settings": {"sd_model_checkpoint": name}})
        assert answer.is_error and f"{name}.safetensors is {what} of Stable Cascade" in answer.text
        load(host, name)
        if host.get("/sdapi/v1/options")["sd_model_checkpoint"] == name:  # it would be loaded with the next job
            load(host, checkpoint)
        assert pixels(host, prompt="a (red:1.3) fish") == before
    load(host, MAIN)


# --- prompts


def test_every_form_of_prompt_is_read(host, plain):
    many = ", ".join(["a fish"] * 50)
    prompts = [
        "a (red:1.4) fish in the sea",
        "a [red] fish in the sea",
        "a red fish BREAK in the sea",
        "a red fish AND in the sea",
        "a red fish AND in the sea:0.3",
        "a [red:blue:0.5] fish in the sea",
        "a [red|blue] fish in the sea",
        many,
        f"{many}, a shark",
    ]
    found = {pixels(host, prompt=prompt) for prompt in prompts}
    assert len({plain.pixels, *found}) == len(prompts) + 1


def test_negatives_styles_and_clip_skip(host, plain):
    given = [
        {"negative_prompt": "a cat"},
        {"negative_prompt": ", ".join(["a cat"] * 40)},
        {"styles": ["tagged"]},
        {"override_settings": {"CLIP_stop_at_last_layers": 2}},
    ]
    assert len({plain.pixels, *(pixels(host, **fields) for fields in given)}) == len(given) + 1


def test_tokens_are_counted(host):
    def counted(prompt):
        return host.post("/contract/count", {"prompt": prompt})

    assert ">6/75<" in counted("a red fish in the sea")
    assert "/150<" in counted(", ".join(["a fish"] * 50))


def test_embeddings_of_this_width_are_vectors_and_others_are_words(host):
    plainly, halved = (draw(host, prompt=f"a {name} fish") for name in ("plainly", "halved"))
    foreign = draw(host, prompt="a foreign fish", negative_prompt="red")  # some hosts keep what they told of a negative
    assert plainly.pixels == halved.pixels
    told = re.compile(r"\bTI( hashes)?: ")
    assert told.search(plainly.infotext) and told.search(halved.infotext)
    assert not told.search(foreign.infotext) and "rror" not in foreign.infotext


# --- samplers


def test_every_sampler_makes_a_picture(host):
    """But solvers that choose their own number of steps, which need not suffice for nets without training.

    Some of reForge's halve the sides of latents, which may not be odd; others (RF) know noise below 1 only.
    """
    even = script(CASCADE, {"steps": 2, "compression": 32})
    listed = [one["name"] for one in host.get("/sdapi/v1/samplers")]
    names = [name for name in listed if not name.startswith("ODE") and not name.endswith(" RF")]
    found = {name: draw(host, even, sampler_name=name, scheduler="Automatic") for name in names}
    assert [name for name, picture in found.items() if "rror" in picture.infotext] == []
    assert len({picture.pixels for picture in found.values()}) > len(names) / 2


@pytest.mark.parametrize("sampler", ["UniPC", "DDIM"])
def test_options_for_the_noise_of_other_models_change_nothing(host, sampler):
    if DOWNCAST not in host.get("/sdapi/v1/options"):
        pytest.skip("this host has no such option")
    given = {"sampler_name": sampler, "scheduler": "Automatic"}
    assert pixels(host, **given, override_settings={DOWNCAST: True}) == pixels(host, **given)


def test_every_schedule_makes_a_picture(host):
    labels = [one["label"] for one in host.get("/sdapi/v1/schedulers")]
    found = {label: draw(host, sampler_name="DPM++ 2M", scheduler=label) for label in labels}
    assert [label for label, picture in found.items() if "rror" in picture.infotext] == []
    assert len({picture.pixels for picture in found.values()}) > len(labels) - ALIKE


@pytest.mark.parametrize("scheduler", ["SGM Uniform", "Simple", "Uniform"])
def test_many_steps_have_none_of_no_length(host, scheduler):
    picture = draw(host, sampler_name="DPM++ 2M", scheduler=scheduler, steps=150)
    assert "rror" not in picture.infotext


def test_a_refiner_is_left_out(host, plain):
    if host.name == "studio":
        pytest.skip("the studio has no refiner")
    refined = draw(host, refiner_checkpoint=MINI_V1.name, refiner_switch_at=0.5)
    assert refined.pixels == plain.pixels and "Refiner" not in refined.infotext
    assert host.state()["model"] == ["is_cascade"]


# --- previews


@pytest.mark.parametrize("kind", PREVIEWS)
def test_previews_are_small_and_no_decoder_runs_for_them(host, plain, kind):
    """The previewer makes eight pixels of each latent; stage B would give the picture's own size."""
    host.post("/sdapi/v1/options", {"show_progress_type": kind, "show_progress_every_n_steps": 1})
    sizes: set[tuple[int, int]] = set()
    job = threading.Thread(target=pixels, args=(host,), kwargs={"steps": 60})
    job.start()
    while job.is_alive():
        encoded = host.get("/sdapi/v1/progress")["current_image"]
        if encoded:
            sizes.add(Image.open(io.BytesIO(base64.b64decode(encoded))).size)
    job.join()
    assert sizes == {(8 * SIDE, 8 * SIDE)}


@pytest.mark.parametrize("kind", PREVIEWS[1:])
def test_finished_pictures_are_never_approximated(host, plain, kind):
    if DECODE_METHOD not in host.get("/sdapi/v1/options"):
        pytest.skip("this host has no choice of them")
    assert pixels(host, override_settings={DECODE_METHOD: kind}) == plain.pixels


# --- networks and the other menus


def test_networks_are_found_by_every_name_and_leave_nothing(host, plain):
    weights = host.get("/contract/weights")
    prompt = f"{JOB['prompt']} <lora:{{}}>"
    kohya, dotted, text = (pixels(host, prompt=prompt.format(f"{name}:1")) for name in ("kohya", "dotted", "text"))
    assert kohya == dotted
    assert len({plain.pixels, kohya, text}) == 3
    assert pixels(host, prompt=prompt.format("kohya:0.5")) not in (plain.pixels, kohya)
    assert (
        difference(draw(host, prompt=prompt.format("text:0:1")), plain) <= 2
    )  # layers are called, so rounded otherwise
    assert pixels(host) == plain.pixels and host.get("/contract/weights") == weights


def test_stage_a_is_chosen_in_the_menu_of_vaes(host, plain):
    for names in (VAE,), ():  # what was never set is not set back after a job that overrides it
        host.post("/sdapi/v1/options", beside(host, *names))
    chosen = draw(host, override_settings=beside(host, VAE))
    assert chosen.pixels != plain.pixels and OF_MENU.search(chosen.infotext)[1] == VAE.partition(".")[0]
    none = draw(host, override_settings=beside(host))
    assert none.pixels == plain.pixels and not OF_MENU.search(none.infotext)


def test_a_vae_of_the_other_kind_is_left_out(host, plain):
    try:
        host.post("/sdapi/v1/options", beside(host, SD_VAE))
        foreign = draw(host)
        assert foreign.pixels == plain.pixels and "VAE" not in foreign.infotext
        host.post("/sdapi/v1/options", beside(host, VAE))
        assert pixels(host) != plain.pixels
        load(host, MINI_V1.name)
        assert pixels(host) == host.sd1
        load(host, MAIN)
    finally:
        host.post("/sdapi/v1/options", beside(host))


def test_a_decoder_is_chosen_in_a_menu_of_several_files(host, plain):
    if MODULES not in host.get("/sdapi/v1/options"):
        pytest.skip("this host has a menu of VAEs, which a decoder is none of")
    chosen = draw(host, override_settings=beside(host, BESIDE))
    assert chosen.pixels != plain.pixels and OF_MENU.search(chosen.infotext)[1] == BESIDE.partition(".")[0]
    named = draw(host, script(CASCADE, {"steps": 2, "decoder": DECODER}), override_settings=beside(host, BESIDE))
    assert named.pixels == plain.pixels


# --- the rest of Prism


def test_freeu_says_that_it_does_not_fit(host, plain):
    picture = draw(host, script(FREEU, {"enabled": True}))
    assert picture.pixels == plain.pixels
    assert "FreeU does not fit" in picture.infotext and "Stable Cascade" in picture.infotext


def test_namespaces_are_rendered(host, plain):
    picture = draw(host, script(NAMESPACES, {"enabled": True}), prompt="year:1990, a fish")
    assert "rror" not in picture.infotext and picture.pixels != plain.pixels


def test_a_merge_of_two_models_of_cascade(host, plain):
    """Those of other widths are refused in words."""
    itself = draw(host, script(MERGE, {"enabled": True, "model": MAIN, "ratio": 0.5}))
    assert itself.pixels == plain.pixels
    other = draw(host, script(MERGE, {"enabled": True, "model": WIDER, "ratio": 0.5}))
    assert other.pixels == plain.pixels and f"{MERGE.title} error" in other.infotext


def test_the_panel_tells_of_a_missing_decoder(host, plain):
    picture = draw(host, script(CASCADE, {"decoder": "nowhere"}))
    assert f"{CASCADE.title} error" in picture.infotext and picture.pixels != plain.pixels
