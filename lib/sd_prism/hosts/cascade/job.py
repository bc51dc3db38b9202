"""A job that a webui runs with a Cascade checkpoint: its settings, its pictures' size, what stage B needs of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules import prompt_parser, shared
from torch import Tensor

from ...settings import CASCADE, Value
from ...settings.cascade import COARSEST, COMPRESSION, FINEST
from ..checkpoints import texts
from .latents import Picture

log = logging.getLogger("prism")

VALUES = f"_prism_{CASCADE.name}"
DEFAULTS = CASCADE.read({})
OF_FILE = "file_compression"
OWN_COMPRESSION = "prism.cascade.compression"  # in a file's metadata
ERROR = f"{CASCADE.title} error"
"""The key of the infotext that tells of a picture without stage B."""


@dataclass
class CascadeJob:
    """A job that the host runs with a Cascade checkpoint.

    Attributes:
        p: the host's own object of the job.
        counted: whether the host's progress counts the runs of stage B.
        images: (n,width) vectors of the image prompt; None without one.
        noisy: what stage C was last asked about, (N,16,h,w).
        pictures: what stage C made, by the picture's number in the job; of the hires pass where there is one.
    """

    p: Any
    counted: bool = False
    images: Tensor | None = None
    noisy: Tensor | None = None
    pictures: dict[int, Picture] = field(default_factory=dict)
    _pass: tuple[int, bool] = (-1, False)
    _first: int = 0
    _done: int = 0

    @property
    def is_first(self) -> bool:
        """Whether the last pictures were the first ones of their pass."""
        return self._first == 0

    @property
    def values(self) -> Mapping[str, Value]:
        """The panel's settings for the job; the defaults where no script was told."""
        told = getattr(self.p, VALUES, None)
        return told or own(DEFAULTS, shared.sd_model.sd_checkpoint_info)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures of the running pass, multiples of 8."""
        p = self.p
        width, height = p.width, p.height
        if getattr(p, "is_hr_pass", False):
            width, height = p.hr_upscale_to_x, p.hr_upscale_to_y
            if p.hr_resize_x and p.hr_resize_y:
                width, height = min(width, p.hr_resize_x), min(height, p.hr_resize_y)
        return int(width) // 8 * 8, int(height) // 8 * 8

    def next(self, latents: Tensor) -> list[Picture]:
        """The next pictures of the running pass, as latents (N,16,h,w) of stage C."""
        p, now = self.p, (self.p.iteration, bool(getattr(self.p, "is_hr_pass", False)))
        if now != self._pass or self._done >= len(p.seeds):  # a host that is interrupted asks again from the start
            self._pass, self._done = now, 0
        self._first, self._done = self._done, self._done + len(latents)
        conds, negatives = self._conds(now[1])
        resized = p.seed_resize_from_w > 0 and p.seed_resize_from_h > 0
        found = []
        for index, latent in enumerate(latents, self._first):
            at = min(index, len(p.seeds) - 1)
            picture = Picture(
                latent.detach().float().cpu(),
                self.size,
                conds[min(index, len(conds) - 1)],
                negatives[min(index, len(negatives) - 1)],
                int(p.seeds[at]),
                int(p.subseeds[min(at, len(p.subseeds) - 1)]),
                float(p.subseed_strength),
                int(p.seed_resize_from_w) if resized else 0,
                int(p.seed_resize_from_h) if resized else 0,
                shared.sd_model.sd_checkpoint_info.name_for_extra,
                dict(self.values),
            )
            found.append(picture)
            self.pictures[p.iteration * p.batch_size + index] = picture
        return found

    def remark(self, text: str) -> None:
        """Show a text under the picture."""
        self.p.comment(f"{CASCADE.title}: {text}")

    def tell(self, error: Exception) -> None:
        """Show an error there and in the infotext; the settings stay in force, for sizes depend on them."""
        log.error("%s: %s", CASCADE.title, error)
        self.p.extra_generation_params[ERROR] = str(error)
        self.remark(str(error))

    def _conds(self, hires: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Each prompt's pooled text as it is at the last step, that of AND parts weighted; and the negative ones."""
        p = self.p
        conds = getattr(p, "hr_c", None) if hires else None
        conds, negatives = (conds, p.hr_uc) if conds is not None else (p.c, p.uc)
        if negatives is None:  # hosts may leave them out where stage C has no guidance
            texts = p.hr_negative_prompts if hires else p.negative_prompts
            negatives = prompt_parser.get_learned_conditioning(shared.sd_model, texts, p.steps)
        pooled = []
        for parts in conds.batch:
            weights = [abs(part.weight) for part in parts]
            total = sum(weights) or 1.0
            pooled.append(sum(_last(part.schedules) * (weight / total) for part, weight in zip(parts, weights)))
        return pooled, [_last(schedules) for schedules in negatives]


def own(values: Mapping[str, Value], info: Any) -> dict[str, Value]:
    """Settings with a checkpoint's own compression for the default one, unless that was asked for."""
    asked = values["compression"]
    return {**values, "compression": own_compression(info) if asked == COMPRESSION and values[OF_FILE] else asked}


def own_compression(info: Any) -> int:
    """What a checkpoint says that it was trained at; the default where it says nothing."""
    told = str(texts(info).get(OWN_COMPRESSION, ""))
    return int(told) if told.isdigit() and FINEST <= int(told) <= COARSEST else COMPRESSION


def _last(schedules: Sequence[Any]) -> Tensor:
    """The pooled text of a prompt's last schedule."""
    vector: Tensor = schedules[-1].cond["vector"]
    return vector.detach().float().cpu().flatten()
