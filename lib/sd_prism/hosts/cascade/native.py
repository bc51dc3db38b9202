""" "Prism Cascade" in a webui that draws Cascade with a pipeline of its own (SD.Next), which is kept.

Single files are loaded into it, see `imports`, and drawn by the panel's settings, see `drawing`. Folders, which the
webui loads itself, are drawn by them once one of the settings is not its default; else they are the webui's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from modules import script_callbacks

from ...errors import PrismError
from ...panels import cascade as panels
from ...settings import CASCADE, Value
from ...settings.cascade import COMPRESSION
from .. import checkpoints, presets, routes
from ..merge.models import name_of
from ..undo import around, undo
from . import decoders, drawing, imports
from .job import DEFAULTS, ERROR, own, own_compression
from .panel_host import CascadePanel

PASS = "cascade pass"
LACKING = frozenset({"preview_only", "save_latents", "images", "image_strength"})


class NativeHost(CascadePanel):
    """Settings that the webui's pipeline has no place for are told, and left out."""

    def asks(self, p: Any, args: Sequence[object]) -> bool:
        """Whether a job has settings of its own."""
        try:
            return super()._values(p, self.arguments(p, args), None) != DEFAULTS
        except PrismError:
            return True

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        values, pipe = super()._values(p, args, family), imports.in_use()
        of_file = imports.is_file(pipe)
        if of_file:
            values = own(values, pipe.sd_checkpoint_info)
        values = decoders.named(values, pipe.sd_checkpoint_info if of_file else None)
        asked = [name for name in self.panel.names if name in LACKING and values[name] != DEFAULTS[name]]
        if asked:
            labels = ", ".join(self.panel[name].label for name in asked)
            self.tell_error(p, f"this webui's pipeline of Stable Cascade has no {labels}; left out")
        values |= {name: DEFAULTS[name] for name in LACKING}
        return {**values, "preset": CASCADE.preset_of(values)}

    def tell_error(self, p: Any, text: str) -> None:
        """Writes it under the picture and into its infotext; the settings stay in force."""
        before = p.extra_generation_params.get(ERROR)
        p.extra_generation_params[ERROR] = f"{before}; {text}" if before else text
        self.remark(p, text)


host = NativeHost(CASCADE)


class Page:
    """See `panels.cascade.Host`; what is lacking is never asked for."""

    def decoders(self) -> list[str]:
        return decoders.names()

    def refresh(self) -> None:
        checkpoints.refresh()

    def keep(self, file: str) -> str:
        raise PrismError(panels.OWN)

    def again(self, tab: str, given: Mapping[str, object], file: str) -> panels.Shown:
        raise PrismError(panels.OWN)


def register() -> None:
    host.register()
    undo.enter(CASCADE.name, held())
    script_callbacks.on_model_loaded(_loaded)
    script_callbacks.on_app_started(lambda demo, app: add_routes(app))


def add_routes(app: FastAPI) -> None:
    """See `http`."""

    def model() -> JSONResponse:
        """Whether the loaded checkpoint is of Cascade, its decoder, and all decoders."""
        return routes.answered(loaded)

    routes.add(app, f"{routes.ROOT}/{CASCADE.name}", (routes.Route("model", model),))


def loaded() -> dict[str, Any]:
    """See `add_routes`; "" for a decoder that is not found, with the reason as "missing"."""
    pipe = imports.in_use()
    found: dict[str, Any] = {"cascade": pipe is not None, "decoder": "", "missing": "", "vision": True}
    if pipe is not None:
        info = pipe.sd_checkpoint_info
        found["compression"] = own_compression(info) if imports.is_file(pipe) else COMPRESSION
        try:
            found["decoder"] = name_of(decoders.find("", info) if imports.is_file(pipe) else info)
        except PrismError as error:
            found["missing"] = str(error)
    return found | {"decoders": decoders.names()}


def _loaded(model: Any) -> None:
    drawing.kept.release()
    imports.set_previews(model)


def held() -> ExitStack:
    """Until it is closed: files are loaded, and passes drawn by the panel."""
    stack = imports.wrapped()
    from modules import processing_diffusers  # with which the webui loads its first model, which may be a file of ours

    stack.callback(drawing.kept.release)
    stack.callback(imports.set_previews, None)
    stack.callback(undo.close, PASS)
    stack.enter_context(around(processing_diffusers, "set_pipeline_args", _pass))
    stack.enter_context(around(processing_diffusers, "process_diffusers", _batch))
    return stack


def watch(script: Any) -> None:
    """Presets leave the webui's own controls alone here."""


def ui(script: Any) -> list[Any]:
    return host.drawn(script, lambda: panels.build(script.elem_id, presets.store, Page(), LACKING).components)


# --- a job


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job."""
    host.forget(p)
    pipe = imports.in_use()
    if pipe is None or not (imports.is_file(pipe) or host.asks(p, args)):
        return
    host.begin(p, args)
    if getattr(p, "init_images", None):
        host.tell_error(p, "this webui's pipeline of Stable Cascade does not start from pictures; the prompt is drawn")
    if getattr(p, "enable_hr", False):
        host.tell_error(p, "this webui's pipeline of Stable Cascade has no hires fix; switch it off")


def passed(*given: Any) -> None:
    """What other webuis have hooks for is done in `_pass`."""


before_batch = before_sampling = after_sampling = after_job = passed


def _wanted(p: Any) -> Mapping[str, Value] | None:
    """The settings of a job; the defaults for a file where no script was told, None where a folder is the webui's."""
    pipe = imports.in_use()
    if pipe is None:
        return None
    values = host.current(p)
    return own(DEFAULTS, pipe.sd_checkpoint_info) if values is None and imports.is_file(pipe) else values


def _pass(original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
    """The webui makes a pipeline's arguments."""
    undo.close(PASS)
    values = _wanted(p)
    if values is not None:
        p.refiner_steps, p.image_cfg_scale = int(values["steps"]), float(values["cfg"])
    made = original(p, *args, **kwargs)
    if values is not None:
        undo.enter(PASS, drawing.prepared(imports.in_use(), p, values, made))
    return made


def _batch(original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return original(p, *args, **kwargs)
    finally:
        undo.close(PASS)
