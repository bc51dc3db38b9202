"""`python prism.py bench`: each module has `run() -> dict` and `table(rows) -> str`, and prints nothing itself."""

from __future__ import annotations

import platform
from typing import Any


def report(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What every benchmark gives: its rows, and the machine they are from."""
    import torch

    return {"bench": name, "torch": torch.__version__, "machine": platform.machine(), "threads": 1, "rows": rows}
