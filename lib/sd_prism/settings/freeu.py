"""The settings of "Prism FreeU". New fields go to the end: their order is the order of the script's arguments."""

from __future__ import annotations

from dataclasses import fields

from ..freeu import presets as freeu_presets
from ..freeu.value import FreeU
from ..schedule import Curve
from .base import AUTOMATIC, CUSTOM, Field, Panel, Value


def _values(settings: FreeU) -> dict[str, Value]:
    """What a FreeU preset sets: everything but its strength over the run."""
    names = [one.name for one in fields(FreeU) if one.name not in OWN]
    return {name: str(getattr(settings, name)) if name == "version" else getattr(settings, name) for name in names}


OWN = ("strength", "schedule", "hires_schedule", "domain", "compatible")
DEFAULT = FreeU()
PRESETS = {name: _values(preset.values) if preset.values else {} for name, preset in freeu_presets.PRESETS.items()}


def _factor(name: str, label: str, doc: str, *, quiet: bool = True) -> Field:
    return Field(name, label, getattr(DEFAULT, name), doc, low=-1.0, high=4.0, step=0.01, quiet=quiet)


def _part(name: str, label: str, doc: str, default: float | None = None) -> Field:
    given = getattr(DEFAULT, name) if default is None else default
    return Field(name, label, given, doc, low=0.0, high=1.0, step=0.01, quiet=True)


def _stage_details(k: int) -> tuple[Field, ...]:
    return (
        _part(f"offset{k}", f"Stage {k} channel offset", "Where the scaled part of the backbone's channels starts."),
        _part(f"width{k}", f"Stage {k} channel width", "How much of the backbone's channels is scaled."),
        _part(f"cutoff{k}", f"Stage {k} skip cutoff", "How far the lowest waves reach; 0 is the authors' four bins."),
        _factor(f"high{k}", f"Stage {k} skip high end", "Factor on all other waves of the skips."),
    )


def _curve(text: str) -> str:
    return str(Curve.parse(text))


def _blocks(text: str) -> str:
    return FreeU(blocks=text).blocks


def _switch(name: str, label: str, doc: str) -> Field:
    return Field(name, label, False, doc, quiet=True)


def _once(name: str, label: str, doc: str) -> Field:
    return Field(name, label, False, doc, quiet=True, once=True)


FREEU = Panel(
    title="Prism FreeU",
    name="freeu",
    doc="Re-weights what the UNet's decoder reads: its backbone and its skip features (arXiv 2309.11497).",
    fields=(
        Field("enabled", "Prism FreeU", False, "Apply FreeU to this picture."),
        Field(
            "preset",
            "Preset",
            CUSTOM,
            "A named set of values; moving a slider makes it your own.",
            choices=(CUSTOM, AUTOMATIC, *PRESETS),
        ),
        Field(
            "version",
            "Version",
            str(DEFAULT.version),
            "How the backbone is scaled: 1 by a constant, 2 by its own feature map.",
            choices=("1", "2"),
        ),
        _factor("b1", "Stage 1 backbone", "Backbone factor of the deepest stage; 1 changes nothing.", quiet=False),
        _factor("s1", "Stage 1 skip", "Factor on the lowest waves of the deepest stage's skips.", quiet=False),
        _factor("b2", "Stage 2 backbone", "Backbone factor of the next stage; 1 changes nothing.", quiet=False),
        _factor("s2", "Stage 2 skip", "Factor on the lowest waves of the next stage's skips.", quiet=False),
        Field(
            "strength",
            "Strength",
            DEFAULT.strength,
            "How much of it all: 0 is off, 1 as set, 2 twice as far from neutral.",
            low=0.0,
            high=2.0,
            step=0.01,
            quiet=True,
        ),
        _part("start", "Start", "Where in the run FreeU begins: 0 is the first step, 1 the end.", 0.0),
        _part("stop", "Stop", "Where in the run FreeU ends.", 1.0),
        _part(
            "smoothness", "Smoothness", "Turns the switch at start and stop into a rise to the start and a fall.", 0.0
        ),
        Field(
            "schedule",
            "Schedule",
            "",
            "Strength over the run as value@position, such as 0@0 1@0.3 0@1; empty: from start, stop and smoothness.",
            quiet=True,
            normal=_curve,
        ),
        Field(
            "hires_schedule",
            "Hires schedule",
            "",
            "The same for the hires pass; empty: as in the first pass, 0: off.",
            quiet=True,
            normal=_curve,
        ),
        Field(
            "domain",
            "Schedule over",
            DEFAULT.domain,
            "What positions count: sampling steps, or the logarithm of sigma, which means the same in every sampler.",
            choices=("steps", "sigma"),
            quiet=True,
        ),
        Field(
            "rule",
            "Stages by",
            DEFAULT.rule,
            "What makes a stage: channels, as for the authors, A1111 and ComfyUI, or resolution, as in diffusers.",
            choices=("channels", "resolution"),
            quiet=True,
        ),
        _factor("b3", "Stage 3 backbone", "Backbone factor of the last stage; the authors leave it alone."),
        _factor("s3", "Stage 3 skip", "Factor on the lowest waves of the last stage's skips."),
        *_stage_details(1),
        *_stage_details(2),
        *_stage_details(3),
        _switch("symmetric", "Both diagonals", "Also treat the diagonal waves that the authors leave out."),
        _switch("keep_mean", "Keep brightness", "Leave the mean of every skip channel alone: a colour guard."),
        _switch("hires_radius", "Grow with hires", "Let the lowest waves grow with the hires pass."),
        Field(
            "blocks",
            "Block overrides",
            "",
            "Single blocks with a backbone and a skip factor of their own, such as OUT03=1.2/0.5 OUT07=1/0.9.",
            quiet=True,
            normal=_blocks,
        ),
        _switch(
            "compatible",
            "Repeat sd-webui-freeu",
            "Repeat its pictures: one channel more than a half, and a schedule that counts through all passes.",
        ),
        _once("compare", "Also draw without", "Draw the same picture without FreeU as well, side by side."),
        _once("measure", "Measure", "Measure the skips' spectrum and version 2's map in this run."),
    ),
    presets=PRESETS,
    automatic=lambda family: freeu_presets.of_family(family).name,
)
