"""What the page's events have in common."""

from __future__ import annotations

from typing import Any

# No spinner, and no entry in gradio's own API.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Answered beside a running job, never after it.
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
