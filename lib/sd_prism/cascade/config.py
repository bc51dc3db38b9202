"""The builds of Stable Cascade's networks, read from the shapes of their weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import PrismError

Shapes = Mapping[str, Sequence[int]]
HEAD_WIDTH = 64
HEAD_WIDTH_KEY, TEXT_HEAD_WIDTH_KEY, ACTIVATION_KEY, VISION_HEAD_WIDTH_KEY, VISION_ACTIVATION_KEY = (
    "prism.cascade.head_width",
    "prism.cascade.text_head_width",
    "prism.cascade.text_activation",
    "prism.cascade.vision_head_width",
    "prism.cascade.vision_activation",
)
CONDITIONS = ("sca", "crp")
LETTERS = {
    **dict.fromkeys(("depthwise", "channelwise"), "C"),
    **dict.fromkeys(("mapper", "mapper_sca", "mapper_crp"), "T"),
    **dict.fromkeys(("attention", "kv_mapper"), "A"),
}


@dataclass(frozen=True)
class UNetConfig:
    """A build of stage C or of stage B. Levels are in order of their widths in `hidden`, the finest first.

    Attributes:
        kind: "C" makes the small latent from a prompt, "B" the larger one from the small one.
        channels: of the latent, before `patch` by `patch` places become channels too.
        c_cond: width of the tokens that attention blocks see beside the picture.
        hidden: width of each level.
        levels: the letters of one round of a level: C convolution, T timestep, A attention.
        down, up: rounds of each level; `up` has the deepest level first, as all of the way up.
        down_repeats, up_repeats: how often a level is run.
        head_width: channels of an attention head.
        c_r: width of the embedding of a timestep.
        conditions: numbers embedded beside the timestep; always 0 here.
        text, pooled, image: widths of the text states, of the pooled text, and of image vectors; 0 where unused.
        tokens: how many tokens a pooled text or an image vector becomes.
        effnet: channels of the small latent that stage B decodes; 0 for stage C.
    """

    kind: Literal["C", "B"]
    channels: int
    patch: int
    c_cond: int
    hidden: tuple[int, ...]
    levels: tuple[str, ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    down_repeats: tuple[int, ...]
    up_repeats: tuple[int, ...]
    conditions: tuple[str, ...]
    head_width: int = HEAD_WIDTH
    c_r: int = 64
    text: int = 0
    pooled: int = 1280
    image: int = 0
    tokens: int = 4
    effnet: int = 0

    @classmethod
    def of(cls, shapes: Shapes, metadata: Mapping[str, str] = {}) -> UNetConfig:
        """The build whose weights have these canonical names and shapes.

        Raises:
            PrismError: the names are neither stage C's nor stage B's, or levels do not repeat one pattern.
        """
        kind: Literal["C", "B"] = "C" if "clip_txt_mapper.weight" in shapes else "B"
        pooled = "clip_txt_pooled_mapper.weight" if kind == "C" else "clip_mapper.weight"
        _need(shapes, f"stage {kind}", (pooled, "embedding.1.weight"))
        down, up = _levels(shapes, "down"), _levels(shapes, "up")
        if len(down) != len(up):
            raise PrismError(
                f"stage {kind} in this file has {len(down)} levels down and {len(up)} up; some are missing"
            )
        widths = [f"down_blocks.{level}.0.depthwise.weight" for level in range(len(down))]
        _need(shapes, f"stage {kind}", widths)
        patch = 1 if kind == "C" else 2
        c_cond = _c_cond(shapes, pooled)
        return cls(
            kind=kind,
            channels=shapes["embedding.1.weight"][1] // patch**2,
            patch=patch,
            c_cond=c_cond,
            hidden=tuple(shapes[name][0] for name in widths),
            levels=tuple(pattern for pattern, _ in down),
            down=tuple(count for _, count in down),
            up=tuple(count for _, count in up),
            down_repeats=_repeats(shapes, "down", len(down)),
            up_repeats=_repeats(shapes, "up", len(up)),
            conditions=tuple(name for name in CONDITIONS if f"down_blocks.0.1.mapper_{name}.weight" in shapes),
            head_width=int(metadata.get(HEAD_WIDTH_KEY, HEAD_WIDTH)),
            c_r=shapes.get("down_blocks.0.1.mapper.weight", (0, 64))[1],
            text=shapes["clip_txt_mapper.weight"][1] if kind == "C" else 0,
            pooled=shapes[pooled][1],
            image=shapes.get("clip_img_mapper.weight", (0, 0))[1],
            tokens=shapes[pooled][0] // c_cond,
            effnet=shapes.get("effnet_mapper.0.weight", (0, 0))[1],
        )


def _levels(shapes: Shapes, way: str) -> list[tuple[str, int]]:
    """The pattern of every level on a way, and how often the level has it."""
    found: dict[int, dict[int, str]] = {}
    for name in shapes:
        match = re.match(rf"{way}_blocks\.(\d+)\.(\d+)\.(\w+)\.", name)
        if match and match[3] in LETTERS:
            found.setdefault(int(match[1]), {})[int(match[2])] = LETTERS[match[3]]
    return [_pattern("".join(found[level][i] for i in sorted(found[level])), way, level) for level in sorted(found)]


def _pattern(letters: str, way: str, level: int) -> tuple[str, int]:
    """CTACTACTA is CTA three times."""
    count = letters.count("C")
    pattern = letters[: len(letters) // max(count, 1)]
    if pattern * count != letters:
        raise PrismError(f"{way}_blocks.{level} has the blocks {letters}, which do not repeat one pattern")
    return pattern, count


def _repeats(shapes: Shapes, way: str, levels: int) -> tuple[int, ...]:
    """How often the levels are run: a mapper stands between one run and the next."""
    mappers = [name.split(".")[1] for name in shapes if re.fullmatch(rf"{way}_repeat_mappers\.\d+\.\d+\.weight", name)]
    return tuple(mappers.count(str(level)) + 1 for level in range(levels))


def _c_cond(shapes: Shapes, pooled: str) -> int:
    if "clip_txt_mapper.weight" in shapes:
        return shapes["clip_txt_mapper.weight"][0]
    seen = (shape[1] for name, shape in shapes.items() if name.endswith(".kv_mapper.1.weight"))
    return next(seen, shapes[pooled][0] // 4)


@dataclass(frozen=True)
class TextConfig:
    """A build of CLIP's text encoder.

    Attributes:
        vocabulary, positions: how many tokens and places have a vector.
        width, hidden, projection: of a state, inside a layer, of the pooled text.
        activation: "gelu", or "quick_gelu" as in OpenAI's own.
    """

    vocabulary: int = 49408
    positions: int = 77
    width: int = 1280
    hidden: int = 5120
    layers: int = 32
    projection: int = 1280
    head_width: int = HEAD_WIDTH
    activation: str = "gelu"

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @classmethod
    def of(cls, shapes: Shapes, metadata: Mapping[str, str] = {}) -> TextConfig:
        """The build whose weights have these names, transformers' own, and shapes.

        Raises:
            PrismError: a weight that every text encoder has is not there.
        """
        tower = "text_model."
        tokens, places = (f"{tower}embeddings.{one}_embedding.weight" for one in ("token", "position"))
        inside = f"{tower}encoder.layers.0.mlp.fc1.weight"
        _need(shapes, "the text encoder", (tokens, places, inside, "text_projection.weight"))
        return cls(
            vocabulary=shapes[tokens][0],
            positions=shapes[places][0],
            width=shapes[tokens][1],
            hidden=shapes[inside][0],
            layers=_layers(shapes, tower),
            projection=shapes["text_projection.weight"][0],
            head_width=int(metadata.get(TEXT_HEAD_WIDTH_KEY, HEAD_WIDTH)),
            activation=metadata.get(ACTIVATION_KEY, "gelu"),
        )


@dataclass(frozen=True)
class VisionConfig:
    """A build of CLIP's vision encoder.

    Attributes:
        patch: pixels to a side of what becomes a token.
        positions: places that have a vector: one for the whole picture, and one for each patch of it.
        width, hidden, projection: of a state, inside a layer, of the picture's vector.
    """

    patch: int = 14
    positions: int = 257
    width: int = 1024
    hidden: int = 4096
    layers: int = 24
    projection: int = 768
    head_width: int = HEAD_WIDTH
    activation: str = "quick_gelu"

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def side(self) -> int:
        """Pixels to a side of the pictures that it takes."""
        return self.patch * math.isqrt(self.positions - 1)

    @classmethod
    def of(cls, shapes: Shapes, metadata: Mapping[str, str] = {}) -> VisionConfig:
        """The build whose weights have these names, transformers' own, and shapes.

        Raises:
            PrismError: a weight that every vision encoder has is not there.
        """
        tower = "vision_model."
        patches, places = (f"{tower}embeddings.{one}_embedding.weight" for one in ("patch", "position"))
        inside = f"{tower}encoder.layers.0.mlp.fc1.weight"
        _need(shapes, "the vision encoder", (patches, places, inside, "visual_projection.weight"))
        return cls(
            patch=shapes[patches][-1],
            positions=shapes[places][0],
            width=shapes[places][1],
            hidden=shapes[inside][0],
            layers=_layers(shapes, tower),
            projection=shapes["visual_projection.weight"][0],
            head_width=int(metadata.get(VISION_HEAD_WIDTH_KEY, HEAD_WIDTH)),
            activation=metadata.get(VISION_ACTIVATION_KEY, "quick_gelu"),
        )


def _layers(shapes: Shapes, tower: str) -> int:
    return sum(
        bool(re.fullmatch(rf"{re.escape(tower)}encoder\.layers\.\d+\.mlp\.fc1\.weight", name)) for name in shapes
    )


def _need(shapes: Shapes, part: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in shapes:
            raise PrismError(f'{part} of Stable Cascade needs "{name}", which this file does not have')


STAGE_C = UNetConfig(
    kind="C",
    channels=16,
    patch=1,
    c_cond=2048,
    hidden=(2048, 2048),
    levels=("CTA", "CTA"),
    down=(8, 24),
    up=(24, 8),
    down_repeats=(1, 1),
    up_repeats=(1, 1),
    conditions=CONDITIONS,
    text=1280,
    image=768,
)
STAGE_C_LITE = replace(STAGE_C, c_cond=1536, hidden=(1536, 1536), down=(4, 12), up=(12, 4))
STAGE_B = UNetConfig(
    kind="B",
    channels=4,
    patch=2,
    c_cond=1280,
    hidden=(320, 640, 1280, 1280),
    levels=("CT", "CT", "CTA", "CTA"),
    down=(2, 6, 28, 6),
    up=(6, 28, 6, 2),
    down_repeats=(1, 1, 1, 1),
    up_repeats=(3, 3, 2, 2),
    conditions=("sca",),
    effnet=16,
)
STAGE_B_LITE = replace(
    STAGE_B, hidden=(320, 576, 1152, 1152), down=(2, 4, 14, 4), up=(4, 14, 4, 2), up_repeats=(2, 2, 2, 2)
)
