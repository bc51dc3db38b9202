"""Writes a trained miniature as a checkpoint: single-file safetensors in the LDM layout, with A1111's yaml beside it.

The shipped file keeps only the rows of CLIP's token table that training has seen (`prism.token_ids` names them; all
other rows are zero). `for_webui` writes the whole table, for hosts that know nothing of that.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from . import MINI_V1, world
from .train import TEXT, UNET, data_scene, tokenize
from .vae import DDCONFIG, VAE, ldm_state

TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
IDS = "prism.token_ids"


def config(text_model: str) -> dict[str, Any]:
    """The LDM configuration of `mini-v1`; `text_model` is where CLIP's config and tokenizer are looked up."""
    unet = {
        "image_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": UNET["block_out_channels"][0],
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2,
        "channel_mult": [1, 1, 1, 1],
        "num_heads": UNET["attention_head_dim"],
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": UNET["cross_attention_dim"],
        "use_checkpoint": False,
        "legacy": False,
    }
    params = {
        "parameterization": "v",
        "linear_start": 0.00085,
        "linear_end": 0.0120,
        "num_timesteps_cond": 1,
        "timesteps": 1000,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 16,
        "channels": 4,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": VAE.SCALE,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {"embed_dim": 4, "ddconfig": DDCONFIG, "lossconfig": {"target": "torch.nn.Identity"}},
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": text_model, "device": "cpu"},
        },
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def state(work: Path) -> dict[str, Tensor]:
    """The whole checkpoint in LDM's names, fp32, from a training folder."""
    from ..merge.ldm_keys import unet_to_ldm

    vae = VAE()
    final = work / "vae-final.pt"
    vae.load_state_dict(torch.load(final if final.exists() else work / "vae-done.pt", weights_only=True))
    mean = torch.load(work / "unet-base-ema.pt", weights_only=True)
    out = {f"first_stage_model.{name}": p for name, p in ldm_state(vae).items()}
    for name, p in mean.items():
        part, _, rest = name.partition(".")
        if part == "unet":
            out[f"model.diffusion_model.{unet_to_ldm(rest)}"] = p
        else:
            out[f"cond_stage_model.transformer.text_model.{rest.removeprefix('text_model.')}"] = p
    return out


def seen_tokens() -> Tensor:
    """The ids of every token that captions are made of, and the two specials."""
    rng = random.Random(0)
    captions = [world.caption(data_scene(k), rng) for k in range(20_000)]
    return tokenize(["", *captions]).unique().int()


def pack(work: Path, file: Path) -> None:
    """The shipped checkpoint: fp16, seen tokens only, the yaml beside it."""
    from safetensors.torch import save_file

    tensors = state(work)
    ids = seen_tokens()
    tensors[TOKENS] = tensors[TOKENS][ids.long()]
    half = {name: p.half().contiguous() for name, p in tensors.items()}
    save_file({**half, IDS: ids}, file, metadata={"format": "pt", "modelspec.title": file.stem})
    file.with_suffix(".yaml").write_text(yaml.safe_dump(config("openai/clip-vit-large-patch14"), sort_keys=False))


def save_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer as the files that transformers reads."""
    from ..studio.tokens import END, START, clip_merges, clip_vocabulary

    merges = clip_merges()
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges)), encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    (folder / "tokenizer_config.json").write_text(json.dumps({**specials, "tokenizer_class": "CLIPTokenizer"}))


def for_webui(folder: Path, file: Path = MINI_V1) -> Path:
    """Copies a shipped miniature to where a webui finds it: whole token table, and a text model of its own width."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    rows = tensors[TOKENS]
    table = torch.zeros(TEXT["vocab_size"], rows.shape[1], dtype=rows.dtype)
    table[tensors.pop(IDS).long()] = rows
    tensors[TOKENS] = table
    clip = folder / f"{file.stem}-clip"
    clip.mkdir(parents=True, exist_ok=True)
    save_tokenizer(clip)
    text = {**TEXT, "model_type": "clip_text_model", "architectures": ["CLIPTextModel"], "projection_dim": 64}
    (clip / "config.json").write_text(json.dumps(text, indent=2))
    out = folder / file.name
    save_file(tensors, out, metadata={"format": "pt"})
    out.with_suffix(".yaml").write_text(yaml.safe_dump(config(str(clip.resolve())), sort_keys=False))
    return out


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pack", "webui"])
    parser.add_argument("folder", type=Path, help="pack: the training folder; webui: the webui's checkpoint folder")
    args = parser.parse_args()
    if args.what == "pack":
        pack(args.folder, MINI_V1)
    else:
        print(for_webui(args.folder))


if __name__ == "__main__":
    main()
