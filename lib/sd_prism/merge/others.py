"""Block weights as other merge tools write them, read into ours. No torch here.

merge-block-weighted-gui, runtime-block-merge   tsv: NAME<TAB>25 weights, under a line of titles
supermerger, model-mixer                        NAME<TAB>weights or NAME:weights; 26 (20 or 21 for SDXL), BASE first
meh, SD.Next                                    Python or JSON: "NAME": [weights]; 26 or 20, BASE first
runtime-block-merge's weight command            base:0.5, in00:1, time_embed:0, or 25 or 27 weights alone
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import PrismError, UnknownName
from ..schedule import short
from . import presets
from .blocks import BASE, Layout
from .recipe import CLASSIC, Term, fits, number
from .select import label

LENGTHS = (19, 20, 21, 25, 26, 27)
RANDOM = re.compile(r"E?[RUX]", re.IGNORECASE)
PYTHON = re.compile(r"[\"'\w]\s*[:=]\s*[\[({]")
SAME = 1e-6  # published tables are rounded
COMMAND = (*CLASSIC, "TIME_EMBED", "OUT")  # what runtime-block-merge has sliders for


@dataclass(frozen=True)
class Listed:
    """A preset of another tool: the weights in the order of `Term.weight`, and the line where it stands."""

    name: str
    weights: tuple[float, ...]
    line: int = 0


def presets_of(text: str) -> list[Listed]:
    """All presets of a text in any of the forms; one name may stand for several lengths.

    Raises PrismError that names the line.
    """
    text = text.removeprefix("\ufeff")  # a mark of Windows' editors
    rows = _python(text) if PYTHON.search(text) else _lines(text)
    return [Listed(name, _weights(name, written, line), line) for name, written, line in rows]


def fitting(listed: Iterable[Listed], layout: Layout) -> dict[str, tuple[float, ...]]:
    """Name -> weights of the presets that are made for a model's blocks, without those that are classic ones anyway.

    One that has a classic name and other weights is called "NAME (own)": a classic name means the same everywhere.
    """
    found: dict[str, tuple[float, ...]] = {}
    for one in listed:
        if not fits(len(one.weights), layout):
            continue
        classic = presets.find(one.name)
        if classic is None:
            found[one.name] = one.weights
        elif not _same(one.weights, classic, layout):
            found[f"{one.name} (own)"] = one.weights
    return found


def tsv(listed: Iterable[Listed]) -> str:
    """Presets in the form that merge-block-weighted-gui and its kin read."""
    rows = (f"{one.name}\t{','.join(map(short, one.weights))}\n" for one in listed)
    return "preset_name\tpreset_weights\n" + "".join(rows)


def command(text: str) -> tuple[float, ...]:
    """runtime-block-merge's weight command, or a plain list, as a list of weights in the order of `Term.weight`.

    Its `base` is every slider that is not named; the text encoder stays A's, as there.
    """
    if ":" not in text:
        return _weights("the weight command", text.split(","), 1)
    sliders = {label(name): weight for name, weight in map(_slider, _pieces(text))}
    rest = sliders.pop(BASE, 0.0)
    for name in set(sliders) - set(COMMAND):
        raise UnknownName("slider of runtime-block-merge", name, (BASE, *COMMAND))
    return tuple(sliders.get(name, rest) for name in COMMAND)


def _slider(piece: str) -> tuple[str, float]:
    name, colon, weight = piece.partition(":")
    if not colon:
        raise PrismError(f'"{piece.strip()}" of the weight command has no weight; write {piece.strip()}:0.5')
    return name, _number(weight, f'the weight command at "{piece.strip()}"')


def _pieces(text: str) -> list[str]:
    return [piece for piece in text.replace("\n", ",").split(",") if piece.strip()]


def _same(weights: Sequence[float], classic: str, layout: Layout) -> bool:
    theirs, ours = Term("B", tuple(weights)).levels(layout), Term("B", classic).levels(layout)
    return all(math.isclose(theirs[block], ours[block], abs_tol=SAME) for block in layout.spine)


def _lines(text: str) -> Iterator[tuple[str, Sequence[object], int]]:
    for line, row in enumerate(text.splitlines(), 1):
        name, divider, weights = row.partition("\t")
        if not divider:
            name, divider, weights = row.rpartition(":")
        name, weights = name.strip().strip('"'), weights.strip().strip('"')
        if not row.strip() or row.lstrip().startswith("#") or weights == "preset_weights":
            continue
        if not divider or not name:
            raise PrismError(f'line {line}: "{row.strip()[:40]}" is no preset; write a name, a tab or colon, weights')
        yield name, weights.rstrip(",").split(","), line


def _python(text: str) -> Iterator[tuple[str, Sequence[object], int]]:
    """Every list under a name, in dicts and assignments."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", None) or error
        raise PrismError(f'line {line} is neither Python nor JSON ({what}); write "NAME": [weights]') from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = [(key.value, value) for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            pairs = [(node.targets[0].id, node.value)]
        else:
            continue
        for name, value in pairs:
            if isinstance(value, (ast.List, ast.Tuple)):
                yield str(name), [ast.unparse(one) for one in value.elts], value.lineno


def _weights(name: str, written: Sequence[object], line: int) -> tuple[float, ...]:
    where = f"line {line} ({name})"
    weights = tuple(_number(str(one), where) for one in written)
    if len(weights) not in LENGTHS:
        raise PrismError(
            f"{where} has {len(weights)} weights; expected 25, or 26 with BASE first, or 27 with TIME_EMBED and OUT "
            "last; for SDXL 19, or 20 with BASE first, or 21 with VAE last as well"
        )
    return weights


def _number(text: str, where: str) -> float:
    if RANDOM.fullmatch(text.strip()):
        raise PrismError(f'{where}: "{text.strip()}" is drawn by lot at each merge; write a number in its place')
    try:
        return number(where, float(text))
    except ValueError:
        raise PrismError(f'{where}: "{text.strip()[:40]}" is no number') from None
