""" "Prism Namespaces" in a webui: prompts are rendered for the time of one batch, so that no infotext shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any

from modules import script_callbacks

from ...errors import PrismError
from ...namespaces.escape import plain
from ...namespaces.render import Options, Rendered, render_pair
from ...panels.namespaces import build
from ...schedule import Curve
from ...settings import NAMESPACES, Value
from ...settings.namespaces import binds, by_namespace
from .. import pipelines, presets
from ..webui import PanelHost
from . import binding, comments, fast_prompts, http, pasted, rendering, token_counter

RENDERED = {"Prism rendered prompt": "prompt", "Prism rendered negative prompt": "negative"}
HIRES_RENDERED = {"Prism rendered hires prompt": "prompt", "Prism rendered hires negative prompt": "negative"}
BATCH = "prompts", "negative_prompts"
PARSE = "parse_extra_network_prompts"
SECOND = "_prism_second_prompts"  # of a job whose second pass has one text for all pictures
TOLD = 5  # remarks of one batch


class NamespacesHost(PanelHost):
    """The automatic dialect is the loaded model's, by name, so that a picture says which it was."""

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        values = super()._values(p, args, family)
        return rendering.resolved(values) if values["enabled"] else values


host = NamespacesHost(NAMESPACES)


def register() -> None:
    host.register()
    http.register(rendering.registry_now, rendering.options_now)
    fast_prompts.register()
    token_counter.register()
    pipelines.register(after_sampling=after_batch)
    script_callbacks.on_infotext_pasted(pasted.on_paste)


def ui(script: Any) -> list[Any]:
    tab = "img2img" if script.is_img2img else "txt2img"
    told = partial(rendering.loaded, tab), partial(rendering.moved, tab)
    return host.drawn(script, lambda: build(script.elem_id, presets.store, *told))


def before_process(p: Any, args: Sequence[object]) -> None:
    """Some hosts cut comments out while they join prompts and styles. The loaded model may still be another job's."""
    presets.refresh()
    comments.spare_nothing()
    with contextlib.suppress(PrismError):  # `process` tells
        values = host.panel.read(args)
        if values["enabled"]:
            hide_marks(p, values, comments.GIVEN)
            comments.spare(rendering.registry_of(values))


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job. Others cut comments out after this hook, styles joined."""
    binding.release()
    for key in (*RENDERED, *HIRES_RENDERED):
        p.extra_generation_params.pop(key, None)
    values = host.begin(p, args)
    if values is None:
        return
    try:
        hide_marks(p, values, comments.STYLED)
    except PrismError as error:
        host.fail(p, error)


def hide_marks(p: Any, values: dict[str, Value], names: Iterable[str]) -> None:
    registry = rendering.registry_of(values)
    comments.each_prompt(p, names, lambda text: comments.hide(text, registry))


def before_batch(p: Any, number: int) -> None:
    """Renders this batch's prompts in place: the lists are copies, from which no infotext is written."""
    if number == 0:
        comments.each_prompt(p, (*comments.GIVEN, *comments.STYLED, *comments.UNCUT, *BATCH), comments.show)
    values = host.current(p)
    if values is None:
        return
    try:
        options = rendering.options_of(values)
        registry = rendering.registry_of(values)
        bound = by_namespace(binds(str(values["bind"])), registry)
    except PrismError as error:
        host.fail(p, error)
        return
    batch = slice(number * p.batch_size, (number + 1) * p.batch_size)
    pairs = rendered(p.prompts, p.negative_prompts, options)
    hires = hires_rendered(p, batch, replace(options, hires=True))
    note(p, values, registry.digest, pairs, hires)
    show(p, batch, values["show_rendered"], pairs, hires)
    p.prompts[:] = [one.prompt for one in pairs]
    p.negative_prompts[:] = [one.negative for one in pairs]
    if hires:
        render_hires(p, batch, hires)
    spoken = [(one.tag.namespace.name, one.escaped) for pair in (*pairs, *hires) for one in pair.spoken]
    schedule = str(values["bind_schedule"])
    binding.bind(p, spoken, bound, Curve.parse(schedule) if schedule else None, partial(host.remark, p))


def after_sampling() -> None:
    binding.release()


def after_batch(p: Any) -> None:
    """The texts of the second pass belong to the job, not to the batch."""
    binding.release()
    given = vars(p).pop(SECOND, None)
    if given is not None:
        p.refiner_prompt, p.refiner_negative = given


def rendered(prompts: list[str], negatives: list[str], options: Options) -> list[Rendered]:
    return [render_pair(*pair, options) for pair in zip(prompts, negatives)]


def hires_rendered(p: Any, batch: slice, options: Options) -> list[Rendered]:
    """The same of the hires pass; empty where there is none."""
    prompts, negatives = hires_given(p, batch)
    return rendered(prompts, negatives, options)


def hires_given(p: Any, batch: slice) -> tuple[list[str], list[str]]:
    """The texts of the hires pass. SD.Next has one for all pictures, and the first pass's where that is empty."""
    if not getattr(p, "enable_hr", False):
        return [], []
    if hasattr(p, PARSE):
        return p.all_hr_prompts[batch], p.all_hr_negative_prompts[batch]
    if not (p.refiner_prompt or p.refiner_negative):
        return [], []
    return [p.refiner_prompt or one for one in p.prompts], [p.refiner_negative or one for one in p.negative_prompts]


def render_hires(p: Any, batch: slice, pairs: Sequence[Rendered]) -> None:
    """The host takes the hires prompts of a batch when it cuts out its tags: there, and only there, it finds these."""
    if not hasattr(p, PARSE):
        setattr(p, SECOND, (p.refiner_prompt, p.refiner_negative))
        p.refiner_prompt, p.refiner_negative = pairs[0].prompt, pairs[0].negative
        return
    original = getattr(p, PARSE)

    def parse() -> Any:
        if vars(p).get(PARSE) is parse:
            delattr(p, PARSE)  # a copy of p must not have it
        kept = p.all_hr_prompts, p.all_hr_negative_prompts
        p.all_hr_prompts, p.all_hr_negative_prompts = map(list, kept)
        p.all_hr_prompts[batch] = [one.prompt for one in pairs]
        p.all_hr_negative_prompts[batch] = [one.negative for one in pairs]
        try:
            return original()
        finally:
            p.all_hr_prompts, p.all_hr_negative_prompts = kept

    setattr(p, PARSE, parse)


def note(p: Any, values: dict[str, Value], digest: str, pairs: list[Rendered], hires: list[Rendered]) -> None:
    """The settings in the infotext where there is a tag that they act on; remarks under the picture."""
    params, both = p.extra_generation_params, [*pairs, *hires]
    if not any(one.spoken for one in both):
        params.pop(NAMESPACES.title, None)
    else:
        host.tell(p, values, more=f"; registry={digest}")
    lints = dict.fromkeys(lint.message for one in both for _, lint in one.lints)
    for message in list(lints)[:TOLD]:
        host.remark(p, message)


def show(p: Any, batch: slice, wanted: Value, pairs: list[Rendered], hires: list[Rendered]) -> None:
    """What the model was told, in the infotext where it is wanted and is not told there already.

    One entry for each picture of this batch, as the host counts.
    """
    given = {"prompt": p.prompts, "negative": p.negative_prompts}
    first = {side: spoken(pairs, side, given[side]) for side in given}
    told = {key: changed(first[side]) for key, side in RENDERED.items()}
    if hires:
        given = dict(zip(("prompt", "negative"), hires_given(p, batch)))
        second = {side: spoken(hires, side, given[side]) for side in given}
        told |= {key: changed(second[side], first[side]) for key, side in HIRES_RENDERED.items()}
    for key in (*RENDERED, *HIRES_RENDERED):
        if wanted and any(told.get(key, ())):
            p.extra_generation_params[key] = infotext_of(told[key])
        else:
            p.extra_generation_params.pop(key, None)


def infotext_of(texts: Sequence[str | None]) -> Any:
    """One for each picture; where a webui writes texts only, all different ones."""
    return "; ".join(dict.fromkeys(filter(None, texts))) if pipelines.used() else texts


def spoken(pairs: Sequence[Rendered], side: str, given: Sequence[str]) -> list[tuple[str, str]]:
    """Each picture's text as it was given and as the model is told it."""
    return [(was, plain(getattr(one, side))) for one, was in zip(pairs, given)]


def changed(texts: Sequence[tuple[str, str]], before: Sequence[tuple[str, str]] = ()) -> list[str | None]:
    """What the model is told where that is not the given text; None also where it is as in the pass before."""
    return [
        None if was == text or earlier == (was, text) else text for (was, text), earlier in zip_longest(texts, before)
    ]
