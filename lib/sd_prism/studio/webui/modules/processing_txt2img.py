"""Text to image, with the hires pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from sd_prism.errors import PrismError, UnknownName

from modules import (
    devices,
    extra_networks,
    images,
    prompt_parser,
    rng,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    shared,
)
from modules.processing_core import StableDiffusionProcessing, decode_latent_batch, latent_factor
from modules.processing_infotext import create_infotext
from modules.shared import opts, state

SAME_CHECKPOINT = "Use same checkpoint"


@dataclass(repr=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    """Text to image. With `enable_hr` the latent or the picture is enlarged and partly drawn anew."""

    enable_hr: bool = False
    denoising_strength: float | None = 0.75
    firstphase_width: int = 0
    firstphase_height: int = 0
    hr_scale: float = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: Any = ""
    hr_negative_prompt: Any = ""
    force_task_id: str | None = None

    # As the caches of all jobs, for the hires pass.
    cached_hr_uc = [None, None]  # noqa: RUF012
    cached_hr_c = [None, None]  # noqa: RUF012

    hr_checkpoint_info: Any = field(default=None, init=False)
    hr_upscale_to_x: int = field(default=0, init=False)
    hr_upscale_to_y: int = field(default=0, init=False)
    truncate_x: int = field(default=0, init=False)
    truncate_y: int = field(default=0, init=False)
    latent_scale_mode: dict | None = field(default=None, init=False)
    hr_c: Any = field(default=None, init=False)
    hr_uc: Any = field(default=None, init=False)
    all_hr_prompts: Any = field(default=None, init=False)
    all_hr_negative_prompts: Any = field(default=None, init=False)
    hr_prompts: Any = field(default=None, init=False)
    hr_negative_prompts: Any = field(default=None, init=False)
    hr_extra_network_data: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.firstphase_width or self.firstphase_height:
            self.hr_upscale_to_x, self.hr_upscale_to_y = self.width, self.height
            self.width: int = self.firstphase_width
            self.height: int = self.firstphase_height
        self.cached_hr_uc = StableDiffusionProcessingTxt2Img.cached_hr_uc
        self.cached_hr_c = StableDiffusionProcessingTxt2Img.cached_hr_c

    def calculate_target_resolution(self) -> None:
        """The size of the second pass, and how much of it is cut away where the proportions change."""
        x, y = self.hr_resize_x, self.hr_resize_y
        if x == 0 and y == 0:
            self.extra_generation_params["Hires upscale"] = self.hr_scale
            self.hr_upscale_to_x, self.hr_upscale_to_y = (
                int(self.width * self.hr_scale),
                int(self.height * self.hr_scale),
            )
            return
        self.extra_generation_params["Hires resize"] = f"{x}x{y}"
        by_width = y == 0 or (x != 0 and self.width / self.height < x / y)
        self.hr_upscale_to_x = x if by_width else y * self.width // self.height
        self.hr_upscale_to_y = x * self.height // self.width if by_width else y
        if x and y:
            factor = latent_factor()
            self.truncate_x = (self.hr_upscale_to_x - x) // factor
            self.truncate_y = (self.hr_upscale_to_y - y) // factor

    def init(self, all_prompts: list, all_seeds: list, all_subseeds: list) -> None:
        """Before the first batch: check and note what the hires pass needs."""
        if not self.enable_hr:
            return
        if self.denoising_strength is None:
            raise PrismError("denoising_strength is left out; the hires pass needs a number from 0 to 1")
        params = self.extra_generation_params
        params["Denoising strength"] = self.denoising_strength
        if self.hr_checkpoint_name and self.hr_checkpoint_name != SAME_CHECKPOINT:
            self.hr_checkpoint_info = sd_models.find(self.hr_checkpoint_name)
            params["Hires checkpoint"] = self.hr_checkpoint_info.short_title
        if self.hr_sampler_name is not None and self.hr_sampler_name != self.sampler_name:
            params["Hires sampler"] = self.hr_sampler_name
        params["Hires prompt"] = _different_prompt
        params["Hires negative prompt"] = _different_negative_prompt
        params["Hires schedule type"] = None  # the sampler fills it in; this is its place
        if self.hr_scheduler is None:
            self.hr_scheduler = self.scheduler
        self._choose_upscaler()
        self.calculate_target_resolution()
        self._count_second_pass()
        if self.hr_second_pass_steps:
            params["Hires steps"] = self.hr_second_pass_steps
        if self.hr_upscaler is not None:
            params["Hires upscaler"] = self.hr_upscaler

    def _choose_upscaler(self) -> None:
        modes = shared.latent_upscale_modes
        name = shared.latent_upscale_default_mode if self.hr_upscaler is None else self.hr_upscaler
        self.latent_scale_mode = modes.get(name)
        pixel = [x.name for x in shared.sd_upscalers]
        if self.latent_scale_mode is None and name not in pixel:
            raise UnknownName("upscaler", name, [*modes, *pixel])

    def _count_second_pass(self) -> None:
        """Every batch counts as two jobs."""
        if state.processing_has_refined_job_count:
            return
        if state.job_count == -1:
            state.job_count = self.n_iter
        hires_steps = self.hr_second_pass_steps or self.steps
        first_steps = 0 if getattr(self, "txt2img_upscale", False) else self.steps
        shared.total_tqdm.updateTotal((first_steps + hires_steps) * state.job_count)
        state.job_count *= 2
        state.processing_has_refined_job_count = True

    def sample(
        self,
        conditioning: Any,
        unconditional_conditioning: Any,
        seeds: list,
        subseeds: list,
        subseed_strength: float,
        prompts: list,
    ) -> Any:
        """Latents (N,C,H,W) of one batch, or after a hires pass its decoded pictures."""
        self.sampler = sd_samplers.create_sampler(str(self.sampler_name), self.sd_model)
        if self.firstpass_image is not None and self.enable_hr:
            samples, decoded = self._given_first_pass()
        else:
            samples = self._first_pass(conditioning, unconditional_conditioning)
            if not self.enable_hr:
                return samples
            devices.torch_gc()
            decoded = None
            if self.latent_scale_mode is None:
                pictures = decode_latent_batch(self.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
                decoded = torch.stack(pictures).float()
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=self.hr_checkpoint_info)
        return self.sample_hr_pass(samples, decoded, seeds, subseeds, subseed_strength, prompts)

    def _first_pass(self, conditioning: Any, unconditional_conditioning: Any) -> torch.Tensor:
        x = self.rng.next()
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                p=self, x=x, noise=x, c=conditioning, uc=unconditional_conditioning
            )
        return self.sampler.sample(
            self, x, conditioning, unconditional_conditioning, image_conditioning=self.txt2img_image_conditioning(x)
        )

    def _given_first_pass(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(latents, None) or (None, pictures in -1..1) of `firstpass_image`, as the upscaler needs it."""
        picture = _pixels(self.firstpass_image)[None]
        if self.latent_scale_mode is None:
            return None, picture * 2 - 1
        return sd_samplers_common.images_tensor_to_samples(picture, 0, self.sd_model), None

    def sample_hr_pass(
        self,
        samples: torch.Tensor | None,
        decoded_samples: torch.Tensor | None,
        seeds: list,
        subseeds: list,
        subseed_strength: float,
        prompts: list,
    ) -> Any:
        """The second pass; gives decoded pictures, or the first pass's latents when the job was interrupted."""
        if state.interrupted:
            return samples
        self.is_hr_pass = True
        self.sampler = sd_samplers.create_sampler(self.hr_sampler_name or str(self.sampler_name), self.sd_model)
        if self.latent_scale_mode is not None:
            assert samples is not None
            samples = self._enlarged_latents(samples, seeds, prompts)
        else:
            assert decoded_samples is not None
            samples = self._enlarged_pictures(decoded_samples, seeds, prompts)
        image_conditioning = self.txt2img_image_conditioning(samples)
        state.nextjob()
        samples = self._truncated(samples)
        noise = self._second_noise(samples)
        devices.torch_gc()
        if not self.disable_extra_networks:
            extra_networks.activate(self, self.hr_extra_network_data)
        self.calculate_hr_conds()
        if self.scripts is not None:
            self.scripts.before_hr(self)
            self.scripts.process_before_every_sampling(p=self, x=samples, noise=noise, c=self.hr_c, uc=self.hr_uc)
        samples = self.sampler.sample_img2img(
            self,
            samples,
            noise,
            self.hr_c,
            self.hr_uc,
            steps=self.hr_second_pass_steps or self.steps,
            image_conditioning=image_conditioning,
        )
        self.sampler = None
        devices.torch_gc()
        decoded = decode_latent_batch(self.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
        self.is_hr_pass = False
        return decoded

    def _enlarged_latents(self, samples: torch.Tensor, seeds: list, prompts: list) -> torch.Tensor:
        assert self.latent_scale_mode is not None
        for i in range(len(samples)):
            if self._keeps_first_pass():
                self._save_first_pass(sd_samplers.sample_to_image(samples, i, approximation=0), i, seeds, prompts)
        size = self.hr_upscale_to_y // latent_factor(), self.hr_upscale_to_x // latent_factor()
        return torch.nn.functional.interpolate(samples, size=size, **self.latent_scale_mode)

    def _enlarged_pictures(self, decoded: torch.Tensor, seeds: list, prompts: list) -> torch.Tensor:
        enlarged = []
        for i, sample in enumerate(torch.clamp((decoded + 1.0) / 2.0, min=0.0, max=1.0)):
            image = Image.fromarray((255.0 * np.moveaxis(sample.cpu().numpy(), 0, 2)).astype(np.uint8))
            if self._keeps_first_pass():
                self._save_first_pass(image, i, seeds, prompts)
            image = images.resize_image(
                0, image, self.hr_upscale_to_x, self.hr_upscale_to_y, upscaler_name=self.hr_upscaler
            )
            enlarged.append(_pixels(image))
        return sd_samplers_common.images_tensor_to_samples(torch.stack(enlarged), 0)

    def _keeps_first_pass(self) -> bool:
        return self.save_samples() and opts.save_images_before_highres_fix

    def _save_first_pass(self, image: Image.Image, index: int, seeds: list, prompts: list) -> None:
        info = create_infotext(
            self,
            self.all_prompts,
            self.all_seeds,
            self.all_subseeds,
            [],
            iteration=self.iteration,
            position_in_batch=index,
        )
        images.save_image(
            image,
            str(self.outpath_samples),
            "",
            seeds[index],
            prompts[index],
            opts.samples_format,
            info=info,
            p=self,
            suffix="-before-highres-fix",
        )

    def _truncated(self, samples: torch.Tensor) -> torch.Tensor:
        """Cut on both sides to the proportions that were asked for."""
        top, left = self.truncate_y // 2, self.truncate_x // 2
        bottom = samples.shape[2] - (self.truncate_y + 1) // 2
        right = samples.shape[3] - (self.truncate_x + 1) // 2
        return samples[:, :, top:bottom, left:right]

    def _second_noise(self, samples: torch.Tensor) -> torch.Tensor:
        self.rng = rng.ImageRNG(
            samples.shape[1:],
            self.seeds,
            subseeds=self.subseeds,
            subseed_strength=self.subseed_strength,
            seed_resize_from_h=self.seed_resize_from_h,
            seed_resize_from_w=self.seed_resize_from_w,
        )
        return self.rng.next()

    def close(self) -> None:
        """Let go of what is large."""
        super().close()
        self.hr_c = self.hr_uc = None
        if not opts.persistent_cond_cache:
            StableDiffusionProcessingTxt2Img.cached_hr_uc = [None, None]
            StableDiffusionProcessingTxt2Img.cached_hr_c = [None, None]

    def setup_prompts(self) -> None:
        """One prompt per picture of the job, and one for its hires pass."""
        super().setup_prompts()
        if not self.enable_hr:
            return
        if self.hr_prompt == "":
            self.hr_prompt = self.prompt
        if self.hr_negative_prompt == "":
            self.hr_negative_prompt = self.negative_prompt
        count, styles = self.batch_size * self.n_iter, shared.prompt_styles

        def one_each(prompt: Any) -> list:
            return prompt if isinstance(prompt, list) else [prompt] * count

        self.all_hr_prompts = [styles.apply_styles_to_prompt(x, self.styles) for x in one_each(self.hr_prompt)]
        self.all_hr_negative_prompts = [
            styles.apply_negative_styles_to_prompt(x, self.styles) for x in one_each(self.hr_negative_prompt)
        ]

    def calculate_hr_conds(self) -> None:
        """`hr_c` and `hr_uc` of the current batch, unless they are there."""
        if self.hr_c is not None:
            return
        size = {"width": self.hr_upscale_to_x, "height": self.hr_upscale_to_y}
        prompts = prompt_parser.SdConditioning(self.hr_prompts, **size)
        negative = prompt_parser.SdConditioning(self.hr_negative_prompts, is_negative_prompt=True, **size)
        config = sd_samplers.find_sampler_config(self.hr_sampler_name or self.sampler_name)
        steps = self.hr_second_pass_steps or self.steps
        total_steps = config.total_steps(steps) if config else steps
        networks = self.hr_extra_network_data
        self.hr_uc = self.get_conds_with_caching(
            prompt_parser.get_learned_conditioning,
            negative,
            self.firstpass_steps,
            [self.cached_hr_uc, self.cached_uc],
            networks,
            total_steps,
        )
        self.hr_c = self.get_conds_with_caching(
            prompt_parser.get_multicond_learned_conditioning,
            prompts,
            self.firstpass_steps,
            [self.cached_hr_c, self.cached_c],
            networks,
            total_steps,
        )

    def setup_conds(self) -> None:
        """`c` and `uc` of the current batch; in the hires pass its own."""
        if self.is_hr_pass:
            self.hr_c = None
            self.calculate_hr_conds()
            return
        super().setup_conds()
        self.hr_uc = self.hr_c = None
        if self.enable_hr and self.hr_checkpoint_info is None and opts.hires_fix_use_firstpass_conds:
            self.calculate_hr_conds()

    def get_conds(self) -> tuple[Any, Any]:
        """(c, uc) of the current pass."""
        return (self.hr_c, self.hr_uc) if self.is_hr_pass else super().get_conds()

    def parse_extra_network_prompts(self) -> None:
        """Cut the tags out of the batch's prompts, those of the hires pass too."""
        super().parse_extra_network_prompts()
        if self.enable_hr:
            batch = slice(self.iteration * self.batch_size, (self.iteration + 1) * self.batch_size)
            self.hr_negative_prompts = self.all_hr_negative_prompts[batch]
            self.hr_prompts, self.hr_extra_network_data = extra_networks.parse_prompts(self.all_hr_prompts[batch])


def _different_prompt(p: Any, index: int, prompt_text: str, **kwargs: Any) -> str | None:
    """The infotext's "Hires prompt", unless it is the prompt."""
    return p.all_hr_prompts[index] if p.all_hr_prompts[index] != prompt_text else None


def _different_negative_prompt(p: Any, index: int, negative_prompt: str, **kwargs: Any) -> str | None:
    """The infotext's "Hires negative prompt", unless it is the negative prompt."""
    return p.all_hr_negative_prompts[index] if p.all_hr_negative_prompts[index] != negative_prompt else None


def _pixels(image: Any) -> torch.Tensor:
    """A picture as a tensor (3,H,W) in 0..1."""
    return torch.from_numpy(np.moveaxis(np.array(image).astype(np.float32) / 255.0, 2, 0))
