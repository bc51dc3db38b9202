"""What the panel asks for over HTTP: the loaded model's blocks and what is merged into it, presets, and baking.

Routes under /prism/v1/merge, as open as the webui's own page, but for baking, see `access`. Errors are
{"error": kind, "detail": text}.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from modules import paths, script_callbacks, sd_models, sd_vae, shared
from starlette.concurrency import run_in_threadpool

from ...errors import PrismError
from ...files import new_name
from ...merge.baking import Baked, prepared
from ...merge.blocks import VAE, Layout
from ...merge.presets import PRESETS
from ...merge.recipe import LOADED, Recipe
from ...settings import MERGE
from ...settings.merge import recipe_of
from .. import access, checkpoints, routes
from ..routes import TEXT, Refused, Route, answered, body_of, fields_of, problem
from ..webui import loaded_model
from . import models

log = logging.getLogger("prism")

PREFIX = f"{routes.ROOT}/merge"
EXAMPLE = '{"name": "half", "model": "neon", "ratio": 0.5}'


@dataclass
class Baking:
    """The file that is being written, or was written last; `notes` say how far it is not what the webui merges live."""

    name: str = ""
    dtype: str = ""
    notes: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    error: str = ""
    running: bool = False


baking = Baking()
lock = threading.Lock()


def register() -> None:
    """Has the webui serve the routes on every app that it makes."""
    script_callbacks.on_app_started(lambda demo, app: add_routes(app))


def add_routes(app: FastAPI) -> None:
    """Adds the routes to an app; an app that has them keeps the new ones only."""

    def model() -> JSONResponse:
        """The loaded checkpoint, its blocks with their bytes, presets for these, and what is merged into it."""
        return answered(loaded)

    def presets(request: Request) -> JSONResponse:
        """The weights of every preset for ?count= blocks."""
        return answered(lambda: weights(request.query_params.get("count", "25")))

    async def start(request: Request) -> JSONResponse:
        """Write a file {"name", "dtype", and settings of the panel} from the loaded checkpoint."""
        try:
            await access.check(request)
            given = fields_of(await body_of(request), ("name", "dtype"), EXAMPLE)
        except Refused as error:
            return problem(error.status, error)
        return await run_in_threadpool(answered, lambda: begin(given))

    def progress() -> JSONResponse:
        """How far the file is."""
        return JSONResponse(vars(baking))

    count = {"type": "integer", "minimum": 1, "maximum": 99}
    body = {"name": TEXT, "dtype": TEXT} | MERGE.schema()["properties"]
    routes.add(
        app,
        PREFIX,
        (
            Route("model", model),
            Route("presets", presets, query={"count": count}),
            Route("bake", start, "POST", body=body, required=["name"], writes=True),
            Route("bake", progress),
        ),
    )


def loaded() -> dict[str, Any]:
    """See `add_routes`; of a model that is about to be loaded, its file tells."""
    model = loaded_model()
    info = model.sd_checkpoint_info if model else sd_models.select_checkpoint()
    merged = models.of(model) if model else None
    source = models.opened(str(info.filename), split=False)
    layout = Layout.of({name: entry.shape for name, entry in source.entries.items()})
    sizes = dict.fromkeys(layout.blocks, 0)
    for name, block in layout.homes.items():
        entry = source.entries[layout.names[name]]
        size = entry.dtype.itemsize
        for side in entry.shape:
            size *= side
        sizes[block] += size
    return {
        "name": models.name_of(info),
        "title": layout.title,
        "blocks": sizes,
        "spine": layout.spine,
        "presets": {name: (one.base, *one.weights(len(layout.spine))) for name, one in PRESETS.items()},
        "own": models.own_presets(model) if model else {},
        "memory": memory(),
        "merged": str(merged.plan.recipe) if merged else "",
        "written": models.count.written,
        "models": models.names(),
    }


def memory() -> list[str]:
    """How much is in use, in words: this process, the machine, the graphics card."""
    machine = psutil.virtual_memory()
    here = psutil.Process().memory_info().rss
    told = [f"RAM {_gb(machine.total - machine.available)} of {_gb(machine.total)} GB in use, {_gb(here)} by the webui"]
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        told.append(f"VRAM {_gb(total - free)} of {_gb(total)} GB in use")
    return told


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"


def weights(count: str) -> dict[str, tuple[float, ...]]:
    """Name -> weights of every preset for so many blocks."""
    if not re.fullmatch("[1-9][0-9]?", count):
        raise PrismError(f'count is "{count[:20]}"; it must be a number of blocks from 1 to 99')
    return {name: preset.weights(int(count)) for name, preset in PRESETS.items()}


def begin(given: Mapping[str, Any]) -> dict[str, Any]:
    """Start a bake in a thread of its own; raises PrismError for what cannot be baked."""
    settings = {key: value for key, value in given.items() if key not in ("name", "dtype")}
    recipe = models.titled(recipe_of(MERGE.read(settings)))
    if recipe == Recipe():
        raise PrismError("There is nothing to bake: no model B and no recipe")
    out = folder() / new_name(str(given["name"]), ".safetensors", (".yaml", ".vae"))
    if out.exists():
        raise PrismError(f"{out.name} exists already; choose another name")
    model = in_use()
    infos = {label: models.find(label) for label in recipe.models} | {LOADED: model.sd_checkpoint_info}
    sources = {label: info.filename for label, info in infos.items()}
    hashes = {label: info.sha256 for label, info in infos.items() if info.sha256}
    live = models.dtypes(model)
    baked = prepared(recipe, out, sources=sources, dtype=str(given["dtype"]), live=live)
    with lock:
        if baking.running:
            raise PrismError(f"{baking.name} is being written; wait for it")
        about = {"name": out.name, "dtype": baked.formats, "notes": notes(baked)}
        vars(baking).update(**about, done=0, total=0, error="", running=True)
    threading.Thread(target=write, args=(baked, hashes), daemon=True).start()
    return vars(baking)


def in_use() -> Any:
    """The webui's model; raises PrismError where it has none before it draws."""
    model = shared.sd_model
    if not hasattr(model, "sd_checkpoint_info"):
        raise PrismError("This webui loads its model with the first picture; draw one, and bake then")
    return model


def notes(baked: Baked) -> tuple[str, ...]:
    """What a user should know of a file to be."""
    if VAE not in baked.blocks or not sd_vae.loaded_vae_file:
        return baked.notes
    other = Path(sd_vae.loaded_vae_file).name
    return *baked.notes, f"its VAE is merged from the checkpoints' own; the webui merges into {other}, as chosen there"


def write(baked: Baked, hashes: Mapping[str, str]) -> None:
    """The thread: errors are told by `baking`."""
    try:
        baked.write(hashes, told)
        checkpoints.refresh()
    except PrismError as error:
        baking.error = str(error)
    except Exception as error:
        log.exception("%s failed", baked.path)
        baking.error = f"{baking.name} failed ({type(error).__name__}: {error}); the console says more"
    finally:
        baking.running = False


def told(done: int, total: int) -> None:
    baking.done, baking.total = done, total


def folder() -> Path:
    """Where the host looks for checkpoints first."""
    given = getattr(shared.cmd_opts, "ckpt_dir", None) or getattr(shared.opts, "ckpt_dir", None)
    found = Path(given) if given else Path(paths.models_path, "Stable-diffusion")
    found.mkdir(parents=True, exist_ok=True)
    return found
