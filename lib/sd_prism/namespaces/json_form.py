"""What was rendered, and by which registry, as JSON: the same for a page, a script and the command line.

Positions are code points of the text that was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .registry import Registry
from .render import Options, Rendered
from .scanner import Lint, scan

SHOWN = ("color", "parens", "brackets", "domain", "ratio", "type", "multi", "values")


def registry(found: Registry) -> dict[str, Any]:
    """Every way to write a name, and what a page needs to find tags and to draw them."""
    return {
        "names": {folded: one.name for folded, one in found.names.items()},
        "namespaces": {name: {key: getattr(one, key) for key in SHOWN} for name, one in found.namespaces.items()},
        "chosen": found.chosen,
        "digest": found.digest,
    }


def lints(found: Rendered, options: Options) -> Iterable[tuple[str, Lint]]:
    """The remarks by side. Where no tag was found nothing was scanned for them, but a name may be misspelt."""
    if found.sides:
        return found.lints
    texts = ("prompt", found.prompt), ("negative", found.negative)
    return [(side, lint) for side, text in texts for lint in scan(text, options.registry).lints]


def rendered(found: Rendered, options: Options) -> dict[str, Any]:
    """Both prompts, what each tag became and where, and the remarks."""
    return {
        "prompt": found.prompt,
        "negative": found.negative,
        "tags": [
            {
                "side": one.side,
                "start": one.tag.start,
                "end": one.tag.end,
                "namespace": one.tag.namespace.name,
                "value": one.tag.value,
                "text": one.plain,
                "place": one.place,
            }
            for one in found.spoken
        ],
        "lints": [
            {
                "side": side,
                "code": lint.code,
                "start": lint.start,
                "end": lint.end,
                "message": lint.message,
                "fix": lint.fix,
            }
            for side, lint in lints(found, options)
        ],
    }
