"""How A1111 reads a prompt, by the studio's parser, which the recorded outputs of the real one check."""

from __future__ import annotations

import json
from pathlib import Path

from sd_prism.studio.prompt import parse_and, parse_emphasis, parse_schedule

GOLDEN = json.loads((Path(__file__).parent / "unit" / "data" / "namespaces-golden.json").read_text(encoding="utf-8"))
STEPS = GOLDEN["steps"]


def read(prompt):
    """[(AND weight, [(last step, [(text, weight), ...]), ...]), ...], weights rounded to 6 digits."""
    return [
        (weight, [(until, pieces(text)) for until, text in parse_schedule(part, STEPS)])
        for part, weight in parse_and(prompt)
    ]


def pieces(text):
    return [(piece, round(weight, 6)) for piece, weight in parse_emphasis(text)]


def once(*texts):
    """The reading of a prompt that is one text for the whole run; a piece is a text or (text, weight)."""
    return [(1.0, [(STEPS, [(one, 1.0) if isinstance(one, str) else one for one in texts])])]
