"""What other programs ask over HTTP: what Prism is and takes, the cards, the saved presets, and all routes as OpenAPI.

Routes under /prism/v1. Reading is as open as the webui's page; writing is for those of `access.check`. Presets are
named by their names; where their files lie is nobody's choice here. Errors are {"error": kind, "detail": text}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from modules import script_callbacks
from starlette.concurrency import run_in_threadpool

from ... import __version__
from ...cards import FEATURES, Preset
from ...cards import schema as card_schema
from ...cards.preset import BUILT_IN, FORMAT, VERSION, folded
from ...errors import PrismError, UnknownName
from ...settings import PANELS
from .. import access, openapi, presets, routes
from ..routes import OBJECT, TEXT, Refused, Route, answered, body_of, fields_of, problem
from . import catalogue

ONE = "presets/{feature}/{name:path}"
EXAMPLE = '{"values": {"b1": 1.3}, "notes": "for portraits"}'


class NotThere(Refused):
    """A name that does not exist, with the nearest one that does."""

    status = 404


def register() -> None:
    """Has the webui serve the routes on every app that it makes."""
    script_callbacks.on_app_started(lambda demo, app: add_routes(app))


def add_routes(app: FastAPI) -> None:
    """Adds the routes to an app; an app that has them keeps the new ones only."""
    known = {"feature": {"type": "string", "enum": list(FEATURES)}, "search": TEXT}
    texts = {"type": "array", "items": TEXT}
    saved = {"values": OBJECT, "author": TEXT, "notes": TEXT, "base": texts}
    given = {"text": TEXT, "base64": TEXT, "file_name": TEXT}
    routes.add(
        app,
        routes.ROOT,
        (
            Route("openapi.json", reading(described)),
            Route("version", reading(version)),
            Route("schema", reading(schema)),
            Route("cards", reading(cards), query={"search": TEXT}),
            Route("cards/{name:path}", reading(card)),
            Route("presets", reading(listed), query=known),
            Route("presets/export", reading(exported), query=known | {"name": texts}),
            Route("presets/import", writing(imported), "POST", body=given, writes=True),
            Route("presets/undo", writing(undone), "POST", body={}, writes=True),
            Route(ONE, reading(got)),
            Route(ONE, writing(put), "PUT", body=saved, required=["values"], writes=True),
            Route(ONE, writing(deleted), "DELETE", writes=True),
        ),
    )


def reading(act: Callable[[Request], Any]) -> Callable[..., Any]:
    """The handler of a route that answers from the request alone."""

    async def handler(request: Request) -> JSONResponse:
        try:
            await access.check_page(request)
            return await run_in_threadpool(answered, lambda: act(request))
        except Refused as error:
            return problem(error.status, error)

    handler.__doc__ = act.__doc__
    return handler


def writing(act: Callable[[Request, dict[str, Any]], Any]) -> Callable[..., Any]:
    """The handler of a route that changes files, from the request and the fields of its body."""

    async def handler(request: Request) -> JSONResponse:
        try:
            await access.check(request)
            body = await body_of(request)
            given = fields_of(body, (), EXAMPLE) if body else {}
            return await run_in_threadpool(answered, lambda: act(request, given))
        except Refused as error:
            return problem(error.status, error)

    handler.__doc__ = act.__doc__
    return handler


# --- what Prism is


def described(request: Request) -> dict[str, Any]:
    """This document."""
    return openapi.document(request.app)


def version(request: Request) -> dict[str, Any]:
    """Prism's version, and the version of the files that it writes."""
    panels = [panel.title for panel in PANELS]
    return {"version": __version__, "preset_version": VERSION, "features": list(FEATURES), "panels": panels}


def schema(request: Request) -> dict[str, Any]:
    """JSON Schemas: of every panel's arguments, of a preset of every panel, and of a card."""
    presets.refresh()
    return {
        "panels": {panel.name: panel.schema() for panel in PANELS},
        "presets": {panel.name: panel.preset_schema() for panel in PANELS if panel.name in FEATURES},
        "card": card_schema.schema(),
    }


# --- cards


def cards(request: Request) -> dict[str, Any]:
    """All cards, or those with the words of ?search=, and the one that fits the checkpoint in use."""
    found = catalogue.cards(request.query_params.get("search", ""))
    fitting = catalogue.offered(catalogue.chosen())
    offered = {"name": fitting.card.name, "why": fitting.why, "sure": fitting.sure} if fitting else None
    return {"cards": [told(one.preset) for one in found.values()], "offered": offered}


def card(request: Request) -> dict[str, Any]:
    """One card, and what of it this webui cannot do."""
    try:
        found = catalogue.find(request.path_params["name"])
    except UnknownName as error:
        raise NotThere(str(error)) from error
    return {"card": told(found.preset), "lacking": catalogue.lacking(found)}


# --- presets


def told(preset: Preset) -> dict[str, Any]:
    """A preset as its file has it, and whose it is."""
    return {**preset.to_json(), "origin": preset.origin}


def listed(request: Request) -> dict[str, Any]:
    """The presets of ?feature= with the words of ?search=, and every file that could not be read, with the reason."""
    unreadable = [
        {"file": f"{one.file.parent.name}/{one.file.name}", "reason": one.reason} for one in presets.store().unreadable
    ]
    return {"presets": [told(one) for one in _found(request)], "unreadable": unreadable}


def got(request: Request) -> dict[str, Any]:
    """One preset, or a whole card."""
    return told(_named(request))


def put(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Save a preset under this name; one of the user's that has it is replaced, a built-in one is hidden by it."""
    feature, name = request.path_params["feature"], request.path_params["name"]
    for key, here in (("feature", feature), ("name", name)):
        if given.get(key, here) != here:
            raise PrismError(f'"{key}" is {str(given[key])[:40]!r}, but the address says "{here}"; leave it out')
    whole = {"format": FORMAT, "version": VERSION, **given, "feature": feature, "name": name}
    whole.pop("origin", None)
    return told(_changed(lambda: presets.store().save(Preset.of_json(whole, "The request"))))


def deleted(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete one of the user's presets; it can be undone."""
    preset = _named(request)
    _changed(lambda: presets.store().delete(preset.feature, preset.name))
    return {"deleted": preset.name}


def undone(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Take back what was saved or deleted last."""
    return {"undone": _changed(presets.store().undo)}


def imported(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Save all presets of a file: "text", or any file's content as "base64"; "file_name" names those without a name."""
    source = _source(given)
    found = _changed(lambda: presets.store().import_(source, _text(given, "file_name")))
    return {"presets": [told(one) for one in found]}


def exported(request: Request) -> Any:
    """One file with the user's presets, all or those of ?feature= and ?search=; or with those of every ?name=."""
    found, names = _found(request), request.query_params.getlist("name")
    known = {folded(one.name) for one in found}
    for name in names:
        if folded(name) not in known:
            raise NotThere(str(UnknownName("preset", name, [one.name for one in found])))
    wanted = set(map(folded, names))
    chosen = [one for one in found if (folded(one.name) in wanted if names else one.origin != BUILT_IN)]
    return json.loads(presets.store().export(chosen))


def _found(request: Request) -> list[Preset]:
    asked = request.query_params
    return presets.store().list(asked.get("feature") or None, asked.get("search", ""))


def _named(request: Request) -> Preset:
    try:
        return presets.store().get(request.path_params["feature"], request.path_params["name"])
    except UnknownName as error:
        raise NotThere(str(error)) from error


def _changed(act: Callable[[], Any]) -> Any:
    """Does it; the panels know the files that are there then."""
    done = act()
    presets.refresh()
    return done


def _source(given: Mapping[str, Any]) -> str | bytes:
    if "base64" not in given:
        return _text(given, "text")
    try:
        return base64.b64decode(_text(given, "base64").rpartition(",")[2], validate=True)
    except binascii.Error as error:
        raise PrismError("base64 must be the content of a file in base64") from error


def _text(given: Mapping[str, Any], name: str) -> str:
    text = given.get(name, "")
    if not isinstance(text, str):
        raise PrismError(f"{name} must be a text")
    return text
