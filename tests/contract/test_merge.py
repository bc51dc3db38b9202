"""What "Prism Block Merge" promises over HTTP, the same in every host: a merge is as if it were the checkpoint."""

from __future__ import annotations

import shutil
import time

import pytest
import torch
from contract.hosts import PRISM, SECOND
from contract.jobs import HIRES, JOB, PROBE_TITLE, difference, inpainting, same
from contract.test_presets import GRID, grid
from safetensors.torch import load_file, save_file
from sd_prism.merge import Recipe, bake, ldm_keys
from sd_prism.miniatures import MINI_V1
from sd_prism.miniatures.pack import for_webui
from sd_prism.settings import MERGE

NEON, SMALL, OTHER = "neon", "neon-small", "sdxl-header"
LORA = "shifted"
HALF = {"model": NEON, "ratio": 0.5}
FULL = {"model": NEON, "ratio": 0.3, "te": "0.7", "vae": "0.4"}
RECIPE = "BASE=0.7,VAE=0.4"
WITH_LORA = f"{JOB['prompt']} <lora:{LORA}:0.8>"
FP8 = {  # ways to keep weights in fp8, by the option that a host has for it; one that has both goes by the first
    "forge_unet_storage_dtype": [{"forge_unet_storage_dtype": name} for name in ("float8-e4m3fn", "float8-e5m2")],
    "fp8_storage": [{"fp8_storage": "Enable", "cache_fp16_weight": cached} for cached in (False, True)],
}


def merged(*args, **fields):
    """A request with these arguments for the script; without any it is not asked."""
    scripts = {"alwayson_scripts": {MERGE.title: {"args": list(args)}}} if args else {}
    return {**JOB, **scripts, **fields}


def draw(host, *args, **fields):
    (picture,) = host.draw(merged(*args, **fields))
    return picture


def pixels(host, *args, **fields):
    return draw(host, *args, **fields).pixels


def checkpoint(name):
    return {"override_settings": {"sd_model_checkpoint": name}}


def weights(host):
    return host.get("/contract/weights")


def written(host):
    return host.get("/prism/v1/merge/model")["written"]


def told(host):
    return host.get("/prism/v1/merge/model")["merged"]


def varied(file, seed):
    """The shipped checkpoint with other weights everywhere."""
    source = torch.Generator().manual_seed(seed)
    tensors = load_file(MINI_V1)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.ndim:
            tensors[name] = (tensor.float() * (1 + 0.1 * torch.randn(tensor.shape, generator=source))).to(tensor.dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    shutil.copy(MINI_V1.with_suffix(".yaml"), file.with_suffix(".yaml"))
    return file


def network(file):
    """A LoRA for the attention of the UNet and the text encoder's perceptrons."""
    source, state = torch.Generator().manual_seed(7), {}
    tensors = load_file(MINI_V1)
    shape = ldm_keys.UNetShape.of(name.removeprefix(ldm_keys.UNET) for name in tensors)
    for name, tensor in tensors.items():
        if name.startswith(ldm_keys.UNET) and ".to_" in name and name.endswith("weight"):
            path = "unet_" + ldm_keys.unet_to_diffusers(name.removeprefix(ldm_keys.UNET), shape)
        elif ".mlp.fc" in name and name.endswith("weight"):
            path = "te_" + name.removeprefix(ldm_keys.CLIP[0])
        else:
            continue
        key = "lora_" + path.removesuffix(".weight").replace(".", "_")
        state[f"{key}.lora_down.weight"] = torch.randn(4, tensor.shape[1], generator=source)
        state[f"{key}.lora_up.weight"] = torch.randn(tensor.shape[0], 4, generator=source) * 0.05
        state[f"{key}.alpha"] = torch.tensor(4.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)


@pytest.fixture(scope="module", autouse=True)
def furniture(host, tmp_path_factory):
    """With a second model NEON, a baked merge of both, and a LoRA."""
    folder = tmp_path_factory.mktemp("models")
    webui = host.name != "studio"
    place = host.data.parent / "checkpoints" if webui else host.data / "models" / "Stable-diffusion"
    neon = varied(folder / f"{NEON}.safetensors", 1)
    baked = folder / "baked.safetensors"
    bake(Recipe.parse(f"{MINI_V1} + {neon}:0.3:{RECIPE}"), baked, dtype="fp32")
    shutil.copy(MINI_V1.with_suffix(".yaml"), baked.with_suffix(".yaml"))
    for file in (neon, baked):
        if webui:
            for_webui(place, file)
        else:
            for one in (file, file.with_suffix(".yaml")):
                shutil.copy(one, place)
    network(host.data / "models" / "Lora" / f"{LORA}.safetensors")
    host.post("/sdapi/v1/refresh-checkpoints")
    host.post("/sdapi/v1/refresh-loras")


@pytest.fixture(scope="module")
def plain(host):
    """The picture of the checkpoint as it is; the hash of its weights."""
    return pixels(host), weights(host)


@pytest.fixture(autouse=True)
def restored(host, plain):
    """Whatever a test did: a plain job has the plain picture, and the weights of a fresh load."""
    yield
    assert (pixels(host), weights(host)) == plain and told(host) == ""


def test_the_script_is_listed_once_with_its_declaration_in_its_order(host):
    name = MERGE.title.lower()
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == name and not one["is_img2img"]]
    assert [one["label"] for one in info["args"]] == [field.label for field in MERGE.fields]
    assert [one["value"] for one in info["args"]] == [field.default for field in MERGE.fields]


def test_off_is_byte_equal_to_never_asked(host):
    never = draw(host).png
    for args in ([False], [{"enabled": False, "model": NEON}], [{}], [{"model": NEON, "ratio": 0, "te": 0}]):
        if args[0] is False or not args[0].get("enabled", True):
            assert draw(host, *args).png == never
        assert pixels(host, *args) == draw(host).pixels


def test_a_merge_draws_what_the_baked_file_draws(host, plain):
    live = [pixels(host, FULL, seed=seed) for seed in (1, 2, 3)]
    assert plain[0] not in live
    assert live == [pixels(host, seed=seed, **checkpoint("baked")) for seed in (1, 2, 3)]


def test_a_bake_draws_what_was_live(host):
    """In the type that the host holds the model in, whatever that of the files."""
    live = pixels(host, FULL)
    host.post("/prism/v1/merge/bake", {**FULL, "name": "by request"})
    while (told := host.get("/prism/v1/merge/bake"))["running"]:
        time.sleep(0.05)
    assert (told["error"], told["dtype"]) == ("", "fp32")
    assert pixels(host, **checkpoint("by request")) == live


def test_a_weight_of_one_is_the_other_model_and_of_zero_none(host, plain):
    whole = pixels(host, {"model": NEON, "ratio": 1, "vae": 1})
    assert whole == pixels(host, **checkpoint(NEON)) != plain[0]
    assert pixels(host, {"model": NEON, "ratio": 0}) == plain[0]


def test_networks_stand_on_a_merge_as_on_the_baked_file(host, plain):
    alone = pixels(host, prompt=WITH_LORA)
    before = pixels(host, FULL, prompt=WITH_LORA)
    assert len({plain[0], alone, before}) == 3
    during = pixels(host, FULL), pixels(host, FULL, prompt=WITH_LORA)
    assert during[1] == before
    assert pixels(host, prompt=WITH_LORA) == alone
    assert pixels(host) == plain[0]
    assert pixels(host, prompt=WITH_LORA, **checkpoint("baked")) == before


def test_networks_that_change_no_weights_stand_on_a_merge_too(host):
    if "lora_functional" not in host.get("/sdapi/v1/options"):
        pytest.skip("this host's networks always change the weights")
    host.post("/sdapi/v1/options", {"lora_functional": True})
    try:
        alone, before = pixels(host, prompt=WITH_LORA), pixels(host, FULL, prompt=WITH_LORA)
        assert pixels(host, FULL) != before != alone == pixels(host, prompt=WITH_LORA)
        assert pixels(host, prompt=WITH_LORA, **checkpoint("baked")) == before
    finally:
        host.post("/sdapi/v1/options", {"lora_functional": False})


@pytest.mark.parametrize("part", ["/bias=1", "/weight=1", "/to_k=1", "BASE=1"])
def test_a_part_of_a_layer_may_be_merged_under_a_network(host, part):
    args = {"model": NEON, "ratio": 0, "blocks": part}
    fresh = pixels(host, args, prompt=WITH_LORA)
    pixels(host, prompt=WITH_LORA)
    assert pixels(host, args, prompt=WITH_LORA) == fresh != pixels(host, prompt=WITH_LORA)


def test_a_grid_over_seeds_merges_once(host):
    if GRID not in host.get("/sdapi/v1/scripts")["txt2img"]:
        pytest.skip("this host has no grid")
    at = written(host)
    pixels(host, HALF)
    once = written(host) - at
    seeds = grid(host, "Seed", ("1", "2", "3"))
    assert host.ask(merged(HALF, script_name=GRID, script_args=seeds)).status_code == 200
    assert once > 700 and written(host) - at == once


def test_settings_are_axes_of_the_grid(host):
    if GRID not in host.get("/sdapi/v1/scripts")["txt2img"]:
        pytest.skip("this host has no grid")
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == GRID and not one["is_img2img"]]
    axes = next(one["choices"] for one in info["args"] if one["label"] == "X type")
    labels = {field.name: label for label, field in MERGE.axes()}
    assert [axes.count(label) for label in labels.values()] == [1] * len(labels)
    alone = [pixels(host, {**HALF, "ratio": 1, "blocks": text}) for text in ("M00=0", "IN08=0")]
    asked = {
        "X type": axes.index(labels["blocks"]),
        "Y type": axes.index(labels["ratio"]),
        "Z type": axes.index("Nothing"),
        "X values": "M00=0, IN08=0",
        "Y values": "1",
        "Include Sub Images": True,
        "Include Sub Grids": False,
        "Draw legend": False,
    }
    labels_seen, args = set(), []
    for one in info["args"]:  # of two controls with a label the second one is a menu
        args.append(one["value"] if one["label"] in labels_seen else asked.get(one["label"], one["value"]))
        labels_seen.add(one["label"])
    made = [one.pixels for one in host.draw(merged(HALF, script_name=GRID, script_args=args))]
    assert made[1:] == alone


def test_a_moved_block_is_written_alone(host):
    pixels(host, HALF)
    at = written(host)
    pixels(host, {**HALF, "blocks": "IN01=0.7"})
    assert written(host) - at == 36


@pytest.mark.parametrize("wish", ["break the job", "fail in process_batch"])
def test_an_error_in_a_job_restores_the_model(host, plain, wish):
    scripts = {MERGE.title: {"args": [FULL]}, PROBE_TITLE: {"args": [wish]}}
    answer = host.ask({**JOB, "alwayson_scripts": scripts})
    if wish == "break the job":
        assert answer.status_code == host.broken and not answer.json().get("images")
        assert told(host) == "" and weights(host) == plain[1]
    else:
        assert answer.status_code == 200


def test_a_job_that_knows_no_scripts_of_ours_is_not_merged_into(host, plain):
    """As a detailer's inner pass with its own list of scripts."""
    scripts = {MERGE.title: {"args": [FULL]}, PROBE_TITLE: {"args": ["nest bare"]}}
    outer, inner = (one.pixels for one in host.draw({**JOB, "alwayson_scripts": scripts}))
    assert inner == plain[0] != outer


def test_a_nested_job_with_our_script_is_merged_into(host):
    scripts = {MERGE.title: {"args": [FULL]}, PROBE_TITLE: {"args": ["nest"]}}
    outer, inner = (one.pixels for one in host.draw({**JOB, "alwayson_scripts": scripts}))
    assert inner == outer


def test_an_interrupted_job_leaves_what_can_be_restored(host):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        job = pool.submit(host.ask, merged(FULL, steps=150))
        while not host.get("/sdapi/v1/progress")["state"]["sampling_step"]:
            time.sleep(0.05)
        host.post("/sdapi/v1/interrupt")
        assert job.result().status_code == 200


def test_another_checkpoint_by_override_settings_is_merged_into(host):
    fields = checkpoint(SECOND)
    alone = pixels(host, **fields)
    both = pixels(host, HALF, **fields)
    pixels(host, HALF)
    assert pixels(host, HALF, **fields) == both != alone == pixels(host, **fields)


def test_a_hires_checkpoint_stays_as_it_is_unless_asked(host):
    if not host.hires_apart:
        pytest.skip("this webui has no hires checkpoint")
    hires = {**HIRES, "hr_second_pass_steps": 2, "hr_checkpoint_name": SECOND}
    alone = pixels(host, **hires)
    first = pixels(host, {**HALF, "te": 0}, **hires)
    both = pixels(host, {**HALF, "te": 0, "everywhere": True}, **hires)
    assert len({alone, first, both}) == 3
    assert pixels(host, {**HALF, "te": 0}, **hires) == first
    assert pixels(host, **hires) == alone


def test_a_refiner_stays_as_it_is_unless_asked(host):
    if not host.hires_apart:
        pytest.skip("this webui's refiner is a setting, not a job's")
    fields = {"refiner_checkpoint": SECOND, "refiner_switch_at": 0.5}
    if host.ask({**JOB, **fields}).status_code != 200:
        pytest.skip("this host has no refiner")
    half = {**HALF, "te": 0, "exclude": "M00"}  # what the second checkpoint has of its own
    pictures = [pixels(host, *args, **fields) for args in ((), (half,), ({**half, "everywhere": True},))]
    assert len(set(pictures)) == 3
    assert [pixels(host, *args, **fields) for args in ((half,), ())] == [pictures[1], pictures[0]]


def test_the_hires_pass_may_have_a_recipe_of_its_own(host):
    hires = {**HIRES, "hr_second_pass_steps": 2}
    same = pixels(host, HALF, **hires)
    assert pixels(host, {**HALF, "hires": f"{NEON}:0.5:VAE=0"}, **hires) == same
    off, other = (pixels(host, {**HALF, "hires": text}, **hires) for text in ("off", f"{NEON}:1:VAE=0"))
    assert len({same, off, other, pixels(host, **hires)}) == 4
    if not host.hires_apart:
        return  # networks of the prompt are those of both passes
    tag = pixels(host, **hires, prompt=f"{JOB['prompt']} <merge:{NEON}:0.5:VAE=0>", hr_prompt=JOB["prompt"])
    assert tag == off


def test_the_text_encoder_of_a_merge_is_not_taken_for_the_checkpoints(host, plain):
    """Hosts keep conds from job to job."""
    te = {"model": NEON, "ratio": 0, "te": 1}
    made = pixels(host, te)
    assert made != plain[0] == pixels(host)
    assert pixels(host, te) == made
    assert pixels(host, {**te, "te": 0.5}) not in (made, plain[0])


def test_a_tag_merges_as_the_panel_does(host, plain):
    assert pixels(host, prompt=f"{JOB['prompt']} <merge:{NEON}:0.3:{RECIPE}>") == pixels(host, FULL)
    curve = {"model": NEON, "preset": "GRAD_V", "te": "0", "steps": "1-3"}
    tag = draw(host, prompt=f"{JOB['prompt']} <merge:{NEON}:GRAD_V:te=0:step=1-3>")
    assert tag.pixels == pixels(host, curve) != plain[0]
    assert f"Prism merge models: {NEON} [" in tag.infotext


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("nein:0.3", 'did you mean "neon"'),
        (f"{NEON}:GRAD_W", "GRAD_V"),
        (f"{NEON}:0.3:IN40=1", "IN"),
        (NEON, "no weight"),
    ],
)
def test_a_wrong_tag_is_told_and_drawn_without(host, plain, tag, said):
    made = draw(host, prompt=f"{JOB['prompt']} <merge:{tag}>")
    assert made.pixels == plain[0]
    assert f"{MERGE.title} error" in made.infotext and said in made.infotext.replace('\\"', '"')


def test_the_steps_of_a_merge(host, plain):
    always = pixels(host, HALF)
    assert pixels(host, {**HALF, "steps": "0-"}) == always
    assert pixels(host, {**HALF, "te": 0, "steps": "4-"}) == pixels(host, {**HALF, "te": 0, "steps": "9-"}) == plain[0]
    parts = [pixels(host, {**HALF, "te": 0, "steps": text}) for text in ("0-2", "2-4", "0@0 1@1", "0.5-1.0")]
    assert parts[1] == parts[3] and len({always, plain[0], *parts}) == 5
    assert parts[0] == pixels(host, {**HALF, "te": 0, "steps": "0-0.5"})


def test_samplers_of_two_calls_and_of_timesteps_keep_to_the_steps(host):
    for sampler in ("Heun", "DDIM"):
        fields = {"sampler_name": sampler}
        part = pixels(host, {**HALF, "te": 0, "steps": "0-2"}, **fields)
        assert part not in (pixels(host, {**HALF, "te": 0}, **fields), pixels(host, **fields))
        assert part == pixels(host, {**HALF, "te": 0, "steps": "0-0.5"}, **fields)


def test_images_are_merged_from_too(host):
    request = inpainting()
    (plain,) = host.draw(request)
    scripts = {"alwayson_scripts": {MERGE.title: {"args": [HALF]}}}
    assert difference(host.draw({**request, **scripts})[0], plain) > host.noise
    assert same(host, host.draw(request)[0], plain)


def test_a_picture_to_begin_with_is_encoded_by_the_jobs_own_vae(host):
    """Hosts encode it before they tell the job's networks."""
    request, vae = inpainting(), {"model": NEON, "ratio": 0, "vae": 1}
    scripts = {"alwayson_scripts": {MERGE.title: {"args": [vae]}}}
    jobs = [request, {**request, **scripts}, {**request, **scripts}, request]
    plain, first, second, after = (host.draw(one)[0] for one in jobs)
    assert same(host, first, second) and difference(first, plain) > host.noise and same(host, plain, after)


def test_another_vae_is_not_taken_for_the_merged_one(host, plain):
    folder = host.data / "models" / "VAE"
    folder.mkdir(parents=True, exist_ok=True)
    vae = {n.removeprefix(ldm_keys.VAE): t for n, t in load_file(MINI_V1).items() if n.startswith(ldm_keys.VAE)}
    save_file({name: tensor * 0.9 for name, tensor in vae.items()}, folder / "pale.safetensors")
    host.post("/sdapi/v1/refresh-vae")
    host.post("/sdapi/v1/options", {"sd_vae": "Automatic"})  # A1111 sets back only what was set before
    args, pale = {"model": NEON, "ratio": 0, "vae": 0.5}, {"override_settings": {"sd_vae": "pale.safetensors"}}
    alone = pixels(host, **pale)
    if alone != plain[0] and pixels(host) == alone:
        pixels(host, **checkpoint(SECOND))  # so that the first one is read again
        pytest.skip("this webui keeps the VAE that one job has asked for")
    own = pixels(host, args)
    if alone == plain[0] and not host.in_order:
        pytest.skip("this webui does not go by sd_vae")
    both = pixels(host, args, **pale)
    assert len({plain[0], alone, own, both}) == 4
    assert (pixels(host, args), pixels(host, **pale), pixels(host)) == (own, alone, plain[0])


def test_fp8_storage_is_merged_into_and_restored(host, plain):
    """Not compared with the baked file: A1111 loads some layers of a file in fp32 by way of fp16 then."""
    options = host.get("/sdapi/v1/options")
    ways = next((ways for option, ways in FP8.items() if option in options), None)
    if ways is None:
        pytest.skip("this host has no fp8 storage")

    def store(way=None):
        """A1111 rounds the noise schedule of the model that is loaded meanwhile, not that of the next one.

        With --medvram it makes live previews in the job, and those of a CPU fail at fp8.
        """
        chosen = way or {option: options[option] for option in ways[0]}
        host.post("/sdapi/v1/options", {"live_previews_enable": way is None, **chosen})
        pixels(host, **checkpoint(SECOND))

    try:
        for way in ways:
            store(way)
            alone, before, network = pixels(host), weights(host), pixels(host, prompt=WITH_LORA)
            if (alone, before) == plain:
                pytest.skip("this host's option does nothing")
            live = pixels(host, FULL), pixels(host, FULL, prompt=WITH_LORA)
            assert len({alone, network, plain[0], *live}) == 5
            assert pixels(host, FULL) == live[0] and pixels(host, prompt=WITH_LORA) == network
            assert pixels(host, FULL, prompt=WITH_LORA) == live[1]
            assert pixels(host) == alone and weights(host) == before
            store()
    finally:
        store()


def test_reload_ui_restores_the_model(host, plain):
    pixels(host, FULL)
    host.reload()
    assert weights(host) == plain[1] and told(host) == ""
    assert pixels(host, FULL) == pixels(host, **checkpoint("baked"))


def test_reload_ui_restores_the_model_though_the_host_has_dropped_others(host, plain):
    """A1111 takes its own modules out of them."""
    half = {**HALF, "te": 0.5}
    for args in ((half,), ()):
        pixels(host, *args)
        pixels(host, **checkpoint(SECOND))
    pixels(host, half, **HIRES, hr_second_pass_steps=2, hr_checkpoint_name=SECOND)
    for _ in range(2):
        pixels(host)
    pixels(host, half)
    host.reload()
    assert weights(host) == plain[1]


def test_disabling_the_extension_restores_the_model(host, plain):
    if "disabled_extensions" not in host.get("/sdapi/v1/options"):
        pytest.skip("this host disables no extensions")
    pixels(host, FULL)
    host.post("/sdapi/v1/options", {"disabled_extensions": [PRISM]})
    try:
        host.reload()
        assert host.client.get("/prism/v1/merge/model").status_code == 404
        assert (pixels(host), weights(host)) == plain
    finally:
        host.post("/sdapi/v1/options", {"disabled_extensions": []})
        host.reload()
    assert pixels(host, FULL) == pixels(host, **checkpoint("baked"))


def test_infotext_gives_the_picture_back(host):
    made = draw(host, {**FULL, "blocks": "IN04=0.9", "recipe": f"{SECOND}:0.2:VAE=0"})
    assert f"model={NEON} [" in made.infotext
    again = host.draw({"infotext": made.infotext, "script_name": None})
    assert again[0].pixels == made.pixels


def test_two_checkpoints_in_memory_are_each_as_they_were_loaded(host, plain):
    limit = host.get("/sdapi/v1/options").get("sd_checkpoints_limit")
    if limit is None:
        pytest.skip("this host keeps one checkpoint")
    host.post("/sdapi/v1/options", {"sd_checkpoints_limit": 2})
    try:
        fields = checkpoint(SECOND)
        second = pixels(host, **fields)
        pixels(host, FULL)
        assert pixels(host, **fields) == second
        pixels(host, FULL, **fields)
        assert (pixels(host), weights(host)) == plain
        pixels(host, FULL)
        assert pixels(host, FULL, **fields) != second == pixels(host, **fields)
    finally:
        host.post("/sdapi/v1/options", {"sd_checkpoints_limit": limit})
