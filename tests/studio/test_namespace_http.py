"""The routes behind the text box, in a studio with Prism's own scripts."""

from __future__ import annotations

import re
import sys

import pytest

PREFIX = "/prism/v1/namespaces"


@pytest.fixture(scope="module")
def studio(served_prism):
    """The studio, with values of the user's and of tagcomplete's."""
    own = served_prism.data / "prism" / "namespaces"
    tags = served_prism.data / "extensions" / "a1111-sd-webui-tagcomplete" / "tags"
    for file, text in (
        (own / "species.csv", 'zebra_seal,,100,"斑海豹"\n'),
        (tags / "e621.csv", "zzebrafish,5,90,\nsolo,0,80,\nzorro,3,70,\n"),
        (tags / "EnglishDictionary.csv", "zebu,0,70,\n"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf8")
    return served_prism


def get(studio, path, status=200, **asked):
    answer = studio.client.get(f"{PREFIX}/{path}", params=asked)
    assert answer.status_code == status, answer.text
    return answer.json()


def render(studio, status=200, **given):
    answer = studio.client.post(f"{PREFIX}/render", json=given)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_registry_of_a_dialect(studio):
    found = get(studio, "registry", dialect="sygil")
    assert found["names"]["species"] == found["names"]["especie"] == "species"
    assert {"color", "parens", "brackets", "domain", "ratio", "type", "multi", "values"} == set(
        found["namespaces"]["species"]
    )
    assert set(found["names"].values()) == set(found["namespaces"])
    assert found["chosen"] is True and re.fullmatch("[0-9a-f]{8}", found["digest"])
    assert found["namespaces"]["year"]["domain"]
    unknown = get(studio, "registry")  # nobody chose a dialect, and the tiny model's is not known
    assert "aesthetic" in found["namespaces"] and "aesthetic" not in unknown["namespaces"]
    assert unknown["chosen"] is False and unknown["digest"] != found["digest"]


def test_an_unknown_dialect_is_told_with_the_nearest(studio):
    found = get(studio, "registry", status=422, dialect="sygl")
    assert found["error"] == "UnknownName" and '"sygl"' in found["detail"] and "ygil" in found["detail"]


def test_values_come_from_the_users_files_and_from_tagcompletes(studio):
    found = get(studio, "complete", namespace="specie", typed="zz")
    assert found == [{"value": "zzebrafish", "count": 90, "alias": ""}]
    assert [one["value"] for one in get(studio, "complete", namespace="species", typed="zeb")] == ["zebra seal"]
    assert get(studio, "complete", namespace="species", typed="斑")[0] == {
        "value": "zebra seal",
        "count": 100,
        "alias": "斑海豹",
    }


def test_a_boards_copyright_is_a_series(studio):
    assert get(studio, "complete", namespace="series", typed="zor") == [{"value": "zorro", "count": 70, "alias": ""}]


def test_a_changed_file_is_read_again(studio):
    (studio.data / "prism" / "namespaces" / "studio.csv").write_text("zoetrope,,5,\n", encoding="utf8")
    for _ in range(500):
        found = get(studio, "complete", namespace="studio", typed="zoe")
        if found:
            break
    assert found == [{"value": "zoetrope", "count": 5, "alias": ""}]


def test_the_words_of_an_enum_are_completed_without_a_file(studio):
    found = [one["value"] for one in get(studio, "complete", namespace="rating", typed="saf")]
    assert "safe" in found and len(found) == len(set(found))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"namespace": "speceis"}, 'did you mean "species"'),
        ({}, "Namespace"),
        ({"namespace": "species", "limit": "many"}, 'limit is "many"'),
        ({"namespace": "species", "limit": "0"}, "from 1 to 200"),
        ({"namespace": "species", "limit": "9" * 5000}, "from 1 to 200"),
    ],
)
def test_a_wrong_question_is_told(studio, asked, text):
    assert text in get(studio, "complete", status=422, **asked)["detail"]


def test_as_many_values_as_wanted(studio):
    assert len(get(studio, "complete", namespace="species", typed="", limit="1")) == 1


def test_a_prompt_is_rendered_with_every_tag(studio):
    prompt = "a photo, species:seal, (studio:dc)"
    found = render(studio, prompt=prompt, negative="species:dog", dialect="sygil", target="a1111")
    assert found["prompt"] == r"a photo, species\:seal, (studio\:dc)"
    assert found["negative"] == r"species\:dog"
    tags = {(tag["side"], prompt[tag["start"] : tag["end"]]): tag for tag in found["tags"] if tag["side"] == "prompt"}
    seal = tags["prompt", "species:seal"]
    assert (seal["namespace"], seal["value"], seal["text"], seal["place"]) == (
        "species",
        "seal",
        "species:seal",
        "here",
    )
    assert ("prompt", "studio:dc") in tags
    assert [tag["value"] for tag in found["tags"] if tag["side"] == "negative"] == ["dog"]
    assert all(set(lint) == {"side", "code", "start", "end", "message", "fix"} for lint in found["lints"])


def test_a_prompt_without_tags_is_as_it_was(studio):
    assert render(studio, prompt="re:zero, (cat:1.2)") == {
        "prompt": "re:zero, (cat:1.2)",
        "negative": "",
        "tags": [],
        "lints": [],
    }


def test_settings_of_the_request_count_and_wrong_ones_are_told(studio):
    asked = {"dialect": "sygil", "strength": "species=1.5", "target": "a1111", "tab": "txt2img"}
    found = render(studio, prompt="species:seal", **asked)
    assert found["prompt"] == r"(species\:seal:1.5)"
    assert "9" in render(studio, status=422, prompt="species:seal", strength="species=9")["detail"]
    assert "a1111" in render(studio, status=422, prompt="species:seal", target="a111")["detail"]
    assert "sygl" in render(studio, status=422, prompt="species:seal", dialect="sygl")["detail"]


def test_a_preset_of_the_request_counts_as_in_a_job(studio):
    assert render(studio, prompt="species:seal", preset="Pony")["prompt"] == "seal, feral"
    assert render(studio, prompt="species:seal", preset="Pony", dialect="danbooru")["prompt"].startswith("seal_")


def test_a_tab_stands_for_what_its_panel_shows(studio):
    from sd_prism.settings import NAMESPACES

    rendering = sys.modules["sd_prism.hosts.namespaces.rendering"]
    shown = {tab: NAMESPACES.read({"dialect": name}) for tab, name in (("txt2img", "pony"), ("img2img", "sygil"))}
    for tab, values in shown.items():
        rendering.moved(tab, *values.values())
    try:
        assert render(studio, prompt="species:seal", tab="txt2img")["prompt"] == "seal, feral"
        assert render(studio, prompt="species:seal", tab="img2img", target="a1111")["prompt"] == r"species\:seal"
        assert render(studio, prompt="species:seal", tab="txt2img", preset="Danbooru (Baka)")["prompt"].startswith(
            "seal_"
        )
        assert render(studio, prompt="year:1990")["prompt"] == render(studio, prompt="year:1990", tab=["x"])["prompt"]
        assert "aesthetic" in get(studio, "registry", tab="txt2img")["namespaces"]
        assert "aesthetic" not in get(studio, "registry")["namespaces"]
    finally:
        rendering.panels.update(dict.fromkeys(shown, rendering.OFF))


def test_the_sets_of_the_request_are_the_registry(studio):
    assert "year" not in get(studio, "registry", sets="mini")["namespaces"]
    assert "year" in get(studio, "complete", status=422, namespace="year", sets="mini")["detail"]
    assert get(studio, "registry", status=422, sets="mimi")["detail"]


def test_half_a_character_is_refused_with_words(studio):
    for body in (rb'{"prompt": "species:\ud83e"}', rb'{"dialect": "\ud800"}', rb'{"\udfff": 1}'):
        answer = studio.client.post(f"{PREFIX}/render", content=body)
        assert answer.status_code == 422 and "half a character" in answer.json()["detail"]
    assert render(studio, prompt="species:🦭")["tags"][0]["value"] == "🦭"
    for path in ("registry?dialect=%ED%A0%80", "complete?namespace=%ED%A0%80"):
        assert studio.client.get(f"{PREFIX}/{path}").status_code == 422


def test_a_misspelt_name_is_remarked_without_a_tag_beside_it(studio):
    (lint,) = render(studio, prompt="speceis:seal")["lints"]
    assert (lint["side"], lint["fix"]) == ("prompt", "species")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"species:seal", 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        (b'["species:seal"]', 400, "JSON object"),
        (b'{"prompt": 5}', 422, "prompt must be a text"),
        (b'{"prompt": "' + b"a" * 1_000_001 + b'"}', 413, "1,000,001 characters"),
        (b'{"negative": "' + b"a" * 16_000_000 + b'"}', 413, "larger than 16,000,000 bytes"),
        (b"[" * 200_000, 400, "no JSON"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(studio, body, status, text):
    answer = studio.client.post(f"{PREFIX}/render", content=body)
    assert answer.status_code == status and text in answer.json()["detail"]
    assert answer.json()["error"] == {400: "NotJson", 413: "TooLarge", 422: "NotText"}[status]


def test_a_megabyte_is_rendered(studio):
    prompt = "species:seal, " * 70_000
    assert len(render(studio, prompt=prompt, dialect="sygil")["tags"]) == 70_000


def test_reload_ui_keeps_the_routes_and_does_not_double_them(studio):
    before = get(studio, "registry", dialect="sygil")
    assert studio.client.post("/internal/reload-ui").status_code == 200
    assert get(studio, "registry", dialect="sygil") == before
    assert get(studio, "complete", namespace="specie", typed="zzeb")[0]["value"] == "zzebrafish"


def test_an_app_that_has_the_routes_gets_the_new_ones_in_their_place(studio):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from sd_prism.errors import PrismError
    from sd_prism.hosts.namespaces import http
    from sd_prism.namespaces.lexicon import Shelf

    def refusing(text):
        def refuse(_):
            raise PrismError(text)

        return http.Service(refuse, refuse, Shelf(list))

    app = FastAPI()
    app.get("/other")(lambda: "there")
    routes = len(app.routes)
    for text in ("first", "second"):
        http.add_routes(app, refusing(text))
    assert len(app.routes) == routes + 3
    client = TestClient(app)
    assert client.get(f"{PREFIX}/registry").json() == {"error": "PrismError", "detail": "second"}
    assert client.get("/other").json() == "there"
