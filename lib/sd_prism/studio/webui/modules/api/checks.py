"""What a request may hold. All of it is looked at before anything is loaded."""

from __future__ import annotations

import math
import re
from typing import Any

from PIL import Image
from sd_prism.errors import OutOfRange, PrismError, UnknownName

from modules import processing, sd_models, sd_samplers, sd_schedulers, shared, shared_options
from modules.api.api import LONGEST_SIDE, decode_base64_to_image
from modules.api.models import RANGES, Request

MAX_PROMPT = 20_000
PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
FINITE = ("cfg_scale", "subseed_strength", "image_cfg_scale")
SEEDS = ("seed", "subseed")
NOT_HERE = ("refiner_checkpoint", "restore_faces", "tiling")
PICTURES = ("mask", "latent_mask", "firstpass_image")
HIRES_DENOISING = 0.75
SHORTEST_SIDE = 64
# One batch takes memory by its pixels: as many as the host's own page can ask for, 8 pictures of 2048x2048.
PIXELS_AT_ONCE = 8 * 2048 * 2048
# All pictures of a job are held until it ends: 3 GB, or 1024 pictures of 1024x1024.
PIXELS_OF_JOB = 1024 * 1024 * 1024


def checked(request: Request) -> Request:
    """The request as it will run: names in their full spelling, pictures as PIL pictures.

    Raises:
        PrismError: for the first thing that is wrong.
    """
    job = request.model_copy()
    for name in PROMPTS:
        _check_length(name, getattr(job, name, ""))
    for name in FINITE:
        _check_finite(name, getattr(job, name, None))
    for name in SEEDS:
        if getattr(job, name) is None:
            setattr(job, name, -1)
    for name in RANGES:
        if getattr(job, name, None) is not None:
            _check_range(job, name)
    for name in ("width", "height"):
        _check_multiple(name, getattr(job, name))
    for name in NOT_HERE:
        if getattr(job, name):
            raise PrismError(f"{name} is nothing that the studio can do; leave it out")
    _check_names(job)
    _check_styles(job)
    if getattr(job, "enable_hr", False):
        _check_hires(job)
    _read_pictures(job)
    return job


def check_letters(request: Request) -> None:
    """Raise PrismError for text that no file can hold."""
    for name, value in request:
        _check_letters(name, value)


def _check_letters(name: str, value: Any) -> None:
    """Half of a two-part character, which JSON can say and no file can hold."""
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        _check_letters(name, part)
    half = re.search("[\ud800-\udfff]", value) if isinstance(value, str) else None
    if half:
        raise PrismError(f"{name} has half a character (U+{ord(half[0]):X}) at {half.start()}; send the whole one")


def _check_length(name: str, text: str) -> None:
    if len(text) > MAX_PROMPT:
        raise PrismError(f"{name} has {len(text)} characters; the studio takes at most {MAX_PROMPT}")


def _check_finite(name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise PrismError(f"{name} is {value}; it must be a number")


def _check_range(job: Request, name: str) -> None:
    value, (low, high) = getattr(job, name), RANGES[name]
    if 2**64 < abs(value) < math.inf:  # too long to be shown
        raise PrismError(f"{name} is far outside its range; it must lie between {low:g} and {high:g} ({job.tab})")
    if not low <= value <= high:
        raise OutOfRange(name, value, low, high, job.tab)


def _check_multiple(name: str, value: int | None) -> None:
    if value is not None and value % 8:
        below = value - value % 8
        raise PrismError(f"{name} is {value}; it must be a multiple of 8. Nearest: {below} and {below + 8}")


def _sampler_and_scheduler(name: str, scheduler: str | None) -> tuple[str, str]:
    """Both in the host's spelling; an older sampler name may end in a schedule."""
    sampler, schedule = sd_samplers.split_name(name)
    if sampler.lower() not in sd_samplers.samplers_map:
        raise UnknownName("Sampler not found: sampler", name, sd_samplers.all_samplers_map)
    wanted = scheduler or schedule or "Automatic"
    labels = {x.label.lower(): x.label for x in sd_schedulers.schedulers}
    labels |= {x.name.lower(): x.label for x in sd_schedulers.schedulers}
    if wanted.lower() not in labels:
        raise UnknownName("schedule", wanted, [x.label for x in sd_schedulers.schedulers])
    return sd_samplers.samplers_map[sampler.lower()], labels[wanted.lower()]


def _check_names(job: Request) -> None:
    name = job.sampler_name or job.sampler_index or "Euler"
    job.sampler_name, job.scheduler = _sampler_and_scheduler(name, job.scheduler)
    job.override_settings = settings_checked(job.override_settings or {})


def settings_checked(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with values of the right types; raises PrismError for an unknown one or a wrong value."""
    settings = dict(given)
    own = shared_options.templates()
    for key, value in settings.items():
        if key not in shared.opts.data_labels:
            raise UnknownName("setting", key, shared.opts.data_labels)
        # None means "as it is" where no value is the default.
        if key in own and (value is not None or own[key].default is not None):
            settings[key] = shared_options.checked(key, value)
    if settings.get("sd_model_checkpoint"):
        settings["sd_model_checkpoint"] = sd_models.find(str(settings["sd_model_checkpoint"])).title
    return settings


def _check_styles(job: Request) -> None:
    for name in job.styles or []:
        if name not in shared.prompt_styles.styles:
            raise UnknownName("style", name, shared.prompt_styles.styles)


def _check_hires(job: Any) -> None:
    """The page's words for "as in the first pass" mean None."""
    for name in ("hr_resize_x", "hr_resize_y"):
        side = getattr(job, name)
        if 0 < side < SHORTEST_SIDE:
            raise PrismError(f"{name} is {side}; it must be 0 or at least {SHORTEST_SIDE}. Nearest: {SHORTEST_SIDE}")
        _check_multiple(name, side)
    for name, kind in (("sampler_name", "sampler"), ("scheduler", "scheduler"), ("checkpoint_name", "checkpoint")):
        if getattr(job, f"hr_{name}") in ("", f"Use same {kind}"):
            setattr(job, f"hr_{name}", None)
    if job.denoising_strength is None:
        job.denoising_strength = HIRES_DENOISING
    upscalers = [*shared.latent_upscale_modes, *(upscaler.name for upscaler in shared.sd_upscalers)]
    if job.hr_upscaler is not None and job.hr_upscaler not in upscalers:
        raise UnknownName("hr_upscaler", job.hr_upscaler, upscalers)
    sampler, scheduler = _sampler_and_scheduler(job.hr_sampler_name or job.sampler_name, job.hr_scheduler)
    if job.hr_sampler_name:
        job.hr_sampler_name = sampler
    if job.hr_scheduler:
        job.hr_scheduler = scheduler
    if job.hr_checkpoint_name:
        job.hr_checkpoint_name = sd_models.find(job.hr_checkpoint_name).title


def check_size(job: Any) -> None:
    """Raise PrismError when the pictures would take too much memory; width and height must be known."""
    width, height = _hires_size(job) if getattr(job, "enable_hr", False) else (job.width, job.height)
    _check_batch(job, width, height)
    if job.tab == "img2img" and job.mask is not None and job.inpaint_full_res:  # put back into the whole picture
        width, height = max((image.size for image in job.init_images), key=math.prod)
    most = PIXELS_OF_JOB // (width * height * job.batch_size)
    if job.n_iter > most:
        job_of = f"n_iter is {job.n_iter}, with {job.batch_size} pictures of {width}x{height} in each batch"
        raise PrismError(
            f"{job_of}; a job may have at most {PIXELS_OF_JOB / 1e6:.0f} megapixels in all. "
            + (f"Nearest: n_iter {most}" if most else "Lower batch_size or the size of the picture")
        )


def _check_batch(job: Any, width: int, height: int) -> None:
    most = PIXELS_AT_ONCE // (width * height)
    if job.batch_size > most:
        side = math.isqrt(PIXELS_AT_ONCE // 64) * 8
        raise PrismError(
            f"batch_size is {job.batch_size}, with pictures of {width}x{height}; at most "
            f"{PIXELS_AT_ONCE / 1e6:.1f} megapixels can be drawn at once. "
            + (f"Nearest: batch_size {most}" if most else f"Choose a smaller hires size, such as {side}x{side}")
        )


def _hires_size(job: Any) -> tuple[int, int]:
    """Width and height of the second pass, with what is cut away; neither is too long."""
    p = processing.StableDiffusionProcessingTxt2Img(
        width=job.width,
        height=job.height,
        enable_hr=True,
        hr_scale=job.hr_scale,
        hr_resize_x=job.hr_resize_x,
        hr_resize_y=job.hr_resize_y,
    )
    p.calculate_target_resolution()
    for name, side in (("width", p.hr_upscale_to_x), ("height", p.hr_upscale_to_y)):
        if not processing.opt_f <= side <= LONGEST_SIDE:
            between = f"between {processing.opt_f} and {LONGEST_SIDE}"
            raise PrismError(f"The hires pass would give a {name} of {side}; it must lie {between}")
    return p.hr_upscale_to_x, p.hr_upscale_to_y


def _read_pictures(job: Any) -> None:
    if job.tab == "img2img":
        if not job.init_images:
            extra = "; a mask alone is not enough" if job.mask else ""
            raise PrismError(f"init_images has no picture{extra}; send at least one in base64")
        if len(job.init_images) > job.batch_size > 0 and len(job.init_images) > 1:
            count = f"init_images has {len(job.init_images)} pictures and batch_size is {job.batch_size}"
            raise PrismError(f"{count}; send one for all, or at most one for each picture of the batch")
        job.init_images = [_picture(value, f"init_images[{i}]") for i, value in enumerate(job.init_images)]
    for name in PICTURES:
        if getattr(job, name, None) is not None:
            setattr(job, name, _picture(getattr(job, name), name))


def _picture(value: Any, name: str) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, str):
        raise PrismError(f"{name} is {repr(value)[:80]}; it must be a picture file in base64")
    return decode_base64_to_image(value, name)
