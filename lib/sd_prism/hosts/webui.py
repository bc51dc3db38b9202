"""What every Prism script does in a webui of the A1111 family: arguments, infotext, X/Y/Z axes, unloading.

A `PanelHost` serves one panel. It keeps a job's values on `p` as plain JSON, because a host copies and dumps `p`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modules import script_callbacks, scripts, sd_models

from .. import infotext
from ..errors import PrismError
from ..panels.compat import NO_PIPELINES, unavailable
from ..settings import Field, Panel, Value
from . import controls as page
from . import model, options, pipelines, presets
from .undo import undo

log = logging.getLogger("prism")


class PanelHost:
    """Binds a panel's declaration to a host's script hooks.

    Attributes:
        cost: of a change along one of the panel's X/Y/Z axes; the host changes the cheapest axis most often.
    """

    cost = 0.0

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.attribute = f"_prism_{panel.name}"
        self.error_key = f"{panel.title} error"

    # --- page and infotext

    def drawn(self, script: Any, build: Callable[[], list[Any]]) -> list[Any]:
        """A tab's components, pasted into by the host; of a hidden panel those that nobody sees.

        Where no job could ever be ours, a line that says so.
        """
        from ..panels import controls

        if pipelines.idle():
            return unavailable(self.panel.title, script.elem_id("panel"), NO_PIPELINES)
        if options.is_hidden(self.panel):
            components = controls.unseen(self.panel, script.elem_id)
        else:
            components = build()
            controls.start_with(options.start_of(self.panel), dict(zip(self.panel.names, components)))
        script.infotext_fields = self.paste_fields(components)
        script.paste_field_names = [self.panel.title]
        page.keep(script, self.panel, components)
        return components

    def paste_fields(self, components: Sequence[Any]) -> list[tuple[Any, Callable[[dict[str, Any]], Value]]]:
        """One function per component; a picture without our key switches the panel off, explicitly."""

        def reader(name: str) -> Callable[[dict[str, Any]], Value]:
            return lambda params: self.pasted(params)[name]

        return [(component, reader(name)) for name, component in zip(self.panel.names, components)]

    def pasted(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """The values that a pasted infotext stands for."""
        return infotext.loads(self.panel, params.get(self.panel.title))

    # --- one job

    def arguments(self, p: Any, args: Sequence[object]) -> Sequence[object]:
        """The script's arguments in our form."""
        return args

    def begin(self, p: Any, args: Sequence[object], family: str | None = None) -> dict[str, Value] | None:
        """Reads this job's values onto `p` and its infotext; None when the panel is off or its input is bad.

        Cells of an X/Y/Z grid share one infotext dictionary, so our keys go first.
        """
        self.forget(p)
        presets.refresh()
        try:
            values = self._values(p, self.arguments(p, args), family)
        except PrismError as error:
            self.fail(p, error)
            return None
        if not values.get("enabled", True):
            return None
        if pipelines.idle():  # since the page was drawn
            self.fail(p, PrismError(NO_PIPELINES))
            return None
        setattr(p, self.attribute, values)
        self.tell(p, values)
        return values

    def tell(self, p: Any, values: Mapping[str, Value], more: str = "") -> None:
        """Writes a job's settings into its infotext, as much of them as the webui's settings want there."""
        if text := told(self.panel, values):
            p.extra_generation_params[self.panel.title] = f"{text}{more}"

    def forget(self, p: Any) -> None:
        """Takes away what an earlier job, or another cell of a grid, has left."""
        for key in (self.panel.title, self.error_key):
            p.extra_generation_params.pop(key, None)
        setattr(p, self.attribute, None)

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        values = self.panel.read(args, family)
        cell = getattr(p, "_prism_xyz", {}).get(self.panel.name)
        if not cell:
            return values
        if "enabled" in cell and not self.panel["enabled"].check(cell["enabled"], self.panel.title):
            return dict(self.panel.off)
        return self.panel.over(values, cell, family)

    def current(self, p: Any) -> dict[str, Value] | None:
        return getattr(p, self.attribute, None)

    def fail(self, p: Any, error: Exception) -> None:
        """Shows an error where the user looks: under the picture, in its infotext, in the log. The job goes on."""
        log.error("%s: %s", self.panel.title, error)
        setattr(p, self.attribute, None)
        p.extra_generation_params.pop(self.panel.title, None)
        p.extra_generation_params[self.error_key] = str(error)
        self.remark(p, str(error))

    def remark(self, p: Any, text: str) -> None:
        """Shows a text under the picture."""
        if hasattr(p, "comment"):
            p.comment(f"{self.panel.title}: {text}")

    # --- registration, from the script file, at every load

    def register(self) -> None:
        script_callbacks.on_before_ui(self._add_axes)
        script_callbacks.on_script_unloaded(unload)
        options.register()

    def _add_axes(self) -> None:
        presets.refresh()
        grid = _xyz_grid()
        if grid is not None:
            undo.enter(f"{self.panel.name} axes", self._axes(grid))

    @contextmanager
    def _axes(self, grid: Any) -> Iterator[None]:
        """The panel's axes among the grid's, which in SD.Next outlive a reload."""
        present, ours = {option.label for option in grid.axis_options}, []
        for label, one in self.panel.axes():
            if label not in present:
                kind = type(one.default) if type(one.default) in (int, float) else str
                options = {"cost": self.cost, "choices": self.choices(one)}
                ours.append(grid.AxisOption(label, kind, self._apply(one), **options))
        grid.axis_options.extend(ours)
        yield
        grid.axis_options[:] = [option for option in grid.axis_options if option not in ours]

    def choices(self, one: Field) -> Callable[[], list[str]] | None:
        """What the grid's menu of values offers."""
        if isinstance(one.default, bool):
            return lambda: ["true", "false"]
        return (lambda: self._menu(one.name)) if one.choices else None

    def _menu(self, name: str) -> list[str]:
        presets.refresh()
        return list(self.panel[name].choices)

    def _apply(self, one: Field) -> Callable[[Any, Any, Any], None]:
        def apply(p: Any, x: object, xs: object) -> None:
            cells = getattr(p, "_prism_xyz", {})
            # a cell is a shallow copy of p: never change the shared dictionary
            p._prism_xyz = {**cells, self.panel.name: {**cells.get(self.panel.name, {}), one.name: x}}

        return apply


def told(panel: Panel, values: Mapping[str, Value]) -> str:
    """What a picture's infotext says of a panel's settings; "" where the webui's settings want nothing there."""
    amount = options.infotext_amount()
    return "" if amount == options.NONE else infotext.dumps(panel, values, full=amount == options.FULL)


def _xyz_grid() -> Any:
    """The host's grid script as a module; its class carries the file's name as module name."""
    for entry in scripts.scripts_data:
        if entry.script_class.__module__ in ("xyz_grid.py", "scripts.xyz_grid"):
            return entry.module
    return None


def loaded_model() -> Any:
    """The loaded model; None where there is none yet. To ask the host for its model would load one.

    Forge has an empty one until the first job; reForge empties a model before it loads the next one, which may fail.
    """
    loaded = sd_models.model_data.sd_model
    return loaded if hasattr(loaded, "sd_checkpoint_info") and getattr(loaded, "_parameters", {}) is not None else None


def family() -> str:
    """The loaded model's family, as presets and dialects name it; "" for another one."""
    loaded = loaded_model()
    pipe = model.pipeline(loaded)
    if pipe is not None:
        return model.pipeline_family(pipe)
    return next((name for name in ("sdxl", "sd2", "sd1") if getattr(loaded, f"is_{name}", False)), "")


def unload() -> None:
    """Undoes everything, then forgets our modules, so that a reload runs new code. The studio itself stays."""
    try:
        undo.close_all()
    finally:
        for name in list(sys.modules):
            if name.split(".")[0] == "sd_prism" and not name.startswith("sd_prism.studio"):
                del sys.modules[name]
