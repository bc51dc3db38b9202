"""Checkpoints: which there are, which one is loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from sd_prism.errors import PrismError, UnknownName
from sd_prism.merge import ldm_keys
from sd_prism.studio import weights
from torch import nn

from modules import devices, paths, prompt_parser, script_callbacks, sd_models_config, shared
from modules.sd_models_classes import StateDict, filled, instantiate_from_config, model_section, named

SUFFIXES = (".safetensors",)
VAE_SUFFIX = ".vae.safetensors"
WITH_UNET = ("cond_stage_model", "conditioner", "first_stage_model", "text_encoder", "vae")
HASHED_AT_ONCE = 256 * 2**20  # larger files are hashed when they are loaded, so that the list appears at once
checkpoints_list: dict[str, CheckpointInfo] = {}
checkpoint_aliases: dict[str, CheckpointInfo] = {}
_hashes: dict[tuple, str] = {}
_told_missing: set[str] = set()


def _weights(folder: Path) -> list[Path]:
    """The files of a diffusers folder that are hashed: its UNet's, and where it has none all of them."""
    return sorted((folder / "unet").glob("*.safetensors")) or sorted(folder.rglob("*.safetensors"))


def sha256(filename: str) -> str:
    """The hash of a file, or of a diffusers folder's UNet, remembered while it does not change."""
    files = _weights(Path(filename)) if os.path.isdir(filename) else [Path(filename)]
    key = tuple((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    if key not in _hashes:
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                for block in iter(functools.partial(stream.read, 2**20), b""):
                    digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


class CheckpointInfo:
    """One checkpoint file under all the names it answers to; the title is "name.safetensors [hash]"."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.name = os.path.basename(filename)
        self.name_for_extra = self.model_name = os.path.splitext(self.name)[0]
        self.is_safetensors = filename.lower().endswith(".safetensors")
        self.sha256: str | None = None
        self.shorthash: str | None = None
        header = self._header() if self.is_safetensors else {}
        self.metadata = dict(header.get("__metadata__") or {})
        self.is_part = _is_part(header.keys())
        if os.path.isfile(filename) and os.path.getsize(filename) <= HASHED_AT_ONCE:
            self._set_hash()

    def _header(self) -> dict:
        try:
            with open(self.filename, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size)) if size < 2**27 else {}
            return header if isinstance(header.get("__metadata__") or {}, dict) else {}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}  # a damaged file is told about when it is loaded

    def _set_hash(self) -> None:
        self.sha256 = sha256(self.filename)
        self.shorthash = self.sha256[:10]

    @property
    def hash(self) -> str | None:
        """The short hash."""
        return self.shorthash

    @property
    def title(self) -> str:
        """What menus show."""
        return f"{self.name} [{self.shorthash}]" if self.shorthash else self.name

    @property
    def short_title(self) -> str:
        """As `title`, without the file's ending."""
        return f"{self.name_for_extra} [{self.shorthash}]" if self.shorthash else self.name_for_extra

    @property
    def ids(self) -> list[str]:
        """Every name that means this file."""
        names = [self.title, self.name, self.name_for_extra, self.short_title, self.filename]
        return names + [x for x in (self.shorthash, self.sha256) if x]

    def register(self) -> None:
        """Add to the list; of two files with one name the first one registered keeps it."""
        checkpoints_list.setdefault(self.title, self)
        for name in self.ids:
            checkpoint_aliases.setdefault(name, self)

    def calculate_shorthash(self) -> str:
        """Hash the file now if that has not been done."""
        if self.shorthash is None:
            checkpoints_list.pop(self.title, None)
            self._set_hash()
            self.register()
        return str(self.shorthash)


def _is_part(names: Collection[str]) -> bool:
    """Whether a file of these tensors cannot be loaded by itself.

    So it is with a UNet that has neither text encoder nor VAE, and with all of Stable Cascade but its main files.
    """
    from sd_prism.cascade import formats

    if formats.role_of(names) not in ("", "main"):
        return True
    starts = {name.partition(".")[0] for name in names}
    return ldm_keys.UNET + "input_blocks.0.0.weight" in names and starts.isdisjoint(WITH_UNET)


def model_folders() -> list[Path]:
    """Where checkpoints are looked for: the user's folder, then those that ship with Prism."""
    from sd_prism import miniatures

    shipped = miniatures.CHECKPOINTS
    return [Path(paths.models_path) / "Stable-diffusion", shipped]


def list_models() -> None:
    """Look for checkpoints anew; `--ckpt` comes first."""
    checkpoints_list.clear()
    checkpoint_aliases.clear()
    given = Path(shared.cmd_opts.ckpt) if shared.cmd_opts.ckpt else None
    files = [given, *_decoders_beside(given)] if given else []
    for folder in model_folders():
        if folder.is_dir():
            found = (file for file in folder.rglob("*") if _is_checkpoint(file))
            files += sorted(found, key=_place)
    for file in files:
        _list(file)


def _decoders_beside(checkpoint: Path) -> list[Path]:
    """What a main file of Stable Cascade cannot do without: the decoders in its folder."""
    if _cascade_role(checkpoint) != "main":
        return []
    return [file for file in sorted(checkpoint.parent.glob("*.safetensors")) if _cascade_role(file) == "decoder"]


def _cascade_role(file: Path) -> str:
    from sd_prism.cascade import formats

    try:
        return formats.inspect(file).role
    except PrismError:
        return ""


def _place(file: Path) -> tuple[bool, str]:
    """By name; of the checkpoints that ship with Prism, the one for the first start comes first."""
    from sd_prism import miniatures

    return file != miniatures.MINI_V1, file.name.lower()


def _is_checkpoint(file: Path) -> bool:
    name = file.name.lower()
    return name.endswith(SUFFIXES) and not name.endswith(VAE_SUFFIX) and file.is_file()


def _list(file: Path) -> None:
    """Register one file; one that cannot be read is told about and left out."""
    try:
        str(file).encode()  # names of other encodings cannot be shown
        if file.exists():
            CheckpointInfo(str(file)).register()
    except (OSError, UnicodeError) as error:
        print(f"Checkpoint {str(file)!r} is not listed, because it cannot be read: {error}", file=sys.stderr)


def checkpoint_tiles(use_short: bool = False) -> list[str]:
    """The titles of what can be loaded, not of parts; the spelling is the host's."""
    return [x.short_title if use_short else x.title for x in checkpoints_list.values() if not x.is_part]


def get_closet_checkpoint_match(search_string: str | None) -> CheckpointInfo | None:
    """The checkpoint with this name, hash, title or part of a title; the spelling is the host's."""
    if not search_string:
        return None
    if search_string in checkpoint_aliases:
        return checkpoint_aliases[search_string]
    for text in (search_string, re.sub(r"\s*\[[^]]+]\s*$", "", search_string)):
        found = [info for info in checkpoints_list.values() if text and text in info.title]
        if found:
            return min(found, key=lambda info: len(info.title))
    return None


def find(name: str) -> CheckpointInfo:
    """As `get_closet_checkpoint_match`; an unknown name raises with the nearest known one."""
    info = get_closet_checkpoint_match(name)
    if info is None:
        raise UnknownName("checkpoint", name, [x.name for x in checkpoints_list.values()])
    return info


def select_checkpoint() -> CheckpointInfo:
    """The one that the settings name, else the first that the studio can load."""
    if not checkpoints_list:
        list_models()
    saved = shared.opts.sd_model_checkpoint
    info = get_closet_checkpoint_match(saved)
    if info is None:
        info = next(filter(_is_usable, checkpoints_list.values()), None) or next(iter(checkpoints_list.values()), None)
        _tell_missing(saved, info)
    if info is None:
        folders = " or ".join(str(folder) for folder in model_folders())
        raise PrismError(f"There is no checkpoint yet; put a .safetensors file into {folders}, or name one with --ckpt")
    return info


def _is_usable(info: CheckpointInfo) -> bool:
    """Whether the header says that the file is a complete model of a family that the studio knows."""
    from sd_prism.studio import header

    try:
        found = header.inspect(info.filename)
    except PrismError:
        return False
    needed = {"stage_c", "text"} if found.family == "cascade" else {"unet", "vae", "text"}
    return found.family in (*header.FAMILIES, "cascade") and needed <= set(found.parts)


def native_size(info: CheckpointInfo) -> int:
    """Pixels of the side of a square picture that a checkpoint is made for; 512 when its header cannot be read."""
    from sd_prism.studio import header

    try:
        return int(header.inspect(info.filename).native_size)
    except PrismError:  # a damaged file is told about when it is loaded
        return 512


def _tell_missing(saved: str | None, instead: CheckpointInfo | None) -> None:
    """Say once that the checkpoint of the settings is gone."""
    if saved and saved not in _told_missing:
        _told_missing.add(saved)
        used = f"using {instead.name} instead" if instead else "there is no other"
        print(f'Checkpoint "{saved}" of the settings does not exist any more; {used}.', file=sys.stderr)


class StudioModel:
    """A loaded checkpoint in the shape that scripts know.

    `model.diffusion_model` is the UNet (diffusers), `first_stage_model` the VAE, `cond_stage_model` the text part.
    """

    cond_stage_key = "txt"
    latent_channels = 4
    is_sd3 = is_ssd = is_sdxl_inpaint = False
    sd_checkpoint_info: CheckpointInfo

    def __init__(self, loaded: Any, info: CheckpointInfo) -> None:
        self.engine = loaded
        self.model = SimpleNamespace(diffusion_model=loaded.unet, conditioning_key="crossattn")
        self.first_stage_model, self.cond_stage_model = loaded.vae, loaded.text
        self.is_sd1, self.is_sd2, self.is_sdxl = (loaded.family.startswith(name) for name in ("sd1", "sd2", "sdxl"))
        self.device = devices.device
        self.latent_channels = int(loaded.latent_channels)
        self.base_vae: dict | None = None
        self.loaded_vae_file: str | None = None
        self._name(info)

    def _name(self, info: CheckpointInfo) -> None:
        named(self, info)
        self.parameterization = "v" if self.engine.prediction_type.startswith("v") else "eps"
        self.native_size = int(self.engine.native_size)

    def take(self, other: StudioModel) -> None:
        """Become the checkpoint `other`, which has the same build; the modules stay."""
        weights.take(self.engine, other.engine)
        self._name(other.sd_checkpoint_info)
        self.base_vae, self.loaded_vae_file = other.base_vae, other.loaded_vae_file

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """(1000,) of the training schedule."""
        return self.create_denoiser().alphas_cumprod

    @property
    def dtype(self) -> torch.dtype:
        """The UNet's type."""
        return self.model.diffusion_model.dtype

    def create_denoiser(self) -> Any:
        """The model in k-diffusion's form."""
        return self.engine.denoiser()

    def get_learned_conditioning(self, texts: Any) -> Any:
        """A tensor (N,T,C), or for SDXL a dict with "crossattn" and "vector"."""
        cond = self.engine.text.encode(
            list(texts),
            clip_skip=int(shared.opts.CLIP_stop_at_last_layers),
            width=getattr(texts, "width", None),
            height=getattr(texts, "height", None),
            negative=getattr(texts, "is_negative_prompt", False),
        )
        if "vector" not in cond:
            return cond["crossattn"]
        return prompt_parser.DictWithShape(cond)

    def apply_model(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        """The network's own output (noise or v) at timestep t (N,)."""
        return self.engine.predict(x, t, cond if isinstance(cond, dict) else {"crossattn": cond})

    def decode_first_stage(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures (N,3,H,W) in -1..1."""
        return self.engine.decode(z)

    def encode_first_stage(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of pictures in -1..1, already scaled."""
        return self.engine.encode(images)

    def get_first_stage_encoding(self, latent: torch.Tensor) -> torch.Tensor:
        """`encode_first_stage` gives this already."""
        return latent


def send_model_to_device(m: Any) -> None:
    """Have a model of an extension's class on the device that it runs on."""
    if isinstance(m, nn.Module):
        m.to(devices.device)


class SdModelData:
    """The one loaded model."""

    def __init__(self) -> None:
        self.sd_model: Any = None
        self.lock = threading.RLock()

    def get_sd_model(self) -> Any:
        """The loaded model; loads the chosen checkpoint at the first call."""
        with self.lock:
            if self.sd_model is None:
                load_model()
            return self.sd_model

    def set_sd_model(self, v: Any, already_loaded: bool = False) -> None:
        """Replace or (None) forget the model."""
        self.sd_model = v


model_data = SdModelData()


class SkipWritingToConfig:
    """Inside the block a loaded checkpoint does not become the one that the settings name."""

    skip = False
    previous: bool | None = None

    def __enter__(self) -> None:
        self.previous = SkipWritingToConfig.skip
        SkipWritingToConfig.skip = True

    def __exit__(self, exc_type: Any, exc_value: Any, exc_traceback: Any) -> None:
        SkipWritingToConfig.skip = bool(self.previous)


def _read(info: CheckpointInfo) -> Any:
    """The engine's `checkpoint.Model`, or an object of the class that a config names."""
    from sd_prism.studio import checkpoint

    tensors = StateDict(info.filename)
    try:
        config = sd_models_config.find_checkpoint_config(tensors, info)
        section = model_section(config)
        if section is not None:
            model = filled(instantiate_from_config(section, tensors), tensors, config)
            send_model_to_device(model)
            model.native_size = native_size(info)
            return model
        return checkpoint.load(info.filename, devices.device)
    except PrismError:
        raise
    except Exception as e:
        raise PrismError(f"{info.name} could not be loaded ({type(e).__name__}: {e}); is the file complete?") from e


def load_model(checkpoint_info: CheckpointInfo | None = None, already_loaded_state_dict: Any = None) -> Any:
    """Load a checkpoint into modules of its own; when that fails the model loaded before stays."""
    return _load(checkpoint_info or select_checkpoint(), None)


def _same_build(one: Any, other: Any) -> bool:
    """Whether the weights of each fit the modules of the other."""
    of_engine = isinstance(one, StudioModel) and isinstance(other, StudioModel)
    return of_engine and weights.same_build(one.engine, other.engine)


def _load(info: CheckpointInfo, into: Any) -> Any:
    """Load into the modules of `into` if they have the checkpoint's build, else into new ones."""
    from modules import extra_networks, sd_hijack, sd_vae

    with model_data.lock:
        loaded = _read(info)
        info.calculate_shorthash()
        model = named(loaded, info) if isinstance(loaded, nn.Module) else StudioModel(loaded, info)
        with sd_vae.kept_unless_done():
            sd_vae.clear_loaded_vae()
            sd_vae.load_vae(model, *sd_vae.resolve_vae(info.filename).tuple())
        reused = into is not None and _same_build(into, model)
        if reused:
            into.take(model)
        model = model_data.sd_model = into if reused else model
        if not SkipWritingToConfig.skip:
            shared.opts.data["sd_model_checkpoint"] = info.title
        shared.opts.data["sd_checkpoint_hash"] = info.sha256
    sd_hijack.model_hijack.hijack(model)
    sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    script_callbacks.model_loaded_callback(model)
    if not reused:  # as the host: every registered network gets one call with nothing to do
        extra_networks.activate(SimpleNamespace(scripts=None, iteration=0), {})
    return model


def reload_model_weights(sd_model: Any = None, info: CheckpointInfo | None = None, forced_reload: bool = False) -> Any:
    """Make the chosen checkpoint (or `info`) the loaded one; nothing happens when it is.

    A checkpoint of the same build is loaded into the modules that are there.
    """
    current = sd_model or model_data.sd_model
    wanted = info or select_checkpoint()
    if current is not None and not forced_reload and current.sd_checkpoint_info.filename == wanted.filename:
        return current
    return _load(wanted, current)


def unload_model_weights(sd_model: Any = None, info: Any = None) -> None:
    """Forget the loaded model."""
    model_data.sd_model = None
