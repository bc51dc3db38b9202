"""Pictures decoded anew from what stage C has made: that of a tab's last job, or that of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from modules import call_queue, devices, images, infotext_utils, processing, shared
from PIL import Image

from ...errors import PrismError
from ...settings import CASCADE, Value
from ...settings.cascade import AUTO
from ..webui import told
from .decoders import checkpoint_of, named
from .decoding import decoding, in_progress
from .job import ERROR
from .latents import Picture

ENDING = ".safetensors"
OF_STAGE_C = ("compression", "shift_c", "rescale_c", "file_compression", "images", "image_strength")


@dataclass(frozen=True)
class Kept:
    """What a tab's last job leaves.

    Attributes:
        pictures: before stage B, in the job's order.
        overlays: what the host put over each of them in the end, and where; empty where it was not inpainting.
    """

    pictures: Sequence[Picture]
    overlays: Sequence[tuple[Any, Any]] = ()


kept: dict[str, Kept] = {}  # by the tab's name


def overlays(p: Any) -> list[tuple[Any, Any]]:
    """The part of an inpainted picture that stays, and the place of the rest, for each picture of a job."""
    found = getattr(p, "overlay_images", None) or []
    return [(p.paste_to, one) for one in found] * p.n_iter if shared.opts.overlay_inpaint else []


def last(tab: str) -> Kept:
    """What the tab's last job leaves; raises PrismError if that is nothing."""
    if tab not in kept:
        raise PrismError("Nothing to decode again: draw a picture with a Cascade checkpoint first, or give its latents")
    return kept[tab]


def chosen(tab: str, number: object) -> Kept:
    """The same, or one picture of it by its number from 0."""
    kept = last(tab)
    if number is None:
        return kept
    if not isinstance(number, int) or not 0 <= number < len(kept.pictures):
        raise PrismError(f"picture is {number}; the last job has pictures 0 to {len(kept.pictures) - 1}")
    return Kept(kept.pictures[number : number + 1], kept.overlays[number : number + 1])


def again(given: Kept, settings: Mapping[str, object], tab: str, *, save: bool = True) -> Any:
    """The pictures with these settings of the panel over their own; the host's `Processed`.

    Args:
        save: also as files, where the host's settings have pictures saved.

    Raises:
        PrismError: they cannot be decoded.
    """
    chosen = [_settings(one, settings) for one in given.pictures]
    with call_queue.queue_lock:
        shared.state.begin(job=f"{tab} decode")
        shared.state.job_count = 1
        try:
            return _decoded(given, chosen, tab, save)
        finally:
            shared.state.end()
            devices.torch_gc()


def _decoded(given: Kept, settings: Sequence[Mapping[str, Value]], tab: str, save: bool) -> Any:
    made, texts = [], []
    steps = [int(values["steps"]) for values in settings]
    with in_progress(sum(steps)) as stopped:
        for number, (picture, values) in enumerate(zip(given.pictures, settings)):
            tensor = decoding.decode([picture], values, _counted(stopped, sum(steps[:number])))[0]
            made.append(_overlaid(_image(tensor), given, number))
            texts.append(retold(picture.infotext, values))
            if shared.state.interrupted or shared.state.skipped:
                break
    p = _job(given.pictures[0], tab)
    p.all_seeds = [one.seed for one in given.pictures]
    for number, (image, text) in enumerate(zip(made, texts)):
        vars(p)["batch_index"] = number  # for names of files; the host puts it there while it draws
        _tell(image, text, p, save)
    return processing.Processed(p, made, p.all_seeds[0], texts[0], infotexts=texts)


def _counted(stopped: Callable[[int], bool], first: int) -> Callable[[int], bool]:
    return lambda step: stopped(first + step)


def _settings(picture: Picture, given: Mapping[str, object]) -> dict[str, Value]:
    """Given settings over the picture's own, but for what stage C was told; the decoder that belongs to it by name."""
    own = {name: value for name, value in picture.settings.items() if name in CASCADE.kept}
    values = CASCADE.over(CASCADE.read(own), given)
    values |= {name: CASCADE[name].check(own.get(name, values[name]), "latents") for name in OF_STAGE_C}
    checkpoint = checkpoint_of(picture.checkpoint)
    if values["decoder"] in ("", AUTO) and checkpoint is None:
        values["decoder"] = CASCADE["decoder"].check(own.get("decoder", AUTO), "latents")
    values |= {"preview_only": False, "preset": CASCADE.preset_of(values)}
    return named(values, checkpoint)


def _image(tensor: Any) -> Image.Image:
    """As the host makes a picture of (3,H,W) in -1..1."""
    pixels = 255.0 * np.moveaxis(((tensor.float().cpu() + 1) / 2).clamp(0, 1).numpy(), 0, 2)
    return Image.fromarray(pixels.astype(np.uint8))


def _overlaid(image: Image.Image, given: Kept, number: int) -> Image.Image:
    if number >= len(given.overlays):
        return image
    place, overlay = given.overlays[number]
    whole = processing.apply_overlay(image, place, overlay)
    return whole[0] if isinstance(whole, tuple) else whole


def _job(picture: Picture, tab: str) -> Any:
    """The host's own object of a job like that of the picture, for names of files and what its buttons read."""
    params = infotext_utils.parse_generation_parameters(picture.infotext, [])
    p = processing.StableDiffusionProcessingTxt2Img(
        outpath_samples=getattr(shared.opts, "outdir_samples", "") or getattr(shared.opts, f"outdir_{tab}_samples"),
        prompt=params.get("Prompt", ""),
        negative_prompt=params.get("Negative prompt", ""),
        seed=picture.seed,
        subseed=picture.subseed,
        subseed_strength=picture.subseed_strength,
        sampler_name=params.get("Sampler"),
        scheduler=params.get("Schedule type"),
        steps=int(params.get("Steps", 0) or 0),
        cfg_scale=float(params.get("CFG scale", 0) or 0),
        width=picture.size[0],
        height=picture.size[1],
    )
    p.all_prompts, p.all_negative_prompts = [p.prompt], [p.negative_prompt]
    p.all_subseeds = [picture.subseed]
    p.sd_model_name, p.sd_model_hash = picture.checkpoint, params.get("Model hash")
    return p


def _tell(image: Image.Image, text: str, p: Any, save: bool) -> None:
    """The picture has its infotext, and its file."""
    opts, seed = shared.opts, p.all_seeds[vars(p)["batch_index"]]
    if opts.enable_pnginfo:
        image.info["parameters"] = text
    if save and opts.samples_save:
        images.save_image(image, p.outpath_samples, "", seed, p.prompt, opts.samples_format, info=text, p=p)


def retold(text: str, values: Mapping[str, Value]) -> str:
    """A picture's infotext with these settings for those that are in it, and no error of those."""
    params = infotext_utils.parse_generation_parameters(text, [])
    now = told(CASCADE, values)
    for key in (ERROR,) if now else (ERROR, CASCADE.title):
        if key in params:
            text = text.replace(f", {_pair(key, params[key])}", "")
    if not now:
        return text
    if CASCADE.title not in params:
        return f"{text}, {_pair(CASCADE.title, now)}" if text else _pair(CASCADE.title, now)
    return text.replace(_pair(CASCADE.title, params[CASCADE.title]), _pair(CASCADE.title, now))


def _pair(key: str, value: str) -> str:
    return f"{key}: {infotext_utils.quote(value)}"


def save_beside(pictures: Sequence[Picture], p: Any, processed: Any) -> None:
    """A file of latents beside every picture that the host has saved; raises PrismError where it saved none."""
    masks = getattr(p, "mask_for_overlay", None) is not None
    each = 1 + (bool(shared.opts.return_mask) + bool(shared.opts.return_mask_composite) if masks else 0)
    first = processed.index_of_first_image
    for number, picture in enumerate(pictures):
        saved = getattr(processed.images[first + number * each], "already_saved_as", None)
        if saved is None:
            raise PrismError("Latents are saved beside their pictures, but this job saves none; switch that on")
        picture.save(Path(saved).with_suffix(ENDING))
