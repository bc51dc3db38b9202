"""One job: from parameters to pictures, with every hook at the place where the host calls it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from sd_prism.errors import PrismError
from sd_prism.files import write_whole

from modules import devices, extra_networks, images, paths, rng, scripts, sd_models, sd_samplers, sd_vae, shared
from modules.processing_core import (
    DecodedSamples,
    StableDiffusionProcessing,
    create_random_tensors,
    decode_latent_batch,
    fix_seed,
    get_fixed_seed,
    opt_C,
    opt_f,
    txt2img_image_conditioning,
)
from modules.processing_img2img import StableDiffusionProcessingImg2Img, create_binary_mask
from modules.processing_infotext import Processed, create_infotext, program_version
from modules.processing_txt2img import StableDiffusionProcessingTxt2Img
from modules.rng import slerp
from modules.sd_hijack import model_hijack
from modules.sd_samplers_common import approximation_indexes, decode_first_stage, images_tensor_to_samples
from modules.shared import opts, state

__all__ = [
    "DecodedSamples",
    "Processed",
    "StableDiffusionProcessing",
    "StableDiffusionProcessingImg2Img",
    "StableDiffusionProcessingTxt2Img",
    "apply_overlay",
    "approximation_indexes",
    "create_binary_mask",
    "create_infotext",
    "create_random_tensors",
    "decode_first_stage",
    "decode_latent_batch",
    "fix_seed",
    "get_fixed_seed",
    "images_tensor_to_samples",
    "opt_C",
    "opt_f",
    "process_images",
    "process_images_inner",
    "program_version",
    "slerp",
    "txt2img_image_conditioning",
    "uncrop",
]


def uncrop(image: Image.Image, dest_size: tuple[int, int], paste_loc: tuple[int, int, int, int]) -> Image.Image:
    """An RGBA picture of `dest_size`, transparent but for `image` at paste_loc (x, y, width, height)."""
    x, y, w, h = paste_loc
    base = Image.new("RGBA", dest_size)
    base.paste(images.resize_image(1, image, w, h), (x, y))
    return base


def apply_overlay(
    image: Image.Image, paste_loc: tuple[int, int, int, int] | None, overlay: Image.Image | None
) -> tuple[Image.Image, Image.Image]:
    """(the picture under what the mask keeps, the picture alone in the same place)."""
    if overlay is None:
        return image, image.copy()
    if paste_loc is not None:
        image = uncrop(image, overlay.size, paste_loc)
    alone = image.copy()
    image = image.convert("RGBA")
    image.alpha_composite(overlay)
    return image.convert("RGB"), alone


def process_images(p: StableDiffusionProcessing) -> Processed:
    """Run the job with its override settings."""
    if p.scripts is not None:
        p.scripts.before_process(p)
    stored = {k: opts.data.get(k, opts.get_default(k)) for k in p.override_settings if k in opts.data}
    try:
        if sd_models.checkpoint_aliases.get(p.override_settings.get("sd_model_checkpoint", "")) is None:
            p.override_settings.pop("sd_model_checkpoint", None)
            sd_models.reload_model_weights()
        for key, value in p.override_settings.items():
            opts.set(key, value, is_api=True, run_callbacks=False)
            if key == "sd_model_checkpoint":
                sd_models.reload_model_weights()
            if key == "sd_vae":
                sd_vae.reload_vae_weights()
        p.sampler_name, p.scheduler = sd_samplers.get_sampler_and_scheduler(
            p.sampler_name, p.scheduler, convert_automatic=False
        )
        return process_images_inner(p)
    finally:
        if p.override_settings_restore_afterwards:
            for key, value in stored.items():
                setattr(opts, key, value)
                if key == "sd_vae":
                    sd_vae.reload_vae_weights()


def process_images_inner(p: StableDiffusionProcessing) -> Processed:
    """All batches of the job."""
    if p.refiner_checkpoint not in (None, "", "None", "none"):
        raise PrismError("refiner_checkpoint is not available in the studio; leave it out")
    p.restore_faces, p.tiling = bool(p.restore_faces), bool(p.tiling)
    model = shared.sd_model
    if hasattr(model, "fix_dimensions"):
        p.width, p.height = model.fix_dimensions(p.width, p.height)
    p.sd_model_name, p.sd_model_hash = model.sd_checkpoint_info.name_for_extra, model.sd_model_hash
    p.sd_vae_name, p.sd_vae_hash = sd_vae.get_loaded_vae_name(), sd_vae.get_loaded_vae_hash()
    model_hijack.clear_comments()
    p.fill_fields_from_opts()
    p.setup_prompts()
    p.setup_seeds()
    if not p.do_not_reload_embeddings:
        model_hijack.embedding_db.load_textual_inversion_embeddings()
    if p.scripts is not None:
        p.scripts.process(p)
    with torch.no_grad():
        infotexts, output_images = _all_batches(p)
        return _finish_job(p, infotexts, output_images)


def _all_batches(p: StableDiffusionProcessing) -> tuple[list[str], list[Image.Image]]:
    p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
    if state.job_count == -1:
        state.job_count = p.n_iter

    infotexts: list[str] = []
    output_images: list[Image.Image] = []
    for n in range(p.n_iter):
        p.iteration = n
        state.skipped = False
        if state.interrupted or state.stopping_generation or not _prepare_batch(p, n):
            break
        _finish_pictures(p, _batch_pictures(p, n), infotexts, output_images)
    return infotexts, output_images


def _prepare_batch(p: StableDiffusionProcessing, n: int) -> bool:
    """Everything of batch n up to its conds; False when a script took all prompts away."""
    sd_models.reload_model_weights()  # a script may have chosen another model
    _take_batch(p, n, "prompts", "negative_prompts", "seeds", "subseeds")
    channels = getattr(shared.sd_model, "latent_channels", opt_C)
    p.rng = rng.ImageRNG(
        (channels, p.height // opt_f, p.width // opt_f),
        p.seeds,
        subseeds=p.subseeds,
        subseed_strength=p.subseed_strength,
        seed_resize_from_h=p.seed_resize_from_h,
        seed_resize_from_w=p.seed_resize_from_w,
    )
    batch: dict[str, Any] = {"batch_number": n, "prompts": p.prompts, "seeds": p.seeds, "subseeds": p.subseeds}
    if p.scripts is not None:
        p.scripts.before_process_batch(p, **batch)
    if not p.prompts:
        return False
    p.parse_extra_network_prompts()
    if not p.disable_extra_networks:
        extra_networks.activate(p, p.extra_network_data)
    if p.scripts is not None:
        p.scripts.process_batch(p, **{**batch, "prompts": p.prompts})
    p.setup_conds()
    p.extra_generation_params.update(model_hijack.extra_generation_params)
    if n == 0:
        _remember_params(p)
    for comment in model_hijack.comments:
        p.comment(comment)
    if p.n_iter > 1:
        state.job = f"Batch {n + 1} out of {p.n_iter}"
    return True


def _take_batch(p: StableDiffusionProcessing, n: int, *names: str) -> None:
    for name in names:
        setattr(p, name, getattr(p, f"all_{name}")[n * p.batch_size : (n + 1) * p.batch_size])


def _remember_params(p: StableDiffusionProcessing) -> None:
    """params.txt: what pasting from an empty prompt restores."""
    os.makedirs(paths.data_path, exist_ok=True)
    write_whole(os.path.join(paths.data_path, "params.txt"), Processed(p, []).infotext(p, 0))


def _batch_pictures(p: StableDiffusionProcessing, n: int) -> list[torch.Tensor]:
    """The pictures (3,H,W) in 0..1 of batch n, after the batch hooks."""
    samples = p.sample(
        conditioning=p.c,
        unconditional_conditioning=p.uc,
        seeds=p.seeds,
        subseeds=p.subseeds,
        subseed_strength=p.subseed_strength,
        prompts=p.prompts,
    )
    if p.scripts is not None:
        ps = scripts.PostSampleArgs(samples)
        p.scripts.post_sample(p, ps)
        samples = ps.samples
    if not getattr(samples, "already_decoded", False):
        devices.test_for_nans(samples, "unet")
        samples = decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
    pictures = torch.clamp((torch.stack(list(samples)).float() + 1.0) / 2.0, min=0.0, max=1.0)
    devices.torch_gc()
    state.nextjob()
    if p.scripts is None:
        return list(pictures)
    p.scripts.postprocess_batch(p, pictures, batch_number=n)
    _take_batch(p, n, "prompts", "negative_prompts")
    batch = scripts.PostprocessBatchListArgs(list(pictures))
    p.scripts.postprocess_batch_list(p, batch, batch_number=n)
    return batch.images


def _finish_pictures(p: StableDiffusionProcessing, pictures: list, infotexts: list[str], output: list) -> None:
    """Save the pictures of a batch and append them and their infotexts."""
    saves = p.save_samples()
    for i, pixels in enumerate(pictures):
        p.batch_index = i
        image = Image.fromarray((255.0 * np.moveaxis(pixels.cpu().numpy(), 0, 2)).astype(np.uint8))
        image = _after_hook(p, "postprocess_image", image)
        mask, overlay = _mask_and_overlay(p, i)
        image, alone = apply_overlay(image, p.paste_to, overlay)
        image = _after_hook(p, "postprocess_image_after_composite", image)
        if saves:
            _save(p, i, image)
        infotexts.append(_infotext(p, i))
        if opts.enable_pnginfo:
            image.info["parameters"] = infotexts[-1]
        output.append(image)
        if mask is not None:
            _add_mask_pictures(p, i, mask, alone, output, saves)


def _after_hook(p: StableDiffusionProcessing, hook: str, image: Image.Image) -> Image.Image:
    if p.scripts is None:
        return image
    args = scripts.PostprocessImageArgs(image)
    getattr(p.scripts, hook)(p, args)
    return args.image


def _mask_and_overlay(p: StableDiffusionProcessing, i: int) -> tuple[Image.Image | None, Image.Image | None]:
    """The inpaint mask, and what is laid over picture i."""
    mask, overlays = getattr(p, "mask_for_overlay", None), p.overlay_images or []
    overlay = overlays[i] if opts.overlay_inpaint and i < len(overlays) else None
    if p.scripts is None:
        return mask, overlay
    args = scripts.PostProcessMaskOverlayArgs(i, mask, overlay)
    p.scripts.postprocess_maskoverlay(p, args)
    return args.mask_for_overlay, args.overlay_image


def _infotext(p: StableDiffusionProcessing, i: int) -> str:
    """The infotext of picture i of the current batch."""
    return create_infotext(p, p.prompts, p.seeds, p.subseeds, index=i, all_negative_prompts=p.negative_prompts)


def _save(p: StableDiffusionProcessing, i: int, image: Image.Image, suffix: str = "") -> None:
    images.save_image(
        image,
        str(p.outpath_samples),
        "",
        p.seeds[i],
        p.prompts[i],
        opts.samples_format,
        info=_infotext(p, i),
        p=p,
        suffix=suffix,
    )


def _add_mask_pictures(
    p: StableDiffusionProcessing, i: int, mask: Image.Image, alone: Image.Image, output: list, saves: bool
) -> None:
    """The mask, and the drawn part alone on transparency, where the settings ask for them."""
    if opts.return_mask or opts.save_mask:
        picture = mask.convert("RGB")
        if saves and opts.save_mask:
            _save(p, i, picture, "-mask")
        if opts.return_mask:
            output.append(picture)
    if opts.return_mask_composite or opts.save_mask_composite:
        shown = images.resize_image(2, mask, *alone.size).convert("L")
        picture = Image.composite(alone.convert("RGBA").convert("RGBa"), Image.new("RGBa", alone.size), shown)
        picture = picture.convert("RGBA")
        if saves and opts.save_mask_composite:
            _save(p, i, picture, "-mask-composite")
        if opts.return_mask_composite:
            output.append(picture)


def _add_grid(p: StableDiffusionProcessing, infotexts: list[str], output: list) -> int:
    """Put a grid before the pictures if one is wanted; the index of the first picture."""
    wanted = (opts.return_grid or opts.grid_save) and not p.do_not_save_grid
    if not output or not wanted or (len(output) < 2 and opts.grid_only_if_multiple):
        return 0
    grid = images.image_grid(output, p.batch_size)
    text = create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds, use_main_prompt=True)
    if opts.grid_save:
        images.save_image(grid, str(p.outpath_grids), "grid", extension=opts.grid_format, info=text, p=p, grid=True)
    if not opts.return_grid:
        return 0
    infotexts.insert(0, text)
    grid.info["parameters"] = text
    output.insert(0, grid)
    return 1


def _finish_job(p: StableDiffusionProcessing, infotexts: list[str], output: list) -> Processed:
    if not infotexts:
        infotexts.append(Processed(p, []).infotext(p, 0))
    first = _add_grid(p, infotexts, output)
    if not p.disable_extra_networks and p.extra_network_data:
        extra_networks.deactivate(p, p.extra_network_data)
    devices.torch_gc()
    processed = Processed(
        p,
        output,
        seed=p.all_seeds[0],
        info=infotexts[0],
        subseed=p.all_subseeds[0],
        index_of_first_image=first,
        infotexts=infotexts,
    )
    if p.scripts is not None:
        p.scripts.postprocess(p, processed)
    return processed
