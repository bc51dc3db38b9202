"""Shapes of what the HTTP routes take and give."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

# Base64 text or a data URL over HTTP; the page gives PIL pictures.
Picture = Annotated[Any, WithJsonSchema({"type": "string", "description": "A picture file in base64."})]


class ScriptArg(BaseModel):
    """One argument of a script."""

    label: str | None = None
    value: Any = None
    minimum: Any = None
    maximum: Any = None
    step: Any = None
    choices: list[Any] | None = None

    @classmethod
    def of(cls, control: Any) -> ScriptArg:
        """What a component says about itself."""
        choices = getattr(control, "choices", None)
        names = None if choices is None else [c[0] if isinstance(c, (tuple, list)) else c for c in choices]
        fields = {name: getattr(control, name, None) for name in ("value", "minimum", "maximum", "step")}
        return cls(label=control.label or "", choices=names, **fields)


class ScriptInfo(BaseModel):
    """One script of one tab."""

    name: str | None = None
    is_alwayson: bool | None = None
    is_img2img: bool | None = None
    args: list[ScriptArg]


class ScriptsList(BaseModel):
    """The names that `script_name` and `alwayson_scripts` take."""

    txt2img: list[str]
    img2img: list[str]


AMOUNT = (0, 8192)
# Lowest and highest value of a field.
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 1000),
    "batch_size": (1, 64),
    "n_iter": (1, 1000),
    # Any number that the generators take, with room for what settings and batches add to it.
    "seed": (-(2**62), 2**63),
    "subseed": (-(2**62), 2**63),
    "subseed_strength": (0, 1),
    "seed_resize_from_h": (-1, 8192),
    "seed_resize_from_w": (-1, 8192),
    "width": (64, 4096),
    "height": (64, 4096),
    "denoising_strength": (0, 1),
    **dict.fromkeys(("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "s_min_uncond"), AMOUNT),
    "hr_scale": (0.1, 16),
    "hr_second_pass_steps": (0, 1000),
    **dict.fromkeys(("firstphase_width", "firstphase_height", "hr_resize_x", "hr_resize_y"), AMOUNT),
    "resize_mode": (0, 3),
    "inpainting_fill": (0, 3),
    "inpainting_mask_invert": (0, 1),
    "inpaint_full_res_padding": (0, 4096),
    "initial_noise_multiplier": (0, 10),
    **dict.fromkeys(("mask_blur", "mask_blur_x", "mask_blur_y"), (0, 1024)),
}


def _show_ranges(schema: dict[str, Any]) -> None:
    """Put the ranges into a request's schema."""
    for name, field in schema["properties"].items():
        if name in RANGES:
            low, high = RANGES[name]
            numbers = [kind for kind in field.get("anyOf", [field]) if kind["type"] != "null"]
            numbers[0].update(minimum=low, maximum=high)


class Request(BaseModel):
    """What txt2img and img2img share, in the host's field names and defaults.

    Fields that the studio does not know are ignored, as in the host.
    """

    model_config = ConfigDict(extra="ignore", json_schema_extra=_show_ranges)

    tab: ClassVar[str]

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] | None = Field(None, description="Names of styles that are put into the prompts.")
    seed: int | None = Field(-1, description="-1 or null: a random one.")
    subseed: int | None = Field(-1, description="-1 or null: a random one.")
    subseed_strength: float = 0.0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    sampler_index: str | None = Field("Euler", description="An older name of sampler_name.")
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int | None = Field(None, description="Pixels, a multiple of 8; the model's native size when left out.")
    height: int | None = Field(None, description="Pixels, a multiple of 8; the model's native size when left out.")
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool = False
    firstpass_image: Picture | None = None
    comments: dict[str, Any] | None = None
    force_task_id: str | None = None
    script_name: str | None = Field(None, description="A selectable script, in the words of /sdapi/v1/scripts.")
    script_args: list[Any] = []
    alwayson_scripts: dict[str, Any] = Field({}, description='{"name of a script": {"args": [...]}}')
    infotext: str | None = Field(None, description="Fills the fields that the request leaves open.")
    send_images: bool = True
    save_images: bool = False


class Txt2ImgRequest(Request):
    """A txt2img job."""

    tab = "txt2img"

    enable_hr: bool = False
    firstphase_width: int = 0
    firstphase_height: int = 0
    hr_scale: float = 2.0
    hr_upscaler: str | None = Field(None, description="A latent mode or a picture upscaler.")
    hr_second_pass_steps: int = Field(0, description="0: as many as the first pass.")
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str = ""
    hr_negative_prompt: str = ""


class Img2ImgRequest(Request):
    """An img2img job."""

    tab = "img2img"

    init_images: list[Picture] | None = None
    resize_mode: int = Field(0, description="0: just resize, 1: crop and resize, 2: resize and fill, 3: latents.")
    denoising_strength: float | None = 0.75
    image_cfg_scale: float | None = None
    mask: Picture | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    mask_blur: int | None = None
    mask_round: bool = True
    inpainting_fill: int = Field(0, description="0: fill, 1: original, 2: latent noise, 3: latent nothing.")
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: float | None = None
    latent_mask: Picture | None = None
    include_init_images: bool = Field(False, description="Give the pictures back in the answer's parameters.")


REQUESTS: dict[str, type[Request]] = {"txt2img": Txt2ImgRequest, "img2img": Img2ImgRequest}


class TextToImageResponse(BaseModel):
    """Pictures as base64 PNG, the request, and `Processed.js()`."""

    images: list[str] | None = None
    parameters: dict[str, Any]
    info: str


class ImageToImageResponse(TextToImageResponse):
    """As for txt2img; the parameters hold the pictures sent only if include_init_images says so."""


class PNGInfoRequest(BaseModel):
    """A picture file in base64."""

    image: str


class PNGInfoResponse(BaseModel):
    """The infotext, the picture's other texts, and the infotext's keys and values."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class ProgressResponse(BaseModel):
    """Where the running job is."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None


class SamplerItem(BaseModel):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(BaseModel):
    """A noise schedule."""

    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class UpscalerItem(BaseModel):
    """A picture upscaler."""

    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None = None
    scale: float | None


class LatentUpscalerModeItem(BaseModel):
    """An upscaler that works on latents."""

    name: str


class SDModelItem(BaseModel):
    """A checkpoint."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None = None


class SDVaeItem(BaseModel):
    """A VAE file."""

    model_name: str
    filename: str


class PromptStyleItem(BaseModel):
    """A style."""

    name: str
    prompt: str | None
    negative_prompt: str | None


class EmbeddingItem(BaseModel):
    """An embedding: `vectors` vectors of `shape` numbers each."""

    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class EmbeddingsResponse(BaseModel):
    """The embeddings by name."""

    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class MemoryResponse(BaseModel):
    """Bytes; {"error": text} where something cannot be told."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


def options_model(declared: dict[str, Any]) -> type[BaseModel]:
    """The settings as they are declared now, with their labels."""
    fields: dict[str, Any] = {
        key: (_kind(info.default), Field(info.default, description=info.label))
        for key, info in declared.items()
        if not info.do_not_save
    }
    return create_model("Options", **fields)


def flags_model(flags: dict[str, Any]) -> type[BaseModel]:
    """The options of the command line."""
    fields: dict[str, Any] = {name: (_kind(value), None) for name, value in flags.items()}
    return create_model("Flags", **fields)


def _kind(value: Any) -> Any:
    return type(value) | None if isinstance(value, (bool, int, float, str, list, dict)) else Any
