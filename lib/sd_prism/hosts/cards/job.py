"""A job that follows a card: the card's values are put where the webui and the panels look for the job's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modules import shared

from ...cards.card import HOST, SET, Card, Control
from ...cards.change import applied
from ...errors import PrismError
from ...settings import CARDS, Panel, Value
from .. import pipelines
from . import catalogue

DONE = "followed"
"""Our first argument in a job that has its card's values: a loop draws it again, scripts draw copies of it."""

SIZE = ("width", "height")
TEXTS = {"prompt": "prompt", "negative": "negative_prompt"}  # of a job


def follow(p: Any, card: Card) -> Iterator[str]:
    """Puts a card's values into a job; gives what is to be told of it."""
    lacking = catalogue.lacking(card)
    for key, why in lacking.items():
        yield f"{why}. The job keeps {current(p).get(key, 'its own')}"
    own = {key: value for key, value in current(p).items() if key not in lacking}
    for key, value in applied(card, own).items():
        _set(p, key.removeprefix("host."), value)
    for side, name in TEXTS.items():
        setattr(p, name, _joined(card, side, getattr(p, name)))
    p.script_args = _arguments(p, card)


def current(p: Any) -> dict[str, Value]:
    """The job's values of the webui's own settings. A picture to start from has its own size."""
    sized = getattr(p, "init_images", None) is None
    found = {}
    for one in HOST:
        name = attribute(p, one)
        if name and hasattr(p, name) and (sized or one.name not in SIZE):
            found[f"host.{one.name}"] = getattr(p, name)
        elif not name:
            found[f"host.{one.name}"] = p.override_settings.get(one.option, getattr(shared.opts, one.option))
    return found


def attribute(p: Any, one: Control) -> str:
    """Where the job has it; "" for an option. Jobs of pipelines have their own of what is an option elsewhere."""
    return one.attribute or (one.name if pipelines.used() and hasattr(p, one.name) else "")


def _set(p: Any, name: str, value: Value) -> None:
    one = next(one for one in HOST if one.name == name)
    own = attribute(p, one)
    if not own:
        # A1111 gives an option back after the job only if its settings file names it.
        shared.opts.data.setdefault(one.option, getattr(shared.opts, one.option))
        p.override_settings = {**p.override_settings, one.option: value}  # cells of a grid share the old one
    else:
        setattr(p, own, value)


def _joined(card: Card, side: str, given: Any) -> Any:
    """A job's text, or each of its texts."""
    if isinstance(given, list):
        return [_joined(card, side, text) for text in given]
    return applied(card, {side: given or ""}).get(side, given)


# --- panels


def _arguments(p: Any, card: Card) -> tuple[Any, ...]:
    """The arguments of all scripts, with the card's for every panel that has none of its own."""
    args = list(p.script_args)
    for script in p.scripts.alwayson_scripts:
        title, place = script.title(), slice(script.args_from, script.args_to)
        panel = next((one for one in SET if one.title == title), None)
        if title == CARDS.title:
            args[script.args_from] = DONE
        elif panel is not None and (part := _part(card, panel)) and not _is_on(panel, args[place]):
            args[place] = _filled(panel, part, args[place])
    return tuple(args)


def _part(card: Card, panel: Panel) -> dict[str, Value]:
    group = f"{panel.name}."
    return {key.removeprefix(group): value for key, value in card.values.items() if key.startswith(group)}


def _is_on(panel: Panel, args: Sequence[Any]) -> bool:
    """Whether a panel was set by the job itself; one that cannot be read tells so by itself."""
    try:
        values = panel.read(args)
    except PrismError:
        return True
    return bool(values.get("enabled", values != panel.defaults()))


def _filled(panel: Panel, part: Mapping[str, Value], args: Sequence[Any]) -> list[Value]:
    values = {**panel.read(args), **part}
    return [values[name] for name in panel.names][: len(args)]
