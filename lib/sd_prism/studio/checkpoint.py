"""Checkpoint files: what one is (from its header alone), and the model it holds.

Single .safetensors files in LDM's layout (SD 1, SD 2, SDXL, of any width) and diffusers folders.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sd_prism.errors import PrismError
from sd_prism.studio import ldm_keys
from sd_prism.studio.denoiser import BETA_END, BETA_START, Denoiser, scaled_linear_alphas, zero_terminal_snr
from sd_prism.studio.text import Encoder, TextEngine
from sd_prism.studio.tokens import Vocabulary

CONFIGS = Path(__file__).with_name("configs")
FAMILIES = ("sd1", "sd2", "sdxl")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
MAX_HEADER = 100_000_000
TOKEN_IDS = "prism.token_ids"
VOCABULARY_SIZE = 49408
VAE_GROUPS = UNET_GROUPS = 32
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
OTHER_FAMILIES = {
    "lora": "is a LoRA, not a checkpoint; use it in a prompt as <lora:NAME:1>",
    "vae": "is a VAE alone; choose a checkpoint and set this file as its VAE",
    "cascade": "is a Stable Cascade file; choose it in the Cascade panel, which knows its two stages",
    "sdxl-refiner": "is the SDXL refiner, which only finishes another model's pictures; choose an SDXL base model",
    "unknown": "is no Stable Diffusion 1, 2 or XL checkpoint in the LDM layout",
}
Shapes = Mapping[str, Sequence[int]]


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
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
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
        parts: of "unet", "vae", "text", those present.
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
    if path.is_dir():
        return _inspect_folder(path)
    entries, metadata = read_header(path)
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    family = _family(shapes)
    header = Header(path, family, _parts(shapes), _dtype(entries), shapes=shapes, metadata=metadata)
    return _with_prediction(header) if family in FAMILIES else header


def read_header(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(tensor entries, metadata) of a .safetensors file, checked against the file's size."""
    if not path.is_file():
        raise PrismError(f"checkpoint {path} does not exist; check the path, or refresh the list of checkpoints")
    if path.suffix.lower() in PICKLES:
        raise PrismError(
            f"{path.name} is a pickle, which can run any code when it is opened; convert it to .safetensors first"
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(MAX_HEADER, size - 8):
            raise PrismError(f"{path.name} ({size} bytes) is no safetensors file, or is cut off; download it again")
        raw = file.read(length)
    try:
        entries = json.loads(raw)
        metadata = entries.pop("__metadata__", {})
        ends = [_entry_end(entry) for entry in entries.values()]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise PrismError(f"{path.name} has a damaged header ({error}); download it again") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise PrismError(f"{path.name} has {size} bytes, its header announces {expected}; download it again")
    return entries, metadata


def _entry_end(entry: Mapping[str, Any]) -> int:
    """Where a tensor's bytes end; raises one of several errors for an entry that is none."""
    start, stop = entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or not 0 <= start <= stop or any(n < 0 for n in entry["shape"]):
        raise ValueError(f"an entry reads {str(entry)[:80]}")
    return int(stop)


def _family(names: Iterable[str]) -> str:
    names = set(names)
    stripped = {name.removeprefix(ldm_keys.UNET) for name in names}
    if any(re.search(r"lora_(up|down|A|B)\b|hada_w1|lokr_w", name) for name in names):
        return "lora"
    if stripped & {"clip_txt_mapper.weight", "clip_txt_pooled_mapper.weight", "clip_mapper.weight", "clf.1.weight"}:
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


def _dtype(entries: Mapping[str, Mapping[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for entry in entries.values():
        start, stop = entry["data_offsets"]
        counts[entry["dtype"]] += stop - start
    most = counts.most_common(1)[0][0] if counts else "unknown"
    return DTYPES.get(most, most.lower())


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
    size = _native_size(header.family, prediction, sidecar)
    return replace(header, prediction_type=prediction, native_size=size, notes=notes, sidecar=sidecar or Sidecar(None))


def _native_size(family: str, prediction: str, sidecar: Sidecar | None) -> int:
    if sidecar is not None and sidecar.image_size:
        return sidecar.image_size
    if family == "sd2" and prediction == "v_prediction":
        return 768
    return int(family_config(family)["native_size"])


def family_config(family: str) -> dict[str, Any]:
    """The facts of a family that tensors do not tell, from configs/FAMILY.json."""
    return json.loads((CONFIGS / f"{family}.json").read_text(encoding="utf-8"))


# --- the model ---------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A loaded checkpoint.

    `predict` is the UNet alone: x (N,4,h,w) of unit variance, t (N,) timesteps, cond {"crossattn": (N,T,C)} and for
    SDXL "vector" (N,V). Latents are in the sampler's scale.
    """

    unet: Any
    vae: Any
    text: TextEngine
    family: str
    prediction_type: str
    alphas_cumprod: Tensor
    native_size: int
    path: Path
    latent_channels: int = 4
    factor: int = 8

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.name if self.path.is_dir() else self.path.stem

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file, or of a folder's UNet weights; computed on first use."""
        files = sorted((self.path / "unet").glob("*.safetensors")) if self.path.is_dir() else [self.path]
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    @property
    def hash(self) -> str:
        """The ten digits that A1111 shows."""
        return self.sha256[:10]

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """The UNet's output (N,4,h,w): epsilon or v, as `prediction_type` says."""
        vector, dtype = cond.get("vector"), self.unet.dtype
        added = None if vector is None else _size_vector(vector.to(dtype))
        context = cond["crossattn"].to(dtype)
        out = self.unet(x.to(dtype), t, encoder_hidden_states=context, added_cond_kwargs=added, return_dict=False)
        return out[0].to(x.dtype)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (N,3,H,W) from -1 to 1 as latents (N,4,H/8,W/8): the mean of the VAE's distribution."""
        encoded = self.vae.encode(pictures.to(self.vae.dtype)).latent_dist.mode()
        return (encoded * self.vae.config.scaling_factor).to(pictures.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents as pictures (N,3,H,W), about -1 to 1, not clamped."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return self.vae.decode(scaled, return_dict=False)[0].to(latents.dtype)

    def denoiser(self) -> Denoiser:
        """The model in k-diffusion's form."""
        return Denoiser(self.predict, self.alphas_cumprod, self.prediction_type)


def load(path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """The model of a checkpoint file or a diffusers folder, weights in `dtype` on `device`, for inference.

    Raises PrismError for what `inspect` refuses, for other families, and for missing or unexpected weights.
    """
    header = inspect(path)
    if header.family not in FAMILIES:
        raise PrismError(f"{header.path.name} {OTHER_FAMILIES[header.family]}")
    missing = [part for part in ("unet", "vae", "text") if part not in header.parts]
    if missing:
        raise PrismError(f"{header.path.name} has no {' and no '.join(missing)}; choose a complete checkpoint")
    reader = _FolderReader if header.path.is_dir() else _FileReader
    model = reader(header, dtype).model()
    for part in (model.unet, model.vae, *(encoder.model for encoder in model.text.encoders)):
        part.to(device).eval().requires_grad_(False)
    if header.family == "sd2" and header.notes and predicts_v(model.unet):
        model.prediction_type = "v_prediction"
        model.native_size = _native_size("sd2", "v_prediction", None)
    return model


@torch.no_grad()
def predicts_v(unet: Any) -> bool:
    """A1111's guess for SD 2: at the noisiest step a v model answers a constant input with far less than it."""
    weight = next(unet.parameters())
    x = torch.full((1, 4, 8, 8), 0.5, device=weight.device, dtype=weight.dtype)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, device=weight.device, dtype=weight.dtype)
    out = unet(x, torch.tensor([999], device=weight.device), encoder_hidden_states=context, return_dict=False)[0]
    return float((out - x).mean()) < -1


def _size_vector(vector: Tensor) -> dict[str, Tensor]:
    """The ready-made vector through diffusers' two doors, which join it again (see `_with_ready_vector`)."""
    return {"text_embeds": vector[:, :1], "time_ids": vector[:, 1:]}


def _with_ready_vector(unet: Any) -> Any:
    if unet.config.addition_embed_type == "text_time":
        unet.add_time_proj = nn.Identity()  # sizes arrive as sinusoids already
    return unet


def _alphas(sidecar: Sidecar, zero_snr: bool) -> Tensor:
    alphas = scaled_linear_alphas(*sidecar.betas)
    return zero_terminal_snr(alphas) if zero_snr else alphas


# --- single files ------------------------------------------------------------------------------------------------


class _FileReader:
    """Builds the three parts of a single file from its shapes and fills them."""

    def __init__(self, header: Header, dtype: torch.dtype) -> None:
        from safetensors import SafetensorError, safe_open

        self.header, self.dtype = header, dtype
        try:
            self.file = safe_open(str(header.path), framework="pt", device="cpu")
        except SafetensorError as error:
            raise PrismError(f"{header.path.name} is damaged ({error}); download it again") from error
        self.family = family_config(header.family)

    def model(self) -> Model:
        header = self.header
        text = TextEngine(
            [self._encoder(i, facts) for i, facts in enumerate(self.family["text"])],
            size=(header.native_size, header.native_size),
        )
        return Model(
            unet=_with_ready_vector(self._unet()),
            vae=self._vae(),
            text=text,
            family=header.family,
            prediction_type=header.prediction_type,
            alphas_cumprod=_alphas(header.sidecar, "ztsnr" in header.shapes),
            native_size=header.native_size,
            path=header.path,
        )

    def _unet(self) -> Any:
        from diffusers import UNet2DConditionModel

        shapes = self._shapes(ldm_keys.UNET)
        config = unet_config(shapes, self.family["unet"], self.header.sidecar)
        shape = ldm_keys.UNetShape.of(shapes)
        state = {ldm_keys.unet_to_diffusers(n, shape): self._tensor(ldm_keys.UNET + n) for n in shapes}
        return self._filled("UNet", lambda: UNet2DConditionModel(**config), state)

    def _vae(self) -> Any:
        from diffusers import AutoencoderKL

        shapes = {n: s for n, s in self._shapes(ldm_keys.VAE).items() if not n.startswith(("loss.", "model_ema."))}
        config = vae_config(shapes)
        config["scaling_factor"] = self.header.sidecar.scale_factor or self.family["vae"]["scaling_factor"]
        levels = len(config["block_out_channels"])
        state = {ldm_keys.vae_to_diffusers(n, levels): self._tensor(ldm_keys.VAE + n) for n in shapes}
        state = {n: t.flatten(1) if ".attentions." in n and t.ndim == 4 else t for n, t in state.items()}
        start = _at(shapes, "encoder.conv_in.weight")[0]
        return self._filled("VAE", lambda: _starting_at(AutoencoderKL(**config), start), state)

    def _encoder(self, index: int, facts: Mapping[str, Any]) -> Encoder:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        state = self._text_state(index, facts["kind"] == "open_clip")
        if not facts["pooled"]:
            state.pop("text_projection.weight", None)
        config = CLIPTextConfig(**text_config({n: t.shape for n, t in state.items()}, facts["hidden_act"]))
        build = CLIPTextModelWithProjection if facts["pooled"] else CLIPTextModel
        model = self._filled(f"text encoder {index + 1}", lambda: build(config), state)
        pad = Vocabulary.clip().end if facts["pad"] is None else facts["pad"]
        return Encoder(model, pad, facts["layer"], facts["normalised"], facts["skips"], facts["pooled"])

    def _text_state(self, index: int, open_clip: bool) -> dict[str, Tensor]:
        """The weights of one text encoder by transformers' names without "text_model."."""
        prefixes: tuple[str, ...] = ldm_keys.OPEN_CLIP if open_clip else ldm_keys.CLIP
        if open_clip and self.header.family == "sdxl":
            prefixes = (f"conditioner.embedders.{index}.model.",)
        prefix = next((p for p in prefixes if any(n.startswith(p) for n in self.header.shapes)), prefixes[0])
        state: dict[str, Tensor] = {}
        for name in self._shapes(prefix):
            if name.endswith(("position_ids", "logit_scale", "attn_mask")):
                continue
            tensor = self._tensor(prefix + name)
            if not open_clip:
                state[name.removeprefix("text_model.")] = tensor
                continue
            names = ldm_keys.open_clip_to_transformers(name)
            tensor = tensor.T.contiguous() if name == "text_projection" else tensor
            state.update(zip(names, tensor.chunk(len(names))))
        return self._expanded(state)

    def _expanded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The full token table from one that holds only the rows of `prism.token_ids`."""
        name = "embeddings.token_embedding.weight"
        if TOKEN_IDS not in self.header.shapes or name not in state:
            return state
        ids, rows = self.file.get_tensor(TOKEN_IDS).long(), state[name]
        if len(ids) != len(rows) or int(ids.min()) < 0 or int(ids.max()) >= VOCABULARY_SIZE:
            raise PrismError(
                f"{self.header.path.name}: {TOKEN_IDS} has {len(ids)} ids for {len(rows)} rows; expected one each, "
                f"from 0 to {VOCABULARY_SIZE - 1}"
            )
        table = rows.new_zeros(VOCABULARY_SIZE, rows.shape[1])
        return {**state, name: table.index_copy_(0, ids, rows)}

    def _shapes(self, prefix: str) -> dict[str, Sequence[int]]:
        return {n[len(prefix) :]: s for n, s in self.header.shapes.items() if n.startswith(prefix)}

    def _tensor(self, name: str) -> Tensor:
        return self.file.get_tensor(name).to(self.dtype)

    def _filled(self, part: str, build: Callable[[], Any], state: dict[str, Tensor]) -> Any:
        with torch.device("meta"):
            module = build()
        expected = set(module.state_dict())
        if any(name.startswith("text_model.") for name in expected):
            state = {n if n.startswith("text_projection") else f"text_model.{n}": t for n, t in state.items()}
        self._check(part, module.state_dict(), state)
        module.load_state_dict(state, strict=True, assign=True)
        for sub in module.modules():
            if isinstance(getattr(sub, "position_ids", None), Tensor):  # a buffer that files do not carry
                sub.position_ids = torch.arange(sub.position_ids.shape[-1]).expand((1, -1))
        return module

    def _check(self, part: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        wrong = {
            "missing": sorted(expected.keys() - given.keys()),
            "unexpected": sorted(given.keys() - expected.keys()),
            "of another shape": sorted(
                n for n in expected.keys() & given.keys() if expected[n].shape != given[n].shape
            ),
        }
        listed = [f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in wrong.items() if names]
        if listed:
            raise PrismError(
                f"{self.header.path.name} does not fit {self.header.family}; {part} weights: {'; '.join(listed)}. "
                "The file may be incomplete or of another family."
            )


def unet_config(shapes: Shapes, family: Mapping[str, int], sidecar: Sidecar) -> dict[str, Any]:
    """diffusers' UNet2DConditionModel arguments, read from LDM names and shapes."""
    shape = ldm_keys.UNetShape.of(shapes)
    step = shape.layers + 1
    firsts = [1 + level * step for level in range(len(shape.attention))]
    widths = tuple(_at(shapes, f"input_blocks.{i}.0.in_layers.2.weight")[0] for i in firsts)
    depth = [_depth(shapes, f"input_blocks.{i}.1.") for i in firsts]
    depth[-1] = depth[-1] or _depth(shapes, "middle_block.1.")
    config = {
        "in_channels": _at(shapes, "input_blocks.0.0.weight")[1],
        "out_channels": _at(shapes, "out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": shape.layers,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attention),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attention)),
        "transformer_layers_per_block": [d or 1 for d in depth],
        "attention_head_dim": tuple(_heads(width, family, sidecar) for width in widths),
        "cross_attention_dim": _at(shapes, "middle_block.1.transformer_blocks.0.attn2.to_k.weight")[1],
        "use_linear_projection": len(_at(shapes, "middle_block.1.proj_in.weight")) == 2,
        "norm_num_groups": UNET_GROUPS,
    }
    if "label_emb.0.0.weight" in shapes:
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = 256
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """diffusers' AutoencoderKL arguments, read from LDM names and shapes."""
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    widths = tuple(_at(shapes, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels))
    quantised = "quant_conv.weight" in shapes
    return {
        "in_channels": _at(shapes, "encoder.conv_in.weight")[1],
        "out_channels": _at(shapes, "decoder.conv_out.weight")[0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": _at(shapes, "decoder.conv_in.weight")[1],
        "norm_num_groups": VAE_GROUPS,
        "use_quant_conv": quantised,
        "use_post_quant_conv": quantised,
    }


def _starting_at(vae: Any, width: int) -> Any:
    """The VAE with an encoder that starts from LDM's own `ch`; diffusers starts from its first level's width."""
    from diffusers.models.resnet import ResnetBlock2D

    encoder = vae.encoder
    if encoder.conv_in.out_channels != width:
        level = encoder.down_blocks[0].resnets
        out = level[0].out_channels
        level[0] = ResnetBlock2D(in_channels=width, out_channels=out, temb_channels=None, groups=VAE_GROUPS, eps=1e-6)
        encoder.conv_in = nn.Conv2d(encoder.conv_in.in_channels, width, 3, padding=1)
    return vae


def text_config(shapes: Shapes, hidden_act: str) -> dict[str, Any]:
    """transformers' CLIPTextConfig arguments, read from names (without "text_model.") and shapes."""
    vocabulary, width = _at(shapes, "embeddings.token_embedding.weight")
    projection = shapes.get("text_projection.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _at(shapes, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(width // 64, 1),
        "max_position_embeddings": _at(shapes, "embeddings.position_embedding.weight")[0],
        "projection_dim": projection[0] if projection is not None else width,
        "hidden_act": hidden_act,
        "bos_token_id": VOCABULARY_SIZE - 2,
        "eos_token_id": VOCABULARY_SIZE - 1,
        "pad_token_id": VOCABULARY_SIZE - 1,
    }


def _at(shapes: Shapes, name: str) -> Sequence[int]:
    if name not in shapes:
        raise PrismError(f'the checkpoint has no weight "{name}"; the file is incomplete or of another family')
    return shapes[name]


def _count(shapes: Shapes, pattern: str) -> int:
    return 1 + max((int(m[1]) for m in (re.match(pattern, n) for n in shapes) if m), default=-1)


def _depth(shapes: Shapes, prefix: str) -> int:
    return _count(shapes, re.escape(prefix) + r"transformer_blocks\.(\d+)\.")


def _heads(width: int, family: Mapping[str, int], sidecar: Sidecar) -> int:
    head_width = sidecar.head_width or (None if sidecar.heads else family.get("head_width"))
    heads = max(width // head_width, 1) if head_width else sidecar.heads or family["heads"]
    if width % heads:
        raise PrismError(f"{width} channels do not divide into {heads} attention heads; set num_heads in the yaml")
    return heads


# --- diffusers folders -------------------------------------------------------------------------------------------


def _inspect_folder(path: Path) -> Header:
    config = _json(path / "unet" / "config.json")
    if "cross_attention_dim" not in config:
        name = str(config.get("_class_name", "a network unknown here"))
        return Header(path, "cascade" if "Cascade" in name else "unknown", notes=(f"unet/config.json is {name}",))
    linear = "sd2" if config.get("use_linear_projection") else "sd1"
    family = "sdxl" if config.get("addition_embed_type") == "text_time" else linear
    scheduler = path / "scheduler" / "scheduler_config.json"
    prediction = _json(scheduler).get("prediction_type", "epsilon") if scheduler.is_file() else "epsilon"
    folders = {"unet": "unet", "vae": "vae", "text": "text_encoder"}
    parts = tuple(part for part, folder in folders.items() if (path / folder / "config.json").is_file())
    size = int(config.get("sample_size") or _native_size(family, prediction, None) // 8) * 8
    return Header(path, family, parts, str(config.get("torch_dtype", "unknown")), prediction, size)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PrismError(f"{path} does not exist; expected a diffusers folder with unet, vae and text_encoder in it")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PrismError(f"{path} is damaged ({error}); download it again") from error


class _FolderReader:
    """Opens the parts of a diffusers folder, offline."""

    def __init__(self, header: Header, dtype: torch.dtype) -> None:
        self.header, self.path = header, header.path
        self.options = {"torch_dtype": dtype, "local_files_only": True, "use_safetensors": True}

    def model(self) -> Model:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        header = self.header
        return Model(
            unet=_with_ready_vector(self._part(UNet2DConditionModel, "unet")),
            vae=self._part(AutoencoderKL, "vae"),
            text=TextEngine(self._encoders(), self._vocabulary()),
            family=header.family,
            prediction_type=header.prediction_type,
            alphas_cumprod=self._alphas(),
            native_size=header.native_size,
            path=header.path,
        )

    def _part(self, kind: Any, folder: str) -> Any:
        try:
            return kind.from_pretrained(str(self.path / folder), **self.options)
        except (OSError, ValueError, RuntimeError) as error:
            raise PrismError(f"{self.path.name}/{folder} cannot be loaded: {error}") from error

    def _encoders(self) -> list[Encoder]:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        folders = [(CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2")]
        facts = family_config(self.header.family)["text"]
        return [self._encoder(kind, folder, f) for (kind, folder), f in zip(folders, facts)]

    def _encoder(self, kind: Any, folder: str, facts: Mapping[str, Any]) -> Encoder:
        pad = self._vocabulary().end if facts["pad"] is None else facts["pad"]
        layer = 1 if self.header.family == "sd2" else facts["layer"]  # diffusers' SD 2 comes without its last layer
        model = self._part(kind, folder)
        return Encoder(model, pad, layer, facts["normalised"], facts["skips"], facts["pooled"])

    def _vocabulary(self) -> Vocabulary:
        folder = self.path / "tokenizer"
        own = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
        return Vocabulary.load(folder) if own else Vocabulary.clip()

    def _alphas(self) -> Tensor:
        file = self.path / "scheduler" / "scheduler_config.json"
        config = _json(file) if file.is_file() else {}
        betas = (config.get("beta_start", BETA_START), config.get("beta_end", BETA_END))
        return _alphas(Sidecar(betas=betas), bool(config.get("rescale_betas_zero_snr")))
