"""The host's older name for `modules.paths`."""

from modules import paths as _paths


def __getattr__(name: str) -> object:
    return getattr(_paths, name)
