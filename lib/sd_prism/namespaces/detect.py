"""Which dialect a checkpoint speaks, told from its hash, its name, its metadata and its family."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .dialects import get

SHORT = 10  # hexadecimal digits of SHA-256 in an A1111 model hash

# A hash says what a file is, whatever its name
HASHES: Mapping[str, str] = {
    "6ce0161689": "sd1",  # v1-5-pruned-emaonly.safetensors
    "cc6cb27103": "sd1",  # v1-5-pruned-emaonly.ckpt
    "e1441589a6": "sd1",  # v1-5-pruned.ckpt
    "fe4efff1e1": "sd1",  # sd-v1-4.ckpt
    "c891d98d86": "sote",  # SoteDiffusion Wuerstchen3
    "67ab2fd8ec": "pony",  # Pony Diffusion V6 XL
    "e3c47aedb0": "animagine",  # Animagine XL 3.1
}


@dataclass(frozen=True)
class Known:
    """A dialect, a pattern of its checkpoints' names, and the families it is for (none: any).

    Names are compared in lower case, their words parted by one blank: `autismmixPony_v2` has three. `inherited`: what
    was trained from such a checkpoint speaks the dialect too.
    """

    dialect: str
    pattern: str
    families: tuple[str, ...] = ()
    inherited: bool = True


# The first that fits wins. Of Stable Diffusion 1 only the base models count: what was made from them may want anything.
KNOWN = (
    Known("pass", r"^mini (v1|cascade)\b"),
    Known("gigafractal", r"\bgiga ?fractal"),
    Known("sote", r"\bsote ?diffusion"),
    Known("sygil", r"\bsygil"),
    Known("danbooru", r"\bbaka ?diffusion", ("sd1",)),
    Known("pony", r"\bpony(?=\b|xl|v?6|diffusion)(?! ?diffusion ?v?[1-57]\b)", ("sdxl",)),
    Known("animagine", r"\banimagine(?! ?xl ?v?[12]\b)", ("sdxl",)),
    Known(
        "sd1",
        r"^((sd|stable ?diffusion) ?v? ?1|v1) ?[1-5]( full ema| pruned( ema ?only)?)?( inpainting)?( fp16| fp32)?$",
        ("sd1",),
        inherited=False,
    ),
)
OWN_TITLES = ("modelspec.title", "ss_output_name")
PARENT_TITLES = ("ss_sd_model_name",)


def detect(
    name: str,
    *,
    sha256: str = "",
    family: str = "",
    metadata: Mapping[str, str] | None = None,
    rules: Iterable[tuple[str, str]] = (),
) -> str | None:
    """The dialect of a checkpoint, or None where nothing is known of it.

    Args:
        name: its file name or the title that a webui shows; folders, extension and a `[hash]` at the end are ignored.
        sha256: its SHA-256, whole or the first ten digits.
        family: "sd1", "sdxl", ...; empty if unknown, which excludes nothing.
        metadata: the safetensors header's `__metadata__`.
        rules: the user's own (pattern, dialect) pairs, tried first: a pattern with `*` and `?`, or a hash.
    """
    bare, written = _split(name)
    digits = (sha256 or written)[:SHORT].casefold()
    for pattern, dialect in rules:
        wanted = pattern.strip().casefold()
        if fnmatchcase(bare.casefold(), wanted) or (digits and wanted[:SHORT] == digits):
            return get(dialect.strip()).name
    if digits in HASHES:
        return HASHES[digits]
    told = metadata or {}
    own = (bare, *(_split(str(told.get(key) or ""))[0] for key in OWN_TITLES))
    parents = (_split(str(told.get(key) or ""))[0] for key in PARENT_TITLES)
    titles = (*((title, False) for title in own), *((title, True) for title in parents))
    return next((found for title, parent in titles if (found := _by_name(title, family, parent))), None)


def _by_name(title: str, family: str, parent: bool) -> str | None:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title)
    plain = " ".join(re.findall(r"[^\W_]+", parted.casefold()))
    for known in KNOWN:
        fits = not family or not known.families or family in known.families
        if fits and (known.inherited or not parent) and re.search(known.pattern, plain):
            return known.dialect
    return None


def _split(name: str) -> tuple[str, str]:
    """A name without folders and extension, and the hash that a webui writes behind it."""
    name = name.strip()
    hashed = re.search(r"\[([0-9a-fA-F]{10})\]$", name)
    bare = re.split(r"[\\/]", name[: hashed.start()].strip() if hashed else name)[-1]
    bare = re.sub(r"\.(safetensors|ckpt|pt|pth|bin|gguf)$", "", bare, flags=re.IGNORECASE)
    return bare, hashed[1] if hashed else ""
