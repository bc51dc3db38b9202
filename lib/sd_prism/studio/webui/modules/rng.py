"""Noise by seed; the studio's engine makes it."""

from sd_prism.studio.rng import ImageRNG

__all__ = ["ImageRNG"]
