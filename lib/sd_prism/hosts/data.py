"""The folder in which Prism keeps what is the user's own."""

from __future__ import annotations

import os
from pathlib import Path

from modules import paths, shared

OPTION = "prism_data_dir"
"""Of the command line (`--prism-data-dir`) and of the webui's settings."""
VARIABLE = "PRISM_DATA_DIR"


def folder() -> Path:
    """`prism` in the webui's data folder, or in the one that is named in its place.

    The command line wins over the environment, and that over the settings. Always absolute, for a webui may call its
    own folder "".
    """
    named = (getattr(shared.cmd_opts, OPTION, None), os.environ.get(VARIABLE), getattr(shared.opts, OPTION, None))
    chosen = next((str(one).strip() for one in named if one and str(one).strip()), paths.data_path)
    return Path(chosen).expanduser().absolute() / "prism"
