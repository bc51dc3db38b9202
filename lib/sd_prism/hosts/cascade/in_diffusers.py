"""Parts of files as the networks of diffusers, and its scheduler by Prism's samplers and noise levels.

For webuis that draw with diffusers' pipelines of Cascade. Those keep latents at unit variance: x / sqrt(1 + sigma^2).
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMWuerstchenScheduler, StableCascadeDecoderPipeline
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.schedulers.scheduling_ddpm_wuerstchen import DDPMWuerstchenSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from ...cascade.config import TextConfig, UNetConfig
from ...cascade.formats import Part, sound
from ...cascade.guidance import Guidance
from ...cascade.sampling import SAMPLERS, Step
from ...cascade.schedule import Schedule, sigmas
from ...cascade.stage_a import SCALE, StageAConfig
from ...cascade.text import END, START
from ...cascade.weights import read
from ...clip import save_tokenizer

BLOCKS = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}
RENAMED = (
    (re.compile(r"(?<=\.attention)\.attn\.to_"), ".to_"),
    (re.compile(r"(?<=\.attention)\.attn\.out_proj\."), ".to_out.0."),
)
PIXELS = 3

# --- networks ----------------------------------------------------------------------------------------------------


def unet(part: Part, dtype: torch.dtype | None = None) -> StableCascadeUNet:
    """Stage C or B; raises PrismError as `formats.load`, for the other functions too."""
    config = UNetConfig.of(sound(part).shapes, part.metadata)
    own: dict[str, Any] = {"effnet_in_channels": config.effnet, "pixel_mapper_in_channels": PIXELS}
    if config.kind == "C":
        own = {
            "clip_text_in_channels": config.text,
            "clip_image_in_channels": config.image,
            "switch_level": (False,) * (len(config.hidden) - 1),
        }
    with torch.device("meta"):
        network = StableCascadeUNet(
            in_channels=config.channels,
            out_channels=config.channels,
            timestep_ratio_embedding_dim=config.c_r,
            patch_size=config.patch,
            conditioning_dim=config.c_cond,
            block_out_channels=config.hidden,
            num_attention_heads=tuple(
                width // config.head_width if "A" in letters else -1
                for width, letters in zip(config.hidden, config.levels)
            ),
            down_num_layers_per_block=config.down,
            up_num_layers_per_block=config.up,
            down_blocks_repeat_mappers=config.down_repeats,
            up_blocks_repeat_mappers=config.up_repeats,
            block_types_per_layer=tuple(tuple(BLOCKS[letter] for letter in letters) for letters in config.levels),
            clip_text_pooled_in_channels=config.pooled,
            clip_seq=config.tokens,
            timestep_conditioning_type=config.conditions,
            dropout=0.0,
            **own,
        )
    return _filled(network, part, dtype, _unet_name if config.kind == "C" else _decoder_name)


def _unet_name(name: str) -> str:
    for old, new in RENAMED:
        name = old.sub(new, name)
    return name


def _decoder_name(name: str) -> str:
    return re.sub(r"^clip_mapper\.", "clip_txt_pooled_mapper.", _unet_name(name))


def stage_a(part: Part, dtype: torch.dtype | None = None) -> Any:
    """Stage A, a `PaellaVQModel`."""
    config = StageAConfig.of(sound(part).shapes)
    paella = import_module(StableCascadeDecoderPipeline.__module__).PaellaVQModel  # lies elsewhere in each version
    with torch.device("meta"):
        network = paella(
            levels=config.levels,
            bottleneck_blocks=config.blocks,
            embed_dim=config.hidden,
            latent_channels=config.latent,
            num_vq_embeddings=config.codes,
            scale_factor=SCALE,
        )
    return _filled(network, part, dtype, lambda name: name.replace("vquantizer.codebook.", "vquantizer.embedding."))


def text_encoder(part: Part, dtype: torch.dtype | None = None) -> CLIPTextModelWithProjection:
    """The text encoder."""
    config = TextConfig.of(sound(part).shapes, part.metadata)
    with torch.device("meta"):
        network = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=config.vocabulary,
                max_position_embeddings=config.positions,
                hidden_size=config.width,
                intermediate_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                projection_dim=config.projection,
                hidden_act=config.activation,
                bos_token_id=START,
                eos_token_id=END,
                pad_token_id=END,
            )
        )
    places = torch.arange(config.positions).expand(1, -1)  # which no file has
    network.text_model.embeddings.register_buffer("position_ids", places, persistent=False)
    return _filled(network, part, dtype, str)


def tokenizer(tokens: int) -> CLIPTokenizer:
    """CLIP's, for prompts of so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder))
        return CLIPTokenizer.from_pretrained(folder, model_max_length=tokens)


def _filled(network: nn.Module, part: Part, dtype: torch.dtype | None, renamed: Callable[[str], str]) -> Any:
    state = {renamed(name): value for name, value in read(part.sources, dtype).items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


# --- sampling ----------------------------------------------------------------------------------------------------


class Scheduler(DDPMWuerstchenScheduler):
    """A sampler on noise levels of `schedule`, which tells the network what Cascade's schedule says of them.

    Attributes:
        r: what the network is to be told at the running step.
        generators: of the noise, one for each picture; None takes those that the pipeline gives.
    """

    def __init__(
        self, sampler: str, schedule: str, shift: float, generators: Sequence[torch.Generator] | None = None
    ) -> None:
        super().__init__()
        self._sampler, self._schedule, self._levels = sampler, schedule, Schedule(shift)
        self.generators = generators

    def set_timesteps(
        self, num_inference_steps: int, timesteps: Any = None, device: str | torch.device | None = None
    ) -> None:
        """Of `timesteps` the last one belongs to the clean end."""
        levels = sigmas(self._schedule, num_inference_steps, self._levels)
        self._sigmas = levels.tolist()
        self.timesteps = torch.cat([self._levels.r(levels[:-1]), levels[-1:]]).to(device, torch.float32)
        self.init_noise_sigma = self._sigmas[0] / math.hypot(1, self._sigmas[0])
        self._at, self._before, self._h_before = 0, None, 0.0

    @property
    def r(self) -> float:
        return float(self.timesteps[self._at])

    def noise(self, shape: Sequence[int], device: str | torch.device, generator: Any = None) -> Tensor:
        """The next noise, in float32 and so the same for all formats of a network; `generator` is the pipeline's."""
        own = generator if self.generators is None else list(self.generators)
        return randn_tensor(tuple(shape), generator=own, device=torch.device(device), dtype=torch.float32)

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Any = None, return_dict: bool = True
    ) -> Any:
        """From predicted noise to the next latents, wider than the network's format until the last step."""
        dtype = torch.promote_types(model_output.dtype, torch.float32)
        sigma, sigma_next = self._sigmas[self._at : self._at + 2]
        step = Step(sigma, sigma_next, self._before, self._h_before)
        x = sample.to(dtype) * math.hypot(1, sigma)
        denoised = x - sigma * model_output.to(dtype)
        x, up = SAMPLERS[self._sampler](x, denoised, step)
        if up:
            x = x + up * self.noise(x.shape, x.device, generator).to(dtype)
        self._at, self._before, self._h_before = self._at + 1, denoised, step.h
        x = x / math.hypot(1, sigma_next) if sigma_next else x.to(model_output.dtype)
        return DDPMWuerstchenSchedulerOutput(prev_sample=x) if return_dict else (x,)


@contextmanager
def exact(network: Any, pipe: Any, scheduler: Scheduler, rescale: float = 0.0) -> Iterator[None]:
    """While a network of a pipeline is told r in float32, and all else in its own format.

    Pipelines give r in the network's format, and bf16 has no place for 10000 r.

    Args:
        rescale: of the pipeline's guidance, see `Guidance`.
    """

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        r = kwargs["timestep_ratio"]
        given = {name: one.to(r.dtype) if isinstance(one, Tensor) else one for name, one in kwargs.items()}
        return args, {**given, "timestep_ratio": torch.full_like(r, scheduler.r, dtype=torch.float32)}

    def embedded(r: Tensor) -> Tensor:
        embedding: Tensor = type(network).get_timestep_ratio_embedding(network, r.float())
        return embedding.to(network.dtype)

    def after(module: nn.Module, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not rescale or pipe.guidance_scale <= 1:
            return output
        guided = Guidance(pipe.guidance_scale, rescale).mix(*output[0].chunk(2))
        return (torch.cat([guided, guided]), *output[1:])  # between which the pipeline finds nothing to guide

    handles = [
        network.register_forward_pre_hook(before, with_kwargs=True),
        network.register_forward_hook(after),
    ]
    network.get_timestep_ratio_embedding = embedded
    try:
        yield
    finally:
        del network.get_timestep_ratio_embedding
        for handle in handles:
            handle.remove()
