"""Scanning, rendering and completion of namespace tags against their targets, and a webui's own parser beside them.

The webui's parser runs in the webui's Python, in one process with ours on the same prompts; it is imported by path and
nothing of it is copied. CPU time, one thread, the least of several runs. Read the ratios; the milliseconds are one
machine's.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import PrismError
from ..namespaces.lexicon import Lexicon
from ..namespaces.registry import Registry, for_dialect
from ..namespaces.render import render
from . import report

Row = dict[str, Any]
LIB = Path(__file__).resolve().parents[2]
DIALECT, STEPS = "sygil", 20
SIZES = (75, 150, 300, 750, 1500, 7500)  # tokens
TARGETS = {750: 1.0, 7500: 10.0}  # ms of scan and render, by tokens
GATE, IMPORT, COMPLETION = 0.010, 30.0, 5.0  # ms
GROWTH = 2.5  # times as long for twice the length
ROUNDS, SECONDS = 20, 0.3
STANDARD = "dataclasses, difflib, hashlib, json, pathlib, re, typing"  # what a webui has imported long before
TOO_LONG = 5.0  # seconds that a webui's parser is waited for
VALUES = 140_000
HOSTILE, MEGABYTE = 20_000, 1_000_000  # characters

WORDS = """\
long short wavy loose torn small big shiny frilled striped plaid floral lace folded open tied
black blue brown green grey orange pink purple red silver white yellow aqua amber
hair eyes dress skirt shirt jacket coat hat ribbon scarf gloves boots shoes socks bow belt cape hood tie apron sleeves
"""


def tags() -> list[str]:
    """Plain tags of the kind that boards have, in an order that never changes."""
    found = [" ".join(words) for words in product(*(line.split() for line in WORDS.splitlines()))]
    random.Random(0).shuffle(found)
    return found


def every(number: int, change: Callable[[str, str, int], str]) -> Callable[[list[str]], list[str]]:
    """Changes every so many-th tag; `change` gets the tag, the next one and a number."""
    return lambda plain: [
        tag if at % number else change(tag, plain[at - 1], at // number) for at, tag in enumerate(plain)
    ]


FAMILIES: dict[str, Callable[[list[str]], list[str]]] = {
    "plain tags": list,
    "species:x in half of the tags": every(2, lambda tag, other, n: f"species:{tag}"),
    "every 3rd (x:1.n)": every(3, lambda tag, other, n: f"({tag}:1.{n % 9 + 1})"),
    "every 3rd (species:x:1.2)": every(3, lambda tag, other, n: f"(species:{tag}:1.2)"),
    "every 6th [x:y:0.n]": every(6, lambda tag, other, n: f"[{tag}:{other}:0.{n % 9 + 1}]"),
    "every 6th ((x, unbalanced": every(6, lambda tag, other, n: f"(({tag}"),
}
WITHOUT_TAGS = ("plain tags", "every 3rd (x:1.n)")
PIECES = ("(", "[", "\\", "species:", '"', ":", "a:b|", " ", "species:海豹, （a：")
"""What hostile prompts repeat."""
MIXED = "(species:seal:1.2), [a|b:3], "


def prompts(sizes: Iterable[int]) -> dict[str, dict[int, str]]:
    """By family and number of CLIP tokens."""
    from ..studio.tokens import Vocabulary

    plain, vocabulary = tags(), Vocabulary.clip()
    made: dict[str, dict[int, str]] = {}
    for family, change in FAMILIES.items():
        changed = change(plain)
        lengths = [len(ids) for ids in vocabulary.ids([f"{tag}," for tag in changed])]
        made[family] = {size: ", ".join(changed[: count_of(lengths, size)]) for size in sizes}
    return made


def count_of(lengths: list[int], size: int) -> int:
    """How many tags have so many tokens together."""
    total = 0
    for count, length in enumerate(lengths, 1):
        total += length
        if total >= size:
            return count
    raise ValueError(f"{len(lengths)} tags have only {total} tokens")


def run(webui: Path | None = None, python: Path | None = None) -> dict[str, Any]:
    """Rows of milliseconds and growth with their targets; `webui` with its `python` adds that webui's parser."""
    made = prompts(SIZES)
    times = times_of(made) if webui is None else asked(webui, python or Path(sys.executable), made)
    rows = [scan_row(family, size, ms) for family, sizes in times.items() for size, ms in sizes.items()]
    rows += [gate_row(family, made[family][size], size) for family in WITHOUT_TAGS for size in TARGETS]
    rows += [growth_row(piece, HOSTILE) for piece in PIECES]
    rows += [growth_row(MIXED, MEGABYTE // 2)]
    rows += [*import_rows(), *completion_rows(VALUES)]
    return report("namespaces", rows)


def row(what: str, case: str, ms: dict[str, float], value: float, unit: str, target: float | None) -> Row:
    """`value` is what the target is about; `ratio` is how many times longer the webui's parser takes."""
    ratio = ms["webui"] / ms["ours"] if "webui" in ms else None
    return {"what": what, "case": case, "ms": ms, "ratio": ratio, "value": value, "unit": unit, "target": target}


def scan_row(family: str, size: int, ms: dict[str, float]) -> Row:
    return row("scan and render", f"{family}, {size} tokens", ms, ms["ours"], "ms", TARGETS.get(size))


def gate_row(family: str, text: str, size: int) -> Row:
    """A prompt without a tag: it must come back as the same object."""
    registry = registered()
    if rendered(text, registry) is not text:
        raise AssertionError(f"a prompt without a tag was changed: {text[:60]}")
    ms = least(partial(rendered, text, registry))
    return row("gate, no tag", f"{family}, {size} tokens", {"ours": ms}, ms, "ms", GATE * size / 750)


def growth_row(piece: str, length: int) -> Row:
    """A piece repeated behind a tag, and twice as often."""
    registry = registered()
    short, long = (f"species:seal, {piece * (count // len(piece))}" for count in (length, 2 * length))
    once, twice = least_of([partial(rendered, text, registry) for text in (short, long)])
    case = f"{piece.strip() or 'blanks'} to {len(long):,} characters"
    return row("twice as long", case, {"ours": twice, "half": once}, twice / once, "x", GROWTH)


def import_rows(runs: int = 5) -> list[Row]:
    """The feature's import in fresh processes, without the start of Python: alone, and as in a webui.

    A webui has those modules of the standard library already, so that its users wait for the rest only.
    """
    timed = "import time; t = time.process_time(); import sd_prism.namespaces.render; print(time.process_time() - t)"
    cases = {"in a bare Python": timed, f"after {STANDARD}": f"import {STANDARD}; {timed}"}
    rows = []
    for case, code in cases.items():
        ms = min(float(output([sys.executable, "-c", code])) for _ in range(runs)) * 1e3
        rows.append(row("import", case, {"ours": ms}, ms, "ms", IMPORT if code is not timed else None))
    return rows


def completion_rows(count: int) -> list[Row]:
    """The slowest of many answers from an index of so many values, and how long the index takes to make."""
    values = list(names(count))
    start = time.process_time()
    index = Lexicon({"species": values})
    built = (time.process_time() - start) * 1e3
    typed = ["", *"abcdefghilmoprstw", "s", "sh", "blue", "blue h", "small red c", "海", "海豹 1", "zzz", "a" * 300]
    answers = {one: least(partial(index.complete, "species", one), seconds=0.02) for one in typed}
    slowest = max(answers, key=lambda one: answers[one])
    case = f'{count:,} values, slowest of {len(answers)}: "{slowest}"'
    return [
        row("completion", case, {"ours": answers[slowest]}, answers[slowest], "ms", COMPLETION),
        row("completion", f"{count:,} values, making the index", {"ours": built}, built, "ms", None),
    ]


def names(count: int) -> Iterator[tuple[str, int, list[str]]]:
    """Values of two to four words, most with an alias, with counts that fall as a board's do."""
    plain = tags()
    for number in range(count):
        tag = plain[number % len(plain)]
        value = tag if number < len(plain) else f"{tag} {number // len(plain)}"
        yield value, 6_000_000 // (number + 1), [f"海豹 {number}", f"{value} alias"] if number % 3 else []


# --- measuring


def registered() -> Registry:
    return for_dialect(DIALECT)


def rendered(text: str, registry: Registry) -> str:
    return render(text, dialect=DIALECT, registry=registry)


def least(call: Callable[[], object], seconds: float | None = None) -> float:
    """Milliseconds of the quickest of several runs, each long enough to be measured."""
    timed(call)
    repeats = max(1, int(1 / max(timed(call), 1e-4)))
    return least_of([call], seconds, repeats)[0]


def least_of(calls: Sequence[Callable[[], object]], seconds: float | None = None, repeats: int = 1) -> list[float]:
    """Milliseconds of each call in its quickest run; runs alternate, so that load on the machine hits all alike."""
    best, end = [float("inf")] * len(calls), time.monotonic() + (SECONDS if seconds is None else seconds) * len(calls)
    for done in range(ROUNDS):
        if done > 2 and time.monotonic() > end:
            break
        best = [min(ms, timed(call, repeats)) for ms, call in zip(best, calls)]
    return best


def timed(call: Callable[[], object], repeats: int = 1) -> float:
    """Milliseconds of one call. The garbage collector rests, as in timeit: by its counts it runs more at some sizes."""
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(repeats):
            call()
        return (time.process_time() - start) / repeats * 1e3
    finally:
        gc.enable()


def times_of(
    made: dict[str, dict[int, str]], parse: Callable[[str], object] | None = None
) -> dict[str, dict[int, dict[str, float]]]:
    """Milliseconds of ours, and of the webui's parser up to the length where it would be waited for too long."""
    registry = registered()
    times: dict[str, dict[int, dict[str, float]]] = {}
    for family, sizes in made.items():
        last = (1, 0.0)  # tokens, milliseconds
        times[family] = {}
        for size, text in sizes.items():
            times[family][size] = {"ours": least(partial(rendered, text, registry))}
            if parse and last[1] * (size / last[0]) ** 2 < TOO_LONG * 1e3:
                last = size, once_or_least(partial(parse, text))
                times[family][size]["webui"] = last[1]
    return times


def once_or_least(call: Callable[[], object]) -> float:
    """Milliseconds; a long call is not repeated."""
    ms = timed(call)
    return ms if ms > SECONDS * 1e3 else min(ms, least(call))


# --- in the webui's Python


def asked(webui: Path, python: Path, made: dict[str, dict[int, str]]) -> dict[str, dict[int, dict[str, float]]]:
    """The times of both, measured in the webui's Python."""
    found = json.loads(output([str(python), "-m", "sd_prism.bench.namespaces", str(webui)], json.dumps(made)))
    return {family: {int(size): ms for size, ms in sizes.items()} for family, sizes in found.items()}


def output(command: list[str], given: str = "") -> str:
    """What a process that finds our package prints."""
    env = {**os.environ, "PYTHONPATH": str(LIB), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8", env=env)
    if done.returncode:
        raise PrismError(
            f"{command[0]} could not measure: {done.stderr.strip().splitlines()[-1:] or 'no reason given'}"
        )
    return done.stdout


def parser_of(webui: Path) -> Callable[[str], None]:
    """The webui's way from a prompt to weighted pieces: AND, then the schedule, then the weights of each step."""
    file = webui / "modules" / "prompt_parser.py"
    spec = importlib.util.spec_from_file_location("webui_prompt_parser", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise PrismError(f"{webui} is no webui of this kind: it has no modules/prompt_parser.py")
    parser = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = parser
    spec.loader.exec_module(parser)

    def parse(text: str) -> None:
        _, parts, _ = parser.get_multicond_prompt_list([text])
        for schedule in parser.get_learned_conditioning_prompt_schedules(parts, STEPS):
            for _, piece in schedule:
                parser.parse_prompt_attention(piece)

    return parse


def table(rows: list[Row]) -> str:
    """The rows as text: ours, the webui's parser and its ratio where it was measured, the value with its target."""
    lines = [f"{'':16} {'':48} {'ours ms':>10} {'webui ms':>10} {'ratio':>8}  target"]
    for each in rows:
        line = f"{each['what']:16} {each['case']:48} {each['ms']['ours']:10.4f} "
        line += f"{each['ms']['webui']:10.2f} {each['ratio']:7.0f}x" if each["ratio"] else f"{'-':>10} {'-':>8}"
        if each["target"] is not None:
            shown = "" if each["unit"] == "ms" else f"{each['value']:.2f}x "
            verdict = "" if each["value"] <= each["target"] else ", MISSED"
            line += f"  {shown}(at most {each['target']:g} {each['unit']}{verdict})"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    given = {
        family: {int(size): text for size, text in sizes.items()} for family, sizes in json.load(sys.stdin).items()
    }
    print(json.dumps(times_of(given, parser_of(Path(sys.argv[1])))))
