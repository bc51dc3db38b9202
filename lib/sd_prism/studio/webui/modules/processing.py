"""One job: from parameters to pictures, with every hook at the place where the host calls it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sd_prism
import torch
from PIL import Image

from modules import (
    devices,
    errors,
    extra_networks,
    images,
    infotext_utils,
    paths,
    prompt_parser,
    rng,
    scripts,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    shared,
)
from modules.shared import opts, state

opt_C = 4
opt_f = 8
MAX_SEED = 4294967294


@dataclass(repr=False)
class StableDiffusionProcessing:
    """The parameters of a job and, while it runs, its state. Field order and defaults are the host's."""

    sd_model: Any = None
    outpath_samples: str | None = None
    outpath_grids: str | None = None
    prompt: Any = ""
    prompt_for_display: str | None = None
    negative_prompt: Any = ""
    styles: list[str] | None = None
    seed: Any = -1
    subseed: Any = -1
    subseed_strength: float = 0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    seed_enable_extras: bool = True
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict[str, Any] = None  # type: ignore[assignment]
    overlay_images: list | None = None
    eta: float | None = None
    do_not_reload_embeddings: bool = False
    denoising_strength: float | None = None
    ddim_discretize: str | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] = None  # type: ignore[assignment]
    override_settings_restore_afterwards: bool = True
    sampler_index: int | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    token_merging_ratio = 0
    token_merging_ratio_hr = 0
    disable_extra_networks: bool = False
    firstpass_image: Any = None

    scripts_value: Any = field(default=None, init=False)
    script_args_value: Any = field(default=None, init=False)
    scripts_setup_complete: bool = field(default=False, init=False)
    comments: dict = None  # type: ignore[assignment]
    sampler: Any = field(default=None, init=False)
    is_using_inpainting_conditioning: bool = field(default=False, init=False)
    paste_to: Any = field(default=None, init=False)
    is_hr_pass: bool = field(default=False, init=False)
    c: Any = field(default=None, init=False)
    uc: Any = field(default=None, init=False)
    rng: Any = field(default=None, init=False)
    step_multiplier: int = field(default=1, init=False)
    color_corrections: Any = field(default=None, init=False)
    all_prompts: Any = field(default=None, init=False)
    all_negative_prompts: Any = field(default=None, init=False)
    all_seeds: Any = field(default=None, init=False)
    all_subseeds: Any = field(default=None, init=False)
    iteration: int = field(default=0, init=False)
    main_prompt: str = field(default="", init=False)
    main_negative_prompt: str = field(default="", init=False)
    prompts: Any = field(default=None, init=False)
    negative_prompts: Any = field(default=None, init=False)
    seeds: Any = field(default=None, init=False)
    subseeds: Any = field(default=None, init=False)
    extra_network_data: Any = field(default=None, init=False)
    user: str | None = field(default=None, init=False)
    sd_model_name: str | None = field(default=None, init=False)
    sd_model_hash: str | None = field(default=None, init=False)
    sd_vae_name: str | None = field(default=None, init=False)
    sd_vae_hash: str | None = field(default=None, init=False)
    is_api: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.comments = {}
        self.styles = self.styles or []
        self.sampler_noise_scheduler_override: Callable | None = None
        self.extra_generation_params = self.extra_generation_params or {}
        self.override_settings = self.override_settings or {}
        self.script_args = self.script_args or {}
        self.batch_index = 0
        # The studio computes conds anew for each batch; these exist because extensions clear them.
        self.cached_c: list = [None, None]
        self.cached_uc: list = [None, None]
        if not self.seed_enable_extras:
            self.subseed, self.subseed_strength, self.seed_resize_from_h, self.seed_resize_from_w = -1, 0, 0, 0

    # Like the host, p shows the model that is loaded now; what is assigned is dropped.
    def _get_sd_model(self) -> Any:
        return shared.sd_model

    def _set_sd_model(self, value: Any) -> None:
        pass

    @property
    def scripts(self) -> Any:
        """The ScriptRunner of this job's tab."""
        return self.scripts_value

    @scripts.setter
    def scripts(self, value: Any) -> None:
        self.scripts_value = value
        self._setup_when_complete()

    @property
    def script_args(self) -> Any:
        """The values of all scripts' components, by `args_from` and `args_to`."""
        return self.script_args_value

    @script_args.setter
    def script_args(self, value: Any) -> None:
        self.script_args_value = value
        self._setup_when_complete()

    def _setup_when_complete(self) -> None:
        if self.scripts_value and self.script_args_value and not self.scripts_setup_complete:
            self.setup_scripts()

    def setup_scripts(self) -> None:
        """Call the scripts' `setup` once."""
        self.scripts_setup_complete = True
        self.scripts.setup_scrips(self, is_ui=not self.is_api)

    def comment(self, text: str) -> None:
        """A remark to show under the picture."""
        self.comments[text] = 1

    def fill_fields_from_opts(self) -> None:
        """Sampler parameters that the job leaves open come from the settings."""
        for name in ("s_min_uncond", "s_churn", "s_tmin", "s_tmax", "s_noise"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(opts, name))
        self.s_tmax = self.s_tmax or float("inf")

    def init(self, all_prompts: list, all_seeds: list, all_subseeds: list) -> None:
        """Before the first batch."""

    def sample(
        self,
        conditioning: Any,
        unconditional_conditioning: Any,
        seeds: list,
        subseeds: list,
        subseed_strength: float,
        prompts: list,
    ) -> Any:
        """Latents (N,C,H,W) of one batch."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is large."""
        self.sampler = self.c = self.uc = None

    def get_token_merging_ratio(self, for_hr: bool = False) -> float:
        """Always 0: the studio does not merge tokens."""
        return 0

    def setup_prompts(self) -> None:
        """One prompt per picture of the job."""
        count = self.batch_size * self.n_iter
        if isinstance(self.prompt, list):
            self.all_prompts = self.prompt
        elif isinstance(self.negative_prompt, list):
            self.all_prompts = [self.prompt] * len(self.negative_prompt)
        else:
            self.all_prompts = [self.prompt] * count
        negative = self.negative_prompt
        self.all_negative_prompts = negative if isinstance(negative, list) else [negative] * len(self.all_prompts)
        if len(self.all_prompts) != len(self.all_negative_prompts):
            numbers = f"{len(self.all_prompts)}) and negative prompts ({len(self.all_negative_prompts)})"
            raise RuntimeError(f"Received a different number of prompts ({numbers}")
        self.main_prompt, self.main_negative_prompt = self.all_prompts[0], self.all_negative_prompts[0]

    def setup_seeds(self) -> None:
        """One seed per picture; variations keep the seed and count the variation seed up."""
        seed, subseed = get_fixed_seed(self.seed), get_fixed_seed(self.subseed)
        count = range(len(self.all_prompts))
        varied = self.subseed_strength != 0
        self.all_seeds = seed if isinstance(seed, list) else [int(seed) + (0 if varied else i) for i in count]
        self.all_subseeds = subseed if isinstance(subseed, list) else [int(subseed) + i for i in count]

    def setup_conds(self) -> None:
        """`c` and `uc` of the current batch."""
        size = {"width": self.width, "height": self.height}
        config = sd_samplers.find_sampler_config(self.sampler_name)
        steps = config.total_steps(self.steps) if config else self.steps
        self.step_multiplier = steps // self.steps
        model = shared.sd_model
        negative = prompt_parser.SdConditioning(self.negative_prompts, is_negative_prompt=True, **size)
        self.uc = prompt_parser.get_learned_conditioning(model, negative, steps)
        positive = prompt_parser.SdConditioning(self.prompts, **size)
        self.c = prompt_parser.get_multicond_learned_conditioning(model, positive, steps)

    def get_conds(self) -> tuple[Any, Any]:
        """(c, uc)."""
        return self.c, self.uc

    def parse_extra_network_prompts(self) -> None:
        """Cut the tags out of the batch's prompts."""
        self.prompts, self.extra_network_data = extra_networks.parse_prompts(self.prompts)

    def save_samples(self) -> bool:
        """Whether pictures are written to disk."""
        complete = opts.save_incomplete_images or not (state.interrupted or state.skipped)
        return opts.samples_save and not self.do_not_save_samples and complete


StableDiffusionProcessing.sd_model = property(  # type: ignore[assignment]
    StableDiffusionProcessing._get_sd_model, StableDiffusionProcessing._set_sd_model
)


@dataclass(repr=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    """Text to image. The hires pass comes with the next part of the studio."""

    enable_hr: bool = False
    denoising_strength: float | None = 0.75
    hr_prompt: str = ""
    hr_negative_prompt: str = ""
    force_task_id: str | None = None
    all_hr_prompts: list | None = field(default=None, init=False)
    all_hr_negative_prompts: list | None = field(default=None, init=False)

    def setup_prompts(self) -> None:
        """As for every job; the hires lists exist from here on, as scripts expect."""
        super().setup_prompts()
        if self.enable_hr:
            self.all_hr_prompts, self.all_hr_negative_prompts = list(self.all_prompts), list(self.all_negative_prompts)

    def sample(
        self,
        conditioning: Any,
        unconditional_conditioning: Any,
        seeds: list,
        subseeds: list,
        subseed_strength: float,
        prompts: list,
    ) -> Any:
        """Latents (N,C,H,W) of one batch."""
        self.sampler = sd_samplers.create_sampler(str(self.sampler_name), shared.sd_model)
        x = self.rng.next().to(devices.device)
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                p=self, x=x, noise=x, c=conditioning, uc=unconditional_conditioning
            )
        return self.sampler.sample(self, x, conditioning, unconditional_conditioning)


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


def get_fixed_seed(seed: Any) -> Any:
    """The seed itself, or a random one for -1, None and text that is no number."""
    if isinstance(seed, list):
        return seed
    try:
        seed = int(seed)
    except (TypeError, ValueError):
        seed = -1
    return random.randrange(MAX_SEED) if seed == -1 else seed


def fix_seed(p: StableDiffusionProcessing) -> None:
    """Replace -1 by what it stands for."""
    p.seed, p.subseed = get_fixed_seed(p.seed), get_fixed_seed(p.subseed)


def program_version() -> str:
    """Named in the infotext."""
    return f"Prism {getattr(sd_prism, '__version__', '0')}"


class DecodedSamples(list):
    """Pictures (3,H,W) in -1..1; `post_sample` may return one to skip decoding."""

    already_decoded = True


def decode_latent_batch(
    model: Any, batch: torch.Tensor, target_device: Any = None, check_for_nans: bool = False
) -> DecodedSamples:
    """Latents to pictures, one at a time, as the host does."""
    decoded = DecodedSamples()
    for i in range(batch.shape[0]):
        sample = model.decode_first_stage(batch[i : i + 1])[0]
        if check_for_nans:
            devices.test_for_nans(sample, "vae")
        decoded.append(sample if target_device is None else sample.to(target_device))
    return decoded


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
        "Seed": seed,
        "Size": f"{p.width}x{p.height}",
        "Model hash": p.sd_model_hash if opts.add_model_hash_to_info else None,
        "Model": p.sd_model_name if opts.add_model_name_to_info else None,
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
        p.sampler_name, p.scheduler = sd_samplers.get_sampler_and_scheduler(
            p.sampler_name, p.scheduler, convert_automatic=False
        )
        with torch.inference_mode():
            return process_images_inner(p)
    finally:
        if p.override_settings_restore_afterwards:
            for key, value in stored.items():
                opts.data[key] = value


def process_images_inner(p: StableDiffusionProcessing) -> Processed:
    """All batches of the job."""
    p.restore_faces, p.tiling = bool(p.restore_faces), bool(p.tiling)
    model = shared.sd_model
    p.sd_model_name, p.sd_model_hash = model.sd_checkpoint_info.name_for_extra, model.sd_model_hash
    p.fill_fields_from_opts()
    p.setup_prompts()
    p.setup_seeds()
    if p.scripts is not None:
        p.scripts.process(p)
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
    return _finish_job(p, infotexts, output_images)


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
        eta_noise_seed_delta=int(opts.eta_noise_seed_delta or 0),
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
    if n == 0:
        _remember_params(p)
    if p.n_iter > 1:
        state.job = f"Batch {n + 1} out of {p.n_iter}"
    return True


def _take_batch(p: StableDiffusionProcessing, n: int, *names: str) -> None:
    for name in names:
        setattr(p, name, getattr(p, f"all_{name}")[n * p.batch_size : (n + 1) * p.batch_size])


def _remember_params(p: StableDiffusionProcessing) -> None:
    """params.txt: what pasting from an empty prompt restores."""
    os.makedirs(paths.data_path, exist_ok=True)
    with open(os.path.join(paths.data_path, "params.txt"), "w", encoding="utf8") as file:
        file.write(Processed(p, []).infotext(p, 0))


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


def _composited(p: StableDiffusionProcessing, i: int, pixels: torch.Tensor) -> Image.Image:
    """Picture i of the batch, after the picture hooks."""
    array = (255.0 * np.moveaxis(pixels.cpu().numpy(), 0, 2)).astype(np.uint8)
    image = Image.fromarray(array)
    if p.scripts is None:
        return image
    before = scripts.PostprocessImageArgs(image)
    p.scripts.postprocess_image(p, before)
    p.scripts.postprocess_maskoverlay(p, scripts.PostProcessMaskOverlayArgs(i, None, None))
    after = scripts.PostprocessImageArgs(before.image)
    p.scripts.postprocess_image_after_composite(p, after)
    return after.image


def _finish_pictures(p: StableDiffusionProcessing, pictures: list, infotexts: list[str], output: list) -> None:
    """Save the pictures of a batch and append them and their infotexts."""
    for i, pixels in enumerate(pictures):
        p.batch_index = i
        image = _composited(p, i, pixels)

        def infotext(index: int = i) -> str:
            return create_infotext(
                p, p.prompts, p.seeds, p.subseeds, index=index, all_negative_prompts=p.negative_prompts
            )

        if p.save_samples():
            images.save_image(
                image, str(p.outpath_samples), "", p.seeds[i], p.prompts[i], opts.samples_format, info=infotext(), p=p
            )
        infotexts.append(infotext())
        if opts.enable_pnginfo:
            image.info["parameters"] = infotexts[-1]
        output.append(image)


def _add_grid(p: StableDiffusionProcessing, infotexts: list[str], output: list) -> int:
    """Put a grid before the pictures if one is wanted; the index of the first picture."""
    wanted = (opts.return_grid or opts.grid_save) and not p.do_not_save_grid
    if not wanted or (len(output) < 2 and opts.grid_only_if_multiple):
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
