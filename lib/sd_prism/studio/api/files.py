"""style.css and javascript/ of extensions."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse

from sd_prism.studio.api.problems import NOT_FOUND, problem


def add_routes(app: FastAPI) -> None:
    """The route that the page's links point at."""
    from modules import extensions

    @app.get("/studio-file/{name}/{path:path}", include_in_schema=False)
    def extension_file(name: str, path: str) -> Any:
        """A file that may be read; nothing else of an extension."""
        folder = next((Path(x.path) for x in extensions.active() if x.canonical_name == name), None)
        file = _public_file(folder, path) if folder else None
        if file:
            return FileResponse(file)
        return problem(NOT_FOUND, "NotFound", f"there is no file {path[:80]!r} of {name[:80]!r}")


def _public_file(folder: Path, path: str) -> Path | None:
    """The file that is asked for, if there is one that may be read."""
    try:
        file = (folder / path).resolve()
        return file if file.is_file() and _is_public(file, folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # no file has such a path
        return None


def _is_public(file: Path, folder: Path) -> bool:
    return file == folder / "style.css" or folder / "javascript" in file.parents
