""" "Prism Cascade" in a webui that has no kind of model that Cascade could be: a line that says so."""

from __future__ import annotations

from typing import Any

from ...panels.cascade import ABSENT
from ...panels.compat import unavailable
from ...settings import CASCADE
from .. import options


def register() -> None:
    options.register()


def watch(script: Any) -> None:
    """There is nothing to be found on the page."""


def ui(script: Any) -> list[Any]:
    return unavailable(CASCADE.title, script.elem_id("panel"), ABSENT)


def passed(*given: Any) -> None:
    """A job is the webui's alone."""


process = before_batch = before_sampling = after_sampling = after_job = passed
