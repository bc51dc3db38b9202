"""One declaration per setting: page, arguments, schema, axes, infotext, presets and options derive from it."""

from .base import AUTOMATIC, CUSTOM, Field, Panel, Value
from .freeu import FREEU

PANELS = (FREEU,)

__all__ = ["AUTOMATIC", "CUSTOM", "FREEU", "PANELS", "Field", "Panel", "Value"]
