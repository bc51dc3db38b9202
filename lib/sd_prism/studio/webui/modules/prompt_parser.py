"""Prompts to conds: schedules `[a:b:t]` and `AND`, one cond per stretch of steps. The grammar is the engine's."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import torch
from sd_prism.namespaces.escape import literal as literal  # this parser reads no syntax in what it returns
from sd_prism.studio import prompt as engine

ScheduledPromptConditioning = namedtuple("ScheduledPromptConditioning", ["end_at_step", "cond"])


class SdConditioning(list):
    """Prompts, with what a model's text part may want to know about the picture."""

    def __init__(
        self,
        prompts: Sequence[str],
        is_negative_prompt: bool = False,
        width: int | None = None,
        height: int | None = None,
        copy_from: Any = None,
    ) -> None:
        super().__init__(prompts)
        source = prompts if copy_from is None else copy_from
        self.is_negative_prompt = is_negative_prompt or getattr(source, "is_negative_prompt", False)
        self.width = width or getattr(source, "width", None)
        self.height = height or getattr(source, "height", None)


class DictWithShape(dict):
    """A cond of several tensors; its shape is that of "crossattn"."""

    def __init__(self, x: dict, shape: Any = None) -> None:
        super().__init__(x)

    @property
    def shape(self) -> Any:
        """(N,T,C)."""
        return self["crossattn"].shape


class ComposableScheduledPromptConditioning:
    """One AND part."""

    def __init__(self, schedules: list[ScheduledPromptConditioning], weight: float = 1.0) -> None:
        self.schedules, self.weight = schedules, weight


class MulticondLearnedConditioning:
    """For each picture its AND parts."""

    def __init__(self, shape: tuple, batch: list[list[ComposableScheduledPromptConditioning]]) -> None:
        self.shape, self.batch = shape, batch


def get_learned_conditioning_prompt_schedules(
    prompts: Sequence[str], base_steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> list[list[list]]:
    """[[end step, text], ...] for each prompt."""
    return [[list(item) for item in engine.parse_schedule(prompt, base_steps, hires_steps)] for prompt in prompts]


def get_learned_conditioning(
    model: Any, prompts: Any, steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> list[list[ScheduledPromptConditioning]]:
    """The conds of each prompt; equal prompts are encoded once."""
    known: dict[str, list[ScheduledPromptConditioning]] = {}
    for prompt in prompts:
        if prompt not in known:
            (schedule,) = get_learned_conditioning_prompt_schedules([prompt], steps, hires_steps, use_old_scheduling)
            conds = model.get_learned_conditioning(SdConditioning([text for _, text in schedule], copy_from=prompts))
            known[prompt] = [
                ScheduledPromptConditioning(
                    end, {k: v[i] for k, v in conds.items()} if isinstance(conds, dict) else conds[i]
                )
                for i, (end, _) in enumerate(schedule)
            ]
    return [known[prompt] for prompt in prompts]


def get_multicond_prompt_list(prompts: Any) -> tuple[list[list[tuple[int, float]]], SdConditioning, dict[str, int]]:
    """For each prompt (index, weight) of its AND parts; the different parts; and their indexes."""
    indexes: dict[str, int] = {}
    parts = [
        [(indexes.setdefault(text, len(indexes)), weight) for text, weight in engine.parse_and(prompt)]
        for prompt in prompts
    ]
    return parts, SdConditioning(list(indexes), copy_from=prompts), indexes


def get_multicond_learned_conditioning(
    model: Any, prompts: Any, steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> MulticondLearnedConditioning:
    """As `get_learned_conditioning`, split at AND."""
    parts, texts, _ = get_multicond_prompt_list(prompts)
    conds = get_learned_conditioning(model, texts, steps, hires_steps, use_old_scheduling)
    batch = [[ComposableScheduledPromptConditioning(conds[i], weight) for i, weight in part] for part in parts]
    return MulticondLearnedConditioning(shape=(len(prompts),), batch=batch)


def parse_prompt_attention(text: str) -> list[list]:
    """[[text, weight], ...] after round, square and weighted brackets; BREAK has the weight -1."""
    return [list(item) for item in engine.parse_emphasis(text)]


def _at(schedule: list[ScheduledPromptConditioning], step: int) -> Any:
    return next((entry.cond for entry in schedule if step <= entry.end_at_step), schedule[0].cond)


def stack_conds(tensors: list[torch.Tensor]) -> torch.Tensor:
    """(T,C) tensors stacked; shorter ones repeat their last vector."""
    longest = max(tensor.shape[0] for tensor in tensors)
    return torch.stack(
        [torch.cat([tensor, tensor[-1:].expand(longest - tensor.shape[0], *tensor.shape[1:])]) for tensor in tensors]
    )


def _stack(conds: list) -> Any:
    if isinstance(conds[0], dict):
        return DictWithShape({key: stack_conds([cond[key] for cond in conds]) for key in conds[0]})
    return stack_conds(conds)


def reconstruct_cond_batch(c: list[list[ScheduledPromptConditioning]], current_step: int) -> Any:
    """The conds of one step: a tensor (N,T,C), or a dict of tensors."""
    return _stack([_at(schedule, current_step) for schedule in c])


def reconstruct_multicond_batch(
    c: MulticondLearnedConditioning, current_step: int
) -> tuple[list[list[tuple[int, float]]], Any]:
    """For each picture (row, weight) of its parts; and the rows of one step."""
    rows: list = []
    conds_list = []
    for parts in c.batch:
        conds_list.append([(len(rows) + i, part.weight) for i, part in enumerate(parts)])
        rows += [_at(part.schedules, current_step) for part in parts]
    return conds_list, _stack(rows)
