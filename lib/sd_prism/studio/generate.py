"""A picture without a web server: a request in the API's field names to PNG bytes, for the command line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_prism.errors import PrismError
from sd_prism.studio import host, pictures


@dataclass(frozen=True)
class Result:
    """What one request gave.

    Attributes:
        images: PNG files as bytes, each with its infotext in the text chunk "parameters".
        infotexts: one per picture.
        info: seconds, steps, seed (the first picture's), seeds, size, model (title and hash), panels (titles of
            the panels that were on).
    """

    images: list[bytes]
    infotexts: list[str]
    info: dict[str, Any]


_open_for: list[tuple] = []
_lock = threading.Lock()


def generate(
    request: dict,
    *,
    checkpoint: str | Path | None = None,
    data_dir: str | Path | None = None,
    extensions: Sequence[str | Path] = (),
    listener: Callable[[Any], None] | None = None,
    lora_dir: str | Path | None = None,
    card: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Result:
    """Pictures for a request in the API's field names; the host is opened once per checkpoint and folder.

    A request with `init_images` is an img2img job.

    Args:
        card: a card's name, or "auto" for that of the checkpoint; the request's own fields win over it.
        defaults: fields for what neither the request nor the card says.

    Raises:
        PrismError: the request or the checkpoint is not usable; the text says why.
    """
    from sd_prism.studio import page

    key = (str(checkpoint or ""), str(host.data_folder(data_dir)), tuple(map(str, extensions)), str(lora_dir or ""))
    with _lock:
        if _open_for != [key] or "modules.shared" not in sys.modules:
            host.open_host(data_dir=data_dir, checkpoint=checkpoint, extensions=extensions, lora_dir=lora_dir)
            page.build_fields()
            _open_for[:] = [key]
        request = {**(defaults or {}), **(_followed(card, request) if card else request)}
        tab = "img2img" if "init_images" in request else "txt2img"
        outcome = host.run(host.request_of(request, tab), listener=listener)
    return _result(outcome)


def _followed(name: str, request: dict) -> dict:
    """The request with a card's values; what of the card the studio cannot do is told on stderr."""
    from sd_prism.hosts.cards import catalogue
    from sd_prism.studio import presets

    if name.casefold() == "auto":
        fitting = catalogue.offered(catalogue.chosen())
        if fitting is None or not fitting.sure:
            raise PrismError("No card is known for this checkpoint; name one with --card NAME")
        found = fitting.card
    else:
        found = catalogue.find(name)
    lacking = catalogue.lacking(found)
    for why in lacking.values():
        print(f"prism: {found.name}: {why}; it is left out", file=sys.stderr)
    return presets.by_card(found, request, lacking)


def _result(outcome: host.Outcome) -> Result:
    from modules import shared

    processed, first = outcome.processed, outcome.processed.index_of_first_image
    # The hires pass has a size of its own.
    width, height = next((image.size for image in processed.images[first:]), (processed.width, processed.height))
    info = {
        "seconds": round(outcome.seconds, 3),
        "steps": processed.steps,
        "seed": processed.all_seeds[0],
        "seeds": list(processed.all_seeds),
        "width": width,
        "height": height,
        "sampler": processed.sampler_name,
        "model": shared.sd_model.sd_checkpoint_info.title,
        "hash": processed.sd_model_hash,
        "panels": host.panels_on(outcome.args, outcome.tab),
    }
    images = [pictures.png_bytes(image) for image in processed.images[first:]]
    return Result(images, list(processed.infotexts[first:]), info)
