"""Prompt tags `<name:argument:...>` and those who answer to them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from modules import errors

TAG = re.compile(r"<(\w+):([^>]+)>")
extra_network_registry: dict[str, ExtraNetwork] = {}
extra_network_aliases: dict[str, ExtraNetwork] = {}


class ExtraNetworkParams:
    """The arguments of one tag: items with exactly one "=" are named, all others positional."""

    def __init__(self, items: list | None = None) -> None:
        self.items = items or []
        self.positional: list = []
        self.named: dict[str, str] = {}
        for item in self.items:
            name, equals, value = item.partition("=") if isinstance(item, str) else (item, "", "")
            if equals and "=" not in value:
                self.named[name] = value
            else:
                self.positional.append(item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExtraNetworkParams) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]


class ExtraNetwork:
    """Derive from this, and register an instance in `on_before_ui`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def activate(self, p: Any, params_list: list[ExtraNetworkParams]) -> None:
        """Called for every batch; an empty list means: not mentioned, switch off."""
        raise NotImplementedError

    def deactivate(self, p: Any) -> None:
        """Called at the end of a job whose prompt had tags."""
        raise NotImplementedError


def initialize() -> None:
    """Forget everything registered."""
    extra_network_registry.clear()
    extra_network_aliases.clear()


def register_extra_network(extra_network: ExtraNetwork) -> None:
    """Answer to `<name:...>`."""
    extra_network_registry[extra_network.name] = extra_network


def register_extra_network_alias(extra_network: ExtraNetwork, alias: str) -> None:
    """Answer to another word as well."""
    extra_network_aliases[alias] = extra_network


def lookup_extra_networks(
    extra_network_data: dict[str, list[ExtraNetworkParams]],
) -> dict[ExtraNetwork, list[ExtraNetworkParams]]:
    """The registered networks that are mentioned; unknown words are passed over."""
    found: dict[ExtraNetwork, list[ExtraNetworkParams]] = {}
    for name, params in extra_network_data.items():
        network = extra_network_registry.get(name) or extra_network_aliases.get(name)
        if network is not None:
            found.setdefault(network, []).extend(params)
    return found


def _all_once(first: Iterable[ExtraNetwork]) -> list[ExtraNetwork]:
    """The mentioned networks, then the rest."""
    first = list(first)
    return first + [network for network in extra_network_registry.values() if network not in first]


def activate(p: Any, extra_network_data: dict[str, list[ExtraNetworkParams]]) -> None:
    """Call every registered network, the mentioned ones first, then the scripts' hook."""
    mentioned = lookup_extra_networks(extra_network_data)
    for network in _all_once(mentioned):
        try:
            network.activate(p, mentioned.get(network, []))
        except Exception as e:
            errors.display(e, f"activating extra network {network.name}")
    if p.scripts is not None:
        p.scripts.after_extra_networks_activate(
            p,
            batch_number=p.iteration,
            prompts=p.prompts,
            seeds=p.seeds,
            subseeds=p.subseeds,
            extra_network_data=extra_network_data,
        )


def deactivate(p: Any, extra_network_data: dict[str, list[ExtraNetworkParams]]) -> None:
    """The job is over."""
    for network in _all_once(lookup_extra_networks(extra_network_data)):
        try:
            network.deactivate(p)
        except Exception as e:
            errors.display(e, f"deactivating extra network {network.name}")


def parse_prompt(prompt: str) -> tuple[str, dict[str, list[ExtraNetworkParams]]]:
    """The prompt without its tags, and the tags."""
    tags: defaultdict[str, list[ExtraNetworkParams]] = defaultdict(list)

    def cut(match: re.Match) -> str:
        tags[match.group(1)].append(ExtraNetworkParams(match.group(2).split(":")))
        return ""

    return TAG.sub(cut, prompt), tags


def parse_prompts(prompts: list[str]) -> tuple[list[str], dict[str, list[ExtraNetworkParams]]]:
    """Prompts without tags; the tags are those of the first prompt, as in the host."""
    parsed = [parse_prompt(prompt) for prompt in prompts]
    return [prompt for prompt, _ in parsed], parsed[0][1] if parsed else {}
