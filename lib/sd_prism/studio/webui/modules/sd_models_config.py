"""Which class a checkpoint is loaded into. The engine knows its own families; extensions bring classes for others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def guess_model_config_from_state_dict(sd: Mapping[str, Any], filename: str) -> str | None:
    """The path of a config (yaml) that names the class; None leaves the file to the engine.

    Extensions replace this function. `sd` reads a tensor from the file only when it is asked for.
    """
    return None


def find_checkpoint_config(state_dict: Mapping[str, Any], info: Any) -> str | None:
    """The config beside the checkpoint, else what is guessed."""
    if info is None:
        return guess_model_config_from_state_dict(state_dict, "")
    return find_checkpoint_config_near_filename(info) or guess_model_config_from_state_dict(state_dict, info.filename)


def find_checkpoint_config_near_filename(info: Any) -> str | None:
    """The yaml with the checkpoint's name."""
    config = f"{os.path.splitext(info.filename)[0]}.yaml"
    return config if os.path.exists(config) else None
