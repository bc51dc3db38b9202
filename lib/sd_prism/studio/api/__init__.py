"""The host's HTTP routes under /sdapi/v1, and the files of extensions."""

# No `from __future__ import annotations` in this package: FastAPI has to see the handlers' annotations as types.
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.routing import Match

from sd_prism.studio import host
from sd_prism.studio.api import access, files, jobs, lists, problems, settings

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create() -> FastAPI:
    """An app with every route of the host and its documentation at /docs; the host must be open."""
    # Nothing of the documentation page comes from another server.
    app = FastAPIOffline(
        title="Prism studio",
        description="The HTTP interface of a Stable Diffusion webui.",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},
    )
    problems.add_handlers(app)
    router = APIRouter(prefix="/sdapi/v1", dependencies=access.guards(), responses=problems.RESPONSES)
    for part in (jobs, lists, settings):
        part.add_routes(router)
    app.include_router(router)
    files.add_routes(app)
    _add_page_routes(app)
    return app


def refuse_other_methods(app: FastAPI) -> None:
    """Answer what no route under /sdapi takes; to be called after all other routes were added."""

    routes = list(app.routes)

    def takes(request: Request, method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    @app.api_route("/sdapi/{path:path}", methods=METHODS, include_in_schema=False)
    def other(request: Request, path: str) -> JSONResponse:
        """405 with the methods of the routes that have this path, 404 without one."""
        allowed = ", ".join(method for method in METHODS if takes(request, method))
        if not allowed:
            return problems.problem(problems.NOT_FOUND, "NotFound", f"there is no route /sdapi/{path[:80]}")
        text = f"{request.method} is no method of this route; use {allowed}"
        answer = problems.problem(problems.OTHER_METHOD, "MethodNotAllowed", text)
        answer.headers["Allow"] = allowed
        return answer


def _add_page_routes(app: FastAPI) -> None:
    from modules import progress

    progress.setup_progress_api(app)

    @app.get("/internal/ping", include_in_schema=False)
    def ping() -> dict[str, str]:
        """Whether the studio is there."""
        return {}

    @app.post("/internal/reload-ui", include_in_schema=False)
    def reload_ui() -> dict[str, str]:
        """Load all scripts again and build the page anew; answers when that is done."""
        host.reload()
        return {}
