"""FreeU values worth starting from, each with its version, rule, model family and source. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import PrismError
from .value import FreeU


@dataclass(frozen=True)
class Preset:
    """Named FreeU values: the model families they were found for, and where they were published.

    `values` is None where a card publishes them in a form that cannot be read; `note` then says what to do.
    """

    name: str
    values: FreeU | None
    families: tuple[str, ...]
    source: str
    note: str = ""


README = "github.com/ChenyangSi/FreeU, README, section Parameters (values for version 2)"
DIFFUSERS = "huggingface.co/docs/diffusers, page Improve image quality; repeats pipe.enable_freeu()"
PIRATE = "graydient.ai, page FreeU of PirateDiffusion"
UNSTATED = "The source names no version; the values fit version 1."

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("SD 1.4 (authors)", FreeU(1.3, 1.4, 0.9, 0.2), ("sd1",), README),
            Preset("SD 1.5 (authors)", FreeU(1.5, 1.6, 0.9, 0.2), ("sd1",), README),
            Preset("SD 2.1 (authors)", FreeU(1.4, 1.6, 0.9, 0.2), ("sd2",), README),
            Preset("SDXL (authors)", FreeU(1.3, 1.4, 0.9, 0.2), ("sdxl",), README),
            Preset(
                "SD 1.4 v1",
                FreeU(1.2, 1.4, 0.9, 0.2, version=1),
                ("sd1",),
                "github.com/ljleb/sd-webui-freeu, SD1.4 Recommendations",
            ),
            Preset(
                "SD 2.1 v1",
                FreeU(1.1, 1.2, 0.9, 0.2, version=1),
                ("sd2",),
                "github.com/ljleb/sd-webui-freeu, SD2.1 Recommendations; the authors' first values",
            ),
            Preset(
                "SDXL v1 (Nasir Khalid)",
                FreeU(1.1, 1.2, 0.6, 0.4, version=1),
                ("sdxl",),
                "github.com/ChenyangSi/FreeU/pull/8, a sweep over values",
            ),
            Preset(
                "Subtle",
                FreeU(1.01, 1.02, 0.99, 0.95),
                ("sd1", "sd2", "sdxl"),
                "github.com/lllyasviel/stable-diffusion-webui-forge, FreeU Integrated, its default",
            ),
            Preset(
                "Text-to-video (Zeroscope)",
                FreeU(1.2, 1.4, 0.9, 0.2, version=1),
                ("video",),
                "github.com/lyn-rgb/FreeU_Diffusers, README",
            ),
            Preset("SD 1.5 colour-safe", FreeU(1.2, 1.2, 1.0, 1.0, version=1), ("sd1",), PIRATE, UNSTATED),
            Preset("SDXL PirateDiffusion", FreeU(1.2, 1.4, 0.9, 0.2, version=1), ("sdxl",), PIRATE, UNSTATED),
            Preset(
                "SD 1.5 as diffusers",
                FreeU(1.5, 1.6, 0.9, 0.2, version=1, rule="resolution"),
                ("sd1",),
                DIFFUSERS,
            ),
            Preset(
                "SDXL as diffusers",
                FreeU(1.3, 1.4, 0.9, 0.2, version=1, rule="resolution"),
                ("sdxl",),
                DIFFUSERS,
            ),
            Preset(
                "Baka-Diffusion (from its card)",
                None,
                ("sd1",),
                "the model's card, a picture: files.catbox.moe/a9hpct.png",
                "The card of Baka-Diffusion shows its FreeU values only in a picture (files.catbox.moe/a9hpct.png). "
                "Open it and set the sliders as it shows, or import a preset file of sd-webui-freeu.",
            ),
        )
    }
)

# What "automatic" takes for a family of models.
OF_FAMILY: Mapping[str, str] = MappingProxyType(
    {"sd1": "SD 1.5 (authors)", "sd2": "SD 2.1 (authors)", "sdxl": "SDXL (authors)", "sdxl-refiner": "SDXL (authors)"}
)


def of_family(family: str) -> Preset:
    """The preset for a model of this family; PrismError where none was ever published."""
    if family not in OF_FAMILY:
        raise PrismError(
            f"No FreeU preset was published for models of the family {family or 'unknown'}; choose one by hand. "
            f"Automatic choice knows {', '.join(OF_FAMILY)}"
        )
    return PRESETS[OF_FAMILY[family]]
