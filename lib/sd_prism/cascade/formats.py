"""Files of Stable Cascade: what they hold, from their headers alone, and their weights by one set of names.

Known are ComfyUI's all-in-one files, bare parts as they were published, diffusers folders and shards, and text encoders
that lie beside a bare stage C. `inspect` needs no torch and reads no tensor.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import header
from ..errors import PrismError, UnknownName
from .layouts import TABLE, TOKEN_IDS, UNET, VOCABULARY, Source, canonical, parts_of
from .pairing import Given, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Shape = tuple[int, ...]
TITLES = {
    "stage_c": "stage C",
    "stage_b": "stage B",
    "stage_a": "stage A",
    "text": "the text encoder",
    "effnet": "the picture encoder",
    "previewer": "the previewer",
    "vision": "the vision encoder",
    "controlnet": "a ControlNet",
}
# The module, the network and the build of each part that can be run.
NETWORKS = {
    "stage_c": ("unet", "StageC", "config", "UNetConfig"),
    "stage_b": ("unet", "StageB", "config", "UNetConfig"),
    "stage_a": ("stage_a", "StageA", "stage_a", "StageAConfig"),
    "text": ("text", "TextEncoder", "config", "TextConfig"),
    "effnet": ("effnet", "EffnetEncoder", "effnet", "EffnetConfig"),
    "previewer": ("previewer", "Previewer", "previewer", "PreviewerConfig"),
    "vision": ("vision", "VisionEncoder", "config", "VisionConfig"),
}
# What a part gives, and the weight of stage C that takes it.
TAKEN = {
    "text": ("text_projection.weight", "clip_txt_pooled_mapper.weight"),
    "vision": ("visual_projection.weight", "clip_img_mapper.weight"),
}
VARIANTS = {
    ("stage_c", (2048, 2048)): "full",
    ("stage_c", (1536, 1536)): "lite",
    ("stage_b", (320, 640, 1280, 1280)): "full",
    ("stage_b", (320, 576, 1152, 1152)): "lite",
}
# Where a part may lie that a file does not have: names beside it, of which {} is the file's own; folders end in /.
SIDECARS = {
    "text": ("{}_text_model", "{}_text_encoder", "text_encoder/"),
    "effnet": ("{}_effnet", "effnet_encoder"),
    "previewer": ("{}_previewer", "previewer"),
    "vision": ("{}_image_encoder", "image_encoder/"),
    "stage_a": ("{}_stage_a", "stage_a"),
}
WANTED = {"main": ("text", "effnet", "previewer", "vision"), "decoder": ("stage_a",)}
COMPONENTS = (
    "prior",
    "prior_prior",
    "decoder",
    "vqgan",
    "text_encoder",
    "prior_text_encoder",
    "image_encoder",
    "prior_image_encoder",
)
NATIVE_SIZE = 1024  # pixels of the side of a square picture
INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class Part:
    """A network of a file.

    Attributes:
        name: "stage_c", "stage_b", "stage_a", "text", "effnet", "previewer", "vision" or "controlnet".
        dtype: that of most of its bytes, in torch's words ("bfloat16").
        bytes: on the disk.
        shapes: of its weights, by their canonical names.
        sources: where they lie.
        metadata: the file's own texts.
    """

    name: str
    dtype: str
    bytes: int
    shapes: Mapping[str, Shape] = field(repr=False)
    sources: Mapping[str, Source] = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it lies in."""
        return tuple(sorted({source.file for source in self.sources.values()}))

    @cached_property
    def variant(self) -> str:
        """The published build, "full" or "lite"; widths of another one ("16x16"); "" where there is but one."""
        if self.name not in ("stage_c", "stage_b"):
            return ""
        levels = (f"down_blocks.{level}.0.depthwise.weight" for level in count())
        widths = tuple(takewhile(bool, (_side(self.shapes, name, 0) for name in levels)))
        return VARIANTS.get((self.name, widths), "x".join(map(str, widths)))

    def network(self) -> nn.Module:
        """The network of this part's build, without weights, on the meta device.

        Raises:
            PrismError: the part cannot be run here, or weights are missing that tell its build.
        """
        import torch

        if self.name not in NETWORKS:
            raise PrismError(f"{self.files[0].name} holds {self.title}, which is known, but not used here")
        home, network, config_home, config = NETWORKS[self.name]
        try:
            build = getattr(import_module(f".{config_home}", __package__), config).of(self.shapes, self.metadata)
            with torch.device("meta"):
                return getattr(import_module(f".{home}", __package__), network)(build)
        except (LookupError, ValueError, TypeError, ArithmeticError, StopIteration) as error:
            raise PrismError(
                f"{self.title} of {self.files[0].name} is no build known here ({error}); download the file again"
            ) from error

    @cached_property
    def expected(self) -> Mapping[str, Shape]:
        """The names and shapes that a part of this build has; needs torch."""
        return {name: tuple(value.shape) for name, value in self.network().state_dict().items()}

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.expected if name not in self.shapes)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name in self.shapes if name not in self.expected)

    @property
    def misshapen(self) -> tuple[str, ...]:
        return tuple(n for n, shape in self.shapes.items() if n in self.expected and shape != self.expected[n])

    def problems(self) -> str:
        """What is wrong with its names and shapes, in words; "" if nothing is."""
        kinds = {"missing": self.missing, "unknown": self.unknown, "of another shape": self.misshapen}
        told = [f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names]
        return f"{self.title}: {'; '.join(told)}" if told else ""


@dataclass(frozen=True)
class CascadeFile:
    """A file or folder of Stable Cascade.

    Attributes:
        layout: "all-in-one", "bare", "diffusers" or "sidecar".
        parts: its networks by name; some may lie in files beside it.
        unknown: tensors that belong to no part.
        notes: what else a user should know, in sentences.
    """

    path: Path
    layout: str
    parts: Mapping[str, Part]
    unknown: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(repr=False, default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """ "main" with stage C, "decoder" with stage B, otherwise the name of its first part."""
        return _role(self.parts)

    def part(self, name: str) -> Part:
        """A part.

        Raises:
            PrismError: the file does not have it.
        """
        if name not in TITLES:
            raise UnknownName("part of Stable Cascade", name, TITLES)
        if name not in self.parts:
            had = ", ".join(part.title for part in self.parts.values())
            raise PrismError(
                f"{self.path.name} does not have {TITLES[name]}; it has {had}. {' '.join(self.notes)}".strip()
            )
        return self.parts[name]


def role_of(names: Iterable[str]) -> str:
    """What a file with tensors of these names is: "main", "decoder", another part's name, or "" for no Cascade.

    A text or vision encoder alone may as well be another model's, and is "".
    """
    parts = parts_of(names)[0].keys() - {"text", "vision"}
    return _role(parts) if parts else ""


def inspect(path: str | Path) -> CascadeFile:
    """What a file or a folder holds.

    Args:
        path: a .safetensors file, the .safetensors.index.json of shards, or a diffusers folder.

    Raises:
        PrismError: it is missing, damaged, a pickle, or not of Stable Cascade.
    """
    path = Path(path)
    if os.path.isdir(path):  # pathlib's own raises for impossible paths
        return _inspect_folder(path)
    tensors = _Tensors.of(path)
    parts = tensors.parts()
    if not parts:
        raise PrismError(f"{path.name} is no file of Stable Cascade: it has none of its parts' names")
    layout = "all-in-one" if any(name.startswith(UNET) for name in tensors.places) else "bare"
    return _with_sidecars(CascadeFile(path, layout, parts, tensors.unknown, tensors.metadata))


def state(
    path: str | Path | CascadeFile, part: str, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """A part's weights by their canonical names; no other tensor of the file is read.

    Args:
        dtype: of the floating point ones, converted straight from the file's; None keeps the file's.

    Raises:
        PrismError: the file lacks the part, or what `inspect` refuses.
    """
    from .weights import read

    return read(_inspected(path).part(part).sources, dtype, device)


def load(
    path: str | Path | CascadeFile,
    part: str,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """A part's network with its weights, for inference.

    Raises:
        PrismError: weights are missing, unknown or of another shape, or what `state` refuses.
    """
    from .weights import fill, read

    found = sound(_inspected(path).part(part))
    return fill(found.network(), read(found.sources, dtype, device))


def sound(part: Part) -> Part:
    """The part; raises PrismError where weights are missing, unknown or of another shape."""
    problems = part.problems()
    if problems:
        raise PrismError(f"{part.files[0].name} cannot be loaded. {problems}. Download it again, or take another file")
    return part


def pair(main: str | Path, candidates: Sequence[Given]) -> Given | None:
    """The decoder that goes with a main file, of files of any kind; None where none of them can.

    Raises:
        PrismError: several go with it equally well, or what `inspect` refuses of the main file.
    """
    file = inspect(main)
    return nearest(file.path, [one for one in candidates if _decodes(one, file)])


def _decodes(candidate: str | Path, main: CascadeFile) -> bool:
    """Whether a candidate is a decoder of the widths that a main file makes."""
    try:
        parts = inspect(candidate).parts
    except PrismError:
        return False
    if "stage_b" not in parts or "stage_c" not in main.parts:
        return False
    own, small = parts["stage_b"].shapes, main.parts["stage_c"].shapes
    takes = _side(own, "effnet_mapper.0.weight", 1), _side(own, "clip_mapper.weight", 1)
    return takes == (_side(small, "clf.1.weight", 0), _side(small, "clip_txt_pooled_mapper.weight", 1))


def _inspected(path: str | Path | CascadeFile) -> CascadeFile:
    return path if isinstance(path, CascadeFile) else inspect(path)


def _role(parts: Container[str]) -> str:
    first = next(name for name in TITLES if name in parts)
    return {"stage_c": "main", "stage_b": "decoder"}.get(first, first)


def _side(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    """A side of a weight; 0 where there is none."""
    return (*shapes.get(name, ()), 0, 0)[axis]


def some(names: Iterable[str]) -> str:
    """The first of many names, in words."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass
class _Tensors:
    """The tensors of one file, or of all shards of one."""

    places: dict[str, tuple[Path, header.Place]]
    metadata: dict[str, str]
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path) -> _Tensors:
        files = _shards(path) if path.name.endswith(INDEX) else [path]
        places: dict[str, tuple[Path, header.Place]] = {}
        metadata: dict[str, str] = {}
        for file in files:
            told = header.read(file)
            places |= {name: (file, place) for name, place in told.places.items()}
            metadata |= told.metadata
        return cls(places, metadata)

    def parts(self) -> dict[str, Part]:
        found, unknown = parts_of(self.places)
        self.unknown = tuple(name for name in unknown if name != TOKEN_IDS)
        return {name: self._part(name, found[name]) for name in TITLES if name in found}

    def _part(self, name: str, inside: Mapping[str, str]) -> Part:
        shapes: dict[str, Shape] = {}
        sources: dict[str, Source] = {}
        for short, tensor in inside.items():
            file, place = self.places[tensor]
            for weight in canonical(name, short):
                shapes[weight.name] = weight.shape(place.shape)
                sources[weight.name] = Source(file, tensor, weight.form)
        if name == "text" and TOKEN_IDS in self.places and TABLE in shapes:
            shapes[TABLE] = (VOCABULARY, *shapes[TABLE][1:])
            sources[TABLE] = sources[TABLE]._replace(form="rows")
        own = [self.places[tensor][1] for tensor in inside.values()]
        return Part(name, header.dtype_of(own), sum(place.size for place in own), shapes, sources, self.metadata)


def _shards(index: Path) -> list[Path]:
    """The files that an index names."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a shard lies elsewhere")
    except FileNotFoundError:
        raise PrismError(f"{index} does not exist; check the path") from None
    except (OSError, *header.DAMAGED) as error:
        raise PrismError(f"{index} is damaged ({error}); download it again") from error
    return [index.with_name(name) for name in names]


def _inspect_folder(path: Path) -> CascadeFile:
    """A diffusers folder, or one of its parts."""
    parts: dict[str, Part] = {}
    unknown: tuple[str, ...] = ()
    for folder in (path, *(path / name for name in COMPONENTS)):
        weights = _weights_in(folder) if (folder / "config.json").is_file() else None
        if weights is not None:
            tensors = _Tensors.of(weights)
            parts = tensors.parts() | parts  # of two text encoders the first
            unknown += tensors.unknown
    if not {"stage_c", "stage_b", "stage_a"} & parts.keys():
        raise PrismError(f"{path} is no diffusers folder of Stable Cascade; expected prior or decoder in it")
    return CascadeFile(path, "diffusers", {name: parts[name] for name in TITLES if name in parts}, unknown)


def _weights_in(folder: Path) -> Path | None:
    """A component's file or index, the one without a variant's name first."""
    files = [one for ending in (INDEX, ".safetensors") for one in sorted(folder.glob(f"*{ending}"))]
    files = [one for one in files if not re.search(r"-\d{5}-of-\d{5}\.", one.name)]
    return min(
        files, key=lambda one: one.name.removesuffix(INDEX).removesuffix(".safetensors").count("."), default=None
    )


def _with_sidecars(file: CascadeFile) -> CascadeFile:
    """With the parts that lie beside a file and that it lacks; a damaged one is only told."""
    parts, notes = dict(file.parts), list(file.notes)
    for name in WANTED.get(file.role, ()):
        for place in () if name in parts else _beside(file.path, name):
            try:
                found = _Tensors.of(place).parts().get(name)
            except PrismError as error:
                notes.append(f"{error}.")
                continue
            if found is not None and _fits(found, parts):
                parts[name] = found
                break
    layout = "sidecar" if file.layout == "bare" and "text" in parts.keys() - file.parts.keys() else file.layout
    return CascadeFile(file.path, layout, parts, file.unknown, file.metadata, tuple(notes))


def _beside(path: Path, name: str) -> list[Path]:
    """The files beside one that may hold a part, those that exist."""
    stem = path.name.removesuffix(INDEX).removesuffix(".safetensors")
    found: list[Path | None] = []
    for pattern in SIDECARS[name]:
        beside = path.parent / pattern.format(stem)
        found.append(_weights_in(beside) if pattern.endswith("/") else beside.with_name(f"{beside.name}.safetensors"))
    return [one for one in found if one is not None and one.is_file()]


def _fits(found: Part, parts: Mapping[str, Part]) -> bool:
    """Whether an encoder gives vectors as wide as stage C takes them; other parts are not compared."""
    if found.name not in TAKEN or "stage_c" not in parts:
        return True
    given, taken = TAKEN[found.name]
    return _side(found.shapes, given, 0) == _side(parts["stage_c"].shapes, taken, 1)


def dtype_for(part: Part, wanted: str | torch.dtype | None = None, device: str | torch.device = "cpu") -> torch.dtype:
    """The torch dtype that a part should have on a device.

    What the file has is kept where the device computes in it, since fp16 loses small bf16 numbers and makes the
    published full stage C give NaN. Wider files become fp16, but that stage C bf16.

    Args:
        wanted: "fp16", "bf16", "fp32" or a dtype; None, "" or "Automatic" leaves the choice here.

    Raises:
        UnknownName: `wanted` is something else.
    """
    from .weights import chosen

    return chosen(part.dtype, part.name == "stage_c" and part.variant != "lite", wanted, device)
