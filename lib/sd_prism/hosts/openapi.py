"""Prism's routes as OpenAPI describes them: those that stand in an app, from what they say of themselves."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI

from .. import __version__
from .routes import ROOT

TITLE = "Prism"
ABOUT = "What a webui with Prism answers beside its own API. Reading is as open as the webui's page."


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes under ROOT."""
    paths: dict[str, dict[str, Any]] = {}
    for route in app.routes:
        operation = getattr(route, "openapi_extra", None)
        path = getattr(route, "path_format", "")
        if operation and path.startswith(f"{ROOT}/"):
            for method in route.methods:  # type: ignore[attr-defined]
                paths.setdefault(path, {})[method.lower()] = _operation(path, method.lower(), route, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": ABOUT},
        "paths": dict(sorted(paths.items())),
        "components": {"securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}},
    }


def _operation(path: str, method: str, route: Any, operation: dict[str, Any]) -> dict[str, Any]:
    words = re.findall(r"\w+", path.removeprefix(ROOT))
    told: dict[str, Any] = {"operationId": "_".join((method, *words)), "summary": _first_line(route.endpoint.__doc__)}
    if "401" in operation["responses"]:
        told["security"] = [{"basic": []}, {}]
    return {**told, **operation}


def _first_line(doc: str) -> str:
    return doc.strip().partition("\n")[0]
