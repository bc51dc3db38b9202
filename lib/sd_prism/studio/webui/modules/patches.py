"""Replacing functions of the host in a way that can be undone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

originals: defaultdict[Hashable, dict[tuple[Any, str], Any]] = defaultdict(dict)


def patch(key: Hashable, obj: Any, field: str, replacement: Any) -> Any:
    """Replace `obj.field`; returns the original. The same key may do so once."""
    if (obj, field) in originals[key]:
        raise RuntimeError(f"patch for {field} is already applied")
    original_value = originals[key][(obj, field)] = getattr(obj, field)
    setattr(obj, field, replacement)
    return original_value


def undo(key: Hashable, obj: Any, field: str) -> None:
    """Put the original back; raises when this key has not replaced it."""
    if (obj, field) not in originals[key]:
        raise RuntimeError(f"there is no patch for {field} to undo")
    setattr(obj, field, originals[key].pop((obj, field)))


def original(key: Hashable, obj: Any, field: str) -> Any:
    """What `patch` replaced, or None."""
    return originals[key].get((obj, field))
