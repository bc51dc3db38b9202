"""A model's card: what its author says about running it, value by value, each with its source.

A card is a preset of the feature "card". Its values are grouped: "host" (the webui's own settings, see `HOST`),
"prompt" and "negative" (texts that go before and after the user's own), and one group for each panel that it sets, in
the panel's dict form. Flat, the steps are "host.steps" and a panel's switch is "freeu.enabled".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import PrismError, UnknownName
from ..settings import CASCADE, CUSTOM, FREEU, MERGE, NAMESPACES, Field, Panel, Value
from .preset import Preset

log = logging.getLogger("prism")

SET = (FREEU, NAMESPACES, MERGE, CASCADE)
"""The panels that a card may set."""
SIDES: Mapping[str, str] = MappingProxyType({"prompt": "Prompt", "negative": "Negative prompt"})
PLACES = ("before", "after")


@dataclass(frozen=True)
class Control(Field):
    """One of the webui's own settings.

    Attributes:
        attribute: its name on `p` and in the API; empty for an option.
        element: its element id without the tab's prefix; empty for an option.
        option: its name among the webui's options; empty for a control of the tab.
        key: its key in the infotext, parsed as the webui does.
    """

    attribute: str = ""
    element: str = ""
    option: str = ""
    key: str = ""

    @property
    def kind(self) -> type:
        return type(self.default)


def _control(name: str, label: str, default: Value, doc: str, element: str, key: str, **more: Any) -> Control:
    attribute = more.pop("attribute", name)
    return Control(name, label, default, doc, attribute=attribute, element=element, key=key, **more)


def _side(name: str, label: str, key: str) -> Control:
    return _control(name, label, 512, "Pixels.", name, key, low=8, high=8192, step=8)


HOST = (
    _control(
        "sampler", "Sampling method", "", "The sampler by its label.", "sampling", "Sampler", attribute="sampler_name"
    ),
    _control("scheduler", "Schedule type", "", "The noise schedule by its label.", "scheduler", "Schedule type"),
    _control("steps", "Sampling steps", 20, "Steps of the first pass.", "steps", "Steps", low=1, high=150, step=1),
    _control(
        "cfg",
        "CFG Scale",
        7.0,
        "How strictly the prompt is followed.",
        "cfg_scale",
        "CFG scale",
        low=1.0,
        high=30.0,
        step=0.5,
        attribute="cfg_scale",
    ),
    _side("width", "Width", "Size-1"),
    _side("height", "Height", "Size-2"),
    Control(
        "clip_skip",
        "Clip skip",
        1,
        "How many of the text encoder's last layers are left out, plus one.",
        low=1,
        high=12,
        step=1,
        option="CLIP_stop_at_last_layers",
        key="Clip skip",
    ),
)
"""The webui's own settings that a card may set: page, job, command line and texts derive from these."""


@dataclass(frozen=True)
class Card:
    """What a preset of the feature "card" says, checked.

    Attributes:
        values: flat, such as {"host.steps": 20, "prompt.before": "...", "freeu.enabled": True}. A panel's group that
            names a preset sets what that preset sets; one that names none sets the whole panel.
        match: how its model is recognised, see `match`.
        advice: a range by name, such as {"host.cfg": (3, 9)}.
        licence: (name, address).
        sources: where a value is from, by its name or its group's ("host.steps", "freeu").
        not_stated: names of what the author does not say.
    """

    preset: Preset
    values: Mapping[str, Value]
    match: Mapping[str, Any] = field(default_factory=dict)
    advice: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    licence: tuple[str, str] = ("", "")
    link: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    not_stated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.preset.name

    @property
    def families(self) -> tuple[str, ...]:
        return self.preset.families

    @property
    def notes(self) -> str:
        return self.preset.notes

    def source(self, key: str) -> str:
        """Where a value is from; "" where the card does not say."""
        return self.sources.get(key) or self.sources.get(key.partition(".")[0], "")

    @classmethod
    def of(cls, preset: Preset) -> Card:
        """The card of a preset; PrismError names the card and what cannot be used."""
        told = preset.extra
        try:
            licence = _texts_by_name(told.get("licence", {}), "licence")
            return cls(
                preset,
                MappingProxyType(flat(preset.values)),
                _match(told.get("match", {})),
                {str(key): _range(key, pair) for key, pair in _mapping(told.get("advice", {}), "advice").items()},
                (licence.get("name", ""), _address(licence.get("url", ""))),
                _address(told.get("link", "")),
                _texts_by_name(told.get("sources", {}), "sources"),
                _texts(told.get("not_stated", []), "not_stated"),
            )
        except PrismError as error:
            raise PrismError(f'Card "{preset.name}": {error}') from error


def cards_of(presets: Iterable[Preset]) -> list[Card]:
    """The cards of presets; one that cannot be used is left out, and told in the log."""
    found = []
    for preset in presets:
        try:
            found.append(Card.of(preset))
        except PrismError as error:
            log.warning("%s", error)
    return found


def flat(groups: Mapping[str, Any]) -> dict[str, Value]:
    """Grouped values as flat, checked ones; raises PrismError for an unknown name and a bad value."""
    found: dict[str, Value] = {}
    for group, given in groups.items():
        part = _mapping(given, group)
        found |= {f"{group}.{name}": value for name, value in _checked(group, part).items()}
    return found


def _checked(group: str, part: Mapping[str, Any]) -> dict[str, Value]:
    if group == "host":
        return {name: control(name).check(value, "the card") for name, value in part.items()}
    if group in SIDES:
        return {_known(name, PLACES, f"place of the {group}"): _text(text, group) for name, text in part.items()}
    panels = {panel.name: panel for panel in SET}
    return _said(panels[_known(group, ("host", *SIDES, *panels), "part of a card")], part)


def _said(panel: Panel, part: Mapping[str, Any]) -> dict[str, Value]:
    """What a part sets of its panel: only the switch if that is off; else see `Card.values`."""
    values = panel.read(part)
    if not values.get("enabled", True):
        return dict(panel.off)
    preset = str(panel["preset"].check(part["preset"], panel.title)) if "preset" in part else CUSTOM
    wanted = {*part, *panel.on, "preset", *panel.all_presets.get(preset, panel.kept)}
    return {name: values[name] for name in panel.names if name in wanted}


def by_value(groups: Mapping[str, Any]) -> dict[str, Any]:
    """A card's checked groups with the values of the user's own presets, whose names mean nothing elsewhere."""
    return {**groups, **{panel.name: _by_value(panel, groups[panel.name]) for panel in SET if panel.name in groups}}


def _by_value(panel: Panel, part: Mapping[str, Any]) -> Mapping[str, Any]:
    declared = panel["preset"]
    mine = panel.saved.get(str(declared.check(part.get("preset", declared.default), panel.title)))
    return part if mine is None else {**mine, **{name: part[name] for name in part if name != "preset"}}


def control(name: str) -> Control:
    """One of `HOST` by its name."""
    return {one.name: one for one in HOST}[_known(name, [one.name for one in HOST], "setting of the webui in a card")]


def label(key: str) -> str:
    """A flat name in the words of the page: "Sampling steps", "Prism FreeU: Stage 1 backbone"."""
    return ": ".join(labels(key))


def labels(key: str) -> tuple[str, ...]:
    """A flat name as the page's own labels: a field's, after its panel's."""
    group, _, name = key.partition(".")
    if group in SIDES:
        return (SIDES[group],)
    if group == "host":
        return (control(name).label,)
    panel = {one.name: one for one in SET}[group]
    return (panel.title,) if name == "enabled" else (panel.title, panel[name].label)


def of_infotext(params: Mapping[str, Any]) -> dict[str, Value]:
    """The webui's own settings in a parsed infotext, flat; what cannot be read is left out."""
    found: dict[str, Value] = {}
    for one in HOST:
        if one.key in params:
            try:
                found[f"host.{one.name}"] = one.check(params[one.key], "the infotext")
            except PrismError:
                continue
    return found


def _known(name: str, names: Iterable[str], kind: str) -> str:
    if name not in names:
        raise UnknownName(kind, name, names)
    return name


def _mapping(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise PrismError(f'"{where}" is {str(given)[:40]!r}; it must be names with values')
    return given


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise PrismError(f'"{where}" has {str(given)[:40]!r}; it must be a text')
    return given


def _texts(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)):
        raise PrismError(f'"{where}" is {str(given)[:40]!r}; it must be a list of texts')
    return tuple(_text(one, where) for one in given)


def _texts_by_name(given: Any, where: str) -> dict[str, str]:
    return {name: _text(one, where) for name, one in _mapping(given, where).items()}


def _match(given: Any) -> dict[str, Any]:
    """How a model is recognised; what a newer version may add is left out."""
    told = _mapping(given, "match")
    lists = {key: _texts(told.get(key, []), f"match.{key}") for key in ("names", "hashes", "sha256", "families")}
    return {**lists, "metadata": _texts_by_name(told.get("metadata", {}), "match.metadata")}


def _address(given: Any) -> str:
    """A page's address; nothing that a browser would run."""
    if not isinstance(given, str) or not (given == "" or given.startswith(("https://", "http://"))):
        raise PrismError(f"{str(given)[:40]!r} is no address of a page; it must begin with https://")
    return given


def _range(name: str, pair: Any) -> tuple[float, float]:
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, (int, float)) for one in pair)):
        raise PrismError(f'the advice on "{name}" is {str(pair)[:40]!r}; it must be two numbers, such as [3, 9]')
    return pair[0], pair[1]
