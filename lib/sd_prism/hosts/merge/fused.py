"""Networks that a webui adds to the weights themselves, and takes off again before the next ones (SD.Next).

What it takes off it calculates anew, so that a merge under it would come out wrong: before a merge it is taken off, and
beside one it is refused.
"""

from __future__ import annotations

import importlib
from typing import Any

from modules import shared

from ...errors import PrismError
from .. import model

OPTION = "lora_fuse_diffusers"
TAGS = ("lora", "lyco")


def take_out(p: Any) -> None:
    """Takes fused networks off the model in use; raises PrismError for a job that asks for some."""
    pipe = model.pipeline(shared.sd_model)
    if pipe is None:
        return
    if getattr(shared.opts, OPTION, False):
        if any(tag in (getattr(p, "network_data", None) or {}) for tag in TAGS):
            raise PrismError(
                "This webui fuses LoRA into the weights that are merged; switch off "
                '"LoRA fuse directly to model" in its settings, or leave LoRA or the merge away'
            )
        networks = importlib.import_module("networks" if shared.opts.lora_legacy else "modules.lora.networks")
        if networks.previously_loaded_networks:
            networks.network_deactivate()
            networks.previously_loaded_networks.clear()
    forget()


def forget() -> None:
    """Has the webui put its networks on anew, whatever it thinks that the model has."""
    getattr(model.pipeline(shared.sd_model), "loaded_loras", {}).clear()
