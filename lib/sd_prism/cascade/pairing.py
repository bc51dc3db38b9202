"""Which decoder a main file goes with, by folder and name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from ..errors import PrismError

Given = TypeVar("Given", str, Path)
ROLES = {"decoder", "prior", "main", "stage", "stagea", "stageb", "stagec", "a", "b", "c", "unet", "model", "comfyui"}
FORMATS = {"fp16", "bf16", "fp32", "half", "lite", "pruned"}
SAME_FOLDER, NEAR_FOLDER, SAME_FORMAT = 0.5, 0.25, 0.1  # beside 1 for the same words


def nearest(main: Path, candidates: Iterable[Given]) -> Given | None:
    """The candidate that is named and placed most like `main`; None of none.

    Raises:
        PrismError: several are, in the same degree.
    """
    scores = {candidate: likeness(main, Path(candidate)) for candidate in candidates}
    best = max(scores.values(), default=0.0)
    found = [candidate for candidate, score in scores.items() if score > best - 1e-6]
    if len(found) > 1:
        listed = ", ".join(Path(one).name for one in found)
        raise PrismError(f"{main.name} may go with each of {listed}; choose the decoder, or name one like {main.stem}")
    return found[0] if found else None


def likeness(main: Path, decoder: Path) -> float:
    """How much two files look as if they belonged together, from 0 to 1.6.

    Words of a role (decoder, stage B) do not count. Words of a format (bf16, lite) decide between equals, and the
    folder counts less than the name does.
    """
    (words, formats), (words_b, formats_b) = _words(main), _words(decoder)
    near = main.parent in decoder.parents or decoder.parent in main.parents
    folder = SAME_FOLDER if main.parent == decoder.parent else NEAR_FOLDER if near else 0.0
    return _shared(words, words_b) + folder + SAME_FORMAT * _shared(formats, formats_b)


def _words(path: Path) -> tuple[set[str], set[str]]:
    """(words of a name, or of its folder where it has none of its own; words of its format)."""
    own = _split(path.name.removesuffix(".index.json").removesuffix(".safetensors"))
    return own - ROLES - FORMATS or _split(path.parent.name) - ROLES - FORMATS, own & FORMATS


def _split(name: str) -> set[str]:
    """v2Decoder and v2-decoder are v2 and decoder."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return set(re.split(r"[^a-z0-9]+", apart.lower())) - {""}


def _shared(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
