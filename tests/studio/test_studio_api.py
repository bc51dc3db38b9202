"""The HTTP routes: the host's field names, and a clear text for each wrong request."""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image
from sd_prism.errors import PrismError
from sd_prism.studio import generate, host, pictures

JOB = {"prompt": "a red apple", "steps": 3, "seed": 42, "sampler_name": "Euler"}


@pytest.fixture()
def client(served):
    return served.client


@pytest.fixture()
def data(served):
    return served.data


@pytest.fixture()
def recorder(served):
    return served.recorder


def picture(answer):
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))


def test_a_job_gives_a_png_with_its_infotext(client, data):
    answer = client.post("/sdapi/v1/txt2img", json=JOB)
    assert answer.status_code == 200, answer.text
    image, info = picture(answer), json.loads(answer.json()["info"])
    assert image.size == (64, 64)
    assert image.text["parameters"] == info["infotexts"][0]
    first, last = image.text["parameters"].split("\n")
    assert first == "a red apple"
    assert last.startswith(
        "Steps: 3, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 42, Size: 64x64, Model hash: "
    )
    assert info["seed"] == 42 and info["sd_model_name"] in ("tiny", "tiny-two")
    assert answer.json()["parameters"]["prompt"] == "a red apple"
    assert not (data / "outputs").exists()


def test_the_same_request_gives_the_same_bytes_and_batches_repeat_single_runs(client):
    one = client.post("/sdapi/v1/txt2img", json=JOB).json()["images"]
    assert client.post("/sdapi/v1/txt2img", json=JOB).json()["images"] == one
    many = client.post("/sdapi/v1/txt2img", json={**JOB, "n_iter": 2}).json()
    assert many["images"][0] == one[0] and len(many["images"]) == 2
    assert json.loads(many["info"])["all_seeds"] == [42, 43]


def test_saved_pictures_are_numbered_in_a_folder_of_the_day(client, data):
    client.post("/sdapi/v1/txt2img", json={**JOB, "save_images": True, "send_images": False})
    answer = client.post("/sdapi/v1/txt2img", json={**JOB, "save_images": True, "send_images": False})
    assert answer.json()["images"] == []
    files = sorted((data / "outputs" / "txt2img-images").rglob("*.png"))
    assert [file.name for file in files] == ["00001-42.png", "00002-42.png"]
    assert Image.open(files[0]).text["parameters"].startswith("a red apple\nSteps: 3")
    assert (data / "params.txt").read_text().startswith("a red apple\nSteps: 3")


def test_script_arguments_are_filled_and_surplus_ones_dropped(client, recorder):
    def last_setup(args):
        answer = client.post("/sdapi/v1/txt2img", json={**JOB, "alwayson_scripts": {"TEST recorder": {"args": args}}})
        assert answer.status_code == 200, answer.text
        return [line for line in recorder.lines() if line.startswith("setup")][-1], answer

    assert last_setup([])[0] == "setup (False, 3)"
    line, answer = last_setup([True])
    assert line == "setup (True, 3)"
    assert "Recorder: 3" in json.loads(answer.json()["info"])["infotexts"][0]
    assert last_setup([True, 5, "surplus"])[0] == "setup (True, 5)"


def test_an_infotext_fills_what_the_request_leaves_open(client, recorder):
    text = "a pear\nNegative prompt: dark\nSteps: 4, Sampler: DPM++ 2M Karras, CFG scale: 5, "
    text += "Seed: 9, Size: 72x64, Recorder: 8"
    answer = client.post("/sdapi/v1/txt2img", json={"infotext": text, "seed": 10})
    found = json.loads(answer.json()["info"])["infotexts"][0]
    assert found.startswith(
        "a pear\nNegative prompt: dark\nSteps: 4, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, "
        "Seed: 10, Size: 72x64"
    )
    assert "Recorder: 8" in found
    assert [line for line in recorder.lines() if line.startswith("setup")][-1] == "setup (True, 8)"


@pytest.mark.parametrize(
    ("fields", "status", "texts"),
    [
        ({"sampler_name": "Eulr"}, 404, ["Sampler not found", '"Eulr"', 'did you mean "Euler"?']),
        ({"scheduler": "Karas"}, 404, ['did you mean "Karras"?']),
        ({"width": 100}, 422, ["width is 100; it must be a multiple of 8", "96 and 104"]),
        ({"height": 8}, 422, ["height is 8; it must lie between 64 and 4096"]),
        ({"steps": 0}, 422, ["steps is 0", "Nearest: 1"]),
        ({"steps": "many"}, 422, ["steps is 'many'"]),
        ({"cfg_scale": None}, 422, ["cfg_scale is"]),
        ({"prompt": "a" * 100_000}, 422, ["prompt has 100000 characters", "20000"]),
        ({"alwayson_scripts": {"nobody": {"args": []}}}, 422, ["Script not found", '"nobody"', "test recorder"]),
        ({"alwayson_scripts": {"test recorder": [1]}}, 422, ['must look like {"args": [...]}']),
        ({"script_name": "nobody"}, 422, ["Script not found"]),
        ({"refiner_checkpoint": "x"}, 422, ["refiner_checkpoint is nothing that the studio can do"]),
        ({"override_settings": {"sd_model_checkpoint": "tony"}}, 404, ["checkpoint", "tiny.safetensors"]),
        ({"override_settings": {"sd_model_checkpoint": "zdamaged"}}, 422, ["zdamaged.safetensors", "damaged"]),
        ({"override_settings": {"no_such": 1}}, 422, ['setting "no_such"']),
        (
            {"override_settings": {"CLIP_stop_at_last_layers": "abc"}},
            422,
            ["layers is 'abc'", "whole number, such as 1"],
        ),
        ({"override_settings": {"CLIP_stop_at_last_layers": 0}}, 422, ["must lie between 1 and 12", "Nearest: 1"]),
        ({"override_settings": {"eta_noise_seed_delta": "q"}}, 422, ["delta is 'q'", "whole number"]),
        ({"override_settings": {"eta_noise_seed_delta": 10**400}}, 422, ["delta is 1000", "whole number"]),
        ({"override_settings": {"samples_save": "maybe"}}, 422, ["save is 'maybe'", "true or false"]),
        ({"override_settings": {"hide_samplers": "Euler"}}, 422, ["a list of texts"]),
        ({"override_settings": {"samples_format": "xyz"}}, 422, ["format is 'xyz'", "png, jpg, jpeg, webp"]),
        ({"override_settings": {"samples_format": None}}, 422, ["format is None", "a text, such as 'png'"]),
        ({"override_settings": {"grid_format": "png/../../x.png"}}, 422, ["png, jpg, jpeg, webp"]),
        ({"override_settings": {"emphasis": "zzz"}}, 422, ["emphasis is 'zzz'", "Original"]),
        ({"override_settings": {"randn_source": "zzz"}}, 422, ["randn_source is 'zzz'", "CPU"]),
        ({"seed_resize_from_h": 10**9}, 422, ["seed_resize_from_h is", "between -1 and 8192"]),
        ({"s_noise": -1}, 422, ["s_noise is -1; it must lie between 0 and 8192"]),
        ({"subseed_strength": 1.5}, 422, ["subseed_strength is 1.5", "between 0 and 1", "Nearest: 1"]),
        ({"width": 4096, "height": 4096, "batch_size": 64}, 422, ["33.6 megapixels", "Nearest: batch_size 2"]),
        ({"width": 4096, "height": 4096, "n_iter": 65}, 422, ["n_iter is 65", "1074 megap", "Nearest: n_iter 64"]),
        ({"seed": 10**400}, 422, ["seed is"]),
        ({"width": 10**400}, 422, ["width is"]),
    ],
)
def test_wrong_requests_get_a_clear_text_and_the_studio_goes_on(client, fields, status, texts):
    answer = client.post("/sdapi/v1/txt2img", json={**JOB, **fields})
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and all(text in detail for text in texts), detail
    assert client.post("/sdapi/v1/txt2img", json={**JOB, "steps": 1}).status_code == 200


def test_a_missing_seed_is_random_and_a_negative_one_is_a_seed(client):
    def seeds(**fields):
        info = json.loads(client.post("/sdapi/v1/txt2img", json={**JOB, "steps": 1, **fields}).json()["info"])
        return info["seed"], info["subseed"]

    first, second = seeds(seed=None, subseed=None), seeds(seed=None, subseed=None)
    assert min(first) >= 0 and min(second) >= 0 and first != second
    negative = [client.post("/sdapi/v1/txt2img", json={**JOB, "seed": -7}).json()["images"] for _ in range(2)]
    assert negative[0] == negative[1] and seeds(seed=-7)[0] == -7


@pytest.mark.parametrize("lack", [MemoryError, lambda: torch.empty(2**56)])
def test_a_lack_of_memory_is_told_and_the_studio_goes_on(client, monkeypatch, lack):
    from modules import processing

    def fail(*args):
        raise lack()

    with monkeypatch.context() as patch:
        patch.setattr(processing, "process_images", fail)
        answer = client.post("/sdapi/v1/txt2img", json={**JOB, "batch_size": 2})
    assert answer.status_code == 422 and "not enough for 64x64 with batch_size 2" in answer.json()["detail"]
    assert client.post("/sdapi/v1/txt2img", json=JOB).status_code == 200


def test_another_method_is_told_with_the_right_one(client):
    answer = client.get("/sdapi/v1/txt2img")
    assert answer.status_code == 405 and answer.headers["Allow"] == "POST" and "use POST" in answer.json()["detail"]
    assert client.put("/sdapi/v1/options").headers["Allow"] == "GET, POST"
    assert client.get("/sdapi/v1/nothing").status_code == 404


def test_the_lists(client):
    get = lambda path: client.get(path).json()  # noqa: E731
    assert "Euler" in [x["name"] for x in get("/sdapi/v1/samplers")]
    assert "Karras" in [x["label"] for x in get("/sdapi/v1/schedulers")]
    assert [x["title"].split()[0] for x in get("/sdapi/v1/sd-models")][:2] == [
        "tiny-two.safetensors",
        "tiny.safetensors",
    ]
    assert get("/sdapi/v1/options")["samples_format"] == "png"
    assert get("/sdapi/v1/scripts") == {tab: ["x/y/z plot", "test recorder"] for tab in ("txt2img", "img2img")}
    infos = [info for info in get("/sdapi/v1/script-info") if info["name"] == "test recorder"]
    assert [info["is_img2img"] for info in infos] == [False, True]
    assert [x["label"] for x in infos[0]["args"]] == ["Recorder on", "Recorder amount"]
    assert get("/sdapi/v1/progress")["progress"] == 0
    assert "/sdapi/v1/txt2img" in get("/openapi.json")["paths"]


def test_only_style_and_javascript_of_an_extension_are_served(client, recorder):
    (recorder.folder / "style.css").write_text(".x {}")
    assert client.get("/studio-file/recorder/style.css").text == ".x {}"
    for path in ("scripts/recorder.py", "log.txt", "javascript/../log.txt", "%2e%2e/data/params.txt"):
        assert client.get(f"/studio-file/recorder/{path}").status_code == 404


@pytest.mark.parametrize("path", ["%00", "x" * 5000, "javascript/%00.js"])
def test_a_path_that_no_file_can_have_is_not_found(client, path):
    answer = client.get(f"/studio-file/recorder/{path}")
    assert answer.status_code == 404 and "there is no file" in answer.json()["detail"]


def test_a_body_that_is_no_json_is_told_in_plain_words(client):
    answer = client.post("/sdapi/v1/txt2img", content='{"prompt": ', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("the body is no JSON: Expecting value at character 11; send an object")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"prompt": "a \\ud800 b"}', "prompt"),
        ('{"sampler_name": "\\ud800"}', "sampler_name"),
        ('{"infotext": "\\udfff"}', "infotext"),
        ('{"alwayson_scripts": {"\\ud800": {}}}', "alwayson_scripts"),
        ('{"script_args": [["\\ud800"]]}', "script_args"),
        ('{"override_settings": {"\\ud800": 1}}', "override_settings"),
    ],
)
def test_half_a_character_is_told(client, body, text):
    answer = client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith(f"{text} has half a character (U+D")


@pytest.mark.parametrize("value", ["NaN", "1e400"])
def test_a_number_that_is_none_is_told(client, value):
    body = f'{{"s_noise": {value}}}'
    answer = client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and "s_noise is" in answer.json()["detail"], answer.text


@pytest.mark.parametrize(
    "pair", ["Steps: nan", "Steps: inf", "Seed: 1e400", "Clip skip: abc", "Clip skip: 99", "Eta: x", "Eta: nan"]
)
def test_an_infotext_value_that_cannot_be_converted_is_no_update(client, pair):
    text = f"a pear\nSampler: Euler, Size: 64x64, CFG scale: 5, {pair}"
    fields = {} if pair.startswith("Steps") else {"steps": 1}
    answer = client.post("/sdapi/v1/txt2img", json={"infotext": text, **fields})
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.json()["info"])["infotexts"][0]
    assert found.startswith("a pear\n") and "CFG scale: 5" in found and pair not in found


def test_a_long_seed_keeps_its_digits(client):
    seed = 2**53 + 1
    text = f"a pear\nSteps: 1, Sampler: Euler, Size: 64x64, Seed: {seed}"
    answer = client.post("/sdapi/v1/txt2img", json={"infotext": text})
    assert json.loads(answer.json()["info"])["seed"] == seed


def test_the_page_gets_a_plain_text_for_a_wrong_type(client):
    with pytest.raises(PrismError, match=r"steps is 2\.5: Input should be a valid integer") as error:
        host.request_of({"steps": 2.5})
    assert "pydantic" not in str(error.value)


def test_the_page_has_the_hosts_ids_once(client):
    from collections import Counter

    ids = Counter(x["props"].get("elem_id") for x in client.get("/config").json()["components"])
    ids.pop(None)
    assert max(ids.values()) == 1
    host = "prompt neg_prompt generate sampling scheduler steps width height cfg_scale seed batch_count batch_size"
    host += " gallery script_container"
    assert {f"txt2img_{x}" for x in host.split()} | {
        "html_info_txt2img",
        "setting_sd_model_checkpoint",
        "paste",
    } <= set(ids)
    assert "script_txt2img_test_recorder_amount" in ids


# The last test of this file: `generate` opens the host anew.
def test_command_line_and_api_give_the_same_bytes(client, data, recorder):
    from modules.api.models import Txt2ImgRequest

    over_http = client.post("/sdapi/v1/txt2img", json=JOB).json()["images"][0]
    direct = host.run(Txt2ImgRequest(**JOB)).processed.images[0]
    assert base64.b64encode(pictures.png_bytes(direct)).decode() == over_http
    over = {**JOB, "override_settings": {"sd_model_checkpoint": "tiny-two"}}
    result = generate.generate(over, data_dir=data, extensions=[recorder.folder])
    assert result.info["seed"] == 42 and result.info["seeds"] == [42]
    assert result.info["steps"] == 3 and result.info["panels"] == []
    assert Image.open(io.BytesIO(result.images[0])).tobytes() == direct.tobytes()


def test_the_command_line_tells_the_size_of_the_picture(client, data, recorder):
    job = {**JOB, "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.5}
    result = generate.generate(job, data_dir=data, extensions=[recorder.folder])
    assert Image.open(io.BytesIO(result.images[0])).size == (result.info["width"], result.info["height"]) == (128, 128)


def test_a_picture_without_numbers_is_one_clear_text(client):
    from modules import shared

    client.post("/sdapi/v1/txt2img", json={**JOB, "steps": 1})
    engine = shared.sd_model.engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "decode", lambda z: z[:, :3] * float("nan"))
        answer = client.post("/sdapi/v1/txt2img", json={**JOB, "steps": 1})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("A tensor with NaNs was produced in the VAE; lower the CFG scale")
