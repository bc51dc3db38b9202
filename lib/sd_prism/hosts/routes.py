"""What every route of Prism's shares: how requests are read, answered and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ..errors import PrismError

LONGEST = 1_000_000  # characters of a text
LARGEST = 16 * LONGEST  # bytes of a request: JSON may write a character in many
NOT_USABLE = 422


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


def add(app: FastAPI, prefix: str, routes: Iterable[tuple[str, Callable[..., Any], str]]) -> None:
    """Adds (name, handler, method) under a prefix to an app; one that has routes there keeps the new ones only."""
    app.router.routes[:] = [one for one in app.router.routes if not getattr(one, "path", "").startswith(prefix)]
    for name, handler, method in routes:
        app.add_api_route(f"{prefix}/{name}", handler, methods=[method], tags=["Prism"], response_model=None)


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
