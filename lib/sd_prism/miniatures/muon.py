"""Muon (Jordan et al. 2024): momentum, orthogonalised by a Newton-Schulz iteration; AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices to a stack (B, m, n), by the quintic iteration of the Muon paper."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions, grouped by shape so that one batched iteration serves many."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[tuple(p.shape)].append(p)
            for params in shapes.values():
                self._step_shape(params, group["lr"], group["momentum"])

    def _step_shape(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        updates = []
        for p in params:
            assert p.grad is not None
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - momentum)
            updates.append(p.grad.lerp(buffer, momentum).flatten(1))
        stack = orthogonalise(torch.stack(updates))
        scale = max(1.0, stack.shape[1] / stack.shape[2]) ** 0.5
        for p, update in zip(params, stack, strict=True):
            p.add_(update.view_as(p), alpha=-lr * scale)


def optimisers(
    module: nn.Module, lr: float, adam_lr: float, adam_only: tuple[str, ...] = ()
) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices of a module, AdamW for vectors and for parameters whose name starts as given."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in module.named_parameters():
        (rest if p.ndim < 2 or name.startswith(adam_only) else matrices).append(p)
    return [Muon(matrices, lr), torch.optim.AdamW(rest, adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]
