"""The weights of a host's loaded model by name, as they are under networks (LoRA), and ready to be written to.

Networks of the A1111 family change a layer when it is next used: `network_current_names` says what its weights contain,
`network_weights_backup` and `network_bias_backup` hold them without. Before a layer is written to they are taken off
and these fields forgotten, so that the host takes what was written for the layer's own and puts its networks on top.

Forge puts networks on a whole part of the model, when that part is next used, and keeps the parameters without them in
its patcher's loader; reForge and Forge Neo keep them in the patcher itself. Before one of these is written to, all
networks of the part are taken off.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from modules import devices
from torch import Tensor, nn

from ...errors import PrismError
from .. import pipelines
from ..model import Parts, lasting, patchers, unet

STORAGE = (torch.float8_e4m3fn, torch.float8_e5m2)  # types that only store: a host computes in another one
TEXT = ("text_encoder.", "text_encoder_2.")
PATCHED_TEXT = {"clip_l": TEXT[0], "clip_h": TEXT[0], "clip_g": TEXT[1]}
PROJECTION = "text_projection"  # open_clip's, which reForge keeps beside the encoder and the other way round
ENGINES = "backend.text_processing"  # Forge's
EMBEDDING = ".wrapped."  # in a patched part: a module with the parameters of another one, for embeddings in prompts


class Place(NamedTuple):
    """A parameter: a part of the model, the module in it, the parameter's name there, and whether it is turned."""

    part: str
    module: str
    name: str
    turned: bool = False

    @property
    def path(self) -> str:
        """Where the parameter is in its part."""
        return f"{self.module}.{self.name}" if self.module else self.name

    def seen(self, tensor: Tensor) -> Tensor:
        """The parameter, or what is kept of it, the way round that files have it."""
        return tensor.detach().T if self.turned else tensor.detach()


class Part(NamedTuple):
    """A part of a model, and what puts networks on it: a patcher, and where the part is in what that patches.

    `kept` is the type in which the host loads all of the part, if it widens some of it when that is first used.
    """

    module: nn.Module
    patcher: Any = None
    path: str = ""
    kept: torch.dtype | None = None


class Weights(Mapping[str, Tensor]):
    """Parameters of a loaded model by name: an LDM module, the studio's model, or one in patchers.

    Those in fp8 come as copies in the type from which the host makes fp8, and those that the host has widened as copies
    in the type in which it loads them, so that they round as a file does; `store` brings them back.
    Raises PrismError for weights that the host has packed.

    Attributes:
        computed: the type from which the host makes fp8.
    """

    def __init__(self, model: Any) -> None:
        model = lasting(model)
        refuse_packed(model)
        self._model = weakref.ref(model)
        self.computed = computed(model)
        self._places = dict(_places(model))
        self._staged: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.live(name)
        kind = self.computed if tensor.dtype in STORAGE else self._part(self._places[name]).kept or tensor.dtype
        return tensor if kind == tensor.dtype else self._stage(name, tensor, kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def items(self) -> Any:
        """As they are, for looking at."""
        return [(name, self.live(name)) for name in self._places]

    def prepare(self, name: str) -> None:
        """Take networks off the layer of a parameter that will be written to."""
        for module in self._owners(name):
            take_off(module)
        take_off_part(self._part(self._places[name]).patcher)

    def live(self, name: str) -> Tensor:
        """A parameter as it is, networks included."""
        place = self._places[name]
        return place.seen(getattr(self._module(place), place.name))

    def base(self, name: str) -> Tensor:
        """A parameter's values without networks; not to be written to."""
        place = self._places[name]
        inner, part = place.name, self._part(place)
        if part.patcher is not None:
            kept = unpatched(part.patcher).get(f"{part.path}{place.path}")
            return self.live(name) if kept is None else place.seen(kept)
        for module in self._owners(name):
            if inner in (backups := _backups(module)):
                return backups[inner]
            inner = f"out_proj.{inner}"
        return self.live(name)

    @torch.inference_mode()
    def store(self) -> None:
        """Bring what was written to copies to where it belongs."""
        for name, staged in self._staged.items():
            place = self._places[name]
            module = self._module(place)
            place.seen(getattr(module, place.name)).copy_(staged)
            kept = getattr(module, f"fp16_{place.name}", None)
            if kept is not None:  # what networks are added to
                kept.copy_(staged)
        self._staged.clear()

    def _stage(self, name: str, tensor: Tensor, kind: torch.dtype) -> Tensor:
        """A copy of what it holds, so that one that is not written to after all changes nothing."""
        if name not in self._staged:
            place = self._places[name]
            finer = getattr(self._module(place), f"fp16_{place.name}", tensor)
            self._staged[name] = finer.to("cpu", kind, copy=True)
        return self._staged[name]

    def _owners(self, name: str) -> Iterator[nn.Module]:
        """The module that has a parameter, and the attention whose part it may be, for networks count that as one."""
        place = self._places[name]
        yield self._module(place)
        outer, _, last = place.module.rpartition(".")
        if last == "out_proj":
            yield self._module(place._replace(module=outer))

    def _module(self, place: Place) -> nn.Module:
        return self._part(place).module.get_submodule(place.module)

    def _part(self, place: Place) -> Part:
        return _parts(self._model())[place.part]


def computed(model: Any) -> torch.dtype:
    """The type from which a host makes fp8; patched models have it made of the file's, which all go into fp32."""
    return torch.float32 if patchers(model) else getattr(devices, "dtype_unet", torch.float16)


def refuse_packed(model: Any) -> None:
    """A host may keep a UNet packed (nf4, GGUF, int8), whose weights are no numbers yet."""
    network = unet(model)
    kind = getattr(network, "storage_dtype", None)
    if isinstance(kind, str):
        raise PrismError(
            f"Block merge needs the model's weights as numbers, but the webui keeps them packed ({kind}); choose "
            '"Automatic" or an fp8 at "Diffusion in Low Bits", or a file of another type'
        )
    if getattr(network, "quantization_method", None) or any(map(_is_elsewhere, network.parameters())):
        raise PrismError(
            "Block merge needs the model's weights as numbers in memory, but the webui keeps them packed or elsewhere; "
            "load the model without quantization and without sequential offload"
        )


def _is_elsewhere(one: Tensor) -> bool:
    """Whether a parameter's numbers are kept elsewhere, or are to be scaled, by itself or by its layer."""
    return one.is_meta or not one.is_floating_point() or type(one) is not nn.Parameter


def _parts(model: Any) -> dict[str, Part]:
    """The parts of a model, by what the names of their parameters begin with."""
    held = patchers(model)
    if held is not None:
        network = Part(unet(model), held.unet, "diffusion_model.")
        return {
            "model.diffusion_model.": network,
            "first_stage_model.": Part(held.vae.first_stage_model),
            **_texts(held.clip),
        }
    if isinstance(model, Parts):
        return {f"{name}.": Part(part) for name, part in model.items()}
    if isinstance(model, nn.Module):
        return {"": Part(model)}
    encoders = zip(TEXT, getattr(model.cond_stage_model, "encoders", ()))
    texts = {start: Part(encoder.model) for start, encoder in encoders}
    return {"unet.": Part(unet(model)), "vae.": Part(model.first_stage_model), **texts}


def _texts(clip: Any) -> dict[str, Part]:
    """The text encoders of a patcher; Forge's text engines widen embeddings when they are first used."""
    found = {}
    for name, encoder in clip.cond_stage_model.named_children():
        if name in PATCHED_TEXT:
            loaded = encoder.transformer.text_model.final_layer_norm.weight.dtype
            kept = loaded if ENGINES in sys.modules else None
            found[PATCHED_TEXT[name]] = Part(encoder.transformer, clip.patcher, f"{name}.transformer.", kept)
            if name == "clip_g" and hasattr(encoder, PROJECTION):  # and makes no use of the transformer's
                found[f"{TEXT[1]}{PROJECTION}."] = Part(encoder, clip.patcher, f"{name}.")
    return found


def _places(model: Any) -> Iterator[tuple[str, Place]]:
    for start, part in _parts(model).items():
        if start.endswith(f"{PROJECTION}."):
            yield f"{start}weight", Place(start, "", PROJECTION, turned=True)
            continue
        for path, _ in part.module.named_parameters(remove_duplicate=False):
            if part.patcher is not None and EMBEDDING in path:
                continue
            owner, _, name = path.rpartition(".")
            inner = "text_model." if start in TEXT and not path.startswith(("text_model.", "text_projection")) else ""
            yield start + inner + path, Place(start, owner, name)


def unpatched(patcher: Any) -> dict[str, Tensor]:
    """The parameters that a part has networks on, without them, by their names in what is patched."""
    if hasattr(patcher, "lora_loader"):
        found: dict[str, Tensor] = patcher.lora_loader.backup
        return found
    return {name: kept.weight for name, kept in patcher.backup.items()}


def take_off_part(patcher: Any) -> None:
    """Take networks off a part that is patched as a whole, and have the host put them on when it next uses the part."""
    if patcher is None or not unpatched(patcher):
        return
    if hasattr(patcher, "lora_loader"):
        patcher.lora_loader.refresh({}, offload_device=patcher.offload_device)
        memory = importlib.import_module("backend.memory_management")
        if hasattr(memory, "unload_model_clones"):  # else it looks at the networks whenever it uses the part
            memory.unload_model_clones(patcher)
    else:
        patcher.unpatch_model(patcher.offload_device)


def take_off(module: Any) -> None:
    """Take networks off a layer, and forget that there were any."""
    if not hasattr(module, "network_current_names") and not hasattr(module, "network_weights_backup"):
        return
    backups = _backups(module)
    if backups:
        outer = module.out_proj if isinstance(module, nn.MultiheadAttention) else module
        kept = any(name.endswith("bias") and not name.startswith("in_proj") for name in backups)
        if not kept and not pipelines.used():  # SD.Next keeps no bias, and gives no layer one
            outer.bias = None  # a network's own
        for path, values in backups.items():
            owner, _, name = path.rpartition(".")
            getattr(module.get_submodule(owner), name).detach().copy_(values)
    module.network_current_names = ()
    module.network_weights_backup = module.network_bias_backup = None


def _backups(module: Any) -> dict[str, Tensor]:
    """What a layer's parameters were without networks, by their names in it; empty where they are still so."""
    weights = getattr(module, "network_weights_backup", None)
    if weights is None:
        return {}
    bias = getattr(module, "network_bias_backup", None)
    if isinstance(module, nn.MultiheadAttention):
        found = {"in_proj_weight": weights[0], "out_proj.weight": weights[1], "out_proj.bias": bias}
    else:
        found = {"weight": weights, "bias": bias}
    return {name: values for name, values in found.items() if isinstance(values, Tensor)}  # SD.Next may note True
