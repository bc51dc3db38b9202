"""What the whole host shares. `sd_model` loads the chosen checkpoint when it is first asked for."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from modules import devices, paths, shared_options, styles, upscaler
from modules.options import OptionHTML, OptionInfo, Options, options_section
from modules.shared_cmd_options import cmd_opts, parser
from modules.shared_state import State

__all__ = ["OptionHTML", "OptionInfo", "cmd_opts", "options_section", "opts", "parser", "state"]

opts = Options(shared_options.templates(), shared_options.restricted_opts)
options_templates = opts.data_labels
state = State()
device = devices.device
demo: Any = None
sd_upscalers: list = []
latent_upscale_default_mode = "Latent"
latent_upscale_modes = {
    "Latent": {"mode": "bilinear", "antialias": False},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic", "antialias": False},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest", "antialias": False},
    "Latent (nearest-exact)": {"mode": "nearest-exact", "antialias": False},
}
face_restorers: list = []
hypernetworks: dict = {}
prompt_styles: Any = None
parallel_processing_allowed = True
total_tqdm = SimpleNamespace(clear=lambda: None, update=lambda: None, updateTotal=lambda total: None)


def config_filename() -> str:
    """Where the settings are kept."""
    return os.path.join(paths.data_path, "config.json")


def configure() -> None:
    """Declare the settings anew and load their values and the styles; call after `paths.configure`."""
    global prompt_styles
    cmd_opts.lora_dir = os.path.join(paths.models_path, "Lora")
    cmd_opts.embeddings_dir = os.path.join(paths.data_path, "embeddings")
    prompt_styles = styles.StyleDatabase([os.path.join(paths.data_path, "styles.csv")])
    sd_upscalers[:] = upscaler.builtin()
    opts.data.clear()
    opts.data_labels.clear()
    for key, info in shared_options.templates().items():
        opts.add_option(key, info)
    for key in ("outdir_txt2img_samples", "outdir_txt2img_grids", "outdir_img2img_samples", "outdir_img2img_grids"):
        opts.data[key] = os.path.join(
            paths.data_path, "outputs", key.removeprefix("outdir_").replace("samples", "images").replace("_", "-")
        )
    opts.load(config_filename())


def forget_declared() -> None:
    """Drop the settings that scripts declared; their values stay."""
    own = shared_options.templates()
    for key in [key for key in opts.data_labels if key not in own]:
        del opts.data_labels[key]


class _Shared(ModuleType):
    @property
    def sd_model(self) -> Any:
        """The loaded checkpoint."""
        from modules import sd_models

        return sd_models.model_data.get_sd_model()

    @sd_model.setter
    def sd_model(self, value: Any) -> None:
        from modules import sd_models

        sd_models.model_data.set_sd_model(value)


sys.modules[__name__].__class__ = _Shared
