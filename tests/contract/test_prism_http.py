"""Prism's own routes in every host: presets and cards over HTTP, the description of all routes, the settings."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

ROOT = "/prism/v1"
JSON = {"Content-Type": "application/json"}
NAME = "contract %2e%2e/ Ü"
PRESET = {"values": {"b1": 1.35, "s2": 0.4}, "author": "contract"}
FOLDER = "prism_data_dir"
OPTIONS = {FOLDER: "", "prism_hidden_panels": [], "prism_infotext": "short", "prism_start_freeu": "Custom"}


def address(name, feature="freeu"):
    return f"{ROOT}/presets/{feature}/" + "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.fixture
def saved(host):
    """A preset of the user's, gone after the test."""
    answer = host.client.put(address(NAME), json=PRESET)
    assert answer.status_code == 200, answer.text
    yield answer.json()
    assert host.client.request("DELETE", address(NAME), headers=JSON).json() == {"deleted": NAME}


def test_every_route_is_described(host):
    document = host.client.get(f"{ROOT}/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    rooms = {path.split("/")[3] for path in document["paths"]}
    assert rooms == {"cards", "cascade", "merge", "namespaces", "openapi.json", "presets", "schema", "version"}


def test_the_hosts_own_description_still_answers(host):
    document = host.client.get("/openapi.json")
    assert document.status_code == 200 and f"{ROOT}/presets" in document.json()["paths"]


def test_version_schema_and_cards_answer(host):
    told = host.client.get(f"{ROOT}/version").json()
    schema = host.client.get(f"{ROOT}/schema").json()
    assert len(told["panels"]) == len(schema["panels"]) == 5
    cards = host.client.get(f"{ROOT}/cards").json()
    assert "Gigafractal Diffusion" in [one["name"] for one in cards["cards"]]


def test_a_saved_preset_is_a_file_of_the_user_and_in_the_menus(host, saved):
    assert saved["name"] == NAME and saved["values"] == PRESET["values"]
    assert host.client.get(address(NAME)).json() == saved
    (file,) = (host.data / "prism" / "presets" / "freeu").glob("*.json")
    assert "contract" in file.name
    enum = host.client.get(f"{ROOT}/schema").json()["panels"]["freeu"]["properties"]["preset"]["enum"]
    assert NAME in enum


def test_what_is_wrong_is_told_the_same_way(host):
    for answer, status in (
        (host.client.put(address("x"), json={"values": {"b1": 99}}), 422),
        (host.client.get(address("no such preset")), 404),
        (host.client.put(address("x"), content="{", headers=JSON), 400),
        (host.client.put(address("x"), content="{}", headers={"Content-Type": "text/plain"}), 415),
    ):
        assert answer.status_code == status and {*answer.json()} == {"error", "detail"}


def test_the_settings_are_declared(host):
    assert {key: host.component(f"setting_{key}")["value"] for key in OPTIONS} == OPTIONS


def test_the_folder_is_nobodys_over_http(host):
    options = host.get("/sdapi/v1/options")
    if FOLDER not in options:
        pytest.skip("this webui tells no settings of extensions over HTTP, and lets a request set all")
    host.client.post("/sdapi/v1/options", json={FOLDER: "/elsewhere"})  # refused, or not taken
    assert host.get("/sdapi/v1/options")[FOLDER] == options[FOLDER] == ""
