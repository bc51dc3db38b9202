"""The VAE menu: files that stand in for a checkpoint's own VAE."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_prism.errors import PrismError

from modules import errors, paths, script_callbacks, sd_models, sd_vae_approx, shared

SUFFIX = ".safetensors"
vae_dict: dict[str, str] = {}
base_vae: dict | None = None
loaded_vae_file: str | None = None
checkpoint_info: Any = None
unspecified = object()


@dataclass
class VaeResolution:
    """Which file to use (None: the checkpoint's own VAE), and why."""

    vae: str | None = None
    source: str | None = None
    resolved: bool = True

    def tuple(self) -> tuple[str | None, str | None]:
        """(file, why)."""
        return self.vae, self.source


def get_filename(filepath: str) -> str:
    """What menus show of a file."""
    return os.path.basename(filepath)


def get_loaded_vae_name() -> str | None:
    """The file that stands in, None for the checkpoint's own VAE."""
    return get_filename(loaded_vae_file) if loaded_vae_file else None


def get_loaded_vae_hash() -> str | None:
    """The short hash of that file."""
    return sd_models.sha256(loaded_vae_file)[:10] if loaded_vae_file else None


def refresh_vae_list() -> None:
    """Look for files anew: all in models/VAE, and *.vae.safetensors beside checkpoints."""
    models = Path(paths.models_path)
    found = [*(models / "Stable-diffusion").rglob(f"*.vae{SUFFIX}"), *(models / "VAE").rglob(f"*{SUFFIX}")]
    vae_dict.clear()
    vae_dict.update(sorted(((file.name, str(file)) for file in found), key=lambda item: item[0].lower()))


def find_vae_near_checkpoint(checkpoint_file: str) -> str | None:
    """A VAE whose name starts with the checkpoint's."""
    stem = os.path.basename(checkpoint_file).rsplit(".", 1)[0]
    return next((file for name, file in vae_dict.items() if name.startswith(stem)), None)


def is_automatic() -> bool:
    """Whether the setting leaves the choice to the files' names."""
    return shared.opts.sd_vae in ("Automatic", "auto")


def resolve_vae(checkpoint_file: str) -> VaeResolution:
    """The VAE for a checkpoint, by the setting and then by its name."""
    if is_automatic():
        near = find_vae_near_checkpoint(checkpoint_file)
        return VaeResolution(near, "found near the checkpoint") if near else VaeResolution(resolved=False)
    chosen = shared.opts.sd_vae
    if chosen != "None" and chosen not in vae_dict:
        errors.report(f'VAE "{chosen}" of the settings does not exist; the checkpoint\'s own is used.')
    return VaeResolution(vae_dict.get(chosen), "specified in settings")


def read(vae_file: str, vae: Any) -> dict:
    """The weights of a file by the names of `vae`; raises PrismError when they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from sd_prism.studio import checkpoint

    try:
        # As in the host, the first stage of an extension's class decides itself what fits it.
        return checkpoint.vae_weights(vae_file, vae) if hasattr(vae, "config") else load_file(vae_file)
    except (PrismError, SafetensorError) as error:
        raise PrismError(f"{error} Choose another VAE in the setting SD VAE (sd_vae), or None.") from error


def load_vae(model: Any, vae_file: str | None = None, vae_source: str | None = "from unknown source") -> None:
    """Put a file's weights into the model's VAE, or with None its own back; the module stays."""
    global base_vae, checkpoint_info, loaded_vae_file
    weights = read(vae_file, model.first_stage_model) if vae_file else None
    if weights is not None and checkpoint_info != model.sd_checkpoint_info:
        base_vae = copy.deepcopy(model.first_stage_model.state_dict())
        checkpoint_info = model.sd_checkpoint_info
    if weights is None and loaded_vae_file:
        weights = base_vae
    if weights is not None:
        model.first_stage_model.load_state_dict(weights)
        sd_vae_approx.forget()
    if vae_file is None:
        base_vae = checkpoint_info = None
    loaded_vae_file = vae_file
    model.base_vae, model.loaded_vae_file = base_vae, loaded_vae_file


def clear_loaded_vae() -> None:
    """A checkpoint was loaded with its own VAE."""
    global base_vae, checkpoint_info, loaded_vae_file
    base_vae = checkpoint_info = loaded_vae_file = None
    sd_vae_approx.forget()


@contextmanager
def kept_unless_done() -> Iterator[None]:
    """Where the block fails, what it says here of the VAE in use is taken back."""
    global base_vae, checkpoint_info, loaded_vae_file
    before = base_vae, checkpoint_info, loaded_vae_file
    try:
        yield
    except BaseException:
        base_vae, checkpoint_info, loaded_vae_file = before
        raise


def reload_vae_weights(sd_model: Any = None, vae_file: Any = unspecified) -> Any:
    """Load what the setting (or `vae_file`) asks for unless it is loaded; model_loaded fires."""
    model = sd_model or shared.sd_model
    source: str | None = "from function argument"
    if vae_file is unspecified:
        vae_file, source = resolve_vae(model.sd_checkpoint_info.filename).tuple()
    if loaded_vae_file == vae_file:
        return None
    load_vae(model, vae_file, source)
    script_callbacks.model_loaded_callback(model)
    return model
