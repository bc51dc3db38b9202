"""Presets of the panels and whole cards: files of the user's beside what ships built in."""

from __future__ import annotations

from .preset import FEATURES, Preset
from .store import Problem, Store, Version

__all__ = ["FEATURES", "Preset", "Problem", "Store", "Version"]
