"""The outcome of a job, and the text that is saved with each picture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sd_prism

from modules import errors, infotext_utils, sd_samplers_common
from modules.shared import opts, state

if TYPE_CHECKING:
    from modules.processing_core import StableDiffusionProcessing


def program_version() -> str:
    """Named in the infotext."""
    return f"Prism {getattr(sd_prism, '__version__', '0')}"


class Processed:
    """The outcome of a job."""

    def __init__(
        self,
        p: StableDiffusionProcessing,
        images_list: list,
        seed: Any = -1,
        info: str = "",
        subseed: Any = None,
        all_prompts: list | None = None,
        all_negative_prompts: list | None = None,
        all_seeds: list | None = None,
        all_subseeds: list | None = None,
        index_of_first_image: int = 0,
        infotexts: list | None = None,
        comments: str = "",
    ) -> None:
        def first(value: Any) -> Any:
            return value[0] if isinstance(value, list) else value

        for name in _COPIED:
            setattr(self, name, getattr(p, name, None))
        self.images, self.info, self.index_of_first_image = images_list, info, index_of_first_image
        self.prompt, self.negative_prompt = first(p.prompt), first(p.negative_prompt)
        self.seed = -1 if seed is None else int(first(seed))
        self.subseed = -1 if subseed is None else int(first(subseed))
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.face_restoration_model = None
        self.job_timestamp = state.job_timestamp
        self.clip_skip = opts.CLIP_stop_at_last_layers
        self.all_prompts = all_prompts or p.all_prompts or [self.prompt]
        self.all_negative_prompts = all_negative_prompts or p.all_negative_prompts or [self.negative_prompt]
        self.all_seeds = all_seeds or p.all_seeds or [self.seed]
        self.all_subseeds = all_subseeds or p.all_subseeds or [self.subseed]
        self.infotexts = infotexts or [info] * len(images_list)
        self.batch_size = p.batch_size
        self.version = program_version()

    def js(self) -> str:
        """The fields that the API gives as "info", as JSON."""
        found = {name: getattr(self, name) for name in _JSON}
        found["prompt"], found["negative_prompt"] = self.all_prompts[0], self.all_negative_prompts[0]
        return json.dumps(found, default=lambda o: None)

    def infotext(self, p: StableDiffusionProcessing, index: int) -> str:
        """The infotext of picture `index`."""
        return create_infotext(
            p,
            self.all_prompts,
            self.all_seeds,
            self.all_subseeds,
            comments=[],
            iteration=index // self.batch_size,
            position_in_batch=index % self.batch_size,
        )


_COPIED = (
    "subseed_strength",
    "width",
    "height",
    "sampler_name",
    "scheduler",
    "cfg_scale",
    "image_cfg_scale",
    "steps",
    "restore_faces",
    "sd_model_name",
    "sd_model_hash",
    "sd_vae_name",
    "sd_vae_hash",
    "seed_resize_from_w",
    "seed_resize_from_h",
    "denoising_strength",
    "extra_generation_params",
    "styles",
    "eta",
    "ddim_discretize",
    "s_churn",
    "s_tmin",
    "s_tmax",
    "s_noise",
    "s_min_uncond",
    "sampler_noise_scheduler_override",
    "is_using_inpainting_conditioning",
    "token_merging_ratio",
    "token_merging_ratio_hr",
)
_JSON = (
    "prompt",
    "all_prompts",
    "negative_prompt",
    "all_negative_prompts",
    "seed",
    "all_seeds",
    "subseed",
    "all_subseeds",
    "subseed_strength",
    "width",
    "height",
    "sampler_name",
    "cfg_scale",
    "steps",
    "batch_size",
    "restore_faces",
    "face_restoration_model",
    "sd_model_name",
    "sd_model_hash",
    "sd_vae_name",
    "sd_vae_hash",
    "seed_resize_from_w",
    "seed_resize_from_h",
    "denoising_strength",
    "extra_generation_params",
    "index_of_first_image",
    "infotexts",
    "styles",
    "job_timestamp",
    "clip_skip",
    "is_using_inpainting_conditioning",
    "version",
)


def _builtin_params(p: Any, seed: Any, subseed: Any) -> dict[str, Any]:
    varied = p.subseed_strength != 0
    clip_skip = opts.CLIP_stop_at_last_layers
    ensd = opts.eta_noise_seed_delta if sd_samplers_common.is_sampler_using_eta_noise_seed_delta(p) else 0
    resized = p.seed_resize_from_w > 0 and p.seed_resize_from_h > 0
    return {
        "Steps": p.steps,
        "Sampler": p.sampler_name,
        "Schedule type": p.scheduler,
        # The host's page gives 7 and its API 7.0 for the same number; here both give 7.
        "CFG scale": int(p.cfg_scale) if float(p.cfg_scale).is_integer() else p.cfg_scale,
        "Image CFG scale": getattr(p, "image_cfg_scale", None),
        "Seed": seed,
        "Size": f"{p.width}x{p.height}",
        "Model hash": p.sd_model_hash if opts.add_model_hash_to_info else None,
        "Model": p.sd_model_name if opts.add_model_name_to_info else None,
        "VAE hash": p.sd_vae_hash if opts.add_vae_hash_to_info else None,
        "VAE": p.sd_vae_name if opts.add_vae_name_to_info else None,
        "Variation seed": subseed if varied else None,
        "Variation seed strength": p.subseed_strength if varied else None,
        "Seed resize from": f"{p.seed_resize_from_w}x{p.seed_resize_from_h}" if resized else None,
        "Denoising strength": p.extra_generation_params.get("Denoising strength"),
        "Clip skip": None if clip_skip <= 1 else clip_skip,
        "ENSD": ensd or None,
        "RNG": opts.randn_source if opts.randn_source != "GPU" else None,
    }


def create_infotext(
    p: Any,
    all_prompts: list,
    all_seeds: list,
    all_subseeds: list,
    comments: list | None = None,
    iteration: int = 0,
    position_in_batch: int = 0,
    use_main_prompt: bool = False,
    index: int | None = None,
    all_negative_prompts: list | None = None,
) -> str:
    """The text saved with picture `index`.

    A value of `p.extra_generation_params` may be text, a list with one entry per picture, or a callable that gets
    these names as keyword arguments; None drops the key.
    """
    if use_main_prompt:
        index = 0
    elif index is None:
        index = position_in_batch + iteration * p.batch_size
    negatives = p.all_negative_prompts if all_negative_prompts is None else all_negative_prompts
    prompt_text = p.main_prompt if use_main_prompt else all_prompts[index]
    negative_prompt = p.main_negative_prompt if use_main_prompt else negatives[index]
    seed = (p.all_seeds if use_main_prompt else all_seeds)[index]
    subseed = (p.all_subseeds if use_main_prompt else all_subseeds)[index]
    params = {
        **_builtin_params(p, seed, subseed),
        **p.extra_generation_params,
        "Version": program_version() if opts.add_version_to_infotext else None,
    }
    known = dict(locals())
    texts = []
    for key, value in params.items():
        value = _resolved(key, value, index, known)
        if value is not None:
            texts.append(key if key == value else f"{key}: {infotext_utils.quote(value)}")
    negative_text = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt_text}{negative_text}\n{', '.join(texts)}".strip()


def _resolved(key: str, value: Any, index: int, known: dict[str, Any]) -> Any:
    try:
        if isinstance(value, list):
            return value[index]
        return value(**known) if callable(value) else value
    except Exception:
        errors.report(f'Error creating infotext for key "{key}"', exc_info=True)
        return None
