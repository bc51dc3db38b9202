"""Namespace prompts: typed tags such as `species:seal`, read right by every host and said in the model's dialect."""

from .escape import escape
from .namespace import Namespace
from .registry import Registry
from .render import Options, Rendered, render, render_pair
from .scanner import Lint, Scan, Tag, scan

__all__ = [
    "Lint",
    "Namespace",
    "Options",
    "Registry",
    "Rendered",
    "Scan",
    "Tag",
    "escape",
    "render",
    "render_pair",
    "scan",
]
