"""Presets and cards over HTTP: what is read, what is saved, who may, and what the routes say of themselves."""

from __future__ import annotations

import base64
import io
import json
import sys

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image, PngImagePlugin
from sd_prism.settings import PANELS

ROOT = "/prism/v1"
MINE = {"values": {"b1": 1.3, "s2": 0.4}, "author": "me", "notes": "for portraits", "base": ["sd1"]}
NAMES = (
    "mine",
    "ours/2",
    "../../etc/passwd",
    "..",
    "CON",
    "a b.",
    "日本 ☀",
    "?x=1",
    "C:\\x",
    "undo",
    "x" * 120,
)


@pytest.fixture(scope="module")
def studio(served_prism):
    """The studio with Prism's scripts; where it keeps presets."""
    served_prism.folder = served_prism.data / "prism" / "presets"
    return served_prism


@pytest.fixture
def client(studio):
    """An empty folder of presets, and the routes of the running studio."""
    client = TestClient(studio.app.app)
    yield client
    for one in mine(client):
        assert client.request("DELETE", one, headers={"Content-Type": "application/json"}).status_code == 200


@pytest.fixture
def started_with(monkeypatch, studio):
    """Options of the command line, for one test."""
    from modules import shared

    def start(**options):
        for name, value in options.items():
            monkeypatch.setattr(shared.cmd_opts, name, value, raising=False)

    return start


def mine(client):
    """The addresses of the user's presets."""
    found = client.get(f"{ROOT}/presets").json()["presets"]
    return [address(one["name"], one["feature"]) for one in found if one["origin"] == "user"]


def address(name, feature="freeu"):
    return f"{ROOT}/presets/{feature}/" + "".join(f"%{byte:02X}" for byte in name.encode())


def put(client, saved="mine", feature="freeu", status=200, **given):
    answer = client.put(address(saved, feature), json=given or MINE)
    assert answer.status_code == status, answer.text
    return answer.json()


# --- reading


def test_version_and_schema_say_what_there_is(client):
    told = client.get(f"{ROOT}/version").json()
    assert told["version"] == sys.modules["sd_prism"].__version__
    assert told["panels"] == [panel.title for panel in PANELS]
    schema = client.get(f"{ROOT}/schema").json()
    assert list(schema["panels"]) == [panel.name for panel in PANELS]
    for one in (*schema["panels"].values(), *schema["presets"].values(), schema["card"]):
        Draft202012Validator.check_schema(one)
    check = Draft202012Validator(schema["panels"]["freeu"])
    assert check.is_valid({"preset": "SDXL (authors)", "b1": 1.3})
    assert not check.is_valid({"b1": 9}) and not check.is_valid({"b9": 1})


def test_every_preset_that_is_told_fits_its_schema(client):
    schema = client.get(f"{ROOT}/schema").json()
    put(client)
    found = client.get(f"{ROOT}/presets").json()["presets"]
    assert {"card", "freeu", "namespaces", "cascade"} <= {one["feature"] for one in found}
    for one in found:
        Draft202012Validator(schema["presets"].get(one["feature"], schema["card"])).validate(one)


def test_a_saved_preset_is_in_the_schema_of_its_panel(client):
    put(client)
    assert "mine" in client.get(f"{ROOT}/schema").json()["panels"]["freeu"]["properties"]["preset"]["enum"]


def test_cards_are_told_with_the_one_that_fits(client):
    told = client.get(f"{ROOT}/cards").json()
    names = [one["name"] for one in told["cards"]]
    assert {"Gigafractal Diffusion", "Sygil-Diffusion"} <= set(names)
    assert told["offered"] is None or told["offered"]["name"] in names
    (found,) = client.get(f"{ROOT}/cards", params={"search": "gigafractal"}).json()["cards"]
    one = client.get(f"{ROOT}/cards/gigafractal diffusion").json()
    assert one["card"] == found and one["card"]["values"]["host"]["cfg"] == 12.5
    missing = client.get(f"{ROOT}/cards/Gigafractl Diffusion")
    assert missing.status_code == 404 and 'did you mean "Gigafractal Diffusion"?' in missing.json()["detail"]


def test_presets_are_found_by_panel_and_words(client):
    put(client)
    assert mine(client) == [address("mine")]
    for asked, there in (
        ({"feature": "freeu", "search": "portraits me"}, ["mine"]),
        ({"feature": "merge", "search": "portraits"}, []),
        ({"search": "PORTRAITS"}, ["mine"]),
    ):
        assert [one["name"] for one in client.get(f"{ROOT}/presets", params=asked).json()["presets"]] == there
    wrong = client.get(f"{ROOT}/presets", params={"feature": "freu"})
    assert wrong.status_code == 422 and 'did you mean "freeu"?' in wrong.json()["detail"]


def test_an_unreadable_file_is_told_with_its_reason_and_without_its_folder(client, studio):
    file = studio.folder / "freeu" / "broken.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"format": "prism.pre')
    (told,) = client.get(f"{ROOT}/presets").json()["unreadable"]
    file.unlink()
    assert told["file"] == "freeu/broken.json" and "no JSON" in told["reason"] and str(studio.folder) not in str(told)


# --- writing


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_name_and_no_path(client, studio, name):
    before = set(studio.folder.parent.parent.parent.iterdir())
    saved = put(client, name)
    assert client.get(address(name)).json() == saved and saved["values"] == MINE["values"]
    assert saved["name"] == name.strip()
    (file,) = (studio.folder / "freeu").glob("*.json")
    assert json.loads(file.read_text("utf-8"))["name"] == saved["name"]
    assert set(studio.folder.parent.parent.parent.iterdir()) == before


def test_what_is_saved_can_be_used_by_name_at_once(client):
    put(client)
    panel = next(one for one in sys.modules["sd_prism.settings"].PANELS if one.name == "freeu")
    values = panel.read({"preset": "mine"})
    assert (values["b1"], values["s2"]) == (1.3, 0.4)
    client.request("DELETE", address("mine"), headers={"Content-Type": "application/json"})
    assert "mine" not in panel["preset"].choices


def test_what_was_got_can_be_put_back(client):
    saved = put(client, **MINE, later={"a newer": "key"})
    assert put(client, **saved) == client.get(address("mine")).json() == saved


def test_saving_and_deleting_are_undone(client):
    put(client, values={"b1": 1.3})
    put(client, values={"b1": 1.5})
    assert client.post(f"{ROOT}/presets/undo", json={}).json()["undone"]
    assert client.get(address("mine")).json()["values"] == {"b1": 1.3}
    gone = client.request("DELETE", address("MINE"), headers={"Content-Type": "application/json"})
    assert gone.json() == {"deleted": "mine"} and client.get(address("mine")).status_code == 404
    client.post(f"{ROOT}/presets/undo", json={})
    assert client.get(address("mine")).json()["values"] == {"b1": 1.3}


def test_a_built_in_preset_is_hidden_and_never_deleted(client):
    builtin = client.get(address("SDXL (authors)")).json()
    refused = client.request("DELETE", address("SDXL (authors)"), headers={"Content-Type": "application/json"})
    assert builtin["origin"] == "built-in" and refused.status_code == 422 and "built in" in refused.json()["detail"]
    assert put(client, "SDXL (authors)")["origin"] == "user"
    client.request("DELETE", address("SDXL (authors)"), headers={"Content-Type": "application/json"})
    assert client.get(address("SDXL (authors)")).json() == builtin


@pytest.mark.parametrize(
    ("name", "feature", "given", "said"),
    [
        ("mine", "freeu", {"values": {"b1": 9}}, "must lie between"),
        ("mine", "freeu", {"values": []}, '"values" must be an object'),
        ("mine", "freeu", {"notes": "none"}, '"values" must be an object'),
        ("mine", "freeu", {**MINE, "version": 2}, "newer Prism"),
        ("mine", "freeu", {**MINE, "name": "yours"}, 'the address says "mine"'),
        ("mine", "nothing", MINE, '"nothing" does not exist'),
        ("Custom", "freeu", MINE, "is a word of Prism FreeU itself"),
        ("a\x07b", "freeu", MINE, "cannot be seen"),
        (" ", "freeu", MINE, "it is empty"),
        ("x" * 121, "freeu", MINE, "longer than 120"),
    ],
)
def test_what_cannot_be_saved_is_refused_with_its_reason(client, name, feature, given, said):
    assert said in put(client, name, feature, 422, **given)["detail"]
    assert mine(client) == []


# --- files of several


def test_presets_travel_as_one_file(client):
    for name, values in (("one", {"b1": 1.1}), ("two", {"b1": 1.2}), ("three", {"b1": 1.3})):
        put(client, name, values=values)
    whole = client.get(f"{ROOT}/presets/export").json()
    part = client.get(f"{ROOT}/presets/export", params={"name": ["two", "ONE"], "feature": "freeu"}).json()
    assert len(whole["presets"]) == 3 and [one["name"] for one in part["presets"]] == ["one", "two"]
    single = client.get(f"{ROOT}/presets/export", params={"name": "three"}).json()
    assert single["format"] == "prism.preset" and single["values"] == {"b1": 1.3}
    missing = client.get(f"{ROOT}/presets/export", params={"name": "thre"})
    assert missing.status_code == 404 and 'did you mean "three"?' in missing.json()["detail"]
    before = [client.get(one).json() for one in mine(client)]
    for one in mine(client):
        client.request("DELETE", one, headers={"Content-Type": "application/json"})
    given = {"base64": base64.b64encode(json.dumps(whole).encode()).decode()}
    assert client.post(f"{ROOT}/presets/import", json=given).json()["presets"] == before
    assert [client.get(one).json() for one in mine(client)] == before


def test_a_pictures_settings_become_a_preset(client):
    told, file = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("parameters", "a fish\nSteps: 20, Seed: 1, Size: 64x64, Prism FreeU: version=2; b1=1.35; s1=0.9")
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=told)
    given = {"base64": base64.b64encode(file.getvalue()).decode(), "file_name": "fish.png"}
    answer = client.post(f"{ROOT}/presets/import", json=given)
    assert answer.status_code == 200, answer.text
    (freeu,) = (one for one in answer.json()["presets"] if one["feature"] == "freeu")
    assert freeu["values"]["b1"] == 1.35


@pytest.mark.parametrize(
    ("given", "said"),
    [({"text": "hello"}, ""), ({"base64": "###"}, "in base64"), ({"text": 1}, "text must be a text"), ({}, "")],
)
def test_what_is_no_file_of_presets_is_refused(client, given, said):
    answer = client.post(f"{ROOT}/presets/import", json=given)
    assert answer.status_code == 422 and said in answer.json()["detail"] and mine(client) == []


# --- who may


def writes(client, **more):
    """Every way to write, each by an answer."""
    kind = {"Content-Type": "application/json"}
    yield client.put(address("mine"), json=MINE, **more)
    yield client.request("DELETE", address("mine"), headers=kind, **more)
    yield client.post(f"{ROOT}/presets/undo", json={}, **more)
    yield client.post(f"{ROOT}/presets/import", json={"text": "x"}, **more)


def test_without_the_hosts_api_nothing_is_written(client, started_with):
    started_with(api=False, nowebui=False)
    for answer in writes(client):
        assert answer.status_code == 403 and "--api" in answer.json()["detail"]
    assert client.get(f"{ROOT}/presets").status_code == 200 and mine(client) == []


def test_with_api_auth_only_those_named_may_write(client, started_with):
    started_with(api_auth="me:secret")
    for answer in writes(client):
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Basic"
    assert client.get(f"{ROOT}/presets").status_code == 200 and mine(client) == []
    assert {answer.status_code for answer in writes(client, auth=("me", "secret"))} == {200, 422}


def test_what_another_sites_page_could_send_is_refused(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        for way, path in (("POST", "presets/undo"), ("POST", "presets/import"), ("PUT", "presets/freeu/mine")):
            answer = client.request(way, f"{ROOT}/{path}", content=json.dumps(MINE), headers={"Content-Type": kind})
            assert answer.status_code == 415
    assert client.request("DELETE", address("mine")).status_code == 415


def test_a_page_with_a_password_hides_its_presets_from_others(client, started_with, studio):
    started_with(gradio_auth="me:page", api_auth="me:secret")
    for path in ("presets", "presets/freeu/x", "presets/export", "cards", "cards/x", "version", "schema"):
        assert client.get(f"{ROOT}/{path}").status_code == 401
        assert client.get(f"{ROOT}/{path}", auth=("me", "page")).status_code == 401
        assert client.get(f"{ROOT}/{path}", auth=("me", "secret")).status_code in (200, 404)
    studio.app.app.tokens = {"a-token": "me"}  # as gradio keeps those that logged in
    for token, status in (("a-token", 200), ("another", 401)):
        visitor = TestClient(studio.app.app, cookies={"access-token-unsecure-1": token})
        assert visitor.get(f"{ROOT}/presets").status_code == status
    del studio.app.app.tokens


# --- OpenAPI


def test_openapi_describes_every_route(client, studio):
    document = client.get(f"{ROOT}/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    routes = {
        (route.path_format, method.lower())
        for route in studio.app.app.routes
        if getattr(route, "path", "").startswith("/prism/")
        for method in route.methods
    }
    assert {(path, method) for path, one in document["paths"].items() for method in one} == routes
    assert {path.split("/")[3] for path in document["paths"]} >= {"merge", "namespaces", "cascade", "cards", "presets"}
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)
    assert all(one["summary"] for path in document["paths"].values() for one in path.values())


def test_the_hosts_own_openapi_still_stands(client):
    document = client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert f"{ROOT}/presets/{{feature}}/{{name}}" in document["paths"]


def test_routes_that_are_added_twice_are_there_once(client):
    app = FastAPI()
    for _ in range(2):
        sys.modules["sd_prism.hosts.cards.http"].add_routes(app)
    paths = [(route.path, tuple(route.methods)) for route in app.routes]
    assert len(paths) == len(set(paths))
