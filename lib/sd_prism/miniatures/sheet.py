"""Draws the README's pictures, `first`, `senses`, `merge`: `python -m sd_prism.miniatures.sheet first FILE.png`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from ..namespaces import render
from .judge import drawn, merged

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
MERGED = (
    "a red fish in the sea",
    "a green house in the meadow",
    "species:cat, color:orange, place:night",
    "object:star, color:yellow, place:plain",
    "a blue boat in the sea",
    "a pink mushroom in the snow",
)


class Sheet(NamedTuple):
    """Every prompt once, from `seed` on, for each share of the neon partner."""

    prompts: Sequence[str]
    seed: int
    columns: int
    shares: Sequence[float] = (0,)


SHEETS = {
    "first": Sheet(PROMPTS, 5, 6),
    "senses": Sheet([render(f"{sense}, color:black, place:snow") for sense in SENSES for _ in range(8)], 40_000, 8),
    "merge": Sheet(MERGED, 5, 6, (0, 0.25, 0.5, 0.75, 1)),
}


def main(name: str, file: Path) -> None:
    prompts, seed, columns, shares = SHEETS[name]
    pictures = torch.cat([drawn(merged(share), prompts, seed=seed) for share in shares])
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
