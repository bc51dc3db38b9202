"""The presets and cards that come with Prism."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from ..freeu import presets as freeu
from ..settings import Panel
from .preset import BUILT_IN, CARD, Preset, panel_of, parse, sparse

FOLDER = Path(__file__).parent / "builtin"


@cache
def presets(feature: str) -> tuple[Preset, ...]:
    """Those of one feature, in their order."""
    if feature == CARD:
        return tuple(_card(file) for file in sorted(FOLDER.glob("*.json")))
    panel = panel_of(feature)
    return tuple(_preset(panel, name) for name in panel.presets)


def _preset(panel: Panel, name: str) -> Preset:
    preset = Preset(panel.name, name, sparse(panel, panel.presets[name], name), origin=BUILT_IN)
    if panel.name != "freeu":
        return preset
    known = freeu.PRESETS[name]
    return replace(preset, families=known.families, notes=". ".join(filter(None, (known.source, known.note))))


def _card(file: Path) -> Preset:
    return Preset.of_json(parse(file.read_text("utf-8"), file.name), file.name, BUILT_IN)
