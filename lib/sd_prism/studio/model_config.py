"""The arguments of diffusers' and transformers' classes, derived from the names and shapes of a single file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys
from sd_prism.studio.header import Shapes, Sidecar

VOCABULARY_SIZE = 49408
VAE_GROUPS = UNET_GROUPS = 32


def unet_config(shapes: Shapes, family: Mapping[str, int], sidecar: Sidecar) -> dict[str, Any]:
    """diffusers' UNet2DConditionModel arguments, read from LDM names and shapes."""
    shape = ldm_keys.UNetShape.of(shapes)
    step = shape.layers + 1
    firsts = [1 + level * step for level in range(len(shape.attention))]
    widths = tuple(shape_of(shapes, f"input_blocks.{i}.0.in_layers.2.weight")[0] for i in firsts)
    depth = [_depth(shapes, f"input_blocks.{i}.1.") for i in firsts]
    depth[-1] = depth[-1] or _depth(shapes, "middle_block.1.")
    config = {
        "in_channels": shape_of(shapes, "input_blocks.0.0.weight")[1],
        "out_channels": shape_of(shapes, "out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": shape.layers,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attention),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attention)),
        "transformer_layers_per_block": [d or 1 for d in depth],
        "attention_head_dim": tuple(_heads(width, family, sidecar) for width in widths),
        "cross_attention_dim": shape_of(shapes, "middle_block.1.transformer_blocks.0.attn2.to_k.weight")[1],
        "use_linear_projection": len(shape_of(shapes, "middle_block.1.proj_in.weight")) == 2,
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
    widths = tuple(shape_of(shapes, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels))
    quantised = "quant_conv.weight" in shapes
    return {
        "in_channels": shape_of(shapes, "encoder.conv_in.weight")[1],
        "out_channels": shape_of(shapes, "decoder.conv_out.weight")[0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": shape_of(shapes, "decoder.conv_in.weight")[1],
        "norm_num_groups": VAE_GROUPS,
        "use_quant_conv": quantised,
        "use_post_quant_conv": quantised,
    }


def text_config(shapes: Shapes, hidden_act: str) -> dict[str, Any]:
    """transformers' CLIPTextConfig arguments, read from names (without "text_model.") and shapes."""
    vocabulary, width = shape_of(shapes, "embeddings.token_embedding.weight")
    projection = shapes.get("text_projection.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shape_of(shapes, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(width // 64, 1),
        "max_position_embeddings": shape_of(shapes, "embeddings.position_embedding.weight")[0],
        "projection_dim": projection[0] if projection is not None else width,
        "hidden_act": hidden_act,
        "bos_token_id": VOCABULARY_SIZE - 2,
        "eos_token_id": VOCABULARY_SIZE - 1,
        "pad_token_id": VOCABULARY_SIZE - 1,
    }


def shape_of(shapes: Shapes, name: str) -> Sequence[int]:
    """The shape of a weight that has to be there; raises PrismError when it is not."""
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
