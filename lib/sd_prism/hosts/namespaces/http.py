"""What the text box asks for over HTTP: the registry, values while one types, what a prompt becomes.

Three routes under /prism/v1/namespaces, as open as the webui's own page. Errors are {"error": kind, "detail": text}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from modules import paths, script_callbacks
from starlette.concurrency import run_in_threadpool

from ...errors import PrismError, UnknownName
from ...namespaces import json_form, lexicon
from ...namespaces.lexicon import Entry, Lexicon, Shelf
from ...namespaces.namespace import Namespace
from ...namespaces.registry import Registry
from ...namespaces.render import Options, render_pair
from ...settings import NAMESPACES
from .. import routes
from ..routes import OBJECT, TEXT, Refused, Route, answered, body_of, fields_of, problem
from . import rendering

PREFIX = f"{routes.ROOT}/namespaces"
MOST = 200  # completions
EXAMPLE = '{"prompt": "species:seal"}'
SHIPPED = Path(lexicon.__file__).with_name("data") / "lexicon"
BOARDS = ("danbooru.csv", "e621.csv")  # the files of tagcomplete whose categories are namespaces


@dataclass(frozen=True)
class Service:
    """What the routes answer from.

    Attributes:
        registry: the namespaces that a job with these settings, given by name, would have now.
        options: how it would render; both raise PrismError for a wrong setting.
        values: for completion.
    """

    registry: Callable[[Mapping[str, Any]], Registry]
    options: Callable[[Mapping[str, Any]], Options]
    values: Shelf


def register(
    registry: Callable[[Mapping[str, Any]], Registry], options: Callable[[Mapping[str, Any]], Options]
) -> None:
    """Has the webui serve the routes on every app that it makes; for the two functions see `Service`."""
    service = Service(registry, options, Shelf(files))
    script_callbacks.on_app_started(lambda demo, app: add_routes(app, service))


def files() -> Iterator[Path]:
    """The CSV files of values: shipped ones, the user's, and those of tagcomplete where that is installed."""
    yield from sorted(SHIPPED.glob("*.csv"))
    yield from rendering.user_files("csv")
    for folder in sorted(Path(paths.extensions_dir).absolute().glob("*tagcomplete*/tags")):
        yield from (folder / name for name in BOARDS)


def add_routes(app: FastAPI, service: Service) -> None:
    """Adds the three routes to an app; an app that has them keeps the new ones only."""

    def registry(request: Request) -> JSONResponse:
        """The namespaces of ?dialect= and ?sets= on ?tab=, and every way to write their names."""
        service.values.prepare()  # a page that asks for this will ask for values next
        return answered(lambda: json_form.registry(service.registry(settings_of(request))))

    def complete(request: Request) -> JSONResponse:
        """Values of ?namespace= for what was ?typed= so far, at most ?limit= of them; settings as for the registry."""
        asked = request.query_params
        return answered(
            lambda: completions(
                service.registry(settings_of(request)),
                service.values.lexicon(),
                asked.get("namespace", ""),
                asked.get("typed", ""),
                asked.get("limit", "20"),
            )
        )

    async def render(request: Request) -> JSONResponse:
        """What a prompt and its negative prompt become, with every tag and every remark."""
        try:
            given = fields_of(await body_of(request), ("prompt", "negative"), EXAMPLE)
        except Refused as error:
            return problem(error.status, error)
        return await run_in_threadpool(answered, lambda: rendered(service, given))

    asked = {name: NAMESPACES[name].schema() for name in ("dialect", "sets")} | {"tab": TEXT}
    typed = {"namespace": TEXT, "typed": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": MOST}}
    texts = {"prompt": TEXT, "negative": TEXT, "target": TEXT}
    body = texts | NAMESPACES.schema()["properties"]
    routes.add(
        app,
        PREFIX,
        (
            Route("registry", registry, query=asked),
            Route("complete", complete, query=typed | asked, answer={"type": "array", "items": OBJECT}),
            Route("render", render, "POST", body=body),
        ),
    )


def settings_of(request: Request) -> dict[str, Any]:
    """The settings in a request's address that say which namespaces there are."""
    return {name: value for name, value in request.query_params.items() if name in ("dialect", "sets", "tab") and value}


# --- completion


def completions(registry: Registry, values: Lexicon, namespace: str, typed: str, limit: str) -> list[dict[str, Any]]:
    """The values of a namespace that fit what was typed: its own words first, then those of the files."""
    one, most = registry.find(namespace), limit_of(limit)
    if one is None:
        raise UnknownName("Namespace", namespace, registry.namespaces)
    found = {entry.value: entry for entry in own_values(one, typed)}
    for source in (one.name, one.lexicon.removesuffix(".csv")):
        for entry in values.complete(source, typed, most):
            found.setdefault(entry.value, entry)
    return [asdict(entry) for entry in found.values()][:most]


def limit_of(text: str) -> int:
    number = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    if not 1 <= number <= MOST:
        raise PrismError(f'limit is "{text[:20]}"; it must be a whole number from 1 to {MOST}')
    return number


def own_values(one: Namespace, typed: str) -> list[Entry]:
    return [Entry(value, 0) for value in one.values if lexicon.fold(value).startswith(lexicon.fold(typed).lstrip())]


# --- rendering


def rendered(service: Service, given: dict[str, Any]) -> dict[str, Any]:
    """A pair of prompts rendered as a job would, with settings of the request over those of the panel.

    "target" asks for the syntax of another program than this webui.
    """
    settings = {name: value for name, value in given.items() if name not in ("prompt", "negative", "target")}
    options = service.options(settings)
    if "target" in given:
        options = replace(options, target=given["target"])
    return json_form.rendered(render_pair(given["prompt"], given["negative"], options), options)
