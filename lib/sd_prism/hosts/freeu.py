""" "Prism FreeU" in a webui: hooks on the live UNet for the time of one sampling run."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from modules import shared

from .. import infotext
from ..errors import PrismError
from ..freeu import others
from ..settings import FREEU, Value
from . import model, pipelines, presets
from .progress import progress, steps_taken
from .undo import undo
from .webui import PanelHost, family, log

NEIGHBOURS = {
    "FreeU Stages": "the extension FreeU (sd-webui-freeu)",
    "freeu_enabled": "the webui's FreeU Integrated",
    "FreeU": "the webui's own FreeU",
}


class FreeUHost(PanelHost):
    """Also reads what other programs write of their FreeU, in arguments and in infotexts."""

    def arguments(self, p: Any, args: Sequence[object]) -> Sequence[object]:
        read = others.from_arguments(args, steps=getattr(p, "steps", None))
        if read is None:
            return args
        for note in read.notes:
            self.remark(p, note)
        return [read.values]

    def pasted(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Our own key first; else another program's FreeU."""
        try:
            read = None if self.panel.title in params else others.from_infotext(params)
            if read is not None:
                return self.panel.read(read.values)
        except PrismError as error:
            log.warning("%s left a pasted FreeU out: %s", self.panel.title, error)
        return infotext.loads(self.panel, params.get(self.panel.title))


host = FreeUHost(FREEU)
measurements: dict[int, Any] = {}  # of the last run that was measured, by stage
WITHOUT = "_prism_freeu_without"  # marks the second run of a comparison


def register() -> None:
    host.register()
    progress.register()
    pipelines.register(before_sampling=lambda p: before_sampling(p), after_sampling=lambda p: after_sampling())


def ui(script: Any) -> list[Any]:
    from ..panels import freeu, measurement

    return host.drawn(
        script, lambda: freeu.build(script.elem_id, presets.store, lambda: measurement.html(measurements))
    )


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job; also the clean-up after one that ended in an exception."""
    undo.close(FREEU.name)
    values = host.begin(p, [False] if getattr(p, WITHOUT, False) else args, family=family())
    if values and FREEU.all_presets.get(str(values["preset"])) == {}:
        _explain(p, str(values["preset"]))


def before_batch() -> None:
    progress.begin_batch()


def before_sampling(p: Any) -> None:
    """Every pass hooks the UNet that is live now: a hires checkpoint or a refiner may have replaced it."""
    undo.close(FREEU.name)
    progress.begin_pass()
    values = host.current(p)
    if values is None:
        return
    from .. import freeu

    hires = bool(getattr(p, "is_hr_pass", False))
    try:
        settings = freeu.FreeU.of(values, steps=steps_taken(p, hires))
        _refuse_other_unet()
        if settings.compatible:
            where = progress.calls_through_all_passes
        else:
            where = progress.sigma if settings.domain == "sigma" else progress.steps
        unet = model.unet(shared.sd_model)
        enlarged = _enlarged(p) if hires else 1.0
        found = measurements if values["measure"] else None
        attached = freeu.attach(unet, settings, where, hires=hires, enlarged=enlarged, measurements=found)
        undo.enter(FREEU.name, attached)
    except PrismError as error:
        host.fail(p, error)
        return
    for key, name in NEIGHBOURS.items():
        if key in p.extra_generation_params:
            host.remark(p, f"{name} is on as well, so FreeU acts twice; switch one of them off")


def after_sampling() -> None:
    undo.close(FREEU.name)


def after_job(p: Any, processed: Any) -> None:
    """Draws the same pictures without FreeU, if asked, and puts each pair side by side before them."""
    undo.close(FREEU.name)
    values = host.current(p)
    if not values or not values["compare"]:
        return
    from modules import processing

    first = processed.index_of_first_image
    plain = copy.copy(p)
    plain.seed, plain.subseed, plain.extra_generation_params = list(p.all_seeds), list(p.all_subseeds), {}
    plain.do_not_save_grid = True
    plain._prism_xyz = {name: cell for name, cell in getattr(p, "_prism_xyz", {}).items() if name != FREEU.name}
    setattr(plain, WITHOUT, True)
    without = processing.process_images(plain)
    others, texts = without.images[without.index_of_first_image :], without.infotexts[without.index_of_first_image :]
    pairs = [side_by_side(*pair) for pair in zip(processed.images[first:], others)]
    infotexts = processed.infotexts[first : first + len(pairs)]
    for pair, text in zip(pairs, infotexts):
        pair.info["parameters"] = text
    processed.images[:] = [*pairs, *processed.images, *others]
    processed.infotexts[:] = [*infotexts, *processed.infotexts, *texts]
    processed.index_of_first_image += len(pairs)


def side_by_side(one: Any, other: Any) -> Any:
    """Two pictures as one: with FreeU on the left, without it on the right."""
    both = one.copy().resize((one.width + other.width, max(one.height, other.height)))
    both.paste(one, (0, 0))
    both.paste(other, (one.width, 0))
    return both


def _explain(p: Any, preset: str) -> None:
    from ..freeu.presets import PRESETS

    if preset in PRESETS and PRESETS[preset].note:
        host.remark(p, PRESETS[preset].note)


def _enlarged(p: Any) -> float:
    """How many times larger the hires pass's sides are than the first's, their geometric mean."""
    return math.sqrt(p.hr_upscale_to_x * p.hr_upscale_to_y / (p.width * p.height))


def _refuse_other_unet() -> None:
    """A host's alternative UNet (TensorRT and the like) never runs the torch modules that we hook."""
    try:
        from modules import sd_unet
    except ImportError:
        return
    if getattr(sd_unet, "current_unet", None) is not None:
        raise PrismError(
            "FreeU needs the model's own UNet, but the webui runs another one; "
            'choose "None" at Settings, Stable Diffusion, SD Unet'
        )
