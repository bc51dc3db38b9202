"""What "Prism Cascade" promises over HTTP, the same in every host, on tiny files of Stable Cascade."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from contextlib import contextmanager

import pytest
from contract.hosts import Picture
from contract.jobs import JOB, difference, encoded, half_mask, inpainting, start_picture, wishing
from contract.test_presets import GRID, grid
from PIL import Image
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import CASCADE
from unit.cascade_files import METADATA, decoder_tensors, main_tensors, random_state, tiny_main, write

MAIN, DECODER, OTHER, BLIND, FINE = "tiny-main", "tiny-decoder", "other-decoder", "blind-main", "fine-main"
PARTS = ("stage_c", "text", "previewer", "effnet", "vision")
PIXELS = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Lanczos", "denoising_strength": 0.6}
SIZES = [(64, 64), (136, 72), (200, 96), (88, 176)]
CASCADE_JOB = {**JOB, "sampler_name": "Euler a", "scheduler": "SGM Uniform", "steps": 3, "width": 128, "height": 96}
QUICK = {"steps": 2}
# What webuis that draw with a pipeline of their own have no place for, each in a word.
needs = pytest.mark.needs
AGAIN, STARTS, PICTURES = needs("decoding again"), needs("starting from pictures"), needs("image prompts")
VARIATIONS, PREVIEWS = needs("variations"), needs("previews in place of pictures")


def decoder(path, seed):
    """An all-in-one decoder file whose pictures are between black and white."""
    states = {part: random_state(part, seed) for part in ("stage_b", "stage_a")}
    states["stage_a"]["out_block.0.weight"] *= 0.1
    states["stage_a"]["out_block.0.bias"] += 0.5
    write(path, decoder_tensors(states))


def close(pictures, others):
    """A batch is computed in another order than its pictures."""
    return all(difference(*pair) <= 1 for pair in zip(pictures, others, strict=True))


def asked(*args, **fields):
    """A request with these arguments for the script."""
    scripts = {"alwayson_scripts": {CASCADE.title: {"args": list(args)}}} if args else {}
    return {**CASCADE_JOB, **scripts, **fields}


def draw(host, *args, **fields):
    (picture,) = host.draw(asked(*args, **fields))
    return picture


def again(host, **given):
    """Pictures of the route that decodes again."""
    answer = host.post("/prism/v1/cascade/decode", given)
    pairs = zip(answer["images"], answer["infotexts"], strict=True)
    return [Picture(base64.b64decode(png), text) for png, text in pairs]


def facts(host):
    return host.get("/prism/v1/cascade/model")


@contextmanager
def chosen(host, option, value):
    """An option of the host, where it has that; a job's override of one that was never set would stay."""
    known = host.get("/sdapi/v1/options").get(option)
    if known is not None:
        host.post("/sdapi/v1/options", {option: value})
    try:
        yield
    finally:
        if known is not None:
            host.post("/sdapi/v1/options", {option: known})


def furnished(host):
    """The host with Cascade's files, and one of them chosen as checkpoint until the last test."""
    place = host.data.parent / "checkpoints" if host.name != "studio" else host.data / "models" / "Stable-diffusion"
    tiny_main(place / f"{MAIN}.safetensors", parts=PARTS)
    tiny_main(place / f"{BLIND}.safetensors", parts=PARTS[:3])
    states = {part: random_state(part) for part in PARTS[:3]}
    write(place / f"{FINE}.safetensors", main_tensors(states), {**METADATA, "prism.cascade.compression": "32"})
    decoder(place / f"{DECODER}.safetensors", 1)
    decoder(place / f"{OTHER}.safetensors", 9)
    host.post("/sdapi/v1/refresh-checkpoints")
    host.plain = host.draw(JOB)[0].png
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": MAIN})
    yield host
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": MINI_V1.stem})
    assert host.draw(JOB)[0].png == host.plain


@pytest.fixture(scope="module", autouse=True)
def files(host):
    yield from furnished(host)


@pytest.fixture(scope="module")
def plain(host):
    return draw(host)


@pytest.fixture(autouse=True)
def place(request, host):
    has_place(request, host)


def has_place(request, host):
    needed = request.node.get_closest_marker("needs")
    if needed and host.own_cascade:
        pytest.skip(f"this webui's own pipeline has no place for {needed.args[0]}")


def test_the_script_is_listed_once_with_its_declaration_in_its_order(host):
    name = CASCADE.title.lower()
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == name and not one["is_img2img"]]
    assert [one["label"] for one in info["args"]] == [field.label for field in CASCADE.fields]


def test_a_picture_is_decoded_by_the_file_beside_the_checkpoint(host, plain):
    assert plain.image.size == (128, 96)
    assert f"{CASCADE.title}: preset=SoteDiffusion (card); decoder={DECODER}" in plain.infotext
    assert "error" not in plain.infotext
    assert draw(host).png == plain.png
    told = facts(host)
    assert (told["cascade"], told["decoder"], told["missing"]) == (True, DECODER, "")
    assert {OTHER, DECODER} <= set(told["decoders"]) and not {MAIN, BLIND} & set(told["decoders"])


def test_pictures_come_in_the_size_that_was_asked_for(host):
    for width, height in SIZES:
        assert draw(host, QUICK, width=width, height=height).image.size == (width, height)


def test_compression_is_the_side_of_what_stage_c_draws(host, plain):
    found = {draw(host, {"compression": side}).pixels for side in (32, 42, 64)}
    assert len(found) == 3 and plain.pixels in found


def test_a_batch_is_its_pictures_by_seed(host):
    seeds = range(1, 5)
    together = host.draw(asked(QUICK, batch_size=2, n_iter=2, override_settings={"return_grid": False}))
    assert close(together, [draw(host, QUICK, seed=seed) for seed in seeds])


def test_the_default_compression_can_be_had_against_the_files_own(host, plain):
    fine = {"override_settings": {"sd_model_checkpoint": FINE}}
    own = draw(host, {"decoder": DECODER}, **fine)
    forced = draw(host, {"decoder": DECODER, "file_compression": False}, **fine)
    assert "compression=32" in own.infotext and forced.pixels == plain.pixels != own.pixels


@PICTURES
def test_pictures_are_followed_beside_the_prompt(host, plain):
    one, two = encoded(start_picture()), encoded(half_mask())
    alone, both = draw(host, {"images": one}), draw(host, {"images": [one, two]})
    weak = draw(host, {"images": one, "image_strength": 0.5})
    assert len({plain.pixels, alone.pixels, both.pixels, weak.pixels}) == 4
    assert draw(host, {"images": one, "image_strength": 0}).pixels == plain.pixels
    assert weak.pixels == draw(host, {"images": f"{one}:0.5"}).pixels
    for made in (both, weak):
        assert host.draw({"infotext": made.infotext, "script_name": None})[0].pixels == made.pixels
    assert again(host, steps=2, images="")[0].pixels == draw(host, {**QUICK, "images": f"{one}:0.5"}).pixels


@PICTURES
def test_pictures_go_with_every_prompt_of_a_batch_and_every_sampler(host):
    given, prompt = {**QUICK, "images": encoded(start_picture())}, "a fish AND a shark :0.5"
    job = asked(given, prompt=prompt, batch_size=2, override_settings={"return_grid": False})
    together = host.draw(job)
    assert close(together, [draw(host, given, prompt=prompt, seed=seed) for seed in (1, 2)])
    with chosen(host, "batch_cond_uncond", False):
        assert close(host.draw(job), together)
    for sampler in ("DDIM", "DPM++ 2M"):
        assert draw(host, given, sampler_name=sampler).pixels != draw(host, QUICK, sampler_name=sampler).pixels


@PICTURES
def test_a_picture_that_cannot_be_followed_is_told(host, plain):
    blind = {"override_settings": {"sd_model_checkpoint": BLIND}}
    for given, fields, said in (
        ({"images": "0123456789ab"}, {}, "0123456789ab is not here"),
        ({"images": encoded(start_picture()), "decoder": DECODER}, blind, "no vision encoder"),
    ):
        made = draw(host, given, **fields)
        assert made.pixels == plain.pixels and said in made.infotext and "images=" not in made.infotext


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", pytest.param("DDIM", marks=needs("other samplers"))])
def test_guidance_of_stage_c_is_rescaled(host, sampler):
    high = {"sampler_name": sampler, "cfg_scale": 12}
    half, whole = (draw(host, {**QUICK, "rescale_c": share}, **high) for share in (0.5, 1))
    assert len({draw(host, QUICK, **high).pixels, half.pixels, whole.pixels}) == 3
    assert "rescale_c=0.5" in half.infotext
    settings = {"return_grid": False}
    together = host.draw(asked({**QUICK, "rescale_c": 1}, **high, batch_size=2, override_settings=settings))
    assert close(together, [whole, draw(host, {**QUICK, "rescale_c": 1}, **high, seed=2)])


def test_the_decoder_has_its_own_settings(host, plain):
    given = (
        {"steps": 4},
        {"sampler": "DPM++ 2M"},
        {"schedule": "SGM Uniform"},
        {"cfg": 4},
        {"cfg": 4, "rescale": 0.7},
        {"schedule": "SGM Uniform", "shift_b": 2},
        {"shift_c": 1},
        {"seed_mode": "Fixed", "seed": 7},
        {"decoder": OTHER},
    )
    assert len({plain.pixels, *(draw(host, one).pixels for one in given)}) == 1 + len(given)


def test_random_noise_is_told_by_its_seed(host):
    made = draw(host, {"seed_mode": "Random"})
    assert "seed_mode=Fixed; seed=" in made.infotext
    assert host.draw({"infotext": made.infotext, "script_name": None})[0].pixels == made.pixels


def test_infotext_gives_the_picture_back(host):
    made = draw(host, {"steps": 4, "cfg": 3, "sampler": "Euler", "decoder": OTHER, "compression": 50, "shift_c": 1.5})
    assert host.draw({"infotext": made.infotext, "script_name": None})[0].pixels == made.pixels


@VARIATIONS
def test_variations_are_the_decoders_too(host, plain):
    half, none = (draw(host, subseed=5, subseed_strength=one) for one in (0.5, 0))
    assert none.pixels == plain.pixels != half.pixels
    resized = draw(host, seed_resize_from_w=64, seed_resize_from_h=64)
    assert resized.pixels not in (plain.pixels, half.pixels)


@AGAIN
@pytest.mark.parametrize("given", [{"steps": 4}, {"seed_mode": "Fixed", "seed": 7}, {"decoder": OTHER, "cfg": 3}])
def test_decoding_again_is_the_job_with_these_settings_without_stage_c(host, given):
    wanted = draw(host, given)
    draw(host)
    (made,) = again(host, tab="txt2img", **given)
    assert (made.pixels, made.infotext) == (wanted.pixels, wanted.infotext)


@AGAIN
def test_decoders_are_read_once(host):
    draw(host)
    before = facts(host)["loads"]
    draw(host, seed=2)
    again(host, steps=2)
    assert facts(host)["loads"] == before


@AGAIN
def test_a_decoder_leaves_with_a_model_that_the_host_had_kept(host):
    """Such a model is not loaded again."""
    with chosen(host, "sd_checkpoints_limit", 2):
        for _ in range(2):
            draw(host)
            before = facts(host)["loads"]
            host.draw({**JOB, "override_settings": {"sd_model_checkpoint": MINI_V1.stem}})
            draw(host)
            assert facts(host)["loads"] == before + 1


@AGAIN
def test_one_picture_of_a_batch_may_be_decoded_again(host):
    pictures = host.draw(asked(QUICK, batch_size=3, override_settings={"return_grid": False}))
    (second,) = again(host, picture=1)
    assert close([second, *again(host)], [pictures[1], *pictures])


@AGAIN
def test_latents_are_saved_beside_the_picture_and_decoded_from_there(host):
    known = set(host.data.rglob("*.safetensors"))
    made = draw(host, {"save_latents": True}, save_images=True)
    (file,) = set(host.data.rglob("*.safetensors")) - known
    assert file.with_suffix(".png").is_file()
    draw(host, seed=3)
    (read,) = again(host, latents=base64.b64encode(file.read_bytes()).decode())
    assert (read.pixels, read.infotext) == (made.pixels, made.infotext)


@AGAIN
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tab": "extras"}, "txt2img"),
        ({"latents": base64.b64encode(b"no latents").decode()}, "holds no latents"),
        ({"latents": "?"}, "base64"),
        ({"picture": 9}, "0 to 0"),
        ({"stepps": 3}, "steps"),
        ({"decoder": "nobody"}, DECODER),
        ({"decoder": MAIN}, "holds no stage B"),
    ],
)
def test_what_cannot_be_decoded_again_is_told(host, plain, given, said):
    draw(host)
    answer = host.client.post("/prism/v1/cascade/decode", json=given)
    assert answer.status_code == 422 and said in answer.json()["detail"]


@PREVIEWS
def test_without_a_decoder_there_is_a_preview_and_a_message(host, plain):
    rough = draw(host, {"preview_only": True})
    assert rough.pixels != plain.pixels
    for name in ("nobody", MAIN):
        made = draw(host, {"decoder": name})
        assert made.pixels == rough.pixels and f"{CASCADE.title} error: " in made.infotext


@STARTS
def test_hires_goes_by_way_of_pictures(host):
    made = draw(host, QUICK, **PIXELS)
    assert made.image.size == (256, 192) and "error" not in made.infotext
    assert again(host, tab="txt2img")[0].pixels == made.pixels
    two = host.draw(asked(QUICK, **PIXELS, batch_size=2, override_settings={"return_grid": False}))
    assert close(two, [made, draw(host, QUICK, **PIXELS, seed=2)])
    wide = draw(host, QUICK, **{**PIXELS, "hr_resize_x": 256, "hr_resize_y": 128})
    assert wide.image.size == (256, 128)


@STARTS
def test_latent_upscalers_are_refused_before_anything_is_drawn(host):
    for name in ("Latent", "Latent (nearest-exact)"):
        answer = host.ask(asked(**{**PIXELS, "hr_upscaler": name}))
        assert answer.status_code >= 400 and "choose an upscaler of pictures" in answer.text


@STARTS
def test_a_picture_is_where_it_starts_from(host, plain):
    first = inpainting()
    fields = {key: first[key] for key in ("init_images", "denoising_strength") if key in first}
    low, high = (draw(host, QUICK, **{**fields, "denoising_strength": one}) for one in (0.1, 0.9))
    assert len({low.pixels, high.pixels, plain.pixels}) == 3 and low.image.size == (128, 96)
    assert again(host, tab="img2img")[0].pixels == high.pixels
    masked = {key: value for key, value in first.items() if key not in JOB}
    whole, inner = draw(host, QUICK, **fields), draw(host, QUICK, **masked)
    assert whole.pixels != inner.pixels == again(host, tab="img2img")[0].pixels


@STARTS
def test_without_an_encoder_pictures_are_refused(host):
    blind = {"override_settings": {"sd_model_checkpoint": BLIND}}
    for fields in (PIXELS, {"init_images": inpainting()["init_images"]}):
        answer = host.ask(asked(**fields, **blind))
        assert answer.status_code >= 400 and "has no picture encoder" in answer.text
    assert draw(host, {"decoder": DECODER}, **blind).image.size == (128, 96)


def test_a_job_without_scripts_is_decoded_too(host):
    """The probe draws the same picture once more within the job, with no scripts."""
    request = wishing("nest bare", **{**CASCADE_JOB, "alwayson_scripts": {}})
    outer, inner = host.draw(request)
    assert (outer.pixels, outer.image.size) == (inner.pixels, (128, 96))


def test_settings_are_axes_of_the_grid(host):
    if GRID not in host.get("/sdapi/v1/scripts")["txt2img"]:
        pytest.skip("this host has no grid")
    (info,) = [one for one in host.get("/sdapi/v1/script-info") if one["name"] == GRID and not one["is_img2img"]]
    axes = next(one["choices"] for one in info["args"] if one["label"] == "X type")
    labels = {field.name: label for label, field in CASCADE.axes()}
    assert [axes.count(label) for label in labels.values()] == [1] * len(labels)
    alone = [draw(host, {"steps": steps, "compression": 50}) for steps in (2, 4)]
    values = grid(host, labels["steps"], ("2", "4"), (labels["compression"], "50"))
    cells = host.draw(asked(script_name=GRID, script_args=values))[-2:]
    assert [one.pixels for one in cells] == [one.pixels for one in alone]


@PREVIEWS
def test_an_interrupted_decoder_gives_what_it_has(host):
    """In stage B, as soon as the host says that it is there."""
    made = {}

    def job():
        made["picture"] = draw(host, {"steps": 100}, width=256, height=256)

    thread = threading.Thread(target=job)
    thread.start()
    end = time.monotonic() + 60
    while time.monotonic() < end and thread.is_alive():
        told = host.get("/sdapi/v1/progress?skip_current_image=true")
        if told["textinfo"] == "Stage B":
            host.post("/sdapi/v1/interrupt")
            break
    thread.join(60)
    assert made["picture"].image.size == (256, 256)
    assert draw(host, {"steps": 100}, width=256, height=256).pixels != made["picture"].pixels
    assert draw(host).image.size == (128, 96)


@PREVIEWS
def test_an_interrupted_stage_c_gives_a_preview(host):
    made = {}

    def job():
        made["picture"] = draw(host, steps=150, width=512, height=512)

    thread = threading.Thread(target=job)
    thread.start()
    end = time.monotonic() + 60
    while time.monotonic() < end and thread.is_alive():
        if host.get("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"] > 3:
            host.post("/sdapi/v1/interrupt")
            break
    thread.join(60)
    assert made["picture"].image.size == (512, 512)
    assert again(host, steps=1)[0].pixels != made["picture"].pixels


def test_other_checkpoints_are_drawn_as_without_it(host, plain):
    sd1 = {"override_settings": {"sd_model_checkpoint": MINI_V1.stem}}
    for _ in range(3):
        made = host.draw({**JOB, **sd1})[0]
        assert made.png == host.plain and CASCADE.title not in made.infotext
        given = host.draw({**JOB, **sd1, "alwayson_scripts": {CASCADE.title: {"args": [{"compression": 64}]}}})[0]
        assert given.png == host.plain
        assert draw(host).png == plain.png


def test_reload_ui_changes_nothing(host, plain):
    host.reload()
    assert draw(host).png == plain.png
    host.reload()
    assert draw(host, {"compression": 64}).pixels != plain.pixels
    assert host.draw({**JOB, "override_settings": {"sd_model_checkpoint": MINI_V1.stem}})[0].png == host.plain


@AGAIN
def test_other_sites_cannot_have_files_written(host):
    answer = host.client.post("/prism/v1/cascade/decode", content=json.dumps({"steps": 2}))
    assert answer.status_code == 415


@AGAIN
def test_the_answer_is_a_picture_with_its_infotext(host):
    draw(host)
    (made,) = again(host)
    assert Image.open(io.BytesIO(made.png)).info["parameters"] == made.infotext
