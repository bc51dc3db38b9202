"""Draws the README's pictures: `python -m sd_prism.miniatures.sheet NAME FILE.png`.

`first`, `senses` and `merge` are by `mini-v1`. `cascade` has under each prompt what stage C drew, as the previewer
shows it, and what the decoder made of it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..namespaces import render
from .judge import drawn, merged
from .world import SIZE

GAP, HEADING = 6, 46

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


CASCADE = (
    "a red fish in the sea",
    "a pink snail in the meadow",
    "object:seal, color:red, place:plain",
    "species:seal, color:black, place:snow",
    "object:star, color:yellow, place:night",
    "a white mushroom in the meadow",
    "object:tree, color:green, place:snow",
)


def drawn_by_cascade(prompts: Sequence[str], seed: int) -> Tensor:
    """Previews and then pictures, (2N,3,128,128) in [-1,1]."""
    from .cascade_draw import Cascade

    cascade = Cascade.of()
    latents = cascade.latents(prompts, seed=seed)
    with torch.inference_mode():
        previews = F.interpolate(cascade.previewer(latents), (SIZE, SIZE))
    return torch.cat([previews, cascade.decoded(latents, prompts, seed=seed)]) * 2 - 1


def heading(prompts: Sequence[str]) -> Image.Image:
    """A row of prompts, each as wide as a picture."""
    row = Image.new("RGB", (len(prompts) * (SIZE + GAP) - GAP, HEADING), "white")
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(size=11)
    for k, prompt in enumerate(prompts):
        pen.text((k * (SIZE + GAP) + 2, 2), "\n".join(textwrap.wrap(prompt, 22)), fill="black", font=font)
    return row


def pasted(pictures: Tensor, columns: int, above: Image.Image | None = None) -> Image.Image:
    """Pictures (N,3,128,128) in [-1,1] in rows, under a heading or none."""
    data = ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    step, top = SIZE + GAP, above.height if above else 0
    rows = -(-len(data) // columns)
    sheet = Image.new("RGB", (columns * step - GAP, top + rows * step - GAP), "white")
    if above:
        sheet.paste(above)
    for k, picture in enumerate(data):
        sheet.paste(Image.fromarray(picture), ((k % columns) * step, top + (k // columns) * step))
    return sheet


def main(name: str, file: Path) -> None:
    if name == "cascade":
        sheet = pasted(drawn_by_cascade(CASCADE, 5), len(CASCADE), heading(CASCADE))
    else:
        prompts, seed, columns, shares = SHEETS[name]
        sheet = pasted(torch.cat([drawn(merged(share), prompts, seed=seed) for share in shares]), columns)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
