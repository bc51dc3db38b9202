"""The settings that the studio itself has, in the host's names."""

from __future__ import annotations

import math
from typing import Any

from sd_prism.errors import OutOfRange, PrismError

from modules.options import OptionInfo, options_section

restricted_opts: set[str] = {
    "outdir_samples",
    "outdir_txt2img_samples",
    "outdir_img2img_samples",
    "outdir_txt2img_grids",
    "outdir_img2img_grids",
}

PICTURES = ("png", "jpg", "jpeg", "webp")
# What the studio can do of settings with a fixed set of values; the host knows more emphases and noise sources.
CHOICES: dict[str, tuple[str, ...]] = {
    "samples_format": PICTURES,
    "grid_format": PICTURES,
    "emphasis": ("Original",),
    "randn_source": ("CPU",),
}
AMOUNT = (0, 8192)
RANGES: dict[str, tuple[float, float]] = {
    "CLIP_stop_at_last_layers": (1, 12),
    "eta_noise_seed_delta": (-(2**32), 2**32),
    "sdxl_crop_left": AMOUNT,
    "sdxl_crop_top": AMOUNT,
    "show_progress_every_n_steps": (-1, 1000),
    **dict.fromkeys(("eta_ddim", "eta_ancestral", "s_churn", "s_tmin", "s_tmax", "s_noise", "s_min_uncond"), AMOUNT),
}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list of texts"}


def checked(key: str, value: Any) -> Any:
    """A value of one of the studio's own settings in its type; raises PrismError for one that is not valid."""
    default = templates()[key].default
    kind = str if default is None else type(default)
    try:
        value = _cast(kind, value)
    except (TypeError, ValueError, OverflowError):
        example = f", such as {default!r}" if default else ""
        raise PrismError(f"setting {key} is {_shown(value)}; it must be {KINDS[kind]}{example}") from None
    if key in CHOICES:
        return _chosen(key, value)
    if key in RANGES:
        low, high = RANGES[key]
        if not low <= value <= high:
            raise OutOfRange(f"setting {key}", value, low, high, "override_settings")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _cast(kind: type, value: Any) -> Any:
    """Numbers and booleans may come as text, as they do from an infotext."""
    text = str(value).lower()
    if kind is bool:
        valid, found = text in ("true", "false"), text == "true"
        return _only(valid, found)
    if kind in (int, float):
        number = float(value)
        whole = isinstance(value, (int, str)) or number.is_integer()
        return _only(not isinstance(value, bool) and math.isfinite(number) and (whole or kind is float), kind(value))
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return _only(texts if kind is list else isinstance(value, str), value)


def _only(valid: bool, value: Any) -> Any:
    if not valid:
        raise ValueError
    return value


def _chosen(key: str, value: str) -> str:
    known = {name.lower(): name for name in CHOICES[key]}
    if value.lower() not in known:
        raise PrismError(f"setting {key} is {_shown(value)}; the studio knows: {', '.join(CHOICES[key])}")
    return known[value.lower()]


def templates() -> dict[str, OptionInfo]:
    """Fresh declarations, in the host's defaults where the studio does what the host does."""
    return {
        **options_section(
            ("saving-images", "Saving images/grids", "saving"),
            {
                "samples_save": OptionInfo(True, "Always save all generated images"),
                "samples_format": OptionInfo("png", "File format for images"),
                "grid_save": OptionInfo(False, "Always save all generated image grids"),
                "grid_format": OptionInfo("png", "File format for grids"),
                "grid_only_if_multiple": OptionInfo(True, "Do not save grids consisting of one picture"),
                "return_grid": OptionInfo(True, "Show grid in results for web"),
                "enable_pnginfo": OptionInfo(True, "Write infotext to metadata of the generated image"),
                "save_incomplete_images": OptionInfo(False, "Save incomplete images"),
            },
        ),
        **options_section(
            ("saving-paths", "Paths for saving", "saving"),
            {
                "outdir_txt2img_samples": OptionInfo("", "Output directory for txt2img images"),
                "outdir_img2img_samples": OptionInfo("", "Output directory for img2img images"),
                "outdir_txt2img_grids": OptionInfo("", "Output directory for txt2img grids"),
                "outdir_img2img_grids": OptionInfo("", "Output directory for img2img grids"),
            },
        ),
        **options_section(
            ("sd", "Stable Diffusion", "sd"),
            {
                "sd_model_checkpoint": OptionInfo(None, "Stable Diffusion checkpoint", infotext="Model hash"),
                "sd_checkpoint_hash": OptionInfo("", "SHA256 hash of the current checkpoint"),
                "CLIP_stop_at_last_layers": OptionInfo(1, "Clip skip", infotext="Clip skip"),
                "batch_cond_uncond": OptionInfo(True, "Batch cond/uncond"),
                "emphasis": OptionInfo("Original", "Emphasis mode"),
                "randn_source": OptionInfo("CPU", "Random number generator source"),
                "tiling": OptionInfo(False, "Tiling"),
                "face_restoration": OptionInfo(False, "Restore faces"),
                "sdxl_crop_left": OptionInfo(0, "crop left coordinate"),
                "sdxl_crop_top": OptionInfo(0, "crop top coordinate"),
            },
        ),
        **options_section(
            ("sampler-params", "Sampler parameters", "sd"),
            {
                "hide_samplers": OptionInfo([], "Hide samplers in user interface"),
                "eta_ddim": OptionInfo(0.0, "Eta for DDIM", infotext="Eta DDIM"),
                "eta_ancestral": OptionInfo(1.0, "Eta for k-diffusion samplers", infotext="Eta"),
                "s_churn": OptionInfo(0.0, "sigma churn", infotext="Sigma churn"),
                "s_tmin": OptionInfo(0.0, "sigma tmin", infotext="Sigma tmin"),
                "s_tmax": OptionInfo(0.0, "sigma tmax", infotext="Sigma tmax"),
                "s_noise": OptionInfo(1.0, "sigma noise", infotext="Sigma noise"),
                "s_min_uncond": OptionInfo(0.0, "Negative Guidance minimum sigma", infotext="NGMS"),
                "eta_noise_seed_delta": OptionInfo(0, "Eta noise seed delta", infotext="ENSD"),
            },
        ),
        **options_section(
            ("infotext", "Infotext", "ui"),
            {
                "add_model_hash_to_info": OptionInfo(True, "Add model hash to infotext"),
                "add_model_name_to_info": OptionInfo(True, "Add model name to infotext"),
                "add_version_to_infotext": OptionInfo(True, "Add program version to infotext"),
                "infotext_skip_pasting": OptionInfo([], "Disregard fields from pasted infotext"),
                "disable_weights_auto_swap": OptionInfo(True, "Disregard checkpoint information from pasted infotext"),
            },
        ),
        **options_section(
            (None, "Hidden page"),
            {"disabled_extensions": OptionInfo([], "Disable these extensions")},
        ),
        **options_section(
            ("live-preview", "Live previews", "ui"),
            {
                "live_previews_enable": OptionInfo(False, "Show live previews of the created image"),
                "show_progress_every_n_steps": OptionInfo(10, "Live preview display period"),
            },
        ),
    }
