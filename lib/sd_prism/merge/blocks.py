"""Which block of a model a tensor belongs to, whatever layout its name is written in. No torch here.

Names in this package are those of single files in LDM's layout ("model.diffusion_model.input_blocks.4.1..."); a
`Layout` gives for each the name that the model at hand has for it.

    BASE         text encoders
    IN00 ..      the way down; a downsampler is a block of its own
    M00          the middle
    OUT00 ..     the way up
    TIME_EMBED, LABEL_EMB (SDXL), OUT (the last norm and convolution): outside the blocks that presets run over
    VAE

Stable Cascade's stages have one IN or OUT block for each residual block and what follows it, EMBED (the first
convolution and stage B's maps of picture and latent), CLIP_EMB (the maps of text and image vectors) and OUT.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import PrismError
from . import ldm_keys

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "sd1": "Stable Diffusion 1",
        "sd2": "Stable Diffusion 2",
        "sdxl": "SDXL",
        "sdxl-refiner": "SDXL refiner",
        "cascade-c": "Stable Cascade stage C",
        "cascade-b": "Stable Cascade stage B",
    }
)
BASE, VAE = "BASE", "VAE"
OUTER = ("TIME_EMBED", "LABEL_EMB", "EMBED", "CLIP_EMB", "OUT")
LABEL = re.compile(r"BASE|VAE|TIME_EMBED|LABEL_EMB|EMBED|CLIP_EMB|M00|(?:IN|OUT)\d\d+|OUT")
SPINE = ("IN", "M", "OUT")

TEXT = ("cond_stage_model.", "conditioner.embedders.", "text_encoder.", "text_encoder_2.", "clip_l_vision.")
CONSTANTS = (".position_ids", ".attn_mask")  # buffers of text encoders; the mask holds infinities
DIFFUSERS_VAE = "vae."
NETWORK = ("model.diffusion_model.", "diffusion_model.", "unet.", "")
LDM = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.|(middle_block|time_embed|label_emb|out)\.")
LDM_OUTER = {"middle_block": "M00", "time_embed": "TIME_EMBED", "label_emb": "LABEL_EMB", "out": "OUT"}
DIFFUSERS = re.compile(
    r"(?:conv_in|conv_out|conv_norm_out|time_embedding|add_embedding|mid_block|(?:down|up)_blocks\.\d+)\."
)
CASCADE = ("clf.1.", "clip_txt_mapper.", "clip_txt_pooled_mapper.", "clip_mapper.")
CASCADE_PART = re.compile(r"(down|up)_(blocks|downscalers|upscalers|repeat_mappers)\.(\d+)\.(?:(\d+)\.)?")
CASCADE_OUTER = {
    "embedding.": "EMBED",
    "effnet_mapper.": "EMBED",
    "pixels_mapper.": "EMBED",
    "clip_mapper.": "CLIP_EMB",
    "clip_txt_mapper.": "CLIP_EMB",
    "clip_txt_pooled_mapper.": "CLIP_EMB",
    "clip_img_mapper.": "CLIP_EMB",
    "clf.": "OUT",
}
CASCADE_NAMES = (  # diffusers' names -> the authors'
    (re.compile(r"\.attention\.to_([qkv])\."), r".attention.attn.to_\1."),
    (re.compile(r"\.attention\.to_out\.0\."), ".attention.attn.out_proj."),
)


@dataclass(frozen=True)
class Layout:
    """The blocks of one model.

    Attributes:
        family: a key of `FAMILIES`.
        blocks: labels of the blocks that the model has, in the order of sliders.
        homes: name of each tensor that may be merged -> its block.
        names: name of each tensor, whether or not it may be merged -> the name that the model gives it.
    """

    family: str
    blocks: tuple[str, ...]
    homes: Mapping[str, str] = field(repr=False, compare=False)
    names: Mapping[str, str] = field(repr=False, compare=False)

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> Layout:
        """Read from the names and shapes of a model's tensors, in LDM's, A1111's, diffusers' or Cascade's naming.

        Raises PrismError for what is no such model, a LoRA for example.
        """
        names = _named(shapes)
        family = _family(names, shapes)
        homes = _cascade_homes(names) if family.startswith("cascade") else {}
        homes |= {name: home for name in names if (home := _home(name)) is not None}
        if not homes:
            raise PrismError(_no_network(list(shapes)))
        found = set(homes.values())
        spine = sorted(found - {BASE, VAE, *OUTER}, key=_place)
        blocks = (label for label in (BASE, *spine, *OUTER, VAE) if label in found)
        return cls(family, tuple(blocks), MappingProxyType(homes), MappingProxyType(names))

    @property
    def spine(self) -> tuple[str, ...]:
        """The blocks that presets run over: IN.., M00, OUT.."""
        return tuple(label for label in self.blocks if label not in (BASE, VAE, *OUTER))

    @property
    def title(self) -> str:
        """What the model is, for people."""
        return FAMILIES[self.family]


def _place(label: str) -> tuple[int, int]:
    """Where a block of the spine stands."""
    letters = label.rstrip("0123456789")
    return SPINE.index(letters), int(label[len(letters) :])


def _home(name: str) -> str | None:
    """The block of a tensor by its LDM name, None for one that is not merged."""
    if name.startswith(TEXT):
        return None if name.endswith(CONSTANTS) else BASE
    if name.startswith((ldm_keys.VAE, DIFFUSERS_VAE)):
        return VAE
    found = LDM.match(name.removeprefix(ldm_keys.UNET)) if name.startswith(ldm_keys.UNET) else None
    if found is None:
        return None
    way, number, outer = found.groups()
    return LDM_OUTER[outer] if outer else f"{'IN' if way == 'input_blocks' else 'OUT'}{int(number):02d}"


def _family(names: Mapping[str, str], shapes: Mapping[str, Sequence[int]]) -> str:
    inner = [name.removeprefix(ldm_keys.UNET) for name in names if name.startswith(ldm_keys.UNET)]
    if any(name.startswith(CASCADE) for name in inner):
        return "cascade-c" if any(name.startswith("clip_txt_mapper.") for name in inner) else "cascade-b"
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return "sdxl"
    if any(name.startswith("label_emb.") for name in inner):
        refiner = any(name.startswith("conditioner.embedders.0.model.") for name in names)
        return "sdxl-refiner" if refiner or _width(names, shapes, "label_emb.0.0.weight") == 2560 else "sdxl"
    if any(name.startswith("cond_stage_model.model.") for name in names):
        return "sd2"
    return "sd2" if _width(names, shapes, "attn2.to_k.weight") == 1024 else "sd1"


def _width(names: Mapping[str, str], shapes: Mapping[str, Sequence[int]], end: str) -> int | None:
    """How many values go into the first layer of the network whose name ends so."""
    for name, given in names.items():
        if name.startswith(ldm_keys.UNET) and name.endswith(end) and len(shapes[given]) > 1:
            return int(shapes[given][1])
    return None


# --- names -------------------------------------------------------------------------------------------------------


def _named(given: Iterable[str]) -> dict[str, str]:
    """LDM name -> given name."""
    given = list(given)
    prefix = next((p for p in NETWORK if any(_in_network(name, p) for name in given)), None)
    if prefix is None:
        raise PrismError(_no_network(given))
    network = [name for name in given if name.startswith(prefix) and (prefix or _in_network(name, ""))]
    cascade = any(name[len(prefix) :].startswith(CASCADE) for name in network)
    rename = _cascade_name if cascade else _unet_name([name[len(prefix) :] for name in network])
    named = {ldm_keys.UNET + rename(name[len(prefix) :]): name for name in network}
    taken = set(network)
    rest = [name for name in given if name not in taken]
    sdxl = any(name.startswith(f"{ldm_keys.UNET}label_emb.") for name in named)
    return named | {(name if cascade else _side_name(name, sdxl)): name for name in rest}


def _in_network(name: str, prefix: str) -> bool:
    inner = name[len(prefix) :]
    cascade = inner.startswith(tuple(CASCADE_OUTER)) or CASCADE_PART.match(inner)
    return name.startswith(prefix) and bool(cascade or LDM.match(inner) or DIFFUSERS.match(inner))


def _no_network(given: list[str]) -> str:
    if any(re.search(r"lora_(up|down|A|B)\b|hada_w1|lokr_w", name) for name in given):
        return "this is a LoRA, not a checkpoint; use it in the prompt, or choose the checkpoint it was made for"
    first = f" (the first is {given[0]})" if given else ""
    return (
        f"there is no UNet among these {len(given)} tensors{first}; expected {', '.join(FAMILIES.values())}, "
        "as a single file or in diffusers' names"
    )


def _unet_name(inner: list[str]) -> Callable[[str], str]:
    """What turns a UNet's names into LDM's."""
    if not any(DIFFUSERS.match(name) for name in inner):
        return str
    shape = ldm_keys.UNetShape.of_diffusers(inner)
    return lambda name: ldm_keys.unet_to_ldm(name, shape)


def _side_name(name: str, sdxl: bool) -> str:
    """The LDM name of a tensor outside the UNet; A1111 wraps text encoders, old files lack `text_model`."""
    if name.startswith(DIFFUSERS_VAE):
        return ldm_keys.VAE + ldm_keys.vae_to_ldm(name.removeprefix(DIFFUSERS_VAE))
    if not name.startswith(TEXT):
        return name
    name = name.replace(".wrapped.", ".")
    clip = ldm_keys.CLIP[1] if sdxl else ldm_keys.CLIP[0]
    if name.startswith("text_encoder."):
        return clip + name.removeprefix("text_encoder.")
    if not sdxl and name.startswith("conditioner.embedders.0."):  # SD 2 turbo
        return "cond_stage_model." + name.removeprefix("conditioner.embedders.0.")
    return re.sub(
        r"^(cond_stage_model\.transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)", r"\1text_model.", name
    )


# --- Stable Cascade ----------------------------------------------------------------------------------------------


def _cascade_name(name: str) -> str:
    for theirs, ours in CASCADE_NAMES:
        name = theirs.sub(ours, name)
    return name


def _cascade_homes(names: Iterable[str]) -> dict[str, str]:
    """Blocks of a Cascade stage; a level's first block holds its downscaler, its last the other maps of the level."""
    parts = {name: CASCADE_PART.match(name.removeprefix(ldm_keys.UNET)) for name in names}
    starts = {"down": _starts(names, "down"), "up": _starts(names, "up")}
    homes = {}
    for name, part in parts.items():
        inner = name.removeprefix(ldm_keys.UNET)
        if part is None:
            outer = next((label for start, label in CASCADE_OUTER.items() if inner.startswith(start)), None)
            if outer is not None and inner != name:
                homes[name] = outer
            continue
        way, kind, level, index = part[1], part[2], int(part[3]), int(part[4] or 0)
        at = (level, index if kind == "blocks" else 0 if kind == "downscalers" else 10**6)
        homes[name] = f"{'IN' if way == 'down' else 'OUT'}{max(bisect_right(starts[way], at) - 1, 0):02d}"
    return homes


def _starts(names: Iterable[str], way: str) -> list[tuple[int, int]]:
    """(level, index) of each residual block: where a block begins."""
    pattern = re.compile(rf"{re.escape(ldm_keys.UNET)}{way}_blocks\.(\d+)\.(\d+)\.depthwise\.weight")
    return sorted({(int(found[1]), int(found[2])) for found in map(pattern.fullmatch, names) if found})
