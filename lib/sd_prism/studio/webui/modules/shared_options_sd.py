"""The settings of hires pass, img2img, VAE and previews, in the host's names."""

from __future__ import annotations

import gradio as gr

from modules.options import OptionInfo, options_section

PREVIEW_METHODS = ("Full", "Approx NN", "Approx cheap", "TAESD")
CHOICES: dict[str, tuple[str, ...]] = {
    "live_preview_content": ("Combined", "Prompt", "Negative prompt"),
    "show_progress_type": PREVIEW_METHODS,
}
RANGES: dict[str, tuple[float, float]] = {
    "initial_noise_multiplier": (0, 1.5),
    "img2img_extra_noise": (0, 1),
}


def _upscalers() -> list[str]:
    from modules import shared

    return [x.name for x in shared.sd_upscalers]


def _vaes() -> list[str]:
    from modules import sd_vae

    return ["Automatic", "None", *sd_vae.vae_dict]


def _use_vae() -> None:
    """The setting changed: the loaded checkpoint gets the VAE."""
    from modules import call_queue, sd_models, sd_vae

    if sd_models.model_data.sd_model is not None:
        with call_queue.queue_lock:
            sd_vae.reload_vae_weights()


def _find_vaes() -> None:
    from modules import sd_vae

    sd_vae.refresh_vae_list()


def _saving() -> dict[str, OptionInfo]:
    return {
        "save_images_before_highres_fix": OptionInfo(False, "Save a copy of image before applying highres fix."),
        "save_mask": OptionInfo(False, "For inpainting, save a copy of the greyscale mask"),
        "save_mask_composite": OptionInfo(False, "For inpainting, save a masked composite"),
    }


def _vae() -> dict[str, OptionInfo]:
    return {
        "sd_vae": OptionInfo(
            "Automatic",
            "SD VAE",
            gr.Dropdown,
            lambda: {"choices": _vaes()},
            onchange=_use_vae,
            refresh=_find_vaes,
            infotext="VAE",
        ).info("Automatic takes a file that is named as the checkpoint is; None keeps the checkpoint's own VAE"),
    }


def _img2img() -> dict[str, OptionInfo]:
    return {
        "initial_noise_multiplier": OptionInfo(
            1.0,
            "Noise multiplier for img2img",
            gr.Slider,
            {"minimum": 0.0, "maximum": 1.5, "step": 0.001},
            infotext="Noise multiplier",
        ),
        "img2img_extra_noise": OptionInfo(
            0.0,
            "Extra noise multiplier for img2img and hires fix",
            gr.Slider,
            {"minimum": 0.0, "maximum": 1.0, "step": 0.01},
            infotext="Extra noise",
        ).info("0 adds none; more than the denoising strength leaves noise in the picture"),
        "img2img_fix_steps": OptionInfo(
            False, "With img2img, do exactly the amount of steps the slider specifies."
        ).info("otherwise a lower denoising strength means fewer steps"),
        "img2img_background_color": OptionInfo(
            "#ffffff", "With img2img, fill transparent parts of the input image with this color.", gr.ColorPicker
        ),
        "return_mask": OptionInfo(False, "For inpainting, include the greyscale mask in results for web"),
        "return_mask_composite": OptionInfo(False, "For inpainting, include masked composite in results for web"),
        "overlay_inpaint": OptionInfo(True, "Overlay original for inpaint").info(
            "outside the mask the result is then the original picture to the last bit"
        ),
    }


def _previews() -> dict[str, OptionInfo]:
    return {
        "show_progress_grid": OptionInfo(True, "Show previews of all images generated in a batch as a grid"),
        "show_progress_type": OptionInfo(
            "Full", "Live preview method", gr.Radio, {"choices": list(PREVIEW_METHODS)}
        ).info("Full runs the VAE, which is slow and exact; the three others are one fast approximation here"),
        "live_preview_content": OptionInfo(
            "Prompt", "Live preview subject", gr.Radio, {"choices": list(CHOICES["live_preview_content"])}
        ),
        "live_preview_fast_interrupt": OptionInfo(
            False, "Return image with chosen live preview method on interrupt"
        ).info("makes interrupts faster"),
    }


def sections() -> dict[str, OptionInfo]:
    """Fresh declarations."""
    return {
        **options_section(("saving-images", "Saving images/grids", "saving"), _saving()),
        **options_section(
            ("upscaling", "Upscaling", "postprocessing"),
            {
                "upscaler_for_img2img": OptionInfo(
                    None, "Upscaler for img2img", gr.Dropdown, lambda: {"choices": _upscalers()}
                )
            },
        ),
        **options_section(("vae", "VAE", "sd"), _vae()),
        **options_section(("img2img", "img2img", "sd"), _img2img()),
        **options_section(
            ("optimizations", "Optimizations", "sd"),
            {
                "persistent_cond_cache": OptionInfo(True, "Persistent cond cache").info(
                    "a prompt that the job before had is not encoded again"
                )
            },
        ),
        **options_section(
            ("compatibility", "Compatibility", "sd"),
            {
                "hires_fix_use_firstpass_conds": OptionInfo(
                    False, "For hires fix, calculate conds of second pass using extra networks of first pass."
                )
            },
        ),
        **options_section(
            ("infotext", "Infotext", "ui"),
            {
                "add_vae_name_to_info": OptionInfo(True, "Add VAE name to infotext"),
                "add_vae_hash_to_info": OptionInfo(True, "Add VAE hash to infotext"),
            },
        ),
        **options_section(("live-preview", "Live previews", "ui"), _previews()),
    }
