"""What the page's script asks of "Prism Cascade" over HTTP, and decoding again for other programs.

Routes under /prism/v1/cascade, as open as the webui's own page, but for decoding, see `access`. Errors are
{"error": kind, "detail": text}.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from modules import script_callbacks
from PIL import Image, PngImagePlugin
from starlette.concurrency import run_in_threadpool

from ...cascade import formats
from ...errors import PrismError, UnknownName
from ...settings import CASCADE
from .. import access, checkpoints, routes
from ..routes import TEXT, Refused, Route, answered, body_of, fields_of, problem
from ..webui import loaded_model
from . import again, decoders
from .decoding import decoding
from .job import own_compression
from .latents import read
from .previews import is_cascade

PREFIX = f"{routes.ROOT}/cascade"
EXAMPLE = '{"tab": "txt2img", "steps": 20}'
OWN = ("tab", "latents", "picture", "save_images")  # of a request; the rest are settings
TABS = ("txt2img", "img2img")


def register() -> None:
    """Has the webui serve the routes on every app that it makes."""
    script_callbacks.on_app_started(lambda demo, app: add_routes(app))


def add_routes(app: FastAPI) -> None:
    """Adds the routes to an app; an app that has them keeps the new ones only."""

    def model() -> JSONResponse:
        """Whether the checkpoint in use is of Cascade, its decoder, and all decoders."""
        return answered(loaded)

    async def decode(request: Request) -> JSONResponse:
        """Decode the last pictures of a "tab", or the "latents" of a file in base64, by other settings of the panel.

        "picture" chooses one of the last job's, from 0; "save_images" has files written. Settings that are not given
        stay as they were.
        """
        try:
            await access.check(request)
            given = fields_of(await body_of(request), texts=("tab", "latents"), example=EXAMPLE)
        except Refused as error:
            return problem(error.status, error)
        return await run_in_threadpool(answered, lambda: decoded(given))

    own = {"tab": TEXT, "latents": TEXT, "picture": {"type": "integer"}, "save_images": {"type": "boolean"}}
    body = own | CASCADE.schema()["properties"]
    routes.add(app, PREFIX, (Route("model", model), Route("decode", decode, "POST", body=body, writes=True)))


def loaded() -> dict[str, Any]:
    """See `add_routes`; "" for a decoder that is not found, with the reason as "missing"."""
    info, file = _chosen()
    found = {
        "cascade": file is not None,
        "decoder": "",
        "missing": "",
        "loads": decoding.loaded,
        "vision": file is not None and "vision" in file.parts,
    }
    if file is not None:
        found["compression"] = own_compression(info)
        try:
            found["decoder"] = decoders.find("", info).name_for_extra
        except PrismError as error:
            found["missing"] = str(error)
    return found | {"decoders": decoders.names(), "kept": {tab: _count(tab) for tab in TABS}}


def _chosen() -> tuple[Any, formats.CascadeFile | None]:
    """The checkpoint of the next job, and its file if that is of Cascade; webuis may load it with that job only."""
    info, model = checkpoints.chosen(), loaded_model()
    if model is not None and (info is None or info.filename == model.sd_checkpoint_info.filename):
        return model.sd_checkpoint_info, model.file if is_cascade(model) else None
    with suppress(PrismError):
        file = formats.inspect(info.filename) if info else None
        return info, file if file and file.role == "main" else None
    return info, None


def _count(tab: str) -> int:
    kept = again.kept.get(tab)
    return len(kept.pictures) if kept else 0


def decoded(given: Mapping[str, Any]) -> dict[str, Any]:
    """As the webui's own routes answer: pictures in base64, their infotexts, and what the webui's buttons read."""
    settings = {name: value for name, value in given.items() if name not in OWN}
    tab = given["tab"] or TABS[0]
    if tab not in TABS:
        raise UnknownName("tab", tab, TABS)
    kept = _given(given["latents"]) if given["latents"] else again.chosen(tab, given.get("picture"))
    done = again.again(kept, settings, tab, save=given.get("save_images") is True)
    pngs = [_png(image, text) for image, text in zip(done.images, done.infotexts)]
    return {"images": pngs, "infotexts": done.infotexts, "info": done.js()}


def _given(text: str) -> again.Kept:
    try:
        content = base64.b64decode(text.rpartition(",")[2], validate=True)
    except binascii.Error as error:
        raise PrismError("latents must be the content of a file in base64") from error
    return again.Kept([read(content, "latents")])


def _png(image: Image.Image, text: str) -> str:
    told, file = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("parameters", text)
    image.save(file, "PNG", pnginfo=told)
    return base64.b64encode(file.getvalue()).decode()
