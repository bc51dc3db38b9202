"""Names of weights in single files (LDM's layout) and in diffusers and transformers: one table, both ways.

Names here stand without the file's prefixes ("model.diffusion_model." and so on, the constants below).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sd_prism.errors import PrismError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.0.model.", "conditioner.embedders.1.model.")

UNET_OUTER = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "add_embedding.linear_1."),
    ("label_emb.0.2.", "add_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
    ("middle_block.0.", "mid_block.resnets.0."),
    ("middle_block.1.", "mid_block.attentions.0."),
    ("middle_block.2.", "mid_block.resnets.1."),
)
UNET_RESNET = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("emb_layers.1.", "time_emb_proj."),
    ("skip_connection.", "conv_shortcut."),
)
VAE_OUTER = (
    ("norm_out.", "conv_norm_out."),
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
    ("mid.attn_1.", "mid_block.attentions.0."),
)
VAE_ATTENTION = (
    ("norm.", "group_norm."),
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("proj_out.", "to_out.0."),
)
CLIP_OUTER = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final.", "final_layer_norm."),
)
CLIP_LAYER = (
    ("attn.out_proj.", "self_attn.out_proj."),
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)

Table = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class UNetShape:
    """What the names depend on.

    Attributes:
        layers: ResBlocks per level on the way down; one more on the way up.
        attention: whether each level, from the top down, has attention.
    """

    layers: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)

    @classmethod
    def of(cls, names: Iterable[str]) -> UNetShape:
        """Read from the LDM names of a UNet."""
        names = set(names)
        levels: list[list[bool]] = [[]]
        i = 1
        while any(f"input_blocks.{i}.0.{x}.weight" in names for x in ("op", "in_layers.2")):
            if f"input_blocks.{i}.0.op.weight" in names:
                levels.append([])
            else:
                levels[-1].append(f"input_blocks.{i}.1.proj_in.weight" in names)
            i += 1
        if len({len(level) for level in levels}) > 1 or any(len(set(level)) != 1 for level in levels):
            raise PrismError(f"this UNet's levels are built unevenly ({levels}); expected SD 1, SD 2 or SDXL's layout")
        return cls(len(levels[0]), tuple(level[0] for level in levels))

    @classmethod
    def of_diffusers(cls, names: Iterable[str]) -> UNetShape:
        """Read from diffusers' names of a UNet."""
        found = {
            m.groups() for m in (re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", x) for x in names) if m
        }
        levels = range(1 + max((int(level) for level, _, _ in found), default=-1))
        layers = 1 + max((int(k) for _, kind, k in found if kind == "resnets"), default=1)
        return cls(layers, tuple((str(level), "attentions", "0") in found for level in levels))


def unet_to_diffusers(name: str, shape: UNetShape = UNetShape()) -> str:
    """An LDM UNet name ("input_blocks.1.0.in_layers.2.weight") as diffusers writes it."""
    outer = _swapped(name, UNET_OUTER)
    if outer is not None:
        return _resnet(outer)
    part, i, j, rest = _split(name, r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)")
    if part == "output_blocks":
        block, layer = divmod(int(i), shape.layers + 1)
        if rest.startswith("conv."):
            return f"up_blocks.{block}.upsamplers.0.{rest}"
        return f"up_blocks.{block}.{_kind(j)}.{layer}.{_inner(j, rest)}"
    block, layer = divmod(int(i) - 1, shape.layers + 1)
    if rest.startswith("op."):
        return f"down_blocks.{block}.downsamplers.0.conv.{rest[3:]}"
    return f"down_blocks.{block}.{_kind(j)}.{layer}.{_inner(j, rest)}"


def unet_to_ldm(name: str, shape: UNetShape = UNetShape()) -> str:
    """The inverse of `unet_to_diffusers`."""
    outer = _swapped(name, UNET_OUTER, back=True)
    if outer is not None:
        return _resnet(outer, back=True)
    way, b, kind, k, rest = _split(
        name, r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
    )
    block, layer, step = int(b), int(k), shape.layers + 1
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * step}.0.op.{rest[5:]}"
    if block >= len(shape.attention):
        raise PrismError(f'"{name}" is a level beyond the {len(shape.attention)} that this UNet has')
    if kind == "upsamplers":
        return f"output_blocks.{(block + 1) * step - 1}.{2 if shape.attention[-1 - block] else 1}.{rest}"
    i = block * step + layer + (1 if way == "down" else 0)
    inner = _swapped(rest, UNET_RESNET, back=True) if kind == "resnets" else rest
    return f"{'input' if way == 'down' else 'output'}_blocks.{i}.{0 if kind == 'resnets' else 1}.{inner}"


def vae_to_diffusers(name: str, levels: int = 4) -> str:
    """An LDM VAE name ("decoder.up.3.block.0.conv1.weight") as diffusers writes it."""
    side, _, rest = name.partition(".")
    outer = _swapped(rest, VAE_OUTER)
    if outer is not None:
        head, kind, tail = outer.partition("attentions.0.")
        return f"{side}.{head}{kind}{_swapped(tail, VAE_ATTENTION) or tail}" if kind else f"{side}.{outer}"
    found = re.fullmatch(r"(down|up)\.(\d+)\.(block|downsample|upsample)\.(.+)", rest)
    if not found:
        return name
    way, level, kind, tail = found.groups()
    block = int(level) if way == "down" else levels - 1 - int(level)
    if kind == "block":
        return f"{side}.{way}_blocks.{block}.resnets.{tail.replace('nin_shortcut', 'conv_shortcut')}"
    return f"{side}.{way}_blocks.{block}.{kind}rs.0.{tail}"


def vae_to_ldm(name: str, levels: int = 4) -> str:
    """The inverse of `vae_to_diffusers`."""
    side, _, rest = name.partition(".")
    outer = _swapped(rest, VAE_OUTER, back=True)
    if outer is not None:
        head, kind, tail = outer.partition("attn_1.")
        return f"{side}.{head}{kind}{_swapped(tail, VAE_ATTENTION, back=True) or tail}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers\.0|upsamplers\.0)\.(.+)", rest)
    if not found:
        return name
    way, block, kind, tail = found.groups()
    level = int(block) if way == "down" else levels - 1 - int(block)
    if kind == "resnets":
        return f"{side}.{way}.{level}.block.{tail.replace('conv_shortcut', 'nin_shortcut')}"
    return f"{side}.{way}.{level}.{kind[:-4]}.{tail}"


def open_clip_to_transformers(name: str) -> list[str]:
    """An open_clip text name as transformers writes it; a fused in_proj is three names, for q, k and v in order."""
    outer = _swapped(name, CLIP_OUTER)
    if outer is not None:
        return [outer]
    if name == "text_projection":
        return ["text_projection.weight"]
    i, rest = _split(name, r"transformer\.resblocks\.(\d+)\.(.+)")
    layer = f"encoder.layers.{i}."
    if rest.startswith("attn.in_proj_"):
        return [f"{layer}self_attn.{x}_proj.{rest[13:]}" for x in "qkv"]
    return [layer + (_swapped(rest, CLIP_LAYER) or rest)]


def transformers_to_open_clip(name: str) -> tuple[str, int | None]:
    """The inverse: the open_clip name, and which third of it (0 q, 1 k, 2 v) where it is fused."""
    outer = _swapped(name, CLIP_OUTER, back=True)
    if outer is not None:
        return outer, None
    if name == "text_projection.weight":
        return "text_projection", None
    i, rest = _split(name, r"encoder\.layers\.(\d+)\.(.+)")
    layer = f"transformer.resblocks.{i}."
    fused = re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest)
    if fused:
        return f"{layer}attn.in_proj_{fused[2]}", "qkv".index(fused[1])
    return layer + (_swapped(rest, CLIP_LAYER, back=True) or rest), None


def _swapped(name: str, table: Table, back: bool = False) -> str | None:
    """The name with the first matching beginning replaced, None if none matches."""
    for ldm, theirs in table:
        old, new = (theirs, ldm) if back else (ldm, theirs)
        if name.startswith(old):
            return new + name[len(old) :]
    return None


def _resnet(name: str, back: bool = False) -> str:
    """The inside of the middle block's ResBlocks."""
    found = re.match(r"middle_block\.[02]\." if back else r"mid_block\.resnets\.\d\.", name)
    if not found:
        return name
    inner = name[found.end() :]
    return found[0] + (_swapped(inner, UNET_RESNET, back) or inner)


def _kind(j: str) -> str:
    return "resnets" if j == "0" else "attentions"


def _inner(j: str, rest: str) -> str:
    return (_swapped(rest, UNET_RESNET) or rest) if j == "0" else rest


def _split(name: str, pattern: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, name)
    if found is None:
        raise PrismError(f'"{name}" is no name of a Stable Diffusion 1, 2 or XL weight')
    return found.groups()
