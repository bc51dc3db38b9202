"""Writing a recipe into a live model: only what differs from the last plan, always from pristine weights.

Everything that can be refused is refused before the first tensor is touched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrismError
from .blocks import Layout
from .kernels import Step, write
from .pairing import Models, Wishes
from .recipe import LOADED, Recipe

SHOWN = 3  # tensors that a refusal names
Live = nn.Module | Mapping[str, Tensor]
Job = tuple[Tensor, Tensor, list[Step]]


@dataclass(frozen=True)
class Plan:
    """What a live model holds; the next merge begins with it.

    Attributes:
        recipe: what was merged; the empty one is the pristine model.
        changed: names, as the live model has them, of the tensors that were written to come here from the last plan.
        blocks: the blocks they belong to; "BASE" among them means that texts have to be encoded anew.
        notes: what a user should know, such as tensors that a model lacks.
        unsure: LDM names of tensors that a later merge began to write; it fills if that merge fails, so that this plan
            can be used once more, to merge or to restore.
    """

    recipe: Recipe
    changed: tuple[str, ...] = field(repr=False)
    blocks: frozenset[str]
    notes: tuple[str, ...]
    unsure: set[str] = field(repr=False, compare=False)
    wishes: Wishes = field(repr=False, compare=False)
    identities: Mapping[str, tuple[object, ...]] = field(repr=False, compare=False)
    models: Models = field(repr=False, compare=False)
    target: Target = field(repr=False, compare=False)

    def release(self) -> None:
        """Let go of the source files, which Windows keeps from being deleted while they are mapped."""
        self.models.release()


def merge_into(
    live: Live,
    recipe: Recipe,
    sources: Mapping[str, Any],
    *,
    previous: Plan | None = None,
    prepare: Callable[[tuple[str, ...]], object] | None = None,
) -> Plan:
    """Write a recipe into a live model's tensors, in place.

    Args:
        live: a module or a dict of tensors, in any of the namings that `Layout` reads.
        recipe: what the weights shall be; terms that hold for some steps only are not allowed.
        sources: name -> path of a .safetensors file, dict of tensors, module or `Source`; "A" is what `live` held when
            it was loaded.
        previous: what the last call for this model returned; without it `live` must hold "A". Of the sources' dicts
            and modules only the identity is looked at.
        prepare: called before the first write with the live model's names of what will be written, so that a host can
            take off what others have laid on these tensors.

    Returns: the plan to pass next time; `previous` itself if there is nothing to do.

    Raises:
        PrismError: for a model that is missing, damaged, or does not fit. Nothing was written.
        Exception: anything else in the midst of writing; `previous` then knows which tensors to repair, by another
            merge or `restore`. Without a `previous`, `restore(live, sources, None)` writes every tensor.
    """
    recipe = recipe.resolve(sources)
    labels = tuple(dict.fromkeys((LOADED, *recipe.models)))
    models = previous.models if previous else Models()
    identities = models.take(sources, labels)
    if previous and not previous.unsure and previous.recipe == recipe and previous.identities == identities:
        return previous
    layout = models[LOADED].layout
    wishes = Wishes.of(recipe, layout)
    target = previous.target if previous and previous.target.of(live) else Target(live, models)
    names = _changed(target.blocks, wishes, identities, previous)
    changed = tuple(map(target.name, names))
    with torch.inference_mode():  # parameters made inside of it could not be written to outside
        jobs = _jobs(names, wishes, models, target)
        if prepare and names:
            prepare(changed)
            jobs = _jobs(names, wishes, models, target)  # it may have put other tensors in their place
        if previous:
            previous.unsure.update(names)
        for job in jobs:
            write(*job, models.scratch)
    blocks = frozenset(layout.homes[name] for name in names)
    return Plan(recipe, changed, blocks, models.notes(labels), set(), wishes, identities, models, target)


def restore(
    live: Live,
    sources: Mapping[str, Any],
    previous: Plan | None,
    *,
    prepare: Callable[[tuple[str, ...]], object] | None = None,
) -> Plan:
    """Write "A" back, bit by bit, where a merge wrote or may have written; into every tensor if `previous` is None."""
    if previous is None:
        previous = merge_into(live, Recipe(), sources)
        previous.unsure.update(name for names in previous.target.blocks.values() for name in names)
    return merge_into(live, Recipe(), sources, previous=previous, prepare=prepare)


class Target:
    """A live model's tensors by LDM names. They are looked up anew each time: hosts replace parameters."""

    def __init__(self, live: Live, models: Models) -> None:
        self._live = weakref.ref(live) if isinstance(live, nn.Module) else lambda: live
        tensors = live.state_dict() if isinstance(live, nn.Module) else live
        layout = Layout.of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        base = models[LOADED]
        if layout.family != base.layout.family:
            raise PrismError(
                f'The loaded model is {layout.title}, but "{LOADED}" ({base.source.label}) is {base.layout.title}; '
                "give the file that was loaded"
            )
        self._paths = {name: tuple(layout.names[name].split(".")) for name in layout.homes if name in base}
        self.blocks: dict[str, list[str]] = {}
        for name in self._paths:
            self.blocks.setdefault(base.layout.homes[name], []).append(name)

    def of(self, live: Live) -> bool:
        """Whether this is about the same model."""
        return self._live() is live

    def name(self, name: str) -> str:
        """What the live model calls a tensor."""
        return ".".join(self._paths[name])

    def tensor(self, name: str) -> Tensor:
        """The live tensor, for writing; torch counts what is written, so that nobody trusts what they made of it."""
        path, live = self._paths[name], self._live()
        if not isinstance(live, nn.Module):
            return live[self.name(name)]  # type: ignore[index]
        module: Any = live
        for part in path[:-1]:
            module = module._modules[part]
        found = module._parameters.get(path[-1])
        return (getattr(module, path[-1]) if found is None else found).detach()


def _changed(
    blocks: Mapping[str, list[str]], wishes: Wishes, identities: Mapping[str, Any], previous: Plan | None
) -> list[str]:
    """Names of the tensors whose inputs are not those of the previous plan."""
    before = previous.wishes if previous else Wishes({}, {})
    unsure = previous.unsure if previous else set()
    known = previous.identities if previous else {}
    replaced = {label for label, found in identities.items() if known.get(label, found) != found}
    special = wishes.by_name.keys() | before.by_name.keys() | unsure

    def differs(name: str, block: str) -> bool:
        old, new = before.at(name, block), wishes.at(name, block)
        return old != new or not replaced.isdisjoint(new.labels)

    changed = []
    for block, names in blocks.items():
        whole = differs("", block)
        if not special:
            changed += names if whole else []
            continue
        changed += [name for name in names if (name in unsure or differs(name, block) if name in special else whole)]
    return changed


def _jobs(names: list[str], wishes: Wishes, models: Models, target: Target) -> list[Job]:
    """Everything that will be written; raises PrismError with the first tensors that do not fit."""
    jobs, wrong = [], []
    homes = models[LOADED].layout.homes
    for name in names:
        out, wish = target.tensor(name), wishes.at(name, homes[name])
        met = models.meet(name, wish, tuple(out.shape))
        problems = _unwritable(name, out) or met.problems
        if not problems:
            pieces = models.pieces(name, wish, met)
            jobs += [(piece.of(out), piece.base, piece.steps) for piece in pieces]
            problems = [] if _apart(*jobs[-1]) else [f"{name} is shared by a source and the live model"]
        wrong += problems
    if wrong:
        raise refusal(wrong)
    return jobs


def refusal(wrong: Sequence[str]) -> PrismError:
    """The error that names the first tensors that are in the way."""
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return PrismError(f"These models cannot be merged: {'; '.join(wrong[:SHOWN])}{more}. Nothing was written")


def _unwritable(name: str, out: Tensor) -> list[str]:
    if not out.is_floating_point():
        kind = str(out.dtype).removeprefix("torch.")
        return [f"{name} is stored as {kind} (quantised); load the model in fp16, bf16, fp32 or fp8"]
    if out.is_meta:
        return [f"{name} is offloaded and not in memory; load the model without offloading to disk"]
    return []


def _apart(out: Tensor, base: Tensor, steps: list[Step]) -> bool:
    """Whether no source would be written to."""
    here = out.data_ptr()
    return base.data_ptr() != here and all(other.data_ptr() != here for step in steps for other in step.others)
