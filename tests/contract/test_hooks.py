"""Order, arguments and timing of every hook, line by line as a running A1111 v1.10.1 gave them."""

from __future__ import annotations

import pytest
from contract.jobs import hook_log
from contract.record import HOOKS, SOURCE, load

RECORD = load(HOOKS)["log"]
BY_VISITORS = {"infotext_pasted", "before_token_counter", "extra_noise"}  # of a page, or by a setting


@pytest.fixture(scope="module")
def log(host):
    return hook_log(host)


@pytest.mark.parametrize("part", RECORD)
def test_hooks_come_in_the_recorded_order_with_the_recorded_arguments(log, part):
    assert log[part] == RECORD[part]


def test_the_record_has_every_hook_and_callback():
    named = {line.split()[0] for lines in RECORD.values() for line in lines}
    signatures = load(SOURCE)["facts"]["signatures"]
    hooks = {name.partition(":Script.")[2] for name, shown in signatures.items() if shown.startswith("(p,")}
    callbacks = {name.partition(":on_")[2] for name in signatures if name.startswith("modules/script_callbacks.py")}
    missing = {*hooks, *callbacks} - {"", "run"} - named
    assert missing == {"before_component", "after_component", *BY_VISITORS}
