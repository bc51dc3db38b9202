"""The jobs whose hooks are compared between hosts, and the log that they leave."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from contract.hosts import SECOND, Host, Picture
from PIL import Image, ImageDraw
from sd_prism.namespaces.escape import plain
from sd_prism.settings import FREEU, NAMESPACES

PROBE_TITLE = "Contract probe"
JOB: dict[str, Any] = {
    "prompt": "a red fish in the sea",
    "sampler_name": "Euler",
    "scheduler": "Automatic",
    "steps": 4,
    "cfg_scale": 5,
    "seed": 1,
    "subseed": 1,
    "width": 64,
    "height": 64,
}
HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
# Two pictures and their grid, all written to disk.
KEPT = {"batch_size": 2, "save_images": True, "override_settings": {"grid_save": True}}
# The model is loaded in a thread of its own, so its lines fall anywhere among the others.
OF_THE_MODEL = ("model_loaded", "activate")


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def half_mask(size: int = 64) -> Image.Image:
    """White, which is drawn anew, on the right half."""
    mask = Image.new("L", (size, size), 0)
    ImageDraw.Draw(mask).rectangle((size // 2, 0, size, size), fill=255)
    return mask


def start_picture(size: int = 64) -> Image.Image:
    """A blue disc on green."""
    picture = Image.new("RGB", (size, size), (40, 160, 60))
    ImageDraw.Draw(picture).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill=(30, 60, 200))
    return picture


def inpainting(**fields: Any) -> dict[str, Any]:
    return {
        **JOB,
        "init_images": [encoded(start_picture())],
        "mask": encoded(half_mask()),
        "denoising_strength": 0.6,
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "mask_blur": 0,
        **fields,
    }


def freeu(*args: Any, title: str = FREEU.title) -> dict[str, Any]:
    """A request's part that hands these arguments to the script."""
    return {"alwayson_scripts": {title: {"args": list(args)}}}


def namespaces(*args: Any) -> dict[str, Any]:
    """The same for "Prism Namespaces"."""
    return freeu(*args, title=NAMESPACES.title)


def wishing(wish: str, *args: Any, **fields: Any) -> dict[str, Any]:
    """A job in which the probe misbehaves, with these arguments for FreeU."""
    scripts = freeu(*args)["alwayson_scripts"] if args else {}
    return {**JOB, **fields, "alwayson_scripts": {**scripts, PROBE_TITLE: {"args": [wish]}}}


AS_WRITTEN = {"dialect": "pass"}


def tagged(host: Host, *args: Any, **fields: Any) -> list[Picture]:
    """A quick job with these arguments for "Prism Namespaces", if any."""
    return host.draw({**JOB, "steps": 1, **(namespaces(*args) if args else {}), **fields})


def batches(host: Host, *args: Any, **fields: Any) -> list[dict[str, Any]]:
    """What such a job was about to encode, batch by batch."""
    host.get("/contract/prompts")
    tagged(host, *args, **fields)
    return list(host.get("/contract/prompts"))


def told(host: Host, *args: Any, **fields: Any) -> str:
    """The one prompt that such a job was about to encode."""
    (batch,) = batches(host, *args, **fields)
    (prompt,) = batch["prompts"]
    return str(prompt)


def unescaped(text: str) -> str:
    """What a host reads in a rendered text that has no weights."""
    return plain(text).replace("\\", "")


def difference(one: Picture, other: Picture) -> int:
    """The largest of all pixels' differences, of 255."""
    return int(np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max())


def same(host: Host, one: Picture, other: Picture) -> bool:
    """Whether two pictures are one, as far as the host draws a job twice the same."""
    return one.infotext == other.infotext and difference(one, other) <= host.noise


def logged(host: Host, request: dict[str, Any]) -> list[str]:
    host.hooks()
    host.draw(request)
    return without_builds(host.hooks())


def without_builds(lines: list[str]) -> list[str]:
    """Drops the call of all networks that a new model makes: a host may also load into the model that is there."""
    return [line for before, line in zip(["", *lines], lines) if (before, line) != ("model_loaded model", "activate 0")]


def hook_log(host: Host) -> dict[str, list[str]]:
    """The probe's lines of a start, a Reload UI and three jobs with all their hooks."""
    host.hooks()
    host.reload()
    return {
        "start": [line for line in host.boot if not line.startswith(OF_THE_MODEL)],
        "reload": [line for line in host.hooks() if not line.startswith(OF_THE_MODEL)],
        "txt2img": logged(host, {**JOB, **KEPT}),
        "tag": logged(host, {**JOB, "prompt": "a red fish <probe:1:a=2> in the sea", "n_iter": 2}),
        "hires": logged(host, {**JOB, **HIRES}),
        "override": logged(host, {**JOB, "override_settings": {"sd_model_checkpoint": SECOND}}),
        "img2img": logged(host, inpainting()),
        "img2img of a timestep sampler": logged(host, inpainting(sampler_name="DDIM")),
    }
