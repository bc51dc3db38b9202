"""`python prism.py doctor`: what this machine or a webui lacks or risks, in plain words, and what each costs.

Reads only, runs no webui, and needs the standard library alone: a broken environment is what it is for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import PrismError
from . import own, webui
from .finding import MISSING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--webui", type=Path, action="append", default=[], help="look at the webui of this folder")
    parser.add_argument("--webui-python", type=Path, help="the webuis' Python (default: the one of their own venv)")
    parser.add_argument("--data-dir", type=Path, help="the studio's data folder, if it is not the usual one")
    parser.add_argument("--json", action="store_true")


def main(argv: Sequence[str]) -> int:
    """Look, tell, and return 0 when nothing is missing, else 1; 2 when asked for what cannot be looked at."""
    parser = argparse.ArgumentParser(prog="prism.py doctor", description="Say what is missing or risky.")
    add_arguments(parser)
    try:
        return tell(parser.parse_args(list(argv)))
    except PrismError as error:
        print(f"prism: {error}", file=sys.stderr)
        return 2


def tell(args: argparse.Namespace) -> int:
    """Print what was found; the exit code."""
    places = [webui.look(folder, args.webui_python) for folder in args.webui] or [own.look(args.data_dir)]
    missing = sum(one.level == MISSING for place in places for one in place.findings)
    if args.json:
        facts = {"missing": missing, "places": [place.facts() for place in places]}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print("\n\n".join(place.text() for place in places))
        print(f"\n{_count(missing)} missing." if missing else "\nNothing is missing.")
    return 1 if missing else 0


def _count(number: int) -> str:
    return "1 thing is" if number == 1 else f"{number} things are"
