"""The routes beside txt2img: pictures in, settings, progress, lists, documentation and passwords."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import threading
import time

import jsonschema
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sd_prism.errors import PrismError
from sd_prism.studio.api import access

JOB = {"prompt": "a red apple", "steps": 2, "seed": 42, "sampler_name": "Euler"}


@pytest.fixture()
def client(served):
    return served.client


def get(client, path):
    answer = client.get(f"/sdapi/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client, path, body=None, status=200):
    answer = client.post(f"/sdapi/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def picture(size=(64, 64), colour="red", mode="RGB", form="PNG", **save):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format=form, **save)
    return base64.b64encode(buffer.getvalue()).decode()


def test_img2img_starts_from_the_picture(client):
    job = {**JOB, "init_images": [picture(colour="red")], "denoising_strength": 0.3}
    red = post(client, "img2img", job)
    blue = post(client, "img2img", {**job, "init_images": ["data:image/png;base64," + picture(colour="blue")]})
    assert red["images"] != blue["images"]
    assert red["images"] == post(client, "img2img", job)["images"]
    assert red["parameters"]["init_images"] is None and red["parameters"]["mask"] is None
    assert red["parameters"]["denoising_strength"] == 0.3
    assert "Denoising strength: 0.3" in json.loads(red["info"])["infotexts"][0]
    kept = post(client, "img2img", {**job, "include_init_images": True})
    assert kept["parameters"]["init_images"] == job["init_images"]


def test_a_mask_keeps_the_rest_of_the_picture(client):
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 64, 24))
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    job = {**JOB, "init_images": [picture(colour=(200, 40, 40))], "mask_blur": 0, "inpaint_full_res": False}
    answer = post(client, "img2img", {**job, "mask": base64.b64encode(buffer.getvalue()).decode()})
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).convert("RGB"))
    assert (image[40:] == (200, 40, 40)).all() and not (image[:16] == (200, 40, 40)).all()


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"init_images": None}, ["init_images has no picture", "base64"]),
        ({"init_images": [], "mask": picture()}, ["a mask alone is not enough"]),
        ({"init_images": ["?"]}, ["init_images[0] is no base64 text"]),
        ({"init_images": [""]}, ["init_images[0] is empty"]),
        ({"init_images": [7]}, ["init_images[0] is 7; it must be a picture file in base64"]),
        ({"init_images": [base64.b64encode(b"hello").decode()]}, ["init_images[0] is no picture that can be read"]),
        ({"init_images": [picture()[: len(picture()) // 8 * 4]]}, ["init_images[0] is no picture that can be read"]),
        ({"init_images": ["http://example.com/a.png"]}, ["is a web address; the studio fetches nothing"]),
        ({"init_images": [picture((8193, 1))]}, ["has 8193x1 pixels; each side may have at most 8192"]),
        ({"init_images": [picture(), picture()]}, ["has 2 pictures and batch_size is 1"]),
        ({"mask": "?"}, ["mask is no base64 text"]),
        ({"resize_mode": 4}, ["resize_mode is 4; it must lie between 0 and 3 (img2img). Nearest: 3"]),
        ({"inpainting_fill": -1}, ["inpainting_fill is -1", "Nearest: 0"]),
        ({"denoising_strength": 1.5}, ["denoising_strength is 1.5; it must lie between 0 and 1"]),
        ({"mask_blur": -1}, ["mask_blur is -1"]),
        ({"styles": ["nobody"]}, ['style "nobody" does not exist']),
    ],
)
def test_wrong_pictures_are_told(client, fields, texts):
    job = {**JOB, "init_images": [picture()], **fields}
    detail = post(client, "img2img", job, status=422)["detail"]
    assert all(text in detail for text in texts), detail


@pytest.mark.parametrize(
    ("fields", "status", "texts"),
    [
        ({"hr_upscaler": "Latnt"}, 422, ['hr_upscaler "Latnt"', 'did you mean "Latent"?']),
        ({"hr_sampler_name": "Eulr"}, 404, ['did you mean "Euler"?']),
        ({"hr_scheduler": "Karas"}, 404, ['did you mean "Karras"?']),
        ({"hr_checkpoint_name": "tony"}, 404, ["checkpoint", "tiny.safetensors"]),
        ({"hr_scale": 0}, 422, ["hr_scale is 0", "Nearest: 0.1"]),
        ({"width": 4096, "hr_scale": 3}, 422, ["would give a width of 12288", "8192"]),
        ({"width": 64, "height": 64, "hr_resize_x": 64, "hr_resize_y": 8192}, 422, ["8192x8192"]),
        ({"hr_resize_x": 13}, 422, ["hr_resize_x is 13", "Nearest: 64"]),
        ({"hr_resize_y": 77}, 422, ["hr_resize_y is 77", "72 and 80"]),
        ({"width": 4096, "height": 4096, "hr_scale": 2}, 422, ["8192x8192", "smaller hires size, such as 5792x5792"]),
        ({"hr_second_pass_steps": -1}, 422, ["hr_second_pass_steps is -1"]),
    ],
)
def test_wrong_hires_fields_are_told(client, fields, status, texts):
    detail = post(client, "txt2img", {**JOB, "enable_hr": True, "denoising_strength": 0.5, **fields}, status)["detail"]
    assert all(text in detail for text in texts), detail


def test_the_hires_pass_takes_the_pages_words_for_the_same(client):
    fields = {"enable_hr": True, "hr_sampler_name": "Use same sampler", "hr_scheduler": "Use same scheduler"}
    answer = post(client, "txt2img", {**JOB, **fields, "hr_upscaler": "Latent", "hr_scale": 2})
    image = Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))
    assert image.size == (128, 128) and "Denoising strength: 0.75" in image.text["parameters"]


def test_the_answer_says_what_an_infotext_filled_in(client):
    sent = {"infotext": "a pear\nSteps: 3, Sampler: Euler, CFG scale: 5, Seed: 9, Size: 64x64, Clip skip: 2"}
    found = post(client, "txt2img", sent)["parameters"]
    assert (found["prompt"], found["steps"], found["seed"], found["width"]) == ("a pear", 3, 9, 64)
    assert found["override_settings"]["CLIP_stop_at_last_layers"] == 2


def test_png_info_reads_a_picture_of_the_studio(client):
    image = post(client, "txt2img", {**JOB, "negative_prompt": "dark"})["images"][0]
    found = post(client, "png-info", {"image": image})
    assert found["info"].startswith("a red apple\nNegative prompt: dark\nSteps: 2")
    assert found["parameters"]["Negative prompt"] == "dark" and found["parameters"]["Size-1"] == "64"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "me")
    assert post(client, "png-info", {"image": picture(pnginfo=texts)})["items"]["Author"] == "me"
    assert "image is no base64 text" in post(client, "png-info", {"image": "?"}, 422)["detail"]


def test_settings_are_changed_together_saved_and_restored(client, served):
    before = get(client, "options")
    try:
        post(client, "options", {"samples_format": "webp", "CLIP_stop_at_last_layers": 2})
        assert get(client, "options")["CLIP_stop_at_last_layers"] == 2
        assert json.loads((served.data / "config.json").read_text())["samples_format"] == "webp"
        for wrong, text in (
            ({"samples_formt": "png"}, 'did you mean "samples_format"?'),
            ({"samples_format": "xyz"}, "png, jpg, jpeg, webp"),
            ({"CLIP_stop_at_last_layers": 99}, "Nearest: 12"),
        ):
            assert text in post(client, "options", {"grid_format": "jpg", **wrong}, 422)["detail"]
        assert get(client, "options")["grid_format"] == before["grid_format"]
    finally:
        post(client, "options", before)  # what the route gives, it takes
    assert get(client, "options") == before


def test_another_checkpoint_in_the_settings_is_loaded(client):
    from modules import shared

    first = shared.sd_model.sd_checkpoint_info.title
    other = next(x["title"] for x in get(client, "sd-models") if x["title"].startswith("tiny") and x["title"] != first)
    post(client, "options", {"sd_model_checkpoint": other.split(" ")[0]})
    assert get(client, "options")["sd_model_checkpoint"] == shared.sd_model.sd_checkpoint_info.title == other
    assert "zdamaged" in post(client, "options", {"sd_model_checkpoint": "zdamaged"}, 422)["detail"]
    assert post(client, "options", {"sd_model_checkpoint": "tony"}, 404)["detail"].startswith('checkpoint "tony"')
    assert get(client, "options")["sd_model_checkpoint"] == other
    post(client, "unload-checkpoint")
    post(client, "reload-checkpoint")
    assert shared.sd_model.sd_checkpoint_info.title == other
    post(client, "txt2img", {**JOB, "override_settings": {"sd_model_checkpoint": first}})
    assert get(client, "options")["sd_model_checkpoint"] == other
    post(client, "options", {"sd_model_checkpoint": first})  # which is loaded already
    assert get(client, "options")["sd_model_checkpoint"] == first


def during(client, job, action):
    """The answer to a job, with `action` called while it runs."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/sdapi/v1/txt2img", json=job)))
    thread.start()
    deadline = time.monotonic() + 60
    while get(client, "progress?skip_current_image=true")["state"]["sampling_step"] < 3:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
    action()
    thread.join(60)
    assert answers[0].status_code == 200, answers[0].text
    return answers[0].json()


def test_progress_interrupt_and_skip(client):
    seen = []

    def look_and_interrupt():
        seen.append(get(client, "progress"))
        post(client, "interrupt")

    began = time.monotonic()
    answer = during(client, {**JOB, "steps": 1000, "n_iter": 5}, look_and_interrupt)
    took = time.monotonic() - began
    (found,) = seen
    assert 0 < found["progress"] < 0.2 and found["eta_relative"] > took
    assert found["state"]["job_count"] == 5 and found["state"]["sampling_steps"] == 1000
    assert len(answer["images"]) == 1, "the pictures of the batch that was running"
    assert get(client, "progress")["progress"] == 0
    skipped = during(client, {**JOB, "steps": 200, "n_iter": 2}, lambda: post(client, "skip") and None)
    assert len(skipped["images"]) == 2, "one picture per batch"


def test_the_live_preview_comes_with_the_progress(client):
    options = {key: get(client, "options")[key] for key in ("live_previews_enable", "show_progress_every_n_steps")}
    seen = []

    def look():
        seen.append(get(client, "progress")["current_image"])
        seen.append(get(client, "progress?skip_current_image=true")["current_image"])
        post(client, "interrupt")

    try:
        post(client, "options", {"live_previews_enable": True, "show_progress_every_n_steps": 1})
        during(client, {**JOB, "steps": 1000}, look)
    finally:
        post(client, "options", options)
    assert Image.open(io.BytesIO(base64.b64decode(seen[0]))).width > 0 and seen[1] is None


def test_every_route_answers_as_its_schema_says(client):
    api = client.get("/openapi.json").json()
    expected = """cmd-flags embeddings latent-upscale-modes memory options progress prompt-styles samplers schedulers
        script-info scripts sd-models sd-vae upscalers"""
    found = [path for path, methods in api["paths"].items() if "get" in methods and path.startswith("/sdapi/v1/")]
    assert {f"/sdapi/v1/{name}" for name in expected.split()} <= set(found)
    for path in found:
        schema = api["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(client.get(path).json(), {**schema, "components": api["components"]})
    body = api["components"]["schemas"]["Img2ImgRequest"]["properties"]
    assert body["resize_mode"]["maximum"] == 3 and body["init_images"]["anyOf"][0]["items"]["type"] == "string"
    for route in ("refresh-checkpoints", "refresh-vae", "refresh-embeddings", "interrupt", "skip"):
        assert client.post(f"/sdapi/v1/{route}").status_code == 200


# Fields of a job that no request has.
NOT_ASKED = """sd_model outpath_samples outpath_grids sampler_index extra_generation_params overlay_images
    do_not_reload_embeddings seed_enable_extras prompt_for_display ddim_discretize"""
# A size that is left out is the model's; the host's own request leaves txt2img's denoising strength open.
OTHER_DEFAULT = "width height denoising_strength"


@pytest.mark.parametrize("kind", ["Txt2Img", "Img2Img"])
def test_the_requests_have_the_fields_and_defaults_of_the_jobs_they_make(served, kind):
    from modules import processing
    from modules.api import models

    job = dataclasses.fields(getattr(processing, f"StableDiffusionProcessing{kind}"))
    fields = {field.name: field.default for field in job if field.init and field.name not in NOT_ASKED.split()}
    own = {name: field.default for name, field in getattr(models, f"{kind}Request").model_fields.items()}
    assert set(fields) <= set(own)
    for name in OTHER_DEFAULT.split():
        del fields[name]
    assert {name: own[name] for name in fields} == fields


def test_the_documentation_needs_no_other_server(client):
    page = client.get("/docs")
    assert page.status_code == 200 and "swagger" in page.text
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert linked and all(link.startswith("/") for link in linked)
    assert all(client.get(link).status_code == 200 for link in linked)


def test_the_command_line_flags_hold_no_password(client, monkeypatch):
    from modules import shared

    monkeypatch.setattr(shared.cmd_opts, "api_auth", "me:secret")
    assert "secret" not in client.get("/sdapi/v1/cmd-flags").text


def test_with_api_auth_only_those_named_may_use_the_routes(served, monkeypatch):
    from fastapi.testclient import TestClient
    from modules import shared
    from sd_prism.studio import api

    monkeypatch.setattr(shared.cmd_opts, "api_auth", "me:secret,you:big:yes")
    client = TestClient(api.create())
    refused = client.get("/sdapi/v1/samplers")
    assert refused.status_code == 401 and refused.headers["WWW-Authenticate"].startswith("Basic")
    ask = lambda user, password: client.get("/sdapi/v1/samplers", auth=(user, password))  # noqa: E731
    for user, password in (("me", "secre"), ("me", ""), ("nobody", ""), ("you", "secret"), ("", "")):
        assert ask(user, password).status_code == 401
    for user, password in (("me", "secret"), ("you", "big:yes")):
        assert ask(user, password).status_code == 200
    assert client.post("/sdapi/v1/txt2img", json=JOB).status_code == 401
    assert client.get("/docs").status_code == 200


@pytest.mark.parametrize("text", ["me", "me:", ":secret", "me:secret,you", "me:secretß"])
def test_a_wrong_api_auth_is_told_without_the_password(text):
    with pytest.raises(PrismError, match="--api-auth must") as error:
        access.users(text)
    assert "secret" not in str(error.value)
