"""Baking over HTTP: who may, what is refused before it starts, and how its end is told."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from threading import Event
from types import SimpleNamespace

import pytest
from checkpoints import Original
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sd_prism.studio import host

BAKE = "/prism/v1/merge/bake"
HALF = {"model": "other", "ratio": 0.5}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of checkpoints of an open studio: one in use, another, one of other blocks, and damaged ones."""
    data = tmp_path_factory.mktemp("bake")
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name, family in (("one", "sd1"), ("other", "sd1"), ("xl", "sdxl")):
        Original(family).save(folder / f"{name}.safetensors")
    whole = (folder / "other.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    (folder / "odd.safetensors").write_bytes(whole.replace(b'"F32"', b'"F31"'))
    (folder / "pickle.safetensors").write_bytes(b"PK\x03\x04" + whole)
    host.open_host(data_dir=data, checkpoint=folder / "one.safetensors")
    yield folder
    host.close_host()


@pytest.fixture
def service(models):
    """The module of the routes, as the studio has loaded it."""
    return sys.modules["sd_prism.hosts.merge.http"]


@pytest.fixture
def client(service):
    app = FastAPI()
    service.add_routes(app)
    return TestClient(app)


@pytest.fixture
def started_with(monkeypatch, service):
    """Options of the command line, for one test."""
    from modules import shared

    def start(**options):
        for name, value in options.items():
            monkeypatch.setattr(shared.cmd_opts, name, value, raising=False)

    return start


def asked(client, status=422, **given):
    answer = client.post(BAKE, json=given)
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


def ended(client):
    """What is told of a bake when it has ended."""
    until = time.monotonic() + 60
    while (told := client.get(BAKE).json())["running"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    return told


def test_a_bake_is_a_new_checkpoint(client, models):
    assert client.post(BAKE, json={**HALF, "name": "half.SAFETENSORS"}).status_code == 200
    told = ended(client)
    assert (told["name"], told["error"], told["dtype"], told["notes"]) == ("half.safetensors", "", "fp32", [])
    assert told["done"] == told["total"] == (models / "half.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**HALF, "steps": "2-5"}, "A bake has no steps; leave step= away"),
        ({**HALF, "model": "cut"}, "cut off or damaged"),
        ({**HALF, "model": "odd"}, "dtype F31 is unknown"),
        ({**HALF, "model": "pickle"}, "is a pickle"),
        ({**HALF, "model": "xl"}, "only models of one architecture"),
        ({**HALF, "dtype": "fp8"}, 'format "fp8" does not exist'),
        ({**HALF, "name": "other.safetensors"}, "exists already"),
        ({**HALF, "name": "a\0b"}, "is no name for a file"),
        ({**HALF, "name": "x" * 300}, "is no name for a file"),
        ({**HALF, "name": "x.yaml"}, "is no name for a file"),
        ({**HALF, "strength": 0, "mode": "Cosine A"}, "nothing to bake"),
    ],
)
def test_what_cannot_be_baked_is_refused_before_it_starts(client, models, given, said):
    before = client.get(BAKE).json(), sorted(models.iterdir())
    assert said in asked(client, **{"name": "new", **given})
    assert (client.get(BAKE).json(), sorted(models.iterdir())) == before


def test_a_webui_that_has_loaded_no_model_yet_is_told(client, service, monkeypatch):
    shared = SimpleNamespace(sd_model=None, cmd_opts=service.shared.cmd_opts, opts=service.shared.opts)
    monkeypatch.setattr(service, "shared", shared)
    assert "loads its model with the first picture" in asked(client, **HALF, name="early")


def test_a_failure_of_any_kind_is_told(client, service, monkeypatch):
    def fail(*_):
        raise KeyError("no such thing")

    monkeypatch.setattr(service.Baked, "write", fail)
    assert client.post(BAKE, json={**HALF, "name": "never"}).status_code == 200
    assert ended(client)["error"].startswith("never.safetensors failed (KeyError: 'no such thing')")


def test_a_list_is_answered_with_an_example_of_its_own(client):
    answer = client.post(BAKE, json=["half"])
    assert answer.status_code == 400 and '"model": "neon"' in answer.json()["detail"]


# --- who may


def test_without_the_hosts_api_nothing_is_written(client, started_with):
    started_with(api=False)
    assert "started with --api" in asked(client, 403, **HALF, name="no")
    started_with(nowebui=True)
    assert "no name" in asked(client, 422, **HALF)


@pytest.mark.parametrize("option", ["gradio_auth", "gradio_auth_path"])
def test_a_page_with_a_password_needs_one_for_writing(client, started_with, option):
    started_with(**{option: "me:secret"})
    assert "--api-auth" in asked(client, 403, **HALF, name="no")


def test_with_api_auth_only_those_named_may_write(client, started_with):
    started_with(api_auth="me:secret, you:big:yes,", gradio_auth="me:page")
    plain = client.post(BAKE, json={**HALF, "name": ""})
    assert plain.status_code == 401 and plain.headers["WWW-Authenticate"] == "Basic"
    for user, password in (("me", "secre"), ("me", ""), ("you", "secret"), ("", ""), ("me", "page")):
        assert client.post(BAKE, json={**HALF, "name": ""}, auth=(user, password)).status_code == 401
    for said in ("Basic", "Basic ###", "Basic w7w6w7w=", "Bearer bWU6c2VjcmV0"):
        answer = client.post(BAKE, json={**HALF, "name": ""}, headers={"Authorization": said})
        assert answer.status_code == 401 and "Incorrect" in answer.json()["detail"]
    for user, password in (("me", "secret"), ("you", "big:yes")):
        assert client.post(BAKE, json={**HALF, "name": ""}, auth=(user, password)).status_code == 422


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_any_page_could_send_is_refused(client, kind):
    answer = client.post(BAKE, content='{"name": ""}', headers={"Content-Type": kind})
    assert answer.status_code == 415 and "application/json" in answer.json()["detail"]
    typed = client.post(BAKE, content='{"name": ""}', headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert typed.status_code == 422


def test_who_asks_for_the_checkpoints_waits_while_the_list_is_made_anew(models, monkeypatch):
    from modules import sd_models

    checkpoints, made = sys.modules["sd_prism.hosts.checkpoints"], sys.modules["sd_prism.hosts.merge.models"].names
    whole, make, emptied, go_on = made(), sd_models.list_models, Event(), Event()

    def slowly():
        sd_models.checkpoints_list.clear()
        emptied.set()
        go_on.wait(60)
        make()

    monkeypatch.setattr(sd_models, "list_models", slowly)
    with ThreadPoolExecutor(2) as threads:
        refreshed = threads.submit(checkpoints.refresh)
        emptied.wait(60)
        asked = threads.submit(made)
        with pytest.raises(TimeoutError):
            asked.result(0.2)
        go_on.set()
        refreshed.result(60)
        assert asked.result(60) == whole
