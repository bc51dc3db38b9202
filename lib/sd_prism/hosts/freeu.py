""" "Prism FreeU" in a webui: hooks on the live UNet for the time of one sampling run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import shared

from ..errors import PrismError
from ..settings import FREEU
from .undo import undo
from .webui import PanelHost

host = PanelHost(FREEU)


def ui(script: Any) -> list[Any]:
    from ..panels import freeu

    components = freeu.build(script.elem_id)
    script.infotext_fields = host.paste_fields(components)
    script.paste_field_names = [FREEU.title]
    return components


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job; also the clean-up after one that ended in an exception."""
    undo.close(FREEU.name)
    host.begin(p, args)


def before_sampling(p: Any) -> None:
    """Every pass hooks the UNet that is live now: a hires checkpoint or a refiner may have replaced it."""
    undo.close(FREEU.name)
    values = host.current(p)
    if values is None:
        return
    from .. import freeu

    b1, b2, s1, s2 = (float(values[name]) for name in ("b1", "b2", "s1", "s2"))
    settings = freeu.FreeU(b1=b1, b2=b2, s1=s1, s2=s2, version=int(values["version"]))
    try:
        _refuse_other_unet()
        undo.enter(FREEU.name, freeu.attach(shared.sd_model.model.diffusion_model, settings))
    except PrismError as error:
        host.fail(p, error)


def after_sampling() -> None:
    undo.close(FREEU.name)


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
