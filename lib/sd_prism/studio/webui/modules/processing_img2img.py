"""Image to image and inpainting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from sd_prism.errors import PrismError

from modules import devices, images, masking, sd_samplers, sd_samplers_common
from modules.processing_core import StableDiffusionProcessing, create_random_tensors, latent_factor
from modules.shared import opts

FILL, ORIGINAL, LATENT_NOISE, LATENT_NOTHING = range(4)
LATENT_RESIZE = 3


def create_binary_mask(image: Image.Image, round: bool = True) -> Image.Image:
    """A mask ("L") of a picture: its transparency where it has some, else its brightness."""
    if image.mode != "RGBA" or image.getextrema()[-1] == (255, 255):
        return image.convert("L")
    alpha = image.split()[-1].convert("L")
    return alpha.point(lambda x: 255 if x > 128 else 0) if round else alpha


@dataclass(repr=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    """Image to image; with a mask only what the mask shows in white is drawn anew."""

    init_images: list | None = None
    resize_mode: int = 0
    denoising_strength: float | None = 0.75
    image_cfg_scale: float | None = None
    mask: Any = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    mask_blur: int | None = None
    mask_round: bool = True
    inpainting_fill: int = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: float | None = None
    latent_mask: Any = None
    force_task_id: str | None = None

    image_mask: Any = field(default=None, init=False)
    nmask: Any = field(default=None, init=False)
    image_conditioning: Any = field(default=None, init=False)
    init_img_hash: str | None = field(default=None, init=False)
    mask_for_overlay: Any = field(default=None, init=False)
    init_latent: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_mask, self.mask = self.mask, None
        if self.initial_noise_multiplier is None:
            self.initial_noise_multiplier = opts.initial_noise_multiplier

    # One number for both directions; None where they differ.
    def _get_mask_blur(self) -> int | None:
        return self.mask_blur_x if self.mask_blur_x == self.mask_blur_y else None

    def _set_mask_blur(self, value: Any) -> None:
        if isinstance(value, int):
            self.mask_blur_x = self.mask_blur_y = value

    def init(self, all_prompts: list, all_seeds: list, all_subseeds: list) -> None:
        """Before the first batch: resize and encode the pictures, prepare the mask."""
        if self.denoising_strength is None:
            raise PrismError("denoising_strength is left out; img2img needs a number from 0 to 1")
        self.extra_generation_params["Denoising strength"] = self.denoising_strength
        self.image_cfg_scale = None  # for models that edit by instruction, which the studio does not have
        self.sampler = sd_samplers.create_sampler(str(self.sampler_name), self.sd_model)
        image_mask, crop_region = self._prepared_mask()
        latent_mask = image_mask if self.latent_mask is None else self.latent_mask
        pictures = [self._prepared(picture, image_mask, latent_mask, crop_region) for picture in self.init_images or []]
        batch = torch.from_numpy(self._batched(pictures))
        self.init_latent = sd_samplers_common.images_tensor_to_samples(batch, 0, self.sd_model)
        devices.torch_gc()
        if self.resize_mode == LATENT_RESIZE:
            size = self.height // latent_factor(), self.width // latent_factor()
            self.init_latent = torch.nn.functional.interpolate(self.init_latent, size=size, mode="bilinear")
        if image_mask is not None and latent_mask is not None:
            self._mask_latent(latent_mask, all_seeds)
        self.image_conditioning = self.img2img_image_conditioning(
            batch * 2 - 1, self.init_latent, image_mask, self.mask_round
        )

    def _prepared_mask(self) -> tuple[Image.Image | None, masking.Region | None]:
        """The mask in the job's size, and the region of the picture that is drawn if that is not all of it."""
        if self.image_mask is None:
            return None, None
        mask = create_binary_mask(self.image_mask, round=self.mask_round)
        params = self.extra_generation_params
        if self.inpainting_mask_invert:
            mask = ImageOps.invert(mask)
            params["Mask mode"] = "Inpaint not masked"
        mask = masking.blur(mask, self.mask_blur_x, self.mask_blur_y)
        if self.mask_blur_x > 0 or self.mask_blur_y > 0:
            params["Mask blur"] = self.mask_blur
        self.overlay_images: list | None = []
        if self.inpaint_full_res:
            return self._only_masked(mask)
        mask = images.resize_image(self.resize_mode, mask, self.width, self.height)
        doubled = np.clip(np.array(mask).astype(np.float32) * 2, 0, 255).astype(np.uint8)
        self.mask_for_overlay = Image.fromarray(doubled)
        return mask, None

    def _only_masked(self, mask: Image.Image) -> tuple[Image.Image | None, masking.Region | None]:
        region = masking.get_crop_region_v2(mask, self.inpaint_full_res_padding)
        if region is None:
            self.inpaint_full_res = False
            self.comment('The mask is blank, so "Only masked" has nothing to draw; the whole picture was drawn.')
            return None, None
        x1, y1, x2, y2 = region = masking.expand_crop_region(region, self.width, self.height, mask.width, mask.height)
        self.mask_for_overlay = mask
        self.paste_to = (x1, y1, x2 - x1, y2 - y1)
        self.extra_generation_params["Inpaint area"] = "Only masked"
        self.extra_generation_params["Masked area padding"] = self.inpaint_full_res_padding
        return images.resize_image(2, mask.crop(region), self.width, self.height), region

    def _prepared(
        self, picture: Image.Image, image_mask: Any, latent_mask: Any, crop_region: masking.Region | None
    ) -> np.ndarray:
        """(3,H,W) in 0..1 of one picture; with a mask, what stays of it joins `overlay_images`."""
        image = images.flatten(picture, opts.img2img_background_color)
        if crop_region is None and self.resize_mode != LATENT_RESIZE:
            image = images.resize_image(self.resize_mode, image, self.width, self.height)
        if image_mask is not None:
            self._keep_unmasked(image)
        if crop_region is not None:
            image = images.resize_image(2, image.crop(crop_region), self.width, self.height)
        if image_mask is not None and self.inpainting_fill != ORIGINAL:
            if image.size != latent_mask.size:
                sizes = [f"{side.width}x{side.height}" for side in (image, latent_mask)]
                raise PrismError(
                    f"the picture is {sizes[0]} and its mask {sizes[1]}; "
                    "with resize mode 3 (latent upscale) an inpaint job must have the picture's own size"
                )
            image = masking.fill(image, latent_mask)
            if self.inpainting_fill == FILL:
                self.extra_generation_params["Masked content"] = "fill"
        return np.moveaxis(np.array(image).astype(np.float32) / 255.0, 2, 0)

    def _keep_unmasked(self, image: Image.Image) -> None:
        if self.mask_for_overlay.size != image.size:
            self.mask_for_overlay = images.resize_image(
                self.resize_mode, self.mask_for_overlay, image.width, image.height
            )
        kept = Image.new("RGBa", image.size)
        kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(self.mask_for_overlay.convert("L")))
        assert self.overlay_images is not None
        self.overlay_images.append(kept.convert("RGBA"))

    def _batched(self, pictures: list[np.ndarray]) -> np.ndarray:
        """One picture fills the batch; several are the batch."""
        if not pictures:
            raise PrismError("init_images is empty; img2img needs at least one picture")
        if len(pictures) == 1:
            if self.overlay_images is not None:
                self.overlay_images = self.overlay_images * self.batch_size
            return np.repeat(pictures[0][None], self.batch_size, axis=0)
        if len(pictures) > self.batch_size:
            raise PrismError(
                f"init_images has {len(pictures)} pictures and batch_size is {self.batch_size}; "
                "give one picture, or at most one for each picture of the batch"
            )
        self.batch_size: int = len(pictures)
        return np.array(pictures)

    def _mask_latent(self, latent_mask: Image.Image, all_seeds: list) -> None:
        """`mask` and `nmask` (C,h,w) of what stays and what is drawn, and what the drawing starts from."""
        channels, height, width = self.init_latent.shape[1:]
        shown = np.array(latent_mask.convert("RGB").resize((width, height)), dtype=np.float32)[..., 0] / 255
        if self.mask_round:
            shown = np.around(shown)
        self.nmask = torch.from_numpy(np.tile(shown[None], (channels, 1, 1))).to(devices.device)
        self.mask = 1.0 - self.nmask
        if self.inpainting_fill == LATENT_NOISE:
            noise = create_random_tensors(self.init_latent.shape[1:], all_seeds[: len(self.init_latent)])
            self.init_latent = self.init_latent * self.mask + noise * self.nmask
            self.extra_generation_params["Masked content"] = "latent noise"
        elif self.inpainting_fill == LATENT_NOTHING:
            self.init_latent = self.init_latent * self.mask
            self.extra_generation_params["Masked content"] = "latent nothing"

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
        noise = self.rng.next()
        if self.initial_noise_multiplier != 1.0:
            self.extra_generation_params["Noise multiplier"] = self.initial_noise_multiplier
            noise *= self.initial_noise_multiplier
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                p=self, x=self.init_latent, noise=noise, c=conditioning, uc=unconditional_conditioning
            )
        samples = self.sampler.sample_img2img(
            self,
            self.init_latent,
            noise,
            conditioning,
            unconditional_conditioning,
            image_conditioning=self.image_conditioning,
        )
        if self.mask is not None:
            samples = self._final_blend(samples)
        devices.torch_gc()
        return samples

    def _final_blend(self, samples: torch.Tensor) -> torch.Tensor:
        from modules import scripts

        blended = samples * self.nmask + self.init_latent * self.mask
        mba = scripts.MaskBlendArgs(samples, self.nmask, self.init_latent, self.mask, blended)
        if self.scripts is not None:
            self.scripts.on_mask_blend(self, mba)
        return mba.blended_latent


StableDiffusionProcessingImg2Img.mask_blur = property(  # type: ignore[assignment]
    StableDiffusionProcessingImg2Img._get_mask_blur, StableDiffusionProcessingImg2Img._set_mask_blur
)
