"""Networks (LoRA and its relatives) on the layers of a model: files, names, and weights changed and put back.

A layer keeps A1111's fields: `network_layer_name`, `network_current_names` (what its weights contain now),
`network_weights_backup` and `network_bias_backup` (copies without any network). Weights change lazily, in the layer's
forward, when what is wanted differs from what they contain.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sd_prism.cascade.lora import file_names as cascade_names
from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys
from sd_prism.studio.lora_kinds import Change

LAYERS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
OPEN_CLIP_NAMES = (
    ("encoder_layers_", "transformer_resblocks_"),
    ("self_attn", "attn"),
    ("mlp_fc1", "mlp_c_fc"),
    ("mlp_fc2", "mlp_c_proj"),
)
LDM_NAME_ONLY = ("conv_norm_out", "add_embedding.linear_1", "add_embedding.linear_2")  # A1111 has no other for these
NEVER_ALIASES = ("none", "addams")

# --- names -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A layer, A1111's name for it, and the names that files of trainers have for it."""

    module: nn.Module
    name: str
    in_files: tuple[str, ...]


def layers(model: Any) -> Iterator[Named]:
    """The layers that a network can change: UNet and text encoders.

    Args:
        model: a checkpoint.Model, or a model of an extension's class as the host knows it.
    """
    if isinstance(model, nn.Module):
        yield from _class_layers(model)
        return
    yield from _unet_layers(model.unet)
    for i, encoder in enumerate(getattr(model.text, "encoders", ())):
        yield from _text_layers(encoder.core, i, model.family)


def _unet_layers(unet: Any) -> Iterator[Named]:
    attention = tuple("CrossAttn" in kind for kind in unet.config.down_block_types)
    shape = ldm_keys.UNetShape(unet.config.layers_per_block, attention)
    for path, module in unet.named_modules():
        if _has_weight(module):
            ldm = _flat(ldm_keys.unet_to_ldm(f"{path}.weight", shape).removesuffix(".weight"))
            paths = [ldm] if path in LDM_NAME_ONLY else [_flat(path), ldm]
            yield Named(module, f"diffusion_model_{ldm}", tuple(f"lora_unet_{name}" for name in paths))


def _text_layers(core: nn.Module, index: int, family: str) -> Iterator[Named]:
    is_sdxl = family.startswith("sdxl")
    place = f"{index}_" if is_sdxl else ""
    words = (f"lora_te{index + 1}",) if is_sdxl else ("lora_te", "lora_te1")
    open_clip = family.startswith("sd2") or index == 1
    for path, module in core.named_modules():
        # A1111 reads no norms for open_clip's towers.
        if isinstance(module, nn.Linear) or (_has_weight(module) and not open_clip):
            flat = _flat(path)
            name = f"{place}model_{_open_clip(flat)}" if open_clip else f"{place}transformer_text_model_{flat}"
            yield Named(module, name, tuple(f"{word}_text_model_{flat}" for word in words))


def _class_layers(model: Any) -> Iterator[Named]:
    """By the host's names, which their paths give; files for Stable Cascade have others."""
    for root, inner, part in (
        (model.cond_stage_model, "transformer.", "text"),
        (model.model, "diffusion_model.", "stage_c"),
    ):
        for path, module in root.named_modules():
            if _has_weight(module):
                known = cascade_names(part, path.removeprefix(inner)) if getattr(model, "is_cascade", False) else ()
                yield Named(module, _flat(path), (_flat(path), *known))


def _has_weight(module: Any) -> bool:
    return isinstance(module, LAYERS) and module.weight is not None


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _open_clip(flat: str) -> str:
    for ours, theirs in OPEN_CLIP_NAMES:
        flat = flat.replace(ours, theirs)
    return flat


def name_layers(model: Any) -> dict[str, nn.Module]:
    """Give every layer its `network_layer_name`; the layers by these names."""
    mapping = {}
    for layer in layers(model):
        layer.module.network_layer_name = layer.name  # type: ignore[assignment]
        mapping[layer.name] = layer.module
    return mapping


# --- files -------------------------------------------------------------------------------------------------------


def files_below(folder: str | Path) -> list[Path]:
    """The files of a folder and those below it, links followed."""
    found = (Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted(found, key=lambda path: str(path).lower())


@dataclass
class NetworkFile:
    """A network on disk; `name` is the file's name without its ending, `alias` the name its trainer gave it."""

    filename: Path
    metadata: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.filename), framework="pt") as file:
                self.metadata = file.metadata() or {}
        except SafetensorError as error:
            raise PrismError(f"{self.filename.name} is damaged ({error}); download it again") from error

    @property
    def name(self) -> str:
        return self.filename.stem

    @property
    def alias(self) -> str:
        return self.metadata.get("ss_output_name", self.name)

    @cached_property
    def hash(self) -> str:
        """kohya's: SHA-256 of what follows the header, so that editing the metadata does not change it."""
        known = self.metadata.get("sshs_model_hash")
        if known:
            return known
        digest = hashlib.sha256()
        with self.filename.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    @property
    def shorthash(self) -> str:
        return self.hash[:12]


class Catalogue:
    """The networks of a folder and those below it, by name and by alias."""

    def __init__(self) -> None:
        self.files: dict[str, NetworkFile] = {}
        self._by_alias: dict[str, NetworkFile] = {}
        self._ambiguous: set[str] = set()

    def scan(self, folder: Path, tell: Callable[[str], None]) -> None:
        """Look for files anew; `tell` gets a sentence for each that cannot be read."""
        self.files, self._by_alias, self._ambiguous = {}, {}, set(NEVER_ALIASES)
        for path in files_below(folder):
            if path.suffix.lower() in (".pt", ".ckpt"):
                tell(f"{path.name} is a pickle, which can run any code when it is opened; convert it to .safetensors")
            elif path.suffix.lower() == ".safetensors":
                try:
                    self._add(NetworkFile(path))
                except (PrismError, OSError) as error:
                    tell(f"network {path.name} is left out: {error}")

    def _add(self, file: NetworkFile) -> None:
        self.files[file.name] = file
        if file.alias in self._by_alias:
            self._ambiguous.add(file.alias.lower())
        self._by_alias |= {file.name: file, file.alias: file}

    def find(self, name: str) -> NetworkFile | None:
        """The file with this name or, where only one has it, this alias."""
        return (self.files if name.lower() in self._ambiguous else self._by_alias).get(name)

    def prompt_name(self, file: NetworkFile, prefer_alias: bool = True) -> str:
        """What a prompt should call the file."""
        return file.alias if prefer_alias and file.alias.lower() not in self._ambiguous else file.name


# --- networks ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Network:
    """What a file changes in the layers of one model, and how strongly.

    Attributes:
        changes: by the layers' names.
        embeddings: tensors of the embeddings that the file brings along, by their names.
        dyn_dim: how many of its ranks are used, None for all.
    """

    name: str
    file: NetworkFile
    changes: dict[str, Change]
    embeddings: dict[str, dict[str, Tensor]]
    read_at: float
    te_multiplier: float = 1.0
    unet_multiplier: float = 1.0
    dyn_dim: int | None = None

    @classmethod
    def read(cls, name: str, file: NetworkFile, model: Any) -> Network:
        """The network of a file for a model as `layers` takes it; raises PrismError for kinds that are not known."""
        from safetensors.torch import load_file

        read_at = file.filename.stat().st_mtime
        grouped: dict[str, dict[str, Tensor]] = {}
        names = {in_file: layer.name for layer in layers(model) for in_file in layer.in_files}
        for key, tensor in load_file(file.filename).items():
            layer, part = _split(key, names)
            grouped.setdefault(layer, {})[part] = tensor
        try:
            changes = {names[layer]: Change.of(parts) for layer, parts in grouped.items() if layer in names}
        except PrismError as error:
            raise PrismError(f"{file.filename.name} cannot be used: {error}") from error
        embeddings: dict[str, dict[str, Tensor]] = {}
        for key, tensor in grouped.get("bundle_emb", {}).items():
            word, _, part = key.partition(".")
            embeddings.setdefault(word, {})[part] = tensor
        return cls(name, file, changes, embeddings, read_at)

    @property
    def state(self) -> tuple[str, float, float, int | None]:
        """What `network_current_names` says of a layer that contains this network."""
        return self.name, self.te_multiplier, self.unet_multiplier, self.dyn_dim

    def added(self, layer_name: str, weight: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """What comes on top of a layer's weight and bias, None for a layer that is not changed."""
        change = self.changes.get(layer_name)
        if change is None:
            return None
        # A1111's rule for what belongs to a text encoder.
        multiplier = self.te_multiplier if "transformer" in layer_name[:20] else self.unet_multiplier
        return change.delta(weight, multiplier, self.dyn_dim), change.bias(weight, multiplier)


def _split(key: str, names: Mapping[str, str]) -> tuple[str, str]:
    """A tensor's key as the layer's name in files, which may have dots in it, and what the tensor is to the layer."""
    end = len(key)
    while (end := key.rfind(".", 0, end)) > 0:
        if key[:end] in names:
            return key[:end], key[end + 1 :]
    layer, _, part = key.partition(".")
    return layer, part


class Stack:
    """The networks that are on, in order; layers take them up when they are next used.

    Attributes:
        failed: for each network the number of layers whose shape it does not fit.
    """

    def __init__(self) -> None:
        self.networks: list[Network] = []
        self.states: tuple = ()
        self.failed: Counter[str] = Counter()

    def use(self, networks: list[Network]) -> None:
        """Have these networks on and no others."""
        self.networks = networks
        self.states = tuple(network.state for network in networks)

    def settled(self, layer: nn.Module) -> bool:
        """Make the layer's weights what they should be; then they may be used without a call of the layer: True."""
        if layer.__dict__.get("network_current_names", ()) != self.states:
            self.apply(layer)
        return True

    def apply(self, layer: nn.Module) -> None:
        """Make the layer's weights what they should be; nothing happens when they are."""
        fields = layer.__dict__
        if "network_layer_name" not in fields:
            return
        current = fields.get("network_current_names", ())
        if self.states and fields.get("network_weights_backup") is None:
            _back_up(layer, current)
        if current != self.states:
            with torch.no_grad():
                _restore(layer)
                for network in self.networks:
                    self._add(layer, network)
            layer.network_current_names = self.states  # type: ignore[assignment]

    def _add(self, layer: Any, network: Network) -> None:
        try:
            added = network.added(layer.network_layer_name, layer.weight)
            if added is None:
                return
            delta, bias = added
            layer.weight.copy_(layer.weight + delta)
            if bias is not None and layer.bias is None:
                layer.bias = nn.Parameter(bias, requires_grad=False)
            elif bias is not None:
                layer.bias.copy_(layer.bias + bias)
        except (RuntimeError, IndexError, ArithmeticError):  # the shapes do not fit
            self.failed[network.name] += 1


def reset(layer: Any) -> None:
    """Take the layer's weights as they are for its own, without any network."""
    layer.network_current_names = ()
    layer.network_weights_backup = layer.network_bias_backup = None


def _back_up(layer: Any, current: tuple) -> None:
    if current:
        raise RuntimeError(f"{layer.network_layer_name} contains networks, and there is no copy of it without them")
    layer.network_weights_backup = layer.weight.to("cpu", copy=True)
    layer.network_bias_backup = None if layer.bias is None else layer.bias.to("cpu", copy=True)


def _restore(layer: Any) -> None:
    weight, bias = (layer.__dict__.get(f"network_{part}_backup") for part in ("weights", "bias"))
    if weight is None:
        return
    layer.weight.copy_(weight)
    if bias is None:
        layer.bias = None
    else:
        layer.bias.copy_(bias)


def patches(stack: Stack) -> Iterator[tuple[type[nn.Module], str, Callable]]:
    """What has to replace which methods of torch's layers, so that they obey the stack."""
    for kind in LAYERS:
        yield kind, "forward", _up_to_date(stack, kind.forward)
        yield kind, "_load_from_state_dict", _after(reset, kind._load_from_state_dict)


def _up_to_date(stack: Stack, forward: Callable) -> Callable:
    def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Hundreds of layers come here at every step: what is as it should be must cost no further call.
        if self.__dict__.get("network_current_names", ()) != stack.states:
            stack.apply(self)
        return forward(self, *args, **kwargs)

    return replacement


def _after(first: Callable[[Any], None], method: Callable) -> Callable:
    def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
        first(self)
        return method(self, *args, **kwargs)

    return replacement


def tag_numbers(positional: list[str], named: Mapping[str, str]) -> tuple[float, float, int | None]:
    """(te, unet, dyn) of a tag's arguments after the name; raises ValueError for what is no number."""
    te = float(named.get("te", positional[0] if positional else 1.0))
    unet = float(named.get("unet", positional[1] if len(positional) > 1 else te))
    dyn = named.get("dyn", positional[2] if len(positional) > 2 else None)
    return te, unet, None if dyn is None else int(dyn)
