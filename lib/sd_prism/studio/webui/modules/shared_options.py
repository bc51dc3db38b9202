"""The settings that the studio itself has, in the host's names."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from sd_prism.errors import OutOfRange, PrismError

from modules import shared_options_sd
from modules.options import OptionHTML, OptionInfo, options_section

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
    "randn_source": ("CPU", "NV"),
    "infotext_styles": ("Ignore", "Apply", "Discard", "Apply if any"),
    "disable_all_extensions": ("none", "extra", "all"),
    "live_previews_image_format": ("jpeg", "png", "webp"),
    **shared_options_sd.CHOICES,
}
AMOUNT = (0, 8192)
RANGES: dict[str, tuple[float, float]] = {
    "CLIP_stop_at_last_layers": (1, 12),
    "eta_noise_seed_delta": (-(2**32), 2**32),
    "sdxl_crop_left": AMOUNT,
    "sdxl_crop_top": AMOUNT,
    "show_progress_every_n_steps": (-1, 1000),
    "live_preview_refresh_period": (50, 60_000),
    **shared_options_sd.RANGES,
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


def _alternatives() -> dict[str, OptionInfo]:
    return {
        "hires_fix_show_sampler": OptionInfo(
            False, "Hires fix: show hires checkpoint and sampler selection"
        ).needs_reload_ui(),
        "hires_fix_show_prompts": OptionInfo(
            False, "Hires fix: show hires prompt and negative prompt"
        ).needs_reload_ui(),
        "interrupt_after_current": OptionInfo(True, "Don't Interrupt in the middle").info(
            "of several batches, Interrupt ends the job after the current one; press it again to end it at once"
        ),
    }


def _interface() -> dict[str, OptionInfo]:
    return {
        "localization": OptionInfo(
            "None", "Localization", gr.Dropdown, lambda: {"choices": _localizations()}, refresh=_find_localizations
        ).needs_reload_ui(),
        "quicksettings_list": OptionInfo(
            ["sd_model_checkpoint", "sd_vae"],
            "Quicksettings list",
            gr.Dropdown,
            lambda: {"choices": _setting_names(), "multiselect": True},
        )
        .info("settings that stand above the tabs")
        .needs_reload_ui(),
        "send_seed": OptionInfo(True, "Send seed when sending prompt or image to other interface"),
        "send_size": OptionInfo(True, "Send size when sending prompt or image to another interface"),
    }


def _extra_networks() -> dict[str, OptionInfo]:
    return {
        "extra_networks_default_multiplier": OptionInfo(
            1.0, "Default multiplier for extra networks", gr.Slider, {"minimum": 0.0, "maximum": 2.0, "step": 0.01}
        ),
        "textual_inversion_add_hashes_to_infotext": OptionInfo(True, "Add Textual Inversion hashes to infotext"),
    }


def _samplers() -> list[str]:
    from modules import sd_samplers

    return [x.name for x in sd_samplers.all_samplers]


def _checkpoints() -> list[str]:
    from modules import sd_models

    return sd_models.checkpoint_tiles()


def _find_checkpoints() -> None:
    from modules import sd_models

    sd_models.list_models()


def _localizations() -> list[str]:
    from modules import localization

    return ["None", *localization.localizations]


def _find_localizations() -> None:
    from modules import localization, paths

    localization.list_localizations(f"{paths.data_path}/localizations")


def _setting_names() -> list[str]:
    from modules import shared

    return [key for key, info in shared.opts.data_labels.items() if not info.do_not_save]


def _infotext_names() -> list[str]:
    """The keys of settings and of the page's fields, scripts' own included."""
    from modules import infotext_utils, shared

    names = [info.infotext for info in shared.opts.data_labels.values() if info.infotext]
    for tab in infotext_utils.paste_fields.values():
        names += [target for _, target in tab["fields"] or [] if isinstance(target, str)]
    return list(dict.fromkeys(names))


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
                "img_max_size_mp": OptionInfo(200, "Maximum size of a grid, in megapixels"),
                "font": OptionInfo("", "Font for image grids that have text"),
                "grid_text_active_color": OptionInfo("#000000", "Text color for image grids"),
                "grid_text_inactive_color": OptionInfo("#999999", "Inactive text color for image grids"),
                "grid_background_color": OptionInfo("#ffffff", "Background color for image grids"),
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
                "sd_model_checkpoint": OptionInfo(
                    None,
                    "Stable Diffusion checkpoint",
                    gr.Dropdown,
                    lambda: {"choices": _checkpoints()},
                    refresh=_find_checkpoints,
                    infotext="Model hash",
                ),
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
                "hide_samplers": OptionInfo(
                    [], "Hide samplers in user interface", gr.CheckboxGroup, lambda: {"choices": _samplers()}
                ).needs_reload_ui(),
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
        **shared_options_sd.sections(),
        **options_section(("extra_networks", "Extra Networks", "sd"), _extra_networks()),
        **options_section(
            ("ui_prompt_editing", "Prompt editing", "ui"),
            {"include_styles_into_token_counters": OptionInfo(True, "Count tokens of enabled styles")},
        ),
        **options_section(("ui_alternatives", "UI alternatives", "ui"), _alternatives()),
        **options_section(("ui", "User interface", "ui"), _interface()),
        **options_section(
            ("infotext", "Infotext", "ui"),
            {
                "infotext_explanation": OptionHTML(
                    "Infotext holds everything that a picture was made with; it stands under the picture and in its "
                    "file. Put it into the prompt and press ↙ to have it read into the fields."
                ),
                "add_model_hash_to_info": OptionInfo(True, "Add model hash to infotext"),
                "add_model_name_to_info": OptionInfo(True, "Add model name to infotext"),
                "add_version_to_infotext": OptionInfo(True, "Add program version to infotext"),
                "infotext_skip_pasting": OptionInfo(
                    [],
                    "Disregard fields from pasted infotext",
                    gr.Dropdown,
                    lambda: {"choices": _infotext_names(), "multiselect": True},
                ),
                "infotext_styles": OptionInfo(
                    "Apply if any",
                    "Infer styles from prompts of pasted infotext",
                    gr.Radio,
                    {"choices": list(CHOICES["infotext_styles"])},
                ),
                "disable_weights_auto_swap": OptionInfo(True, "Disregard checkpoint information from pasted infotext"),
            },
        ),
        **options_section(
            (None, "Hidden page"),
            {
                "disabled_extensions": OptionInfo([], "Disable these extensions"),
                "disable_all_extensions": OptionInfo("none", "Disable all extensions"),
            },
        ),
        **options_section(
            ("live-preview", "Live previews", "ui"),
            {
                "live_previews_enable": OptionInfo(True, "Show live previews of the created image"),
                "live_previews_image_format": OptionInfo(
                    "png", "Live preview file format", gr.Radio, {"choices": ["jpeg", "png", "webp"]}
                ),
                "live_preview_refresh_period": OptionInfo(1000, "Progressbar and preview update period").info(
                    "in milliseconds"
                ),
                "show_progress_every_n_steps": OptionInfo(10, "Live preview display period"),
            },
        ),
    }
