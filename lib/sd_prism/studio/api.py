"""The host's HTTP routes under /sdapi/v1, and the files of extensions."""

# No `from __future__ import annotations` here: FastAPI has to see the handlers' annotations as types.
import base64
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse

from sd_prism.errors import PrismError, UnknownName
from sd_prism.studio import host

NOT_FOUND = 404
NOT_USABLE = 422
FAILED = 500
# These names of UnknownName are resources, which HTTP answers with 404; the host does so for samplers.
RESOURCES = ("sampler", "schedule", "checkpoint")


def status_of(error: PrismError) -> int:
    """The HTTP status of an error that is the caller's."""
    resource = isinstance(error, UnknownName) and error.kind.rsplit(" ", 1)[-1] in RESOURCES
    return NOT_FOUND if resource else NOT_USABLE


def answer(error: Exception) -> JSONResponse:
    """Any error as {"detail": text}."""
    if isinstance(error, PrismError):
        return JSONResponse({"detail": str(error)}, status_code=status_of(error))
    from modules import errors

    errors.display(error, "txt2img")
    text = f"The picture could not be made: {type(error).__name__}: {error}"
    return JSONResponse({"detail": text}, status_code=FAILED)


def add_error_handlers(app: FastAPI) -> None:
    """Errors of all routes as {"detail": text}."""

    async def prism_error(request: Request, error: Exception) -> JSONResponse:
        return answer(error)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        text = host.validation_text(error.errors() if isinstance(error, RequestValidationError) else [])
        return JSONResponse({"detail": text}, status_code=NOT_USABLE)

    app.add_exception_handler(PrismError, prism_error)
    app.add_exception_handler(RequestValidationError, malformed)


def add_routes(app: FastAPI) -> None:
    """All routes; the host must be open."""
    from modules.api import models

    # Handlers are plain functions: they run in the thread pool and may wait for the job before them.
    @app.post("/sdapi/v1/txt2img", response_model=models.TextToImageResponse)
    def txt2img(request: models.Txt2ImgRequest) -> Any:
        """Make pictures from a prompt."""
        try:
            return _txt2img(request)
        except Exception as error:
            return answer(error)

    _add_lists(app)
    _add_scripts(app)
    _add_files(app)


def _txt2img(request: Any) -> dict[str, Any]:
    sent = request.model_dump()
    processed = host.run(request).processed
    pictures = [base64.b64encode(host.png_bytes(image)).decode() for image in processed.images]
    return {"images": pictures if request.send_images else [], "parameters": sent, "info": processed.js()}


def _add_lists(app: FastAPI) -> None:
    from modules import sd_models, sd_samplers, sd_schedulers, shared
    from modules.api import models

    @app.get("/sdapi/v1/samplers")
    def samplers() -> list[dict[str, Any]]:
        """The samplers, with their older names."""

        def text(value: Any) -> str:
            return str(value).lower() if isinstance(value, bool) else str(value)

        return [
            {"name": x.name, "aliases": x.aliases, "options": {k: text(v) for k, v in x.options.items() if k != "wrap"}}
            for x in sd_samplers.all_samplers
        ]

    @app.get("/sdapi/v1/schedulers")
    def schedulers() -> list[dict[str, Any]]:
        """The noise schedules."""
        keys = ("name", "label", "aliases", "default_rho", "need_inner_model")
        return [{key: getattr(x, key) for key in keys} for x in sd_schedulers.schedulers]

    @app.get("/sdapi/v1/sd-models")
    def sd_models_list() -> list[dict[str, Any]]:
        """The checkpoints."""
        keys = ("title", "model_name", "hash", "sha256", "filename")
        return [{**{key: getattr(x, key) for key in keys}, "config": None} for x in sd_models.checkpoints_list.values()]

    @app.get("/sdapi/v1/options")
    def options() -> dict[str, Any]:
        """The settings."""
        return {key: shared.opts.data.get(key, info.default) for key, info in shared.opts.data_labels.items()}

    @app.get("/sdapi/v1/progress", response_model=models.ProgressResponse)
    def progress(skip_current_image: bool = False) -> Any:
        """Where the running job is."""
        import time

        state = shared.state
        done = state.progress()
        left = (time.time() - state.time_start) * (1 - done) / done if done else 0.0
        return {"progress": done, "eta_relative": left, "state": state.dict(), "textinfo": state.textinfo}


def _add_scripts(app: FastAPI) -> None:
    from modules import scripts
    from modules.api import models

    runner = scripts.scripts_txt2img

    @app.get("/sdapi/v1/scripts", response_model=models.ScriptsList)
    def script_names() -> Any:
        """The names of all scripts."""
        return {"txt2img": [x.name for x in runner.scripts if x.name], "img2img": []}

    @app.get("/sdapi/v1/script-info", response_model=list[models.ScriptInfo])
    def script_info() -> Any:
        """The arguments of all scripts."""
        return [x.api_info for x in runner.scripts if x.api_info is not None]


def _add_files(app: FastAPI) -> None:
    from modules import extensions

    @app.get("/studio-file/{name}/{path:path}", include_in_schema=False)
    def extension_file(name: str, path: str) -> Any:
        """style.css and javascript/ of an extension; nothing else of it."""
        folder = next((Path(x.path) for x in extensions.active() if x.canonical_name == name), None)
        file = _public_file(folder, path) if folder else None
        if file:
            return FileResponse(file)
        return JSONResponse({"detail": f"there is no file {path[:80]!r} of {name[:80]!r}"}, status_code=NOT_FOUND)


def _public_file(folder: Path, path: str) -> Path | None:
    """The file that is asked for, if there is one that may be read."""
    try:
        file = (folder / path).resolve()
        return file if file.is_file() and _is_public(file, folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # no file has such a path
        return None


def _is_public(file: Path, folder: Path) -> bool:
    return file == folder / "style.css" or folder / "javascript" in file.parents
