"""Writes a trained miniature as a checkpoint: single-file safetensors in the LDM layout, with A1111's yaml beside it.

`mini-v1` keeps only the rows of CLIP's token table that training has seen (`prism.token_ids` names them; all other rows
are zero), and `mini-v1-neon` only its UNet, since the rest is `mini-v1`'s. `for_webui` writes complete checkpoints with
the whole table, for hosts that know nothing of that.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ..clip import save_tokenizer
from ..merge.ldm_keys import UNET as UNET_PREFIX
from ..merge.ldm_keys import unet_to_ldm
from . import MINI_CASCADE, MINI_CASCADE_DECODER, MINI_V1, MINI_V1_NEON, world
from .train import TEXT, UNET, data_scene, tokenize
from .vae import DDCONFIG, LDM_PREFIX, VAE, ldm_state

TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
IDS = "prism.token_ids"
NEON_SHARE = 0.5


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
    vae = VAE()
    final = work / "vae-final.pt"
    vae.load_state_dict(torch.load(final if final.exists() else work / "vae-done.pt", weights_only=True))
    mean = torch.load(work / "unet-base-ema.pt", weights_only=True)
    out = {LDM_PREFIX + name: p for name, p in ldm_state(vae).items()}
    for name, p in mean.items():
        part, _, rest = name.partition(".")
        if part == "unet":
            out[UNET_PREFIX + unet_to_ldm(rest)] = p
        else:
            out[f"cond_stage_model.transformer.text_model.{rest.removeprefix('text_model.')}"] = p
    return out


def seen_tokens() -> Tensor:
    """The ids of every token that captions are made of, and the two specials."""
    rng = random.Random(0)
    captions = [world.caption(data_scene(k), rng) for k in range(20_000)]
    return tokenize(["", *captions]).unique().int()


def pack(work: Path, file: Path = MINI_V1) -> None:
    """`mini-v1` from its training folder: fp16, seen tokens only, the yaml beside it."""
    tensors = state(work)
    ids = seen_tokens()
    tensors[TOKENS] = tensors[TOKENS][ids.long()]
    save_half(tensors, file, {IDS: ids})
    file.with_suffix(".yaml").write_text(yaml.safe_dump(config("openai/clip-vit-large-patch14"), sort_keys=False))


def pack_neon(work: Path, file: Path = MINI_V1_NEON) -> None:
    """`mini-v1-neon` from its training folder: the UNet alone, fp16.

    It goes `NEON_SHARE` of the way from the base to what was trained: enough to draw neon, and half of it is not.
    """
    from safetensors.torch import load_file

    base, taught = load_file(MINI_V1), torch.load(work / "unet-neon.pt", weights_only=True)["unet"]
    named = {UNET_PREFIX + unet_to_ldm(name): p for name, p in taught.items()}
    save_half({name: torch.lerp(base[name].float(), p, NEON_SHARE) for name, p in named.items()}, file)


def save_half(tensors: dict[str, Tensor], file: Path, whole: dict[str, Tensor] | None = None) -> None:
    """Writes tensors in fp16, and those of `whole` as they are."""
    from safetensors.torch import save_file

    half = {name: p.half().contiguous() for name, p in tensors.items()}
    save_file({**half, **(whole or {})}, file, metadata={"format": "pt", "modelspec.title": file.stem})


def for_webui(folder: Path, file: Path = MINI_V1) -> Path:
    """Copies a miniature to where a webui finds it: whole token table, and a text model of its own width.

    Parts that the file lacks are those of `mini-v1`.
    """
    from safetensors.torch import load_file, save_file

    tensors = load_file(MINI_V1) | load_file(file)
    rows = tensors[TOKENS]
    table = torch.zeros(TEXT["vocab_size"], rows.shape[1], dtype=rows.dtype)
    table[tensors.pop(IDS).long()] = rows
    tensors[TOKENS] = table
    clip = folder / f"{MINI_V1.stem}-clip"
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
    parser.add_argument("what", choices=["mini-v1", "mini-v1-neon", "webui"])
    parser.add_argument("folder", type=Path, help="the training folder; for webui the webui's checkpoint folder")
    args = parser.parse_args()
    if args.what == "webui":
        for file in (MINI_V1, MINI_V1_NEON):
            print(for_webui(args.folder, file))
        for file in (MINI_CASCADE, MINI_CASCADE_DECODER):  # read by Prism's own loader, as they are
            print(shutil.copy(file, args.folder))
    else:
        {"mini-v1": pack, "mini-v1-neon": pack_neon}[args.what](args.folder)


if __name__ == "__main__":
    main()
