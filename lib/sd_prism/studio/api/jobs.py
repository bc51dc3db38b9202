"""Making pictures, watching and stopping that, and reading what a picture was made with."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request

from sd_prism.studio import host
from sd_prism.studio.api import problems

# Each job waits for its turn in a thread of its own, so that none keeps the short requests waiting.
_threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="job")


def add_routes(router: APIRouter) -> None:
    """The routes of this part."""
    from modules.api import models

    @router.post("/txt2img", response_model=models.TextToImageResponse)
    async def txt2img(request: models.Txt2ImgRequest, connection: Request) -> Any:
        """Make pictures from a prompt."""
        return await _answered(request, connection)

    @router.post("/img2img", response_model=models.ImageToImageResponse)
    async def img2img(request: models.Img2ImgRequest, connection: Request) -> Any:
        """Make pictures from pictures and a prompt."""
        return await _answered(request, connection)

    _add_watching(router)
    _add_reading(router)


async def _answered(request: Any, connection: Request) -> Any:
    """The pictures; a client that leaves before stops the job."""
    caller = host.Caller()
    job: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(_threads, _pictures, request, caller)
    leaving: asyncio.Future[Any] = asyncio.ensure_future(
        _disconnected(connection)
    )  # ends by itself once the answer is sent
    await asyncio.wait((job, leaving), return_when=asyncio.FIRST_COMPLETED)
    if not job.done():
        caller.leave()
    try:
        return await job
    except Exception as error:
        return problems.answer(error)


async def _disconnected(connection: Request) -> None:
    while (await connection.receive())["type"] != "http.disconnect":
        pass


def _pictures(request: Any, caller: host.Caller) -> dict[str, Any]:
    from modules.api.api import encode_pil_to_base64

    processed = host.run(request, caller=caller).processed
    pictures = [encode_pil_to_base64(image).decode() for image in processed.images] if request.send_images else []
    sent = request.model_dump()
    if not sent.get("include_init_images", True):
        sent["init_images"] = sent["mask"] = None
    return {"images": pictures, "parameters": sent, "info": processed.js()}


def _add_watching(router: APIRouter) -> None:
    from modules import shared
    from modules.api import models
    from modules.api.api import encode_pil_to_base64

    state = shared.state

    @router.get("/progress", response_model=models.ProgressResponse)
    def progress(skip_current_image: bool = False) -> Any:
        """Where the running job is."""
        if state.job_count == 0:
            return {"progress": 0, "eta_relative": 0, "state": state.dict(), "textinfo": state.textinfo}
        # The host starts at 0.01 too; the time left is known from the start then.
        done = min(0.01 + state.progress(), 1.0)
        left = (time.time() - state.time_start) * (1 - done) / done
        state.set_current_image()
        image = None if skip_current_image else state.current_image
        return {
            "progress": done,
            "eta_relative": left,
            "state": state.dict(),
            "current_image": encode_pil_to_base64(image).decode() if image else None,
            "textinfo": state.textinfo,
        }

    @router.post("/interrupt")
    def interrupt() -> dict[str, Any]:
        """End the running job after the current step; it gives what it has."""
        state.interrupt()
        return {}

    @router.post("/skip")
    def skip() -> None:
        """End the current batch of the running job."""
        state.skip()


def _add_reading(router: APIRouter) -> None:
    from modules import images, infotext_utils, script_callbacks
    from modules.api import models
    from modules.api.api import decode_base64_to_image

    @router.post("/png-info", response_model=models.PNGInfoResponse)
    def png_info(request: models.PNGInfoRequest) -> Any:
        """The infotext of a picture and what it says."""
        text, items = images.read_info_from_image(decode_base64_to_image(request.image.strip()))
        parameters = infotext_utils.parse_generation_parameters(text or "")
        script_callbacks.infotext_pasted_callback(text or "", parameters)
        return {"info": text or "", "items": items, "parameters": parameters}
