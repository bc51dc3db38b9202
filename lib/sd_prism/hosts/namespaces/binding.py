"""Bound tags in a webui: what `namespaces.binding` does, around the conds of one batch. For pipelines see `embeds`.

The place is `p.get_conds_with_caching`, replaced on `p` alone: every cond of a batch comes through it, those of the
hires pass, of a hires checkpoint and of a refiner too, and it has the model that is live at that moment. The model's
text encoders are changed only while the host computes conds in it. What binds goes into the host's cache key beside the
prompt's extra networks, so the host itself keeps and forgets bound conds; conds without a bound tag keep their old key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ...namespaces.binding import Binding, occurrences, replaced
from ...schedule import ALWAYS, Curve
from .. import pipelines
from ..progress import steps_taken
from ..undo import undo
from . import embeds
from .encoders import aside, embedders_of

NAME = "bind"
KEY = "prism_bind"  # among the extra networks of the cache key


def bind(
    p: Any,
    tags: Iterable[tuple[str, str]],
    strengths: Mapping[str, float],
    curve: Curve | None = None,
    remark: Callable[[str], None] = lambda text: None,
) -> None:
    """Binds the tags of the batch whose conds come next, until `release`.

    Args:
        tags: (namespace, the text that stands for it in the rendered prompts, escaped as there). The text is bound
            wherever it stands as whole words.
        strengths: of each namespace, 0 to 1; a namespace that is not named has 0. Nothing at all is done for 0.
        curve: a factor over the pass's steps; values above 1 count as 1.
        remark: told what could not be bound.
    """
    release()
    curve = curve or ALWAYS
    factor = 1.0 if curve.constant is None else min(1.0, curve.constant)
    chosen: dict[str, float] = {}
    for namespace, text in tags:
        chosen[text] = max(chosen.get(text, 0.0), factor * strengths.get(namespace, 0.0))
    chosen = {text: strength for text, strength in chosen.items() if strength > 0}
    if not chosen:
        return

    def unsure(tag: str) -> None:
        remark(f'"{tag}" is not bound, because it cannot be told for sure which tokens are its own')

    if pipelines.used():
        undo.enter(NAME, embeds.bound(p, chosen, curve, unsure))
    else:
        undo.enter(NAME, replaced(p, "get_conds_with_caching", _Conds(p, chosen, curve, unsure)))


def release() -> None:
    """After sampling, and before a job that follows one which ended in an exception."""
    undo.close(NAME)


class _Conds:
    """In the place of `p.get_conds_with_caching`."""

    def __init__(self, p: Any, strengths: Mapping[str, float], curve: Curve, unsure: Callable[[str], None]) -> None:
        self.p, self.strengths, self.curve, self.unsure = p, strengths, curve, unsure
        self.original = p.get_conds_with_caching

    def __call__(
        self, function: Any, required_prompts: Any, steps: int, caches: Any, extra_network_data: Any, *rest: Any
    ) -> Any:
        used = {tag: s for tag, s in self.strengths.items() if any(occurrences(x, [tag]) for x in required_prompts)}
        if not used:
            return self.original(function, required_prompts, steps, caches, extra_network_data, *rest)
        levels = self._levels(steps, *rest)
        key = {**(extra_network_data or {}), KEY: [sorted(used.items()), levels]}
        made = self.original(partial(_conds, function, used, levels), required_prompts, steps, caches, key, *rest)
        for tag in made.unsure:
            self.unsure(tag)
        return made

    def _levels(self, steps: int, hires_steps: int | None = None) -> list[float]:
        """The curve's value at each model call of the pass; none if it is the same at all."""
        if self.curve.constant is not None:
            return []
        hires = hires_steps is not None
        asked = (self.p.hr_second_pass_steps or self.p.steps) if hires else self.p.steps
        calls = max(1, (hires_steps or steps) * steps_taken(self.p, hires) // asked)
        return [min(1.0, self.curve(call / calls)) for call in range(calls)]


class _Schedules(list):
    """A host's list of schedules, with the tags that could not be bound."""

    unsure: Sequence[str] = ()


def _conds(function: Any, strengths: Mapping[str, float], levels: Sequence[float], model: Any, *args: Any) -> Any:
    """The host's `function(model, prompts, steps, ...)` with bound tags: schedules, or an object of AND parts."""
    binding = Binding(strengths, aside)
    with embedders_of(model) as embedders, binding.of(embedders):
        made = function(model, *args)
    if levels:
        with aside():
            made = _faded(function(model, *args), made, levels)
    made = _Schedules(made) if isinstance(made, list) else made
    made.unsure = sorted(binding.unsure if embedders else strengths)
    return made


# --- strength over the steps: schedules of the host's prompt editing with an entry for each level ----------------


def _faded(plain: Any, bound: Any, levels: Sequence[float]) -> Any:
    """Conds between plain (level 0) and bound (1) ones, at each call of the model."""
    if isinstance(plain, list):
        return [_faded_schedule(*pair, levels) for pair in zip(plain, bound)]
    batch = [
        [type(one)(_faded_schedule(one.schedules, other.schedules, levels), one.weight) for one, other in zip(*parts)]
        for parts in zip(plain.batch, bound.batch)
    ]
    return type(plain)(plain.shape, batch)


def _faded_schedule(plain: Sequence[Any], bound: Sequence[Any], levels: Sequence[float]) -> list[Any]:
    """One prompt's entries (end_at_step, cond). A host takes the first whose end is not before the call, from 0 on."""
    entries: list[Any] = []
    last = None
    for call, level in enumerate(levels):
        index = next((i for i, entry in enumerate(plain) if call <= entry.end_at_step), 0)
        if (index, level) != last:
            cond = _between(plain[index].cond, bound[index].cond, level)
            entries.append(plain[index]._replace(cond=cond))
            last = (index, level)
        entries[-1] = entries[-1]._replace(end_at_step=call)
    entries[-1] = entries[-1]._replace(end_at_step=max(len(levels), plain[-1].end_at_step))
    return entries


def _between(plain: Any, bound: Any, level: float) -> Any:
    import torch

    if level in (0.0, 1.0):
        return bound if level else plain
    if isinstance(plain, dict):
        return {name: torch.lerp(plain[name], bound[name], level) for name in plain}
    return torch.lerp(plain, bound, level)
