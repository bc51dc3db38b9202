"""Order, arguments and timing of every hook, line by line as a running A1111 v1.10.1 gave them."""

from __future__ import annotations

from itertools import groupby

import pytest
from contract.jobs import hook_log
from contract.record import HOOKS, SOURCE, load

RECORD = load(HOOKS)["log"]
# What Prism is built on, so that it has to come in the same order in a host that otherwise has one of its own.
BUILT_ON = {
    *("script_unloaded", "before_ui", "app_started", "before_process", "process", "before_process_batch"),
    *("process_batch", "process_before_every_sampling", "cfg_denoiser", "post_sample", "postprocess"),
}
BY_VISITORS = {"infotext_pasted", "before_token_counter", "extra_noise"}  # of a page, or by a setting


@pytest.fixture(scope="module")
def log(host):
    return hook_log(host)


@pytest.mark.parametrize("part", RECORD)
def test_hooks_come_in_the_recorded_order_with_the_recorded_arguments(host, log, part):
    if host.in_order:
        assert log[part] == RECORD[part]
    else:
        assert built_on(host, log[part]) == built_on(host, RECORD[part])


def built_on(host, lines):
    """The hooks that Prism is built on, each once where it comes several times in a row."""
    names = [name for line in lines if (name := line.split()[0]) in BUILT_ON - host.lacks]
    return [name for name, _ in groupby(names)]


def test_the_record_has_every_hook_and_callback():
    named = {line.split()[0] for lines in RECORD.values() for line in lines}
    signatures = load(SOURCE)["facts"]["signatures"]
    hooks = {name.partition(":Script.")[2] for name, shown in signatures.items() if shown.startswith("(p,")}
    callbacks = {name.partition(":on_")[2] for name in signatures if name.startswith("modules/script_callbacks.py")}
    missing = {*hooks, *callbacks} - {"", "run"} - named
    assert missing == {"before_component", "after_component", *BY_VISITORS}
