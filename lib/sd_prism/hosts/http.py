"""What the text box asks for over HTTP: the registry, values while one types, what a prompt becomes.

Three routes under /prism/v1/namespaces, as open as the webui's own page. Errors are {"error": kind, "detail": text}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from modules import paths, script_callbacks
from starlette.concurrency import run_in_threadpool

from ..errors import PrismError, UnknownName
from ..namespaces import json_form, lexicon
from ..namespaces.lexicon import Entry, Lexicon, Shelf
from ..namespaces.registry import Namespace, Registry
from ..namespaces.render import Options, render_pair
from . import rendering

PREFIX = "/prism/v1/namespaces"
LONGEST = 1_000_000  # characters of a prompt
LARGEST = 16 * LONGEST  # bytes of a request: JSON may write a character in many
MOST = 200  # completions
NOT_USABLE = 422
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


class Refused(Exception):
    """A request that is answered with this status and the error's text."""

    status = NOT_USABLE
    headers: Mapping[str, str] | None = None


class NotJson(Refused):
    status = 400


class TooLarge(Refused):
    status = 413


class NotText(Refused):
    """A field that must be a text."""


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
    app.router.routes[:] = [one for one in app.router.routes if not getattr(one, "path", "").startswith(PREFIX)]

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
            given = fields_of(await body_of(request))
        except Refused as error:
            return problem(error.status, error)
        return await run_in_threadpool(answered, lambda: rendered(service, given))

    for name, handler, method in (
        ("registry", registry, "GET"),
        ("complete", complete, "GET"),
        ("render", render, "POST"),
    ):
        app.add_api_route(f"{PREFIX}/{name}", handler, methods=[method], tags=["Prism"], response_model=None)


def settings_of(request: Request) -> dict[str, Any]:
    """The settings in a request's address that say which namespaces there are."""
    return {name: value for name, value in request.query_params.items() if name in ("dialect", "sets", "tab") and value}


def answered(answer: Callable[[], Any]) -> JSONResponse:
    """The answer, or what is wrong with the question."""
    try:
        return JSONResponse(answer())
    except PrismError as error:
        return problem(NOT_USABLE, error)


def problem(status: int, error: Exception) -> JSONResponse:
    headers = error.headers if isinstance(error, Refused) else None
    return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=status, headers=headers)


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


async def body_of(request: Request) -> bytes:
    """The request's body; one that is too large is not read to its end."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise TooLarge(f"The request is larger than {LARGEST:,} bytes; send one prompt at a time")
    return bytes(body)


def fields_of(
    body: bytes, texts: Sequence[str] = ("prompt", "negative"), example: str = '{"prompt": "species:seal"}'
) -> dict[str, Any]:
    """The JSON object of a request, its texts checked."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"The request is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise NotJson(f"The request must be a JSON object such as {example}")
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise NotText(f"The request has half a character: {error.reason}; send whole surrogate pairs") from error
    for name in texts:
        text = given.setdefault(name, "")
        if not isinstance(text, str):
            raise NotText(f"{name} must be a text")
        if len(text) > LONGEST:
            raise TooLarge(f"{name} has {len(text):,} characters; at most {LONGEST:,} are read")
    return given


def rendered(service: Service, given: dict[str, Any]) -> dict[str, Any]:
    """A pair of prompts rendered as a job would, with settings of the request over those of the panel.

    "target" asks for the syntax of another program than this webui.
    """
    settings = {name: value for name, value in given.items() if name not in ("prompt", "negative", "target")}
    options = service.options(settings)
    if "target" in given:
        options = replace(options, target=given["target"])
    return json_form.rendered(render_pair(given["prompt"], given["negative"], options), options)
