"""Many clients at once, malformed bodies, and clients that leave; all against a studio in its own process."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

JOB = {"steps": 2, "sampler_name": "Euler", "width": 64, "height": 64}
PATIENCE = 120  # seconds; httpx's own 5 are few on a busy machine
ENDLESS = {**JOB, "steps": 1000, "n_iter": 100}  # until it is interrupted, however slow the machine
CLIENTS, REQUESTS, PICTURES, MALFORMED = 8, 50, 10, 200
# Writes down which jobs reach sampling, in their order.
DIARY = """
from pathlib import Path
from modules import scripts

class Diary(scripts.Script):
    def title(self):
        return "Diary"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process(self, p):
        with open(Path(__file__).parent / "diary.txt", "a") as file:
            file.write(p.prompt + chr(10))
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory, launch_studio):
    """A served studio; `diary()` gives the prompts of the jobs that have run since the last call."""
    folder = tmp_path_factory.mktemp("load")
    (folder / "diary" / "scripts").mkdir(parents=True)
    (folder / "diary" / "scripts" / "diary.py").write_text(DIARY)
    log = folder / "diary" / "scripts" / "diary.txt"
    found = launch_studio(folder / "data", folder / "diary")

    def diary():
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines

    with httpx.Client(base_url=f"{found.address}/sdapi/v1/", timeout=PATIENCE) as client:
        yield SimpleNamespace(process=found.process, address=found.address, client=client, diary=diary)


@pytest.fixture(autouse=True)
def empty_diary(studio):
    studio.diary()


def until(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def working_on(studio, prompt, lines):
    """Whether the job with this prompt has begun; `lines` collects the diary."""
    lines += studio.diary()
    return prompt in lines


def test_fifty_requests_of_eight_clients_give_right_pictures_and_steady_memory(studio):
    draw = lambda client, **job: client.post("txt2img", json={**JOB, **job})  # noqa: E731
    right = [draw(studio.client, prompt="right", seed=seed).json()["images"] for seed in range(PICTURES)]
    studio.diary()
    memory = psutil.Process(studio.process.pid)
    before = memory.memory_info().rss
    numbers, lock = iter(range(REQUESTS)), threading.Lock()

    def one_client():
        with httpx.Client(base_url=studio.client.base_url, timeout=PATIENCE) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                answer = draw(client, prompt="right", seed=number % PICTURES)
                assert answer.status_code == 200 and answer.json()["images"] == right[number % PICTURES], number

    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(one_client) for _ in range(CLIENTS)]:
            done.result()
    assert len(studio.diary()) == REQUESTS
    assert memory.memory_info().rss - before < 30 * 2**20


def test_jobs_run_in_the_order_of_their_arrival(studio):
    lines = []

    def ask(prompt, job=JOB):
        httpx.post(f"{studio.address}/sdapi/v1/txt2img", json={**job, "prompt": prompt}, timeout=PATIENCE)

    with ThreadPoolExecutor(20) as clients:
        clients.submit(ask, "long", ENDLESS)
        until(lambda: working_on(studio, "long", lines))
        for number in range(12):
            clients.submit(ask, f"job {number}")
            until(lambda number=number: pending(studio) == number + 1)
        studio.client.post("interrupt")
    assert lines + studio.diary() == ["long", *(f"job {number}" for number in range(12))]


def pending(studio):
    return httpx.get(f"{studio.address}/internal/pending-tasks", timeout=PATIENCE).json()["size"]


# --- malformed bodies ---------------------------------------------------------------------------------------------

WRONG = {
    "integer": ["abc", [], {}, 1.5, "", "1e5"],
    "number": ["abc", [], {}, ""],
    "string": [7, [], {}, True, 1.5],
    "boolean": ["maybe", 7, [], {}],
    "array": [7, "x", {}, True],
    "object": [7, "x", [1], True],
}


def wrong_value(field, draw):
    """A value that a field of this schema must not take."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    kind = kinds[0]
    choices = list(WRONG[kind["type"]])
    if "minimum" in kind:
        choices += [kind["minimum"] - 1, kind["maximum"] + 1, 10**30, -(10**400)]
    if kind["type"] in ("number", "integer"):
        choices += [float("nan"), float("inf")]
    if kind["type"] == "string":
        choices += ["\ud800"]
    return draw.choice(choices)


UNKNOWN = [
    {"sampler_name": "Nobody"},
    {"scheduler": "never"},
    {"styles": ["nobody"]},
    {"script_name": "nobody"},
    {"alwayson_scripts": {"nobody": {"args": []}}},
    {"alwayson_scripts": {"diary": 7}},
    {"override_settings": {"nobody": 1}},
    {"override_settings": {"CLIP_stop_at_last_layers": "x"}},
    {"override_settings": {"sd_model_checkpoint": "nobody"}},
    {"enable_hr": True, "hr_upscaler": "nobody"},
    {"width": 65},
    {"prompt": "x" * 30_000},
]


def malformed(schema, draw):
    """The body of a request that is wrong in one place."""
    good = {"prompt": "never", **JOB}
    way = draw.randrange(4)
    if way == 0:  # no JSON at all
        text = json.dumps(good).encode()
        broken = [
            text[: draw.randrange(1, len(text))],
            b"",
            b"[" * 100_000,
            b"\xff\xfe",
            b"{" + text,
            b"[]",
            b"7",
            b"null",
        ]
        return draw.choice(broken)
    if way == 1:
        return json.dumps({**good, **draw.choice(UNKNOWN)}).encode()
    name = draw.choice(sorted(schema))
    return json.dumps({**good, name: wrong_value(schema[name], draw)}).encode()


def test_malformed_bodies_get_a_reason_and_never_reach_sampling(studio):
    draw, seen = random.Random(3), set()
    schemas = httpx.get(f"{studio.address}/openapi.json", timeout=PATIENCE).json()["components"]["schemas"]
    studio.diary()
    for _ in range(MALFORMED):
        tab = draw.choice(["txt2img", "img2img"])
        schema = schemas["Txt2ImgRequest" if tab == "txt2img" else "Img2ImgRequest"]["properties"]
        body = malformed(schema, draw)
        answer = studio.client.post(tab, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, (tab, body[:200], answer.status_code, answer.text[:300])
        detail = answer.json()["detail"]
        assert isinstance(detail, str) and len(detail) > 10 and "Traceback" not in detail, (body[:200], detail)
        seen.add(detail)
    assert studio.diary() == [], "a malformed request was run"
    assert len(seen) > MALFORMED // 4, "the reasons tell the requests apart"
    assert studio.client.post("txt2img", json={**JOB, "prompt": "fine"}).status_code == 200


# --- clients that leave -------------------------------------------------------------------------------------------


def leave_after(studio, job, condition):
    """Send a request, wait for the condition, hang up."""
    place, body = urlsplit(studio.address), json.dumps({**JOB, **job}).encode()
    with socket.create_connection((place.hostname, place.port)) as connection:
        head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: studio\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        until(condition)


def test_a_client_that_leaves_frees_the_queue(studio):
    lines = []
    leave_after(studio, {**ENDLESS, "prompt": "left"}, lambda: working_on(studio, "left", lines))
    until(lambda: studio.client.get("progress").json()["state"]["job_count"] == 0)
    assert studio.client.post("txt2img", json={**JOB, "prompt": "next"}).status_code == 200
    assert lines + studio.diary() == ["left", "next"]


def test_a_client_that_leaves_while_it_waits_is_dropped(studio):
    lines = []

    def first():
        body = {**ENDLESS, "prompt": "first"}
        return httpx.post(f"{studio.address}/sdapi/v1/txt2img", json=body, timeout=PATIENCE).status_code

    with ThreadPoolExecutor(1) as other:
        running = other.submit(first)
        until(lambda: working_on(studio, "first", lines))
        leave_after(studio, {"prompt": "dropped"}, lambda: pending(studio) == 1)
        time.sleep(0.2)  # the studio notices that the line is dead
        assert studio.client.get("progress").json()["state"]["interrupted"] is False, "the running job is another's"
        studio.client.post("interrupt")
        assert running.result() == 200
    assert studio.client.post("txt2img", json={**JOB, "prompt": "last"}).status_code == 200
    assert lines + studio.diary() == ["first", "last"]
