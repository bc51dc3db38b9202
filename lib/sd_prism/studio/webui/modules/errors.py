"""How the host tells about an error that must not end the job."""

from __future__ import annotations

import sys
import textwrap
import traceback
from pathlib import Path

from sd_prism import files

# What a script may raise without ending the studio; sys.exit() is no Exception.
OF_SCRIPTS = (Exception, SystemExit)

exception_records: list[dict] = []


def record_exception() -> None:
    """Remember the exception being handled; the last five are kept."""
    error = sys.exc_info()[1]
    if error is None:
        return
    frames = [[f"{x.filename}, line {x.lineno}, {x.name}", x.line] for x in traceback.extract_tb(error.__traceback__)]
    exception_records.append({"exception": str(error), "traceback": frames})
    del exception_records[:-5]


def get_exceptions() -> list[dict]:
    """The remembered exceptions, newest first."""
    return exception_records[::-1]


def report(message: str, *, exc_info: bool = False) -> None:
    """Print `message` to stderr, with the traceback of the exception being handled if `exc_info`."""
    record_exception()
    for line in message.splitlines():
        print("***", line, file=sys.stderr)
    if exc_info:
        print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr)
        print("---", file=sys.stderr)


def report_damaged(filename: str | Path, error: Exception) -> None:
    """Print that a file of the user's could not be read, and keep it under another name."""
    try:
        kept = f"It was kept whole as {files.set_aside(filename)}"
    except OSError as problem:
        kept = f"It could not be renamed ({problem}); move it away, or it will be lost"
    report(f"{filename} could not be read ({error}); defaults are used. {kept}.")


def display(e: Exception, task: str | None, *, full_traceback: bool = False) -> None:
    """Print `e`, which happened during `task`, with its traceback."""
    record_exception()
    print(f"{task or 'error'}: {type(e).__name__}", file=sys.stderr)
    traceback.print_exception(type(e), e, e.__traceback__, file=sys.stderr)


_displayed: set[str] = set()


def display_once(e: Exception, task: str) -> None:
    """As `display`, but once per task."""
    if task not in _displayed:
        _displayed.add(task)
        display(e, task)


def print_error_explanation(message: str) -> None:
    """Print a framed message to stderr."""
    record_exception()
    lines = message.strip().split("\n")
    bar = "=" * max(len(line) for line in lines)
    print(bar, *lines, bar, sep="\n", file=sys.stderr)
