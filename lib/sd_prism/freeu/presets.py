"""FreeU values worth starting from, each with its version, model family and source. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .value import FreeU


@dataclass(frozen=True)
class Preset:
    """Named FreeU values: the model families they were found for, and where they were published."""

    name: str
    values: FreeU
    families: tuple[str, ...]
    source: str


README = "github.com/ChenyangSi/FreeU, README, section Parameters (values for version 2)"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("SD 1.4 (authors)", FreeU(1.3, 1.4, 0.9, 0.2, version=2), ("sd1",), README),
            Preset("SD 1.5 (authors)", FreeU(1.5, 1.6, 0.9, 0.2, version=2), ("sd1",), README),
            Preset("SD 2.1 (authors)", FreeU(1.4, 1.6, 0.9, 0.2, version=2), ("sd2",), README),
            Preset("SDXL (authors)", FreeU(1.3, 1.4, 0.9, 0.2, version=2), ("sdxl",), README),
        )
    }
)
