"""What every job has: its parameters, its prompts, seeds and conds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from modules import devices, extra_networks, prompt_parser, rng, sd_samplers, sd_samplers_common, shared
from modules.shared import opts, state

opt_C = 4
opt_f = 8
MAX_SEED = 4294967294


def latent_factor() -> int:
    """Pixels to a side of a latent: `processing.opt_f` as it is now, which extensions may replace."""
    from modules import processing

    return processing.opt_f


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
    # Shared by all jobs, [key, conds]; extensions clear them when they change what the text encoder does.
    cached_uc = [None, None]  # noqa: RUF012
    cached_c = [None, None]  # noqa: RUF012

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
        self.cached_c, self.cached_uc = StableDiffusionProcessing.cached_c, StableDiffusionProcessing.cached_uc
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
        if not opts.persistent_cond_cache:
            StableDiffusionProcessing.cached_c = [None, None]
            StableDiffusionProcessing.cached_uc = [None, None]

    def txt2img_image_conditioning(
        self, x: torch.Tensor, width: int | None = None, height: int | None = None
    ) -> torch.Tensor:
        """What models without an inpainting input get: zeros (N,5,1,1)."""
        return txt2img_image_conditioning(self.sd_model, x, width or self.width, height or self.height)

    def img2img_image_conditioning(
        self,
        source_image: torch.Tensor,
        latent_image: torch.Tensor,
        image_mask: Any = None,
        round_image_mask: bool = True,
    ) -> torch.Tensor:
        """As `txt2img_image_conditioning`."""
        return latent_image.new_zeros(latent_image.shape[0], 5, 1, 1)

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
        styles = shared.prompt_styles
        self.all_prompts = [styles.apply_styles_to_prompt(x, self.styles) for x in self.all_prompts]
        self.all_negative_prompts = [
            styles.apply_negative_styles_to_prompt(x, self.styles) for x in self.all_negative_prompts
        ]
        self.main_prompt, self.main_negative_prompt = self.all_prompts[0], self.all_negative_prompts[0]

    def setup_seeds(self) -> None:
        """One seed per picture; variations keep the seed and count the variation seed up."""
        seed, subseed = get_fixed_seed(self.seed), get_fixed_seed(self.subseed)
        count = range(len(self.all_prompts))
        varied = self.subseed_strength != 0
        self.all_seeds = seed if isinstance(seed, list) else [int(seed) + (0 if varied else i) for i in count]
        self.all_subseeds = subseed if isinstance(subseed, list) else [int(subseed) + i for i in count]

    def cached_params(
        self,
        required_prompts: Any,
        steps: int,
        extra_network_data: Any,
        hires_steps: int | None = None,
        use_old_scheduling: bool = False,
    ) -> tuple:
        """The key of the cond cache: everything that conds depend on."""
        return (
            required_prompts,
            steps,
            hires_steps,
            use_old_scheduling,
            opts.CLIP_stop_at_last_layers,
            shared.sd_model.sd_checkpoint_info,
            extra_network_data,
            opts.sdxl_crop_left,
            opts.sdxl_crop_top,
            self.width,
            self.height,
            opts.emphasis,
        )

    def get_conds_with_caching(
        self,
        function: Callable,
        required_prompts: Any,
        steps: int,
        caches: list[list],
        extra_network_data: Any,
        hires_steps: int | None = None,
    ) -> Any:
        """`function(model, required_prompts, steps, hires_steps)`, or what one of `caches` holds for the same key.

        Each cache is a list [key, conds]; the first one takes what is computed.
        """
        key = self.cached_params(required_prompts, steps, extra_network_data, hires_steps)
        for cache in caches:
            if cache[0] is not None and key == cache[0]:
                return cache[1]
        caches[0][1] = function(shared.sd_model, required_prompts, steps, hires_steps)
        caches[0][0] = key
        return caches[0][1]

    def setup_conds(self) -> None:
        """`c` and `uc` of the current batch."""
        size = {"width": self.width, "height": self.height}
        prompts = prompt_parser.SdConditioning(self.prompts, **size)
        negative = prompt_parser.SdConditioning(self.negative_prompts, is_negative_prompt=True, **size)
        config = sd_samplers.find_sampler_config(self.sampler_name)
        steps = config.total_steps(self.steps) if config else self.steps
        self.step_multiplier = steps // self.steps
        self.firstpass_steps = steps
        networks = self.extra_network_data
        self.uc = self.get_conds_with_caching(
            prompt_parser.get_learned_conditioning, negative, steps, [self.cached_uc], networks
        )
        self.c = self.get_conds_with_caching(
            prompt_parser.get_multicond_learned_conditioning, prompts, steps, [self.cached_c], networks
        )

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


def txt2img_image_conditioning(sd_model: Any, x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """What models without an inpainting input get: zeros (N,5,1,1)."""
    return x.new_zeros(x.shape[0], 5, 1, 1)


def create_random_tensors(
    shape: Any,
    seeds: list,
    subseeds: list | None = None,
    subseed_strength: float = 0.0,
    seed_resize_from_h: int = 0,
    seed_resize_from_w: int = 0,
    p: Any = None,
) -> torch.Tensor:
    """The first noise (N,C,H,W) of these seeds."""
    return rng.ImageRNG(shape, seeds, subseeds, subseed_strength, seed_resize_from_h, seed_resize_from_w).next()


class DecodedSamples(list):
    """Pictures (3,H,W) in -1..1; `post_sample` may return one to skip decoding."""

    already_decoded = True


def decode_latent_batch(
    model: Any, batch: torch.Tensor, target_device: Any = None, check_for_nans: bool = False
) -> DecodedSamples:
    """Latents to pictures, one at a time, as the host does."""
    if check_for_nans:
        devices.test_for_nans(batch, "unet")
    decoded = DecodedSamples()
    for i in range(batch.shape[0]):
        sample = sd_samplers_common.decode_first_stage(model, batch[i : i + 1])[0]
        if check_for_nans:
            devices.test_for_nans(sample, "vae")
        decoded.append(sample if target_device is None else sample.to(target_device))
    return decoded
