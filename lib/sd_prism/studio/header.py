"""What a checkpoint is, from its header and the yaml beside it; no weight is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sd_prism import header as headers
from sd_prism.cascade import formats
from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys

CONFIGS = Path(__file__).with_name("configs")
FAMILIES = ("sd1", "sd2", "sdxl")
BETA_START, BETA_END = 0.00085, 0.012  # LDM's own, where no yaml says otherwise
Shapes = Mapping[str, Sequence[int]]
# What reading a file of any content may raise.
DAMAGED = (OSError, IndexError, *headers.DAMAGED)


@dataclass(frozen=True)
class Sidecar:
    """What a yaml beside the checkpoint says (A1111's way: same name, .yaml); None where it is silent."""

    prediction_type: str | None = None
    image_size: int | None = None
    heads: int | None = None
    head_width: int | None = None
    scale_factor: float | None = None
    betas: tuple[float, float] = (BETA_START, BETA_END)

    @classmethod
    def beside(cls, path: Path) -> Sidecar | None:
        """The yaml of a checkpoint, None if there is none."""
        file = path.with_suffix(".yaml")
        if not file.is_file():
            return None
        import yaml

        try:
            params = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["params"]
            return cls._of(params, params.get("unet_config", {}).get("params", {}))
        except (yaml.YAMLError, *DAMAGED) as error:
            raise PrismError(
                f"{file.name} beside the checkpoint is no LDM config ({error}); mend or move it"
            ) from error

    @classmethod
    def _of(cls, params: Mapping[str, Any], unet: Mapping[str, Any]) -> Sidecar:
        image_size, scale = params.get("image_size"), params.get("scale_factor")
        width = int(unet.get("num_head_channels") or 0)
        return cls(
            prediction_type="v_prediction" if params.get("parameterization", "eps") == "v" else "epsilon",
            image_size=int(image_size) * 8 if image_size else None,
            heads=None if width > 0 else max(int(unet.get("num_heads") or 0), 0) or None,
            head_width=width if width > 0 else None,
            scale_factor=float(scale) if scale else None,
            betas=(float(params.get("linear_start", BETA_START)), float(params.get("linear_end", BETA_END))),
        )


@dataclass(frozen=True)
class Header:
    """What a file is, known without reading a weight.

    Attributes:
        family: "sd1", "sd2", "sdxl", "sdxl-refiner", "cascade", "lora", "vae" or "unknown".
        parts: of "unet", "vae", "text", those present; of Stable Cascade `cascade.formats.TITLES`.
        dtype: that of most of its values, in torch's words ("float16").
        prediction_type: "epsilon" or "v_prediction".
        native_size: pixels of the side of a square picture the model is made for.
        notes: what was assumed, in sentences.
        shapes: name -> shape of each tensor; empty for a folder.
        metadata: the file's own strings.
    """

    path: Path
    family: str
    parts: tuple[str, ...] = ()
    dtype: str = "unknown"
    prediction_type: str = "epsilon"
    native_size: int = 512
    notes: tuple[str, ...] = ()
    shapes: Shapes = field(default_factory=dict, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    sidecar: Sidecar = field(default_factory=Sidecar, repr=False)


def inspect(path: str | Path) -> Header:
    """What a checkpoint is; reads the header of a .safetensors file, or the configs of a diffusers folder.

    Raises PrismError for a missing, truncated, corrupt or pickled file.
    """
    path = Path(path)
    if os.path.isdir(path):
        return _inspect_folder(path)
    if path.name.endswith(formats.INDEX):
        return _inspect_cascade(path)
    told = headers.read(path)
    shapes = {name: place.shape for name, place in told.places.items()}
    dtype = headers.dtype_of(told.places.values())
    family = _family(shapes)
    if family == "cascade":
        return _inspect_cascade(path, shapes)
    header = Header(path, family, _parts(shapes), dtype, shapes=shapes, metadata=told.metadata)
    return _with_prediction(header) if family in FAMILIES else header


def _inspect_cascade(path: Path, shapes: Shapes | None = None) -> Header:
    file = formats.inspect(path)
    dtype = next(iter(file.parts.values())).dtype
    size = _resolution(file.metadata) or formats.NATIVE_SIZE
    return Header(path, "cascade", tuple(file.parts), dtype, "epsilon", size, file.notes, shapes or {}, file.metadata)


def _resolution(metadata: Mapping[str, str]) -> int:
    """The side that a file's metadata names in ModelSpec's words ("1024x1024"); 0 where it names none."""
    named = re.fullmatch(r"(\d{2,5})x\d{2,5}", metadata.get("modelspec.resolution", ""))
    return int(named[1]) if named else 0


def _family(names: Iterable[str]) -> str:
    names = set(names)
    if any(re.search(r"lora_(up|down|A|B)\b|hada_w1|lokr_w", name) for name in names):
        return "lora"
    if formats.role_of(names):
        return "cascade"
    if ldm_keys.UNET + "input_blocks.0.0.weight" in names:
        return _ldm_family(names)
    vae = {name.removeprefix(ldm_keys.VAE) for name in names}
    return "vae" if {"encoder.conv_in.weight", "decoder.conv_in.weight"} & vae else "unknown"


def _ldm_family(names: set[str]) -> str:
    if "conditioner.embedders.1.model.ln_final.weight" in names:
        return "sdxl"
    if "conditioner.embedders.0.model.ln_final.weight" in names:
        return "sdxl-refiner"
    if "cond_stage_model.model.ln_final.weight" in names:
        return "sd2"
    if any(name.startswith(ldm_keys.CLIP[0]) for name in names):
        return "sd1"
    return "sdxl" if ldm_keys.UNET + "label_emb.0.0.weight" in names else "sd1"


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    prefixes = {"unet": (ldm_keys.UNET,), "vae": (ldm_keys.VAE,), "text": (*ldm_keys.CLIP, *ldm_keys.OPEN_CLIP)}
    names = list(names)
    return tuple(part for part, starts in prefixes.items() if any(name.startswith(starts) for name in names))


def _with_prediction(header: Header) -> Header:
    sidecar = Sidecar.beside(header.path)
    notes: tuple[str, ...] = ()
    if sidecar is not None:
        prediction = sidecar.prediction_type or "epsilon"
    elif "v_pred" in header.shapes:
        prediction = "v_prediction"
    else:
        prediction = "epsilon"
        if header.family == "sd2":
            notes = (
                "prediction type unknown, assumed epsilon; loading tests the UNet, a yaml beside the file decides",
            )
    size = native_size(header.family, prediction, sidecar)
    return replace(header, prediction_type=prediction, native_size=size, notes=notes, sidecar=sidecar or Sidecar(None))


def native_size(family: str, prediction: str, sidecar: Sidecar | None) -> int:
    """Pixels of the side of a square picture that a model of these facts is made for."""
    if sidecar is not None and sidecar.image_size:
        return sidecar.image_size
    if family == "sd2" and prediction == "v_prediction":
        return 768
    return int(family_config(family)["native_size"])


def family_config(family: str) -> dict[str, Any]:
    """The facts of a family that tensors do not tell, from configs/FAMILY.json."""
    return json.loads((CONFIGS / f"{family}.json").read_text(encoding="utf-8"))


# --- diffusers folders -------------------------------------------------------------------------------------------


def _inspect_folder(path: Path) -> Header:
    if any((path / name / "config.json").is_file() for name in (".", "prior", "decoder")):
        return _inspect_cascade(path)
    config = read_json(path / "unet" / "config.json")
    if "cross_attention_dim" not in config:
        name = str(config.get("_class_name", "a network unknown here"))
        return Header(path, "unknown", notes=(f"unet/config.json is {name}",))
    linear = "sd2" if config.get("use_linear_projection") else "sd1"
    family = "sdxl" if config.get("addition_embed_type") == "text_time" else linear
    scheduler = path / "scheduler" / "scheduler_config.json"
    prediction = read_json(scheduler).get("prediction_type", "epsilon") if scheduler.is_file() else "epsilon"
    folders = {"unet": "unet", "vae": "vae", "text": "text_encoder"}
    parts = tuple(part for part, folder in folders.items() if (path / folder / "config.json").is_file())
    size = int(config.get("sample_size") or native_size(family, prediction, None) // 8) * 8
    return Header(path, family, parts, str(config.get("torch_dtype", "unknown")), prediction, size)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a diffusers folder; raises PrismError when it is missing or damaged."""
    if not path.is_file():
        raise PrismError(f"{path} does not exist; expected a diffusers folder with unet, vae and text_encoder in it")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except DAMAGED as error:
        raise PrismError(f"{path} is damaged ({error}); download it again") from error
