"""Writes the trained miniature of Stable Cascade, in the two-file layout in which Cascade models are published.

The main file has stage C, the text encoder, the picture encoder and the previewer; the decoder file has stages B and A.
Of the token table only the rows that training has seen are kept, as in `mini-v1`. `python -m
sd_prism.miniatures.cascade_pack FOLDER` takes them from a training folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from ..cascade.config import ACTIVATION_KEY
from ..cascade.effnet import EffnetEncoder
from ..cascade.previewer import Previewer
from ..cascade.stage_a import StageA
from . import MINI_CASCADE, MINI_CASCADE_DECODER
from .cascade import EFFNET, PREVIEWER, STAGE_A, TEXT, Text, trained
from .pack import IDS

UNET = "model.diffusion_model."
CLIP = "text_encoder.clip_g."
NOTES = {"format": "pt", "modelspec.resolution": "128x128", "prism.cascade.compression": "32"}


def main_state(work: Path) -> dict[str, Tensor]:
    """Everything of the main file but the token ids, fp32."""
    text = Text()
    out = {UNET + name: p for name, p in torch.load(work / "stage_c-ema.pt", weights_only=True).items()}
    out |= {f"{CLIP}transformer.{name}": p for name, p in text.net.state_dict().items()}
    out[f"{CLIP}transformer.text_model.embeddings.token_embedding.weight"] = text.rows
    out[f"{CLIP}text_projection"] = out.pop(f"{CLIP}transformer.text_projection.weight").T
    effnet = trained(EffnetEncoder(EFFNET), work, "encoder", "effnet.")
    previewer = trained(Previewer(PREVIEWER), work, "encoder", "previewer.")
    out |= {f"vae.encoder.{name}": p for name, p in effnet.state_dict().items()}
    return out | {f"vae.previewer.{name}": p for name, p in previewer.state_dict().items()}


def decoder_state(work: Path) -> dict[str, Tensor]:
    """Everything of the decoder file, fp32."""
    out = {UNET + name: p for name, p in torch.load(work / "stage_b-ema.pt", weights_only=True).items()}
    return out | {f"vae.{name}": p for name, p in trained(StageA(STAGE_A), work, "stage_a").state_dict().items()}


def save(state: dict[str, Tensor], file: Path, notes: dict[str, str], whole: dict[str, Tensor] | None = None) -> None:
    """Writes floating numbers in fp16, counts and the tensors of `whole` as they are."""
    from safetensors.torch import save_file

    half = {name: p.half().contiguous() if p.is_floating_point() else p for name, p in state.items()}
    save_file({**half, **(whole or {})}, file, metadata={**NOTES, "modelspec.title": file.stem, **notes})
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def pack(work: Path, main: Path = MINI_CASCADE, decoder: Path = MINI_CASCADE_DECODER) -> None:
    """Both files from a training folder."""
    about = "stage C, text encoder, picture encoder and previewer of a Stable Cascade miniature; needs its decoder"
    notes = {"modelspec.description": about, ACTIVATION_KEY: TEXT.activation}
    save(main_state(work), main, notes, {IDS: Text().ids.int()})
    save(decoder_state(work), decoder, {"modelspec.description": "stages B and A of a Stable Cascade miniature"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="the training folder")
    parser.add_argument("--to", type=Path, help="another folder than the package's own")
    args = parser.parse_args()
    names = (MINI_CASCADE, MINI_CASCADE_DECODER)
    pack(args.work, *(args.to / file.name if args.to else file for file in names))


if __name__ == "__main__":
    main()
