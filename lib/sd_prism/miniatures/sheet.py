"""Draws the README's picture: `python -m sd_prism.miniatures.sheet docs/first-pictures.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

from ..studio.checkpoint import load
from . import MINI_V1
from .judge import drawn

PROMPTS = (
    "a red fish in the sea",
    "a green house in the meadow",
    "species:cat, color:orange, place:night, style:flat",
    "species:seal, color:black, place:snow, style:flat",
    "object:seal, color:red, place:plain, style:flat",
    "a pink snail in the meadow",
    "object:star, color:yellow, place:night, style:pixel",
    "species:bat, color:purple, place:desert, style:flat",
    "object:bat, color:brown, place:plain, style:flat",
    "a blue boat in the sea, outline style",
    "object:tree, color:green, place:snow, style:fractal",
    "a white mushroom in the meadow",
)
COLUMNS = 6


def main(file: Path, seed: int = 5) -> None:
    pictures = drawn(load(MINI_V1), PROMPTS, seed=seed)
    data = ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    side, gap = data.shape[1], 6
    rows = -(-len(data) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for k, picture in enumerate(data):
        sheet.paste(Image.fromarray(picture), ((k % COLUMNS) * (side + gap), (k // COLUMNS) * (side + gap)))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
