"""A picture without a web server: a request in the API's field names to PNG bytes, for the command line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
) -> Result:
    """Pictures for a request in the API's field names; the host is opened once per checkpoint and folder.

    A request with `init_images` is an img2img job.

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
        tab = "img2img" if "init_images" in request else "txt2img"
        outcome = host.run(host.request_of(request, tab), listener=listener)
    return _result(outcome)


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
