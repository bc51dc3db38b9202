"""Doing what a layer does without calling it, where that is faster and where nobody wants the call.

LoRA and other extensions put their own `forward` into layers or into the classes of layers, or hook them; a layer that
is changed so must really be called, and nothing computed with its weights may be kept. `direct` tells.
"""

from __future__ import annotations

import itertools
import math
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

INSTEAD = ("forward", "_conv_forward", "_wrapped_call_impl", "_call_impl")  # what a layer can have of its own
MANY = 400  # pixels, for a head's attention to be work enough
KEPT_PROMPTS = 4  # a prompt and a negative one, of both passes of a picture

_idle: dict[Callable[..., Any], Callable[[nn.Module], bool]] = {}


def tolerate(forward: Callable[..., Any], idle: Callable[[nn.Module], bool]) -> None:
    """Layers whose class has `forward` in place of its own need no call while `idle` says so of them.

    For hosts that patch a class once and then decide for each layer, as A1111 does for LoRA.
    """
    _idle[forward] = idle


def direct(*layers: nn.Module) -> bool:
    """Whether all of these do what their classes say and no more, and neither a gradient nor another type is wanted."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled() or not _own(nn.Module.__call__, nn.Module):
        return False
    common = torch.nn.modules.module
    if common._global_forward_hooks or common._global_forward_pre_hooks:
        return False
    return all(_plain(layer) for layer in layers)


def _plain(layer: nn.Module) -> bool:
    kind, own = type(layer), vars(layer)
    if own["_forward_hooks"] or own["_forward_pre_hooks"] or not own.keys().isdisjoint(INSTEAD):
        return False
    if _own(kind.forward, kind):
        return True
    idle = _idle.get(kind.forward)
    return idle is not None and idle(layer)


def parameters(*layers: Any) -> list[Tensor]:
    """The weights and biases of some layers."""
    return [one for layer in layers for one in (layer.weight, layer.bias)]


def _own(method: Callable[..., Any], kind: type) -> bool:
    """Whether a method was written where its class was; what replaces it was written elsewhere."""
    return getattr(method, "__globals__", None) is vars(sys.modules[kind.__module__])


def product(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """x @ weight.T + bias, and its GELU: by oneDNN on a processor, where torch's own choice for float32, MKL, takes up
    to twice the time on other makes than Intel's.
    """
    if x.is_cpu and x.dtype in _onednn_dtypes():
        after, how = ("gelu", "none") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], how)
    made = F.linear(x, weight, bias)
    return F.gelu(made) if gelu else made


@cache
def _onednn_dtypes() -> frozenset[torch.dtype]:
    """What oneDNN multiplies here; nothing where torch has been built without it."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return frozenset()
    return frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _multiplies(dtype))


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether it does, tried on strided matrices of which every product is a whole number."""
    x, weight = torch.arange(6.0).view(2, 3).t().to(dtype), torch.arange(8.0).view(2, 4).t().to(dtype)
    try:
        made = torch.ops.mkldnn._linear_pointwise(x[None], weight, None, "none", [], "")
    except (RuntimeError, TypeError):
        return False
    return torch.equal(made, (x.float() @ weight.float().t()).to(dtype)[None])


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of (N,heads,L,d), (N,heads,T,d) and (N,heads,T,d).

    On a processor without units for matrices, torch's own takes 1.3 to 1.9 times as long as oneDNN's products head by
    head, if there is enough in a head.
    """
    if torch.is_grad_enabled() or not q.is_cpu or q.shape[2] < MANY or not _by_heads():
        return F.scaled_dot_product_attention(q, k, v)
    out = torch.empty_like(q)
    for n, h in itertools.product(*map(range, q.shape[:2])):
        queries, keys, values = (one[n, h].float() for one in (q, k, v))
        scores = product(queries / math.sqrt(q.shape[-1]), keys.contiguous(), None)
        out[n, h] = product(scores.softmax(-1), values.t().contiguous(), None)
    return out


@cache
def _by_heads() -> bool:
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)  # torch 2.4 and later
    return torch.float32 in _onednn_dtypes() and not (amx is not None and amx())


def linear(layer: Any, x: Tensor) -> Tensor:
    """A linear layer of x."""
    return product(x, layer.weight, layer.bias) if direct(layer) else layer(x)


def conv(layer: Any, x: Tensor) -> Tensor:
    """A convolution of (N,H,W,C) data; a small one that overlaps nothing is a product of matrices."""
    if direct(layer):
        if isinstance(layer, nn.ConvTranspose2d):
            return _spread(layer, x)
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride and layer.groups == 1:
            return _gathered(layer, x)
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _gathered(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Each patch of pixels becomes one."""
    count, height, width, channels = x.shape
    a, b = layer.stride
    if a * b > 1:
        h, w = height // a, width // b
        patches = x[:, : h * a, : w * b].reshape(count, h, a, w, b, channels).permute(0, 1, 3, 5, 2, 4)
        x = patches.reshape(count, h, w, channels * a * b)
    return product(x, layer.weight.flatten(1), layer.bias)


def _spread(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Each pixel becomes a patch."""
    count, h, w, _ = x.shape
    a, b = layer.stride
    bias = None if layer.bias is None else layer.bias.repeat_interleave(a * b)
    made = product(x, layer.weight.flatten(1).t(), bias).view(count, h, w, -1, a, b)
    return made.permute(0, 1, 4, 2, 5, 3).reshape(count, h * a, w * b, -1)


class Stamp:
    """What weights were when something was computed with them. Their values are taken to change with their versions."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.tensors = [weakref.ref(one) for one in weights]
        self.versions = _versions(weights)

    def holds(self, weights: Sequence[Tensor]) -> bool:
        return self.versions == _versions(weights) and all(ref() is one for ref, one in zip(self.tensors, weights))


def _versions(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(one.data_ptr(), one._version) for one in weights]


def _tracked(weights: Sequence[Tensor]) -> bool:
    """Whether torch counts the changes of these; not of tensors made in inference mode."""
    return not any(one.is_inference() for one in weights)


class Kept:
    """Results for a tensor, as long as that tensor lives and it and the weights stay what they were."""

    def __init__(self) -> None:
        self.results = WeakTensorKeyDictionary()

    def get(self, given: Tensor, weights: Sequence[Tensor], make: Callable[[], Any]) -> Any:
        if not _tracked(weights):
            return make()
        inputs = [*weights] if given.is_inference() else [*weights, given]
        known = self.results.get(given)
        if known is None or not known[0].holds(inputs):
            known = self.results[given] = (Stamp(inputs), make())
        return known[1]


class Memo:
    """The last few results by the values of what they were made from: equal inputs give the very same tensor."""

    def __init__(self) -> None:
        self.entries: list[tuple[list[Tensor | None], Stamp, Tensor]] = []

    def get(self, given: Sequence[Tensor | None], weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        if not _tracked(weights):
            return make()
        found = next((one for one in self.entries if one[1].holds(weights) and _equal(one[0], given)), None)
        if found is None:
            made = make()
            found = ([one if one is None else one.clone() for one in given], Stamp(weights), made)
        self.entries = [found, *(one for one in self.entries if one is not found)][:KEPT_PROMPTS]
        return found[2]


def _equal(kept: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> bool:
    return all(
        a is b
        or (a is not None and b is not None and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b))
        for a, b in zip(kept, given)
    )
