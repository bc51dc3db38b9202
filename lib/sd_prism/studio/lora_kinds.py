"""The kinds of networks: from a few small tensors to what is added to a layer's weight.

W is the layer's weight, (out, in) or (out, in, kh, kw); every kind answers in that shape. Sources: Hu et al. 2021
(LoRA), Hyeon-Woo et al. 2022 (LoHa), Yeh et al. 2024 (LyCORIS), Liu et al. 2022 (IA3), Liu et al. 2024 (DoRA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sd_prism.errors import PrismError

Parts = Mapping[str, Tensor]


def _product(a: Tensor, b: Tensor, core: Tensor | None = None) -> Tensor:
    """a @ b, or with a Tucker core (r, s, kh, kw) the tensor whose factors are a (r, out) and b (s, in)."""
    if core is None:
        return a.flatten(1) @ b.flatten(1)
    return torch.einsum("r s k l, r o, s i -> o i k l", core, a, b)


def _lora(parts: Parts, w: Tensor, dyn: int | None) -> Tensor:
    up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
    if "lora_mid.weight" in parts:
        return _product(up.T, down, parts["lora_mid.weight"])
    return up[:, :dyn] @ down[:dyn]


def _loha(parts: Parts, w: Tensor, dyn: int | None) -> Tensor:
    one, two = (
        _product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"], parts.get(f"hada_t{i}")).reshape(w.shape) for i in (1, 2)
    )
    return one * two


def _lokr(parts: Parts, w: Tensor, dyn: int | None) -> Tensor:
    one, two = (
        parts[f"lokr_w{i}"]
        if f"lokr_w{i}" in parts
        else _product(parts[f"lokr_w{i}_a"], parts[f"lokr_w{i}_b"], parts.get(f"lokr_t{i}"))
        for i in (1, 2)
    )
    return torch.kron(one.reshape(one.shape + (1,) * (two.ndim - one.ndim)), two.contiguous())


def _ia3(parts: Parts, w: Tensor, dyn: int | None) -> Tensor:
    on_input = bool(parts["on_input"])
    return w * parts["weight"].reshape((1, -1) if on_input else (-1, *(1,) * (w.ndim - 1)))


def _glora(parts: Parts, w: Tensor, dyn: int | None) -> Tensor:
    return parts["b2.weight"] @ parts["b1.weight"] + w @ parts["a2.weight"] @ parts["a1.weight"]


@dataclass(frozen=True)
class Kind:
    """One kind: each group of `needs` has to be there in one of its forms; `ranked` names tensors whose first size is
    the rank that alpha is divided by.
    """

    name: str
    needs: tuple[tuple[tuple[str, ...], ...], ...]
    delta: Callable[[Parts, Tensor, int | None], Tensor]
    ranked: tuple[str, ...] = ()
    bias: str = ""

    def fits(self, parts: Parts) -> bool:
        return all(any(set(form) <= parts.keys() for form in forms) for forms in self.needs)


KINDS = (
    Kind("LoRA", ((("lora_up.weight", "lora_down.weight"),),), _lora, ("lora_down.weight",)),
    Kind("LoHa", ((("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),),), _loha, ("hada_w1_b",)),
    Kind("IA3", ((("weight", "on_input"),),), _ia3),
    Kind(
        "LoKr",
        ((("lokr_w1",), ("lokr_w1_a", "lokr_w1_b")), (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))),
        _lokr,
        ("lokr_w2_b", "lokr_w1_b"),
    ),
    Kind("full", ((("diff",),),), lambda parts, w, dyn: parts["diff"], bias="diff_b"),
    Kind("norm", ((("w_norm", "b_norm"),),), lambda parts, w, dyn: parts["w_norm"], bias="b_norm"),
    Kind("GLoRA", ((("a1.weight", "a2.weight", "b1.weight", "b2.weight"),),), _glora),
)
PEFT_NAMES = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}


@dataclass(frozen=True)
class Change:
    """What a network does to one layer."""

    kind: Kind
    parts: dict[str, Tensor]

    @classmethod
    def of(cls, parts: Parts) -> Change:
        """The change that a file's tensors of one layer describe; raises PrismError for an unknown kind."""
        parts = {PEFT_NAMES.get(name, name): tensor for name, tensor in parts.items()}
        kind = next((kind for kind in KINDS if kind.fits(parts)), None)
        if kind is None:
            known = ", ".join(kind.name for kind in KINDS)
            raise PrismError(f"it is of a kind that is not known ({', '.join(sorted(parts)[:4])}); known: {known}")
        return cls(kind, parts)

    @property
    def scale(self) -> float:
        """`scale`, or alpha by rank, or 1."""
        if "scale" in self.parts:
            return float(self.parts["scale"])
        ranked = next((name for name in self.kind.ranked if name in self.parts), None)
        if ranked is None or "alpha" not in self.parts:
            return 1.0
        return float(self.parts["alpha"]) / self.parts[ranked].shape[0]

    def delta(self, w: Tensor, multiplier: float, dyn: int | None) -> Tensor:
        """What is added to the weight, in its shape and type; raises RuntimeError when the shapes do not fit."""
        parts: dict[str, Any] = {name: self._like(tensor, w) for name, tensor in self.parts.items()}
        delta = self.kind.delta(parts, w, dyn).reshape(w.shape) * self.scale
        if "dora_scale" in parts:
            delta = _decomposed(w, delta, parts["dora_scale"])
        return delta * multiplier

    def bias(self, w: Tensor, multiplier: float) -> Tensor | None:
        """What is added to the bias, None for nothing."""
        bias = self.parts.get(self.kind.bias)
        return None if bias is None else self._like(bias, w) * multiplier

    @staticmethod
    def _like(tensor: Tensor, w: Tensor) -> Tensor:
        return tensor.to(w.device, w.dtype)


def _decomposed(w: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: the changed weight with each input's column scaled to a length of its own."""
    changed = w + delta
    length = changed.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *(1,) * (w.ndim - 2))
    return changed * (magnitude / length) - w
