"""Shapes of what the HTTP routes take and give."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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


class Txt2ImgRequest(BaseModel):
    """A txt2img job in the host's field names. Fields that the studio does not know are ignored, as in the host."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] | None = None
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0.0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int | None = Field(None, description="Pixels, a multiple of 8; the model's native size when left out.")
    height: int | None = Field(None, description="Pixels, a multiple of 8; the model's native size when left out.")
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    disable_extra_networks: bool = False
    enable_hr: bool = False
    refiner_checkpoint: str | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    script_name: str | None = None
    script_args: list[Any] = []
    alwayson_scripts: dict[str, Any] = {}
    infotext: str | None = None
    send_images: bool = True
    save_images: bool = False
    force_task_id: str | None = None


class TextToImageResponse(BaseModel):
    """Pictures as base64 PNG, the request, and `Processed.js()`."""

    images: list[str] | None = None
    parameters: dict[str, Any]
    info: str


class ProgressResponse(BaseModel):
    """Where the running job is."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None
