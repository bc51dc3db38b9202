"""The model a checkpoint holds: single .safetensors files in LDM's layout (SD 1, SD 2, SDXL, of any width) and
diffusers folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys
from sd_prism.studio.denoiser import Denoiser, scaled_linear_alphas, zero_terminal_snr
from sd_prism.studio.header import (
    BETA_END,
    BETA_START,
    FAMILIES,
    Header,
    Sidecar,
    family_config,
    inspect,
    native_size,
    read_json,
)
from sd_prism.studio.model_config import VAE_GROUPS, VOCABULARY_SIZE, shape_of, text_config, unet_config, vae_config
from sd_prism.studio.text import Encoder, TextEngine
from sd_prism.studio.tokens import Vocabulary

TOKEN_IDS = "prism.token_ids"
OTHER_FAMILIES = {
    "lora": "is a LoRA, which goes on top of a checkpoint; put it into models/Lora and write <lora:NAME:1> in prompts",
    "vae": "is a VAE alone; put it into models/VAE and choose it in the setting SD VAE",
    "cascade": "is a Stable Cascade file, which only the script Prism Cascade loads; start the studio with its scripts",
    "sdxl-refiner": "is the SDXL refiner, which only finishes another model's pictures; choose an SDXL base model",
    "unknown": "is no Stable Diffusion 1, 2 or XL checkpoint in the LDM layout",
}


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
        # Not `unet.dtype`: diffusers walks through all parameters for that, at every step.
        vector, dtype = cond.get("vector"), self.unet.conv_in.weight.dtype
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
        raise PrismError(
            f"{header.path.name} has no {' and no '.join(missing)}; choose a complete checkpoint, or merge it into one"
        )
    reader = _FolderReader if header.path.is_dir() else _FileReader
    model = reader(header, dtype).model()
    for part in (model.unet, model.vae, *(encoder.model for encoder in model.text.encoders)):
        part.to(device).eval().requires_grad_(False)
    if header.family == "sd2" and header.notes and predicts_v(model.unet):
        model.prediction_type = "v_prediction"
        model.native_size = native_size("sd2", "v_prediction", None)
    return model


def vae_weights(path: str | Path, vae: Any) -> dict[str, Tensor]:
    """The weights of a VAE file in LDM's layout, by the names and in the type of `vae`, whose shapes they have.

    Raises PrismError for what `inspect` refuses, and for files that are no VAE or one of another shape.
    """
    header = inspect(path)
    if header.family != "vae":
        raise PrismError(f"{header.path.name} is no VAE file; choose a .safetensors file that holds a VAE alone")
    reader = _FileReader(header, vae.dtype, "the loaded model")
    prefix = ldm_keys.VAE if any(name.startswith(ldm_keys.VAE) for name in header.shapes) else ""
    state = reader.vae_state(prefix, len(vae.config.block_out_channels))
    reader.check("VAE", vae.state_dict(), state)
    return state


@torch.no_grad()
def predicts_v(unet: Any) -> bool:
    """A1111's guess for SD 2: at the noisiest step a v model answers a constant input with far less than it."""
    weight = next(unet.parameters())
    x = torch.full((1, 4, 8, 8), 0.5, device=weight.device, dtype=weight.dtype)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, device=weight.device, dtype=weight.dtype)
    out = unet(x, torch.tensor([999], device=weight.device), encoder_hidden_states=context, return_dict=False)[0]
    return float((out - x).mean()) < -1


def _size_vector(vector: Tensor) -> dict[str, Tensor]:
    """The ready-made vector through diffusers' two doors, which join it again (see `_as_in_ldm`)."""
    return {"text_embeds": vector[:, :1], "time_ids": vector[:, 1:]}


def _as_in_ldm(unet: Any) -> Any:
    """The UNet with A1111's ways where diffusers has others: the size vector, and odd sizes."""
    from sd_prism.studio.upsampling import LdmUpsample2D, Upsample2D

    for module in unet.modules():
        if isinstance(module, Upsample2D):
            module.__class__ = LdmUpsample2D
    if unet.config.addition_embed_type == "text_time":
        unet.add_time_proj = nn.Identity()  # sizes arrive as sinusoids already
    return unet


def _alphas(sidecar: Sidecar, zero_snr: bool) -> Tensor:
    alphas = scaled_linear_alphas(*sidecar.betas)
    return zero_terminal_snr(alphas) if zero_snr else alphas


# --- single files ------------------------------------------------------------------------------------------------


class _FileReader:
    """Builds the three parts of a single file from its shapes and fills them."""

    def __init__(self, header: Header, dtype: torch.dtype, fits: str | None = None) -> None:
        from safetensors import SafetensorError, safe_open

        self.header, self.dtype, self.fits = header, dtype, fits or header.family
        try:
            self.file = safe_open(str(header.path), framework="pt", device="cpu")
        except SafetensorError as error:
            raise PrismError(f"{header.path.name} is damaged ({error}); download it again") from error

    @cached_property
    def family(self) -> dict[str, Any]:
        return family_config(self.header.family)

    def model(self) -> Model:
        header = self.header
        text = TextEngine(
            [self._encoder(i, facts) for i, facts in enumerate(self.family["text"])],
            size=(header.native_size, header.native_size),
        )
        return Model(
            unet=_as_in_ldm(self._unet()),
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

        shapes = self.vae_shapes(ldm_keys.VAE)
        config = vae_config(shapes)
        config["scaling_factor"] = self.header.sidecar.scale_factor or self.family["vae"]["scaling_factor"]
        state = self.vae_state(ldm_keys.VAE, len(config["block_out_channels"]))
        start = shape_of(shapes, "encoder.conv_in.weight")[0]
        return self._filled("VAE", lambda: starting_at(AutoencoderKL(**config), start), state)

    def vae_shapes(self, prefix: str) -> dict[str, Sequence[int]]:
        return {n: s for n, s in self._shapes(prefix).items() if not n.startswith(("loss.", "model_ema."))}

    def vae_state(self, prefix: str, levels: int) -> dict[str, Tensor]:
        """The weights of a VAE with so many resolutions by diffusers' names."""
        state = {ldm_keys.vae_to_diffusers(n, levels): self._tensor(prefix + n) for n in self.vae_shapes(prefix)}
        return {n: t.flatten(1) if ".attentions." in n and t.ndim == 4 else t for n, t in state.items()}

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
        self.check(part, module.state_dict(), state)
        module.load_state_dict(state, strict=True, assign=True)
        for sub in module.modules():
            if isinstance(getattr(sub, "position_ids", None), Tensor):  # a buffer that files do not carry
                sub.position_ids = torch.arange(sub.position_ids.shape[-1]).expand((1, -1))
        return module

    def check(self, part: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
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
                f"{self.header.path.name} does not fit {self.fits}; {part} weights: {'; '.join(listed)}. "
                "The file may be incomplete or of another family."
            )


def starting_at(vae: Any, width: int) -> Any:
    """The VAE with an encoder that starts from LDM's own `ch`; diffusers starts from its first level's width."""
    from diffusers.models.resnet import ResnetBlock2D

    encoder = vae.encoder
    if encoder.conv_in.out_channels != width:
        level = encoder.down_blocks[0].resnets
        out = level[0].out_channels
        level[0] = ResnetBlock2D(
            in_channels=width,
            out_channels=out,
            temb_channels=None,  # type: ignore[arg-type]  # typed as an int, but diffusers' own VAE passes None as well
            groups=VAE_GROUPS,
            eps=1e-6,
        )
        encoder.conv_in = nn.Conv2d(encoder.conv_in.in_channels, width, 3, padding=1)
    return vae


# --- diffusers folders -------------------------------------------------------------------------------------------


class _FolderReader:
    """Opens the parts of a diffusers folder, offline."""

    def __init__(self, header: Header, dtype: torch.dtype) -> None:
        self.header, self.path = header, header.path
        self.options = {"torch_dtype": dtype, "local_files_only": True, "use_safetensors": True}

    def model(self) -> Model:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        header = self.header
        return Model(
            unet=_as_in_ldm(self._part(UNet2DConditionModel, "unet")),
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
        config = read_json(file) if file.is_file() else {}
        betas = (config.get("beta_start", BETA_START), config.get("beta_end", BETA_END))
        return _alphas(Sidecar(betas=betas), bool(config.get("rescale_betas_zero_snr")))
