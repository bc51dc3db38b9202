"""The settings of "Prism Cascade". New fields go to the end: their order is the order of the script's arguments.

The panel has no switch: a checkpoint of Stable Cascade cannot do without a decoder, and no other one has a use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .base import CUSTOM, Field, Panel, Value

AUTO = "Automatic"
SAMPLERS = ("Euler a", "Euler", "DDPM", "DPM++ 2M", "DPM++ 2M SDE", "LCM")
SCHEDULES = ("Karras", "SGM Uniform", "Linear", "Simple", "Normal", "Uniform", "Exponential", "DDIM")
AS_PICTURE, FIXED, RANDOM = "As the picture", "Fixed", "Random"
UNSHIFTED = "the schedules Karras and Exponential do not ask for it"
LARGEST_SEED = 2**32 - 1
FINEST, COMPRESSION, COARSEST = 32, 42, 64
CARD, OFFICIAL, LITE = "SoteDiffusion (card)", "Official", "Lite"


def _preset(sampler: str, schedule: str, steps: int, cfg: float, rescale: float = 0.0) -> dict[str, Value]:
    return {
        "steps": steps,
        "cfg": cfg,
        "sampler": sampler,
        "schedule": schedule,
        "compression": COMPRESSION,
        "shift_c": 2.0,
        "shift_b": 1.0,
        "rescale": rescale,
        "rescale_c": rescale,
    }


PRESETS = {
    CARD: _preset("Euler a", "Karras", 10, 1.0),
    OFFICIAL: _preset("DDPM", "Linear", 10, 1.1, rescale=0.7),
    LITE: _preset("Euler a", "Karras", 5, 1.0),
}

FIRST_STAGE: Mapping[str, Mapping[str, Value]] = MappingProxyType(
    {
        CARD: {"sampling": "Euler a", "scheduler": "SGM Uniform", "steps": 30, "cfg_scale": 7.0},
        OFFICIAL: {"sampling": "Euler a", "scheduler": "SGM Uniform", "steps": 20, "cfg_scale": 4.0},
        LITE: {"sampling": "Euler a", "scheduler": "SGM Uniform", "steps": 20, "cfg_scale": 4.0},
    }
)
"""What a preset wants of the webui's own controls, by their element ids. Euler a there is the official DDPM."""


def _decoder(text: str) -> str:
    return AUTO if text.casefold() == AUTO.casefold() else text


def _without_pictures(values: Mapping[str, Value]) -> bool:
    return not values["images"]


def _factor(name: str, label: str, default: float, doc: str) -> Field:
    return Field(name, label, default, doc, low=0.25, high=8.0, step=0.05, quiet=True)


CASCADE = Panel(
    title="Prism Cascade",
    name="cascade",
    doc="How pictures of a Stable Cascade checkpoint are decoded; other checkpoints are not touched.",
    fields=(
        Field(
            "preset",
            "Preset",
            CUSTOM,
            "A named set of values, for the webui's own sampler, steps and CFG as well.",
            choices=(CUSTOM, *PRESETS),
        ),
        Field(
            "decoder",
            "Decoder",
            AUTO,
            "The file with stage B; Automatic: the one that lies beside the checkpoint and is named like it.",
            normal=_decoder,
        ),
        Field("steps", "Decoder steps", 10, "Steps of stage B.", low=1, high=100, step=1),
        Field(
            "cfg",
            "Decoder CFG",
            1.0,
            "How strongly stage B follows the prompt; 1 needs half the time.",
            low=1.0,
            high=20.0,
            step=0.1,
        ),
        Field("sampler", "Decoder sampler", SAMPLERS[0], "The sampler of stage B.", choices=SAMPLERS),
        Field("schedule", "Decoder schedule", SCHEDULES[0], "How stage B's noise falls.", choices=SCHEDULES),
        Field(
            "seed_mode",
            "Decoder noise",
            AS_PICTURE,
            "Whose seed stage B draws its noise by.",
            choices=(AS_PICTURE, FIXED, RANDOM),
            quiet=True,
        ),
        Field(
            "seed",
            "Decoder seed",
            0,
            "The seed of fixed noise, the same for every picture.",
            low=0,
            high=LARGEST_SEED,
            step=1,
            quiet=True,
        ),
        Field(
            "compression",
            "Compression",
            COMPRESSION,
            "Pixels to a side of what stage C composes with: fewer give more detail and more errors of composition.",
            low=FINEST,
            high=COARSEST,
            step=1,
            quiet=True,
        ),
        _factor(
            "shift_c", "Shift of stage C", 2.0, "More noise for longer, in stage C, with the schedules that ask for it."
        ),
        _factor(
            "shift_b",
            "Shift of stage B",
            1.0,
            "More noise for longer, in stage B; Karras and Exponential do not ask for it.",
        ),
        Field(
            "rescale",
            "CFG rescale",
            0.0,
            "How much of the contrast that the decoder's CFG adds is taken back.",
            low=0.0,
            high=1.0,
            step=0.05,
            quiet=True,
        ),
        Field(
            "dtype",
            "Decoder precision",
            AUTO,
            "The format of stage B's numbers; Automatic: the file's where the machine has it.",
            choices=(AUTO, "fp16", "bf16", "fp32"),
            quiet=True,
        ),
        Field("preview_only", "Preview only", False, "Leave stage B out: a rough picture at once.", quiet=True),
        Field(
            "save_latents",
            "Save latents",
            False,
            "Save what stage C made beside every picture, to be decoded again at any time.",
            quiet=True,
            once=True,
        ),
        Field(
            "rescale_c",
            "CFG rescale of stage C",
            0.0,
            "How much of the contrast that the webui's CFG adds is taken back.",
            low=0.0,
            high=1.0,
            step=0.05,
            quiet=True,
        ),
        Field(
            "file_compression",
            "Compression of the file",
            True,
            "Take 42 for the compression that the checkpoint says it was trained at, if it says one.",
            quiet=True,
        ),
        Field(
            "images",
            "Image prompt",
            "",
            "Pictures for stage C to follow beside the prompt: their hashes in the panel, base64 by API, with blanks "
            "between; HASH:0.5 has half the strength.",
            quiet=True,
        ),
        Field(
            "image_strength",
            "Image prompt strength",
            1.0,
            "Factor of the pictures' vectors; 0 leaves them out.",
            low=0.0,
            high=2.0,
            step=0.05,
            quiet=True,
            idle=_without_pictures,
        ),
    ),
    presets=PRESETS,
)
