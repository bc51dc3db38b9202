"""Errors as HTTP answers: {"error": kind, "detail": text}, as the host gives them."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio import host

NOT_FOUND = 404
OTHER_METHOD = 405
NOT_USABLE = 422
LEFT = 499
FAILED = 500
# These names of UnknownName are resources, which HTTP answers with 404; the host does so for samplers.
RESOURCES = ("sampler", "schedule", "checkpoint")


class Problem(BaseModel):
    """What is wrong, where, and what to do."""

    error: str
    detail: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    NOT_FOUND: {"model": Problem, "description": "A name that does not exist, with the nearest one that does."},
    NOT_USABLE: {"model": Problem, "description": "A request that cannot be carried out, with the reason."},
    FAILED: {"model": Problem, "description": "The studio failed."},
}


def problem(status: int, error: str, detail: str) -> JSONResponse:
    """One error as an answer."""
    return JSONResponse(Problem(error=error, detail=detail).model_dump(), status_code=status)


def status_of(error: PrismError) -> int:
    """The HTTP status of an error that is the caller's."""
    resource = isinstance(error, UnknownName) and error.kind.rsplit(" ", 1)[-1] in RESOURCES
    return NOT_FOUND if resource else NOT_USABLE


def answer(error: Exception) -> JSONResponse:
    """The answer to an error in a job."""
    kind = type(error).__name__
    if isinstance(error, PrismError):
        return problem(status_of(error), kind, str(error))
    if isinstance(error, host.Left):
        return problem(LEFT, kind, "The client left before its job began.")
    from modules import errors

    errors.display(error, "a job over HTTP")
    return problem(FAILED, kind, f"The picture could not be made: {kind}: {error}")


def add_handlers(app: FastAPI) -> None:
    """Errors of all routes in this form."""

    async def prism_error(request: Request, error: Exception) -> JSONResponse:
        return answer(error)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        text = host.validation_text(error.errors() if isinstance(error, RequestValidationError) else [])
        return problem(NOT_USABLE, type(error).__name__, text)

    app.add_exception_handler(PrismError, prism_error)
    app.add_exception_handler(RequestValidationError, malformed)
