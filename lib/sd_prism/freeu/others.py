"""FreeU settings as other programs write them, read into ours: arguments, infotext, preset files. No torch here.

Every reader gives values by the names of our fields, and notes on where the same numbers act differently here.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import PrismError

# sd-webui-freeu's names of a stage's numbers, in its positional order, and what we call them
STAGE = {
    "backbone_factor": "b",
    "skip_factor": "s",
    "backbone_offset": "offset",
    "backbone_width": "width",
    "skip_cutoff": "cutoff",
    "skip_high_end_factor": "high",
}
STATE = ("enable", "start_ratio", "stop_ratio", "transition_smoothness", "version", "stage_infos")
OURS = "compatible"  # may stand in a state as well, to have its own pictures repeated
DEFAULTS = {"b": 1.0, "s": 1.0, "offset": 0.0, "width": 0.5, "cutoff": 0.0, "high": 1.0}
FORGE = ("freeu_enabled", "freeu_b1", "freeu_b2", "freeu_s1", "freeu_s2", "freeu_start", "freeu_end")
PARAM = re.compile(r'(?:^|,|\n)\s*(\w[\w \-/]*):\s*("(?:[^"\\\n]|\\.)*"|[^,\n]*)')
PAIR = re.compile(r"\b([bs][12])\s*=\s*([-+0-9.eE]+)")


@dataclass(frozen=True)
class Read:
    """Settings of another program by the names of our fields, `enabled` among them, and what to know about them."""

    values: dict[str, Any]
    notes: tuple[str, ...] = ()


WINDOW_NOTE = (
    "sd-webui-freeu scales one channel more than its window says (641 of 1280); Prism scales exactly the window. "
    "Repeat sd-webui-freeu, among the advanced settings, gives its pictures."
)
PASS_NOTE = (
    "sd-webui-freeu counts its schedule through all passes, so its FreeU is off in the hires pass and in the second "
    "half of Heun and DPM2; Prism's schedule spans each pass."
)


def from_arguments(args: Sequence[Any], steps: int | None = None) -> Read | None:
    """Script arguments of sd-webui-freeu (a dict, or 5 + 18 values) or of Forge (7, or 5 as in reForge), else None."""
    if args and isinstance(args[0], Mapping):
        return from_state(args[0], steps) if set(args[0]) & {*STATE} - {"version"} else None
    if not args or not isinstance(args[0], bool) or not all(isinstance(one, (int, float)) for one in args[1:4]):
        return None
    if len(args) in (5, 7) and all(isinstance(one, (int, float)) for one in args):
        return _forge(dict(zip(FORGE, args)))
    if len(args) >= 5:
        return from_state(dict(zip(STATE, [args[0], *map(float, args[1:4]), args[4], list(args[5:])])))
    return None


def from_state(state: Mapping[str, Any], steps: int | None = None) -> Read:
    """A state of sd-webui-freeu: its API dict, or an entry of its presets.json.

    An int in `start_ratio` or `stop_ratio` is a step; without `steps` only 0 can be read that way.
    """
    with reading():
        return _state(state, steps)


@contextmanager
def reading() -> Iterator[None]:
    """Whatever another program's settings make go wrong is told as what it is."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise PrismError(f"The FreeU settings of another program could not be read: {error}") from error


def _state(state: Mapping[str, Any], steps: int | None) -> Read:
    unknown = set(state) - {*STATE, OURS}
    if unknown:
        raise PrismError(f"FreeU settings of sd-webui-freeu have no {min(unknown)!r}; they have {', '.join(STATE)}")
    values: dict[str, Any] = {"enabled": bool(state.get("enable", True)), OURS: bool(state.get(OURS, False))}
    for number, stage in enumerate(_stages(state.get("stage_infos") or []), start=1):
        values |= {f"{name}{number}": value for name, value in stage.items()}
    # Their version is text; a number, which they do not know, counts as 1.
    values["version"] = "2" if state.get("version") in ("2", "Version 2") else "1"
    start, stop = _ratio(state.get("start_ratio", 0.0), steps), _ratio(state.get("stop_ratio", 1.0), steps)
    smoothness = float(state.get("transition_smoothness", 0.0))
    values |= {"start": start, "stop": max(start, stop), "smoothness": smoothness}
    notes = [WINDOW_NOTE, PASS_NOTE]
    if start > stop:
        notes.append("The schedule stops before it starts, so FreeU is never on here.")
    if "version" not in state:
        notes.append("The settings name no version, which sd-webui-freeu reads as version 1.")
    return Read(values, tuple(notes))


def from_infotext(params: Mapping[str, Any]) -> Read | None:
    """The FreeU of a pasted infotext, as sd-webui-freeu, Forge or SD.Next wrote it; None without one."""
    with reading():
        if "FreeU Stages" in params:
            return _ljleb_infotext(params)
        if "freeu_enabled" in params:
            return _forge(params)
        pairs = dict(PAIR.findall(str(params.get("FreeU", ""))))
        if pairs:
            note = "SD.Next's native backend tells stages by resolution; Prism by width unless the rule says otherwise."
            return Read({"enabled": True, "version": "1", **_factors(pairs)}, (note,))
    return None


def from_text(text: str) -> dict[str, Read]:
    """Whatever was pasted, by name ("" for a lone one): an infotext, a state of sd-webui-freeu, a file of presets."""
    params = {key: _unquoted(value) for key, value in PARAM.findall(text)}
    read = from_infotext(params)
    if read is not None:
        return {"": read}
    try:
        state = json.loads(text)
    except ValueError:
        return presets_of(text)
    if isinstance(state, dict) and set(state) & {*STATE}:
        return {"": from_state(state)}
    return presets_of(text)


def _unquoted(value: str) -> str:
    """A value of an infotext, which stands in quotes if it holds commas."""
    try:
        return str(json.loads(value)) if value.startswith('"') else value.strip()
    except ValueError:
        return value


def presets_of(text: str) -> dict[str, Read]:
    """The presets of a file: sd-webui-freeu's presets.json or Forge's freeu_presets.py, whose code is never run."""
    try:
        found = json.loads(text)
    except ValueError:
        return _forge_presets(text)
    if not isinstance(found, dict) or not found or not all(isinstance(state, dict) for state in found.values()):
        raise PrismError("The file is no presets.json of sd-webui-freeu: it must map names to settings")
    note = "sd-webui-freeu saves no version; check whether the values were made for version 1 or 2."
    read = {name: from_state(state) for name, state in found.items()}
    return {name: Read(one.values, (*one.notes, note)) for name, one in read.items()}


def _stages(infos: Sequence[Any]) -> list[dict[str, float]]:
    """Up to three stages from dicts or from numbers in groups of six."""
    found: list[dict[str, float]] = []
    rest = list(infos)
    while rest and len(found) < 3:
        if isinstance(rest[0], Mapping):
            given = rest.pop(0)
            unknown = set(given) - set(STAGE)
            if unknown:
                raise PrismError(f"A FreeU stage has no {min(unknown)!r}; it has {', '.join(STAGE)}")
            numbers = {STAGE[name]: float(value) for name, value in given.items()}
        else:
            numbers = {name: float(value) for name, value in zip(STAGE.values(), rest)}
            del rest[: len(STAGE)]
        found.append(_window(DEFAULTS | numbers))
    return [*found, *[dict(DEFAULTS)] * (3 - len(found))]


def _window(stage: dict[str, float]) -> dict[str, float]:
    """A window with a negative width or offset as the same channels with positive ones."""
    offset, width = stage["offset"], stage["width"]
    if width < 0:
        offset, width = offset + width, -width
    if offset < 0:
        offset = 1 + offset - int(offset)
    return {**stage, "offset": math.fmod(offset, 1.0), "width": min(width, 1.0)}


def _ratio(value: Any, steps: int | None) -> float:
    """A start or stop as a fraction; an int is a step number."""
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"[-+]?\d+", value.strip()) else float(value)
    if isinstance(value, int) and not isinstance(value, bool) and value != 0:
        if not steps:
            raise PrismError(f"The schedule names step {value}; give it as a fraction of the run, such as 0.5")
        value = value / steps
    return min(max(float(value), 0.0), 1.0)


def _ljleb_infotext(params: Mapping[str, Any]) -> Read:
    start, stop, smoothness = (text.strip() for text in str(params.get("FreeU Schedule", "0.0, 1.0, 0.0")).split(","))
    state = {
        "start_ratio": start,
        "stop_ratio": stop,
        "transition_smoothness": smoothness,
        "stage_infos": json.loads(params["FreeU Stages"]),
    }
    if "FreeU Version" in params:
        state["version"] = str(params["FreeU Version"])
    return from_state(state, steps=int(params.get("Steps", 0)) or None)


def _factors(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The four factors that everybody has; a missing one is neutral."""
    return {name: float(numbers.get(name, 1.0)) for name in ("b1", "b2", "s1", "s2")}


def _forge(params: Mapping[str, Any]) -> Read:
    numbers = {name.removeprefix("freeu_"): params[name] for name in FORGE[1:] if name in params}
    start, stop = float(numbers.get("start", 0.0)), float(numbers.get("end", 1.0))
    on = str(params["freeu_enabled"]).casefold() == "true"
    values = {"enabled": on, "version": "2", **_factors(numbers), "start": start, "stop": max(start, stop)}
    return Read(values, ())


def _forge_presets(text: str) -> dict[str, Read]:
    """The list of (name, b1, b2, s1, s2, start, end) that the file assigns to `presets_custom`."""
    try:
        rows = [
            row
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and any(ast.unparse(x) == "presets_custom" for x in node.targets)
            for row in ast.literal_eval(node.value)
        ]
        read = {str(name): _forge(dict(zip(FORGE, [True, *numbers], strict=True))) for name, *numbers in rows}
    except (SyntaxError, ValueError, TypeError) as error:
        raise PrismError(f"The file is no presets.json, and no freeu_presets.py that can be read: {error}") from error
    if not read:
        raise PrismError("The file is no presets.json, and no freeu_presets.py: it has no list presets_custom")
    return read
