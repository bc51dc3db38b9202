""" "Prism Cascade" in a webui: sizes of latents, stage B after stage C, and what is kept of a job to decode it again.

The model's class loads and samples, see `model`. With any other model in use everything here passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from modules import devices, processing, rng, shared
from torch import Tensor

from ...errors import PrismError
from ...panels.cascade import ABSENT
from ...panels.compat import unavailable
from ...settings import CASCADE, Value
from ...settings.cascade import COMPRESSION
from ..undo import around, undo
from ..webui import loaded_model
from . import advice, again, guiding, http, loading, page, reading
from .decoders import named
from .decoding import HOST_FACTOR, decoding
from .job import DEFAULTS, CascadeJob, own
from .panel_host import CascadePanel
from .pictures import pictures
from .previews import is_cascade

ADVISED = 128  # pixels that sides are best multiples of
SAME_CHECKPOINT = (None, "", "Use same checkpoint")
ENCODER_HINT = f"put {reading.ENCODER} beside it and load it again"


class CascadeHost(CascadePanel):
    """Settings in the form that the job has them in."""

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        info = shared.sd_model.sd_checkpoint_info
        values = own(named(super()._values(p, args, family), info), info)
        values["images"] = image_prompt(str(values["images"]), float(values["image_strength"]))
        return {**values, "preset": CASCADE.preset_of(values)}


host = CascadeHost(CASCADE)
running: list[CascadeJob] = []  # jobs of Cascade, the inner one last


def register() -> None:
    host.register()
    undo.enter(CASCADE.name, held())
    loading.register()
    guiding.register()
    http.register()


def watch(script: Any) -> None:
    """Has the page's own controls found, for buttons and presets of the panel."""
    if loading.able():
        page.watch(script)


def ui(script: Any) -> list[Any]:
    if not loading.able():
        return unavailable(CASCADE.title, script.elem_id("panel"), ABSENT)
    return host.drawn(script, lambda: page.build(script))


# --- what is done to the host


def held() -> ExitStack:
    """Until it is closed: jobs are known to the model, and sizes of latents are the model's."""
    stack = ExitStack()
    stack.callback(decoding.release)
    stack.callback(again.kept.clear)
    stack.enter_context(around(processing, "process_images_inner", _job))
    stack.enter_context(guiding.wrapped())
    if hasattr(processing, "opt_f"):
        stack.enter_context(_factor())
    return stack


@contextmanager
def _factor(module: Any = processing) -> Iterator[None]:
    """`opt_f` of the host, by which it divides pixels to get latents."""
    original = module.opt_f
    factor = Factor(original)
    module.opt_f = factor
    try:
        yield
    finally:
        factor.on = False
        if module.opt_f is factor:
            module.opt_f = original


class Factor(int):
    """The host's own factor, which divides by the compression while a Cascade model is in use."""

    on = True

    def __rfloordiv__(self, pixels: int) -> int:
        return pixels // (compression() if self.on and in_use() else int(self))


def in_use() -> bool:
    """Whether the loaded model is one of ours."""
    return is_cascade(loaded_model())


def compression() -> int:
    """Pixels to a side of the running job's stage C."""
    return int(running[-1].values["compression"]) if running else COMPRESSION


def _job(original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
    """A job, with scripts or without; of one without, the model knows nothing else."""
    job = CascadeJob(p)
    running.append(job)
    try:
        with _told(job):
            return original(p, *args, **kwargs)
    finally:
        running.remove(job)


@contextmanager
def _told(job: CascadeJob) -> Iterator[None]:
    """The model in use knows the job, and the one outside of it again afterwards."""
    model = loaded_model()
    if not is_cascade(model):
        yield
        return
    before, shift = model.prism_job, model.shift
    model.prism_job = job
    try:
        yield
    finally:
        model.prism_job, model.shift = before, shift


# --- a job


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job, before anything is drawn; a job that cannot be drawn is refused here."""
    host.forget(p)
    for text in advice.before_job(p):
        host.remark(p, text)
    if not in_use():
        decoding.release()  # a host that takes a model again that it had kept does not say that it has loaded one
        return
    values = host.begin(p, args)
    loaded_model().shift = float((values or DEFAULTS)["shift_c"])
    refused = _refusal(p)
    if refused:
        p.init = partial(_refuse, refused)  # hosts pass over the errors of scripts, not over those of a job
        return
    for text in _size_advice(p):
        host.remark(p, text)


def image_prompt(text: str, strength: float) -> str:
    """Has the running job follow pictures; they by their hashes. Without one of them the job has none, and is told."""
    job = running[-1]
    try:
        asked = pictures.asked(text) if strength else []
        if asked:
            weights = torch.tensor([[strength * one.weight] for one in asked])
            job.images = loaded_model().vectors([one.name for one in asked]) * weights
    except PrismError as error:
        job.tell(error)
        return ""
    return " ".join(map(str, asked))


def _is_ours(p: Any) -> bool:
    """Whether this is the running job, and one of ours."""
    return bool(running) and running[-1].p is p and in_use()


def _refuse(text: str, *args: Any) -> None:
    raise PrismError(text)


def _refusal(p: Any) -> str:
    """Why this job cannot be drawn; "" if it can."""
    pictured = loaded_model().first_stage_model.encoder is not None
    if getattr(p, "init_images", None) and not pictured:
        return f"This Cascade checkpoint has no picture encoder, which img2img needs; {ENCODER_HINT}"
    if not getattr(p, "enable_hr", False):
        return ""
    upscaler = p.hr_upscaler or shared.latent_upscale_default_mode
    if upscaler in shared.latent_upscale_modes:
        return f'Cascade\'s latents cannot be enlarged by "{upscaler}"; choose an upscaler of pictures, such as Lanczos'
    if p.hr_checkpoint_name in SAME_CHECKPOINT and not pictured:
        return f"This Cascade checkpoint has no picture encoder, which hires fix needs; {ENCODER_HINT}"
    return ""


def _size_advice(p: Any) -> Iterator[str]:
    if p.width % ADVISED or p.height % ADVISED:
        near = "x".join(str(max(round(side / ADVISED), 1) * ADVISED) for side in (p.width, p.height))
        yield f"sides that are multiples of {ADVISED} are drawn best; the nearest size is {near}"


def before_batch(p: Any, batch: int) -> None:
    """The noise of stage C in its own size, and of the hires pass the part to cut off."""
    if not _is_ours(p):
        return
    factor = compression()
    p.rng = _noise(p, (16, p.height // factor, p.width // factor))
    if getattr(p, "truncate_x", 0) or getattr(p, "truncate_y", 0):
        p.truncate_x = p.hr_upscale_to_x // factor - min(p.hr_upscale_to_x, p.hr_resize_x) // factor
        p.truncate_y = p.hr_upscale_to_y // factor - min(p.hr_upscale_to_y, p.hr_resize_y) // factor
    if batch == 0 and not running[-1].values["preview_only"]:
        running[-1].counted = True
        shared.state.job_count += p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)


def _noise(p: Any, shape: Sequence[int]) -> Any:
    """The host's noise of a batch; it divides the size that a seed is resized from by its own factor."""
    factor = compression()
    return rng.ImageRNG(
        shape,
        p.seeds,
        subseeds=p.subseeds,
        subseed_strength=p.subseed_strength,
        seed_resize_from_h=p.seed_resize_from_h // factor * HOST_FACTOR,
        seed_resize_from_w=p.seed_resize_from_w // factor * HOST_FACTOR,
    )


def before_sampling(p: Any, noise: Tensor) -> None:
    """The hires pass may have another model, and has noise of its own."""
    if not _is_ours(p):
        return
    loaded_model().prism_job = running[-1]
    if getattr(p, "is_hr_pass", False) and p.seed_resize_from_w > 0 and p.seed_resize_from_h > 0:
        p.rng = _noise(p, noise.shape[1:])
        noise.copy_(p.rng.next())


def after_sampling(p: Any, ps: Any) -> None:
    """Stage B for the whole batch; the host then has nothing left to decode."""
    latents = ps.samples
    if not _is_ours(p):
        return
    for text in advice.while_drawn():
        host.remark(p, text)
    if getattr(latents, "already_decoded", False) or bool(torch.isnan(latents).any()):
        return  # the host tells of NaN
    ps.samples = processing.DecodedSamples(decoding.of_job(latents, running[-1]).to(devices.cpu))


def after_job(p: Any, processed: Any) -> None:
    """Keeps what stage C made, with the infotexts of its pictures, and saves it where that is asked for."""
    if not _is_ours(p) or not running[-1].pictures:
        return
    job = running[-1]
    texts = processed.infotexts[processed.index_of_first_image :]
    pictures = [job.pictures[number].told(text) for number, text in zip(sorted(job.pictures), texts)]
    tab = "img2img" if hasattr(p, "init_images") else "txt2img"
    again.kept[tab] = again.Kept(pictures, again.overlays(p))
    if job.values["save_latents"]:
        try:
            again.save_beside(pictures, p, processed)
        except (PrismError, OSError) as error:
            job.remark(str(error))
