"""Draws the README's pictures: `python -m sd_prism.miniatures.sheet first docs/first-pictures.png`, and `senses`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

from ..namespaces import render
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
SENSES = ("seal", "species:seal", "object:seal", "bat", "species:bat", "object:bat")
SHEETS = {
    "first": (PROMPTS, 5, 6),
    "senses": ([render(f"{sense}, color:black, place:snow") for sense in SENSES for _ in range(8)], 40_000, 8),
}


def main(name: str, file: Path) -> None:
    """A sheet of (prompts, first seed, columns)."""
    prompts, seed, columns = SHEETS[name]
    pictures = drawn(load(MINI_V1), prompts, seed=seed)
    data = ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    side, gap = data.shape[1], 6
    rows = -(-len(data) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for k, picture in enumerate(data):
        sheet.paste(Image.fromarray(picture), ((k % columns) * (side + gap), (k // columns) * (side + gap)))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
