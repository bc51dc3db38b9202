"""What a model of Stable Cascade has in every host: its networks, read from the file, and what they are asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakMethod

import torch
from modules import devices
from torch import Tensor, nn

from ...cascade.colours import colours
from ...cascade.effnet import EffnetEncoder
from ...cascade.formats import CascadeFile
from ...cascade.previewer import Previewer
from ...cascade.schedule import SHIFT_C, Schedule
from ...cascade.text import TextEncoder
from ...cascade.unet import StageC
from ...errors import PrismError
from . import reading
from .decoding import decoding
from .denoiser import alphas_cumprod
from .job import DEFAULTS
from .latents import Picture

log = logging.getLogger("prism")

CHANNELS = 16  # of stage C's latents
COMPRESSION = 42  # pixels to a side of them, where no job says otherwise


class Backbone(nn.Module):
    """The host's `model.model` around stage C; it is called, so that the host can have it brought to its device.

    Attributes:
        schedule: of the noise.
        remarks: what to tell under the pictures that are being made.
    """

    conditioning_key = "crossattn"

    def __init__(self, stage_c: StageC, name: str) -> None:
        """`name` is that of the file, for the log."""
        super().__init__()
        self.diffusion_model = stage_c
        self.name = name
        self.schedule = Schedule(SHIFT_C)
        self.remarks: list[str] = []

    @property
    def dtype(self) -> torch.dtype:
        """What stage C computes in; the host keeps but some layers in 8 bits where its option for that is on."""
        return next(weight.dtype for weight in self.parameters() if weight.dtype.itemsize > 1)

    def forward(self, x: Tensor, r: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """x (N,16,h,w) of unit variance at noise ratios r (N,) -> predicted noise, in the type of x."""
        stage, dtype = self.diffusion_model, self.dtype
        told = (cond[name].to(dtype) for name in ("crossattn", "vector", "images") if name in cond)
        clip = stage.condition(*told)
        return stage(x.to(dtype), r, clip).to(x.dtype)

    def predict(self, x: Tensor, r: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """As `forward`; once more in a wider format where fp16 gives no numbers."""
        with devices.autocast() if devices.fp8 else devices.without_autocast():
            eps = self(x, r, cond)
            if self.dtype == torch.float16 and not eps.isfinite().all() and x.isfinite().all():
                self._widen()
                eps = self(x, r, cond)
        return eps

    def _widen(self) -> None:
        """Stage C in a format with larger numbers."""
        wider = reading.wide_dtype()
        self.to(wider)
        self.remarks.append(f"stage C gave no numbers (NaN) in fp16 and goes on in {str(wider).removeprefix('torch.')}")
        log.warning("%s: %s", self.name, self.remarks[-1])


class FirstStage(nn.Module):
    """The host's `model.first_stage_model`: the nets for pictures that come with the main file, none of them needed.

    The decoder's nets are no part of it, for the host moves and converts this module as it likes.

    Args:
        encoder: makes latents of pictures.
        previewer: makes small pictures of latents.
        decode: latents to pictures in [-1,1], by the decoder.
    """

    def __init__(self, encoder: EffnetEncoder | None, previewer: Previewer | None, decode: WeakMethod[Any]) -> None:
        super().__init__()
        self.encoder, self.previewer = encoder, previewer
        self._decode = decode
        self.is_swapped = False  # by a stage A of the menu of VAEs
        self.compression = COMPRESSION

    @property
    def dtype(self) -> torch.dtype:
        return next((weight.dtype for weight in self.parameters()), torch.float32)

    def encode(self, image: Tensor) -> Tensor:
        """Pictures (N,3,H,W) in [-1,1] -> latents (N,16,H//compression,W//compression).

        Raises:
            PrismError: the checkpoint came without the encoder.
        """
        if self.encoder is None:
            raise PrismError(
                "This Stable Cascade checkpoint has no picture encoder, which img2img, inpainting and hires fix need; "
                f"put {reading.ENCODER} beside it and load it again"
            )
        weight = next(self.encoder.parameters())
        return self.encoder.encode((image.to(weight) + 1) / 2, self.compression).to(image.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (N,16,h,w) -> pictures (N,3,H,W) in [-1,1], by stages B and A."""
        return self._decode()(latent)  # type: ignore[misc]

    def preview(self, latent: Tensor) -> Tensor:
        """Latents (N,16,h,w) -> small pictures (N,3,8h,8w) in [-1,1]; wherever the previewer happens to lie."""
        if self.previewer is None:
            return colours(latent) * 2 - 1
        weight = next(self.previewer.parameters())
        with torch.no_grad():
            return self.previewer(latent.to(weight)).float() * 2 - 1

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> None:
        """A stage A that the menu of VAEs has chosen, or what was there before it, which is this module's own.

        The weights of a stage A are the decoder's to read; the host keeps the name of the file.
        """
        self.is_swapped = set(state_dict) != set(self.state_dict())


class Cascade:
    """The part of a host's model that is the same in every host.

    Attributes:
        file: what the model was read from.
        model: around stage C.
        first_stage_model: the small nets for pictures.
        prism_job: what is being drawn, put there by the script; None for a job without scripts.
        get_learned_conditioning: texts -> states (N,77k,width) as "crossattn", and the pooled text of the first chunk
            (N,projection) as "vector".
    """

    is_cascade = True
    latent_channels = CHANNELS
    backbone = Backbone
    images_key = "images"  # under which the host hands the pictures of prompts on to `model`
    sd_checkpoint_info: Any  # the host's
    file: CascadeFile
    model: Backbone
    first_stage_model: FirstStage
    get_learned_conditioning: Any

    def _assemble(self, file: CascadeFile) -> TextEncoder:
        """Reads the nets, by the layout and format of the file; gives the one that the host's own class goes around."""
        self.file = file
        parts = reading.parts(file)
        self.model = self.backbone(parts["stage_c"], file.path.name)
        self.first_stage_model = FirstStage(parts.get("effnet"), parts.get("previewer"), WeakMethod(self.decoded))
        self.prism_job: Any = None
        self._vectors: dict[str, Tensor] = {}
        text: TextEncoder = parts["text"]
        return text

    @property
    def device(self) -> torch.device:
        return devices.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def remarks(self) -> list[str]:
        """What to tell under the pictures that are being made."""
        return self.model.remarks

    # --- prompts

    def vectors(self, names: Sequence[str]) -> Tensor:
        """Vectors (n,width) of pictures by their hashes; the encoder is read for those that are new, and not kept.

        Raises:
            PrismError: the checkpoint came without the encoder, or it cannot be read.
        """
        if "vision" not in self.file.parts:
            raise PrismError(
                f"Image prompt: {self.file.path.name} has no vision encoder; put it beside it as {reading.VISION} and "
                "load it again"
            )
        new = [name for name in dict.fromkeys(names) if name not in self._vectors]
        if new:
            self._vectors |= zip(new, reading.seen(self.file, new))
        return torch.stack([self._vectors[name] for name in names])

    # --- sampling

    def fix_dimensions(self, width: int, height: int) -> tuple[int, int]:
        return width // 8 * 8, height // 8 * 8

    @property
    def schedule(self) -> Schedule:
        """Of stage C's noise."""
        return self.model.schedule

    @property
    def shift(self) -> float:
        """Factor of stage C's noise levels."""
        return self.schedule.shift

    @shift.setter
    def shift(self, value: float) -> None:
        self.model.schedule = Schedule(value)

    @property
    def alphas_cumprod(self) -> Tensor:
        """(1000,) for the host's DDIM, PLMS, LCM and UniPC."""
        return alphas_cumprod(self.schedule).to(self.device)

    @alphas_cumprod.setter
    def alphas_cumprod(self, changed: object) -> None:
        """Not the host's options for Stable Diffusion's: in fp16 the first is 1, no noise, by which UniPC divides."""

    def predict(self, x: Tensor, r: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Predicted noise in x (N,16,h,w) of unit variance, at noise ratios r (N,)."""
        return self.model.predict(x, r, cond)

    # --- pictures

    def preview(self, latent: Tensor) -> Tensor:
        """Latents (N,16,h,w) -> small pictures (N,3,8h,8w) in [-1,1], quickly."""
        return self.first_stage_model.preview(latent)

    def encode_first_stage(self, image: Tensor) -> Tensor:
        """Pictures (N,3,H,W) in [-1,1] -> latents (N,16,h,w); raises PrismError without the encoder."""
        job = self.prism_job
        self.first_stage_model.compression = int(job.values["compression"]) if job else COMPRESSION
        return self.first_stage_model.encode(image)

    def get_first_stage_encoding(self, latent: Tensor) -> Tensor:
        return latent

    def decode_first_stage(self, latent: Tensor) -> Tensor:
        """Latents (N,16,h,w) -> pictures (N,3,H,W) in [-1,1]."""
        return self.first_stage_model.decode(latent)

    def decoded(self, latent: Tensor) -> Tensor:
        """As `decode_first_stage`; without a job in the size that the latents stand for, by seed 0 and no prompt."""
        job = self.prism_job
        if job is not None:
            return decoding.of_job(latent, job)
        pooled = self.get_learned_conditioning([""])["vector"][0].float().cpu()
        height, width = (side * COMPRESSION // 8 * 8 for side in latent.shape[2:])
        name = self.sd_checkpoint_info.name_for_extra
        pictures = [Picture(one.float().cpu(), (width, height), pooled, pooled, 0, checkpoint=name) for one in latent]
        return decoding.decode(pictures, DEFAULTS)
