"""One declaration per setting: page, arguments, schema, axes, infotext, presets and options derive from it."""

from .base import AUTOMATIC, CUSTOM, Field, Panel, Value
from .cards import CARDS
from .cascade import CASCADE
from .freeu import FREEU
from .merge import MERGE
from .namespaces import NAMESPACES

PANELS = (CARDS, FREEU, NAMESPACES, MERGE, CASCADE)

__all__ = [
    "AUTOMATIC",
    "CARDS",
    "CASCADE",
    "CUSTOM",
    "FREEU",
    "MERGE",
    "NAMESPACES",
    "PANELS",
    "Field",
    "Panel",
    "Value",
]
