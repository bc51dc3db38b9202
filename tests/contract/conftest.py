"""Every host under one fixture: the studio always, and the webuis of `python prism.py test --webui PATH`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sd_prism
from contract import hosts, neighbours
from contract.source import Source
from sd_prism.studio.cli import WEBUIS

STUDIO = "studio"
CROWDED = " with neighbours"
BARE = " without Prism"


def _named(webuis: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each webui under its folder's name, numbered where that is taken."""
    named: dict[str, dict[str, Any]] = {}
    for one in webuis:
        name = Path(one["path"]).name
        named[name if name not in {STUDIO, *named} else f"{name}-{len(named) + 1}"] = one
    return named


GIVEN = _named(json.loads(os.environ.get(WEBUIS, "[]")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        metafunc.parametrize("host", [STUDIO, *GIVEN], indirect=True, scope="session")
    if "webui" in metafunc.fixturenames:
        nobody = pytest.param("none", marks=pytest.mark.skip(reason="no webui given; name one with --webui PATH"))
        metafunc.parametrize("webui", list(GIVEN) or [nobody], indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        named = [value for value in params.values() if value in (STUDIO, *GIVEN)]
        item.user_properties.append(("host", named[-1] if named else None))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What ran where: a line for each host."""
    versions = {STUDIO: f"Prism {sd_prism.__version__}"}
    versions |= {name: f"{Source(Path(one['path'])).version()} at {one['path']}" for name, one in GIVEN.items()}
    for name, version in versions.items():
        counts = {
            outcome: sum(("host", name) in getattr(one, "user_properties", ()) for one in found)
            for outcome, found in terminalreporter.stats.items()
            if outcome in ("passed", "failed", "error", "skipped")
        }
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "nothing"
        terminalreporter.write_line(f"contract in {name} ({version}): {told}")


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], hosts.Host]]:
    """Hosts by name, each started when it is first asked for, all ended with the session."""
    known: dict[str, hosts.Host] = {}
    with ExitStack() as stack:

        def start(name: str) -> hosts.Host:
            if name not in known:
                folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
                kind = name.removesuffix(CROWDED).removesuffix(BARE)
                host = hosts.studio(folder) if kind == STUDIO else hosts.webui(folder, name, **GIVEN[kind])
                if name.endswith(CROWDED):
                    neighbours.move_in(host.data / "extensions")
                if name.endswith(BARE):
                    hosts.without_prism(host)
                stack.callback(host.end)
                host.start()
                known[name] = host
            return known[name]

        yield start


@pytest.fixture(scope="session")
def studio(started: Callable[[str], hosts.Host]) -> hosts.Host:
    return started(STUDIO)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, started: Callable[[str], hosts.Host]) -> hosts.Host:
    return started(request.param)


@pytest.fixture(scope="session")
def crowd(host: hosts.Host, started: Callable[[str], hosts.Host]) -> hosts.Host:
    """The same host once more, with hostile extensions beside Prism."""
    return started(host.name + CROWDED)


@pytest.fixture(scope="session")
def bare(host: hosts.Host, started: Callable[[str], hosts.Host]) -> hosts.Host:
    """The same host once more, without Prism."""
    return started(host.name + BARE)


@pytest.fixture(scope="session")
def webui(request: pytest.FixtureRequest, started: Callable[[str], hosts.Host]) -> hosts.Host:
    return started(request.param)
