"""The names that weights of Stable Cascade have in files, and the canonical one of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

Shape = tuple[int, ...]
TOKEN_IDS = "prism.token_ids"  # the tokens of a table that has only some rows
VOCABULARY = 49408
TABLE = "text_model.embeddings.token_embedding.weight"

# What tensors of an all-in-one file belong to, longest first; "unet" is stage C or B.
UNET = "model.diffusion_model."
ROOMS = {
    UNET: "unet",
    "text_encoder.clip_g.transformer.": "text",
    "text_encoder.clip_g.": "text",
    "clip_l_vision.": "vision",
    "vae.previewer.": "previewer",
    "vae.encoder.": "effnet",
    "vae.": "stage_a",
    "previewer.": "previewer",  # of a file with nothing but the two
    "encoder.": "effnet",
}
# A bare part has all names of one line.
SIGNS = (
    ("stage_c", ("clf.1.weight", "clip_txt_mapper.weight")),
    ("stage_b", ("clf.1.weight", "clip_mapper.weight")),
    ("stage_b", ("clf.1.weight", "clip_txt_pooled_mapper.weight")),
    ("stage_a", ("vquantizer.codebook.weight", "up_blocks.0.0.weight")),
    ("stage_a", ("vquantizer.embedding.weight", "up_blocks.0.0.weight")),
    ("effnet", ("backbone.0.0.weight", "mapper.0.weight")),
    ("previewer", ("blocks.0.weight", "blocks.24.weight")),
    ("text", (TABLE,)),
    ("vision", ("vision_model.embeddings.class_embedding",)),
)
USELESS = {
    "text": re.compile(r"logit_scale|text_model\.embeddings\.position_ids"),
    "effnet": re.compile(r"mean|std"),
    "stage_a": re.compile(r"vquantizer\.ema_.*"),
    "vision": re.compile(r"logit_scale|vision_model\.embeddings\.position_ids"),
}
RENAMED = (
    (re.compile(r"(?<=\.attention)\.to_(?=[qkv]\.)"), ".attn.to_"),
    (re.compile(r"(?<=\.attention)\.to_out\.0\."), ".attn.out_proj."),
)
PACKED = re.compile(r"(.+\.attn)\.in_proj_(weight|bias)")


class Weight(NamedTuple):
    """A canonical weight of a tensor: the tensor itself (""), a third ("0", "1", "2"), or the transposed one ("T")."""

    name: str
    form: str = ""

    def shape(self, tensor: Shape) -> Shape:
        if self.form == "T":
            return tensor[::-1]
        return (tensor[0] // 3, *tensor[1:]) if self.form and tensor else tensor


class Source(NamedTuple):
    """Where a weight lies: a tensor of a file, and how it becomes the weight (`Weight.form`)."""

    file: Path
    tensor: str
    form: str


def parts_of(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """(part -> name inside it -> the file's own name, names of no part)."""
    rooms: dict[str, dict[str, str]] = {}
    for name in names:
        prefix = next((prefix for prefix in ROOMS if name.startswith(prefix)), "")
        rooms.setdefault(ROOMS.get(prefix, ""), {})[name.removeprefix(prefix)] = name
    parts: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for room, inside in rooms.items():
        part = _part_with(inside)
        if part and (room in ("", part) or (room == "unet" and part in ("stage_c", "stage_b"))):
            parts[part] = inside
        else:
            unknown += inside.values()
    return parts, tuple(unknown)


def _part_with(names: Mapping[str, str]) -> str:
    """The part that has these names, "" if none has."""
    for part, signs in SIGNS:
        if all(sign in names for sign in signs):
            return part
    control = "backbone.0.0.weight" in names and any(name.startswith("projections.") for name in names)
    return "controlnet" if control else ""


def canonical(part: str, name: str) -> list[Weight]:
    """The weights that a tensor of a part is made into; none if nothing needs it."""
    if part in USELESS and USELESS[part].fullmatch(name):
        return []
    if part in ("stage_c", "stage_b"):
        packed = PACKED.fullmatch(name)
        if packed:
            return [Weight(f"{packed[1]}.to_{one}.{packed[2]}", str(i)) for i, one in enumerate("qkv")]
        for old, new in RENAMED:
            name = old.sub(new, name)
        return [Weight(name.replace("clip_txt_pooled_mapper.", "clip_mapper.") if part == "stage_b" else name)]
    if part == "text" and name == "text_projection":
        return [Weight("text_projection.weight", "T")]
    return [Weight(name.replace("vquantizer.embedding.", "vquantizer.codebook.") if part == "stage_a" else name)]
