"""What every route of Prism's shares: how requests are read, answered and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ..errors import PrismError

ROOT = "/prism/v1"
LONGEST = 1_000_000  # characters of a text
LARGEST = 16 * LONGEST  # bytes of a request: JSON may write a character in many
NOT_USABLE = 422

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object"}
PROBLEM: Schema = {"type": "object", "properties": {"error": TEXT, "detail": TEXT}, "required": ["error", "detail"]}
REFUSED = {"422": "It cannot be done; the detail says why, and what to do"}
REFUSED_WRITES = REFUSED | {
    "400": "The request is no JSON object",
    "401": "The name or password is none of --api-auth",
    "403": "The webui was started without --api, or with a password for its page only",
    "413": "The request is too large",
    "415": "The Content-Type is not application/json",
}


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


@dataclass(frozen=True)
class Route:
    """One route, and what OpenAPI says of it besides the handler's docstring.

    Attributes:
        name: its path behind the prefix; `{name}` in it is a part that varies, `{name:path}` one with slashes.
        query: what may stand in the address, each with its JSON Schema.
        body: the request's fields, each with its JSON Schema; None where it has none.
        required: those of the fields that must be there.
        answer: the JSON Schema of what is answered.
        writes: whether only those of `access.check` may use it.
    """

    name: str
    handler: Callable[..., Any]
    method: str = "GET"
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] | None = None
    required: Sequence[str] = ()
    answer: Schema = field(default_factory=lambda: OBJECT)
    writes: bool = False

    def described(self) -> dict[str, Any]:
        """As an operation of OpenAPI."""
        parts = [_parameter(name, "path", TEXT) for name in re.findall(r"{(\w+)", self.name)]
        asked = [_parameter(name, "query", schema) for name, schema in self.query.items()]
        refused = REFUSED_WRITES if self.writes else REFUSED
        operation: dict[str, Any] = {
            "parameters": [*parts, *asked],
            "responses": {"200": _content("The answer", self.answer)}
            | {status: _content(text, PROBLEM) for status, text in refused.items()},
        }
        if self.body is not None:
            body = {"type": "object", "properties": dict(self.body), "required": list(self.required)}
            operation["requestBody"] = {**_content("JSON", body), "required": True}
        return operation


def _parameter(name: str, where: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _content(text: str, schema: Schema) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def add(app: FastAPI, prefix: str, routes: Iterable[Route]) -> None:
    """Adds routes under a prefix to an app; one that has these keeps the new ones only."""
    routes = list(routes)
    paths = {f"{prefix}/{one.name}" for one in routes}
    app.router.routes[:] = [one for one in app.router.routes if getattr(one, "path", "") not in paths]
    for one in routes:
        app.add_api_route(
            f"{prefix}/{one.name}",
            one.handler,
            methods=[one.method],
            tags=["Prism"],
            response_model=None,
            openapi_extra=one.described(),
        )


def answered(answer: Callable[[], Any]) -> JSONResponse:
    """The answer, or what is wrong with the question."""
    try:
        return JSONResponse(answer())
    except PrismError as error:
        return problem(NOT_USABLE, error)


def problem(status: int, error: Exception) -> JSONResponse:
    headers = error.headers if isinstance(error, Refused) else None
    return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=status, headers=headers)


async def body_of(request: Request) -> bytes:
    """The request's body; one that is too large is not read to its end."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise TooLarge(f"The request is larger than {LARGEST:,} bytes; send less at a time")
    return bytes(body)


def fields_of(body: bytes, texts: Sequence[str], example: str) -> dict[str, Any]:
    """The JSON object of a request; those of its entries that are `texts` are checked, and there."""
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
