"""What the running job tells the rest of the host."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any


class State:
    """Progress and wishes of the one running job."""

    def __init__(self) -> None:
        self.server_start = time.time()
        self.listeners: list[Callable[[State], None]] = []
        self._reset("", 0)

    def _reset(self, job: str, job_count: int) -> None:
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count, self.job_no = job, job_count, 0
        self.processing_has_refined_job_count = False
        self.sampling_step = self.sampling_steps = 0
        self.current_latent: Any = None
        self.current_image: Any = None
        self.current_image_sampling_step = self.id_live_preview = 0
        self.textinfo: str | None = None
        self.time_start = time.time()
        self.job_timestamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")

    def begin(self, job: str = "(unknown)") -> None:
        """Start a job; its number of batches is not known yet (-1)."""
        self._reset(job, -1)

    def end(self) -> None:
        """The job is over, whatever its outcome."""
        self.job, self.job_count = "", 0

    def nextjob(self) -> None:
        """One pass of a batch is done."""
        from modules.shared import opts

        if opts.live_previews_enable and opts.show_progress_every_n_steps == -1:
            self.do_set_current_image()
        self.job_no += 1
        self.sampling_step = self.current_image_sampling_step = 0

    def step(self, number: int) -> None:
        """The sampler finished call `number`; tells the listeners."""
        self.sampling_step = number
        for listener in list(self.listeners):
            listener(self)

    @contextlib.contextmanager
    def listening(self, listener: Callable[[State], None] | None) -> Iterator[None]:
        """Call `listener` after each step inside the block."""
        if listener is None:
            yield
            return
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)

    def skip(self) -> None:
        """Skip the current batch."""
        self.skipped = True

    def interrupt(self) -> None:
        """End the job after the current step."""
        self.interrupted = True

    def stop_generating(self) -> None:
        """End the job after the current batch."""
        self.stopping_generation = True

    def set_current_image(self) -> None:
        """Make a preview if the settings want one and enough steps were made since the last; whoever shows it calls."""
        from modules.shared import opts

        period = opts.show_progress_every_n_steps
        steps = self.sampling_step - self.current_image_sampling_step
        if opts.live_previews_enable and period != -1 and steps >= period:
            self.do_set_current_image()

    def do_set_current_image(self) -> None:
        """`current_image` from `current_latent`; a model that allows no preview draws without one."""
        from modules import errors, sd_samplers
        from modules.shared import opts

        latent = self.current_latent
        if latent is None:
            return
        shown = sd_samplers.samples_to_image_grid if opts.show_progress_grid else sd_samplers.sample_to_image
        try:
            self.assign_current_image(shown(latent))
            self.current_image_sampling_step = self.sampling_step
        except Exception:  # as when the checkpoint changes in between; the picture itself is not concerned
            errors.record_exception()

    def assign_current_image(self, image: Any) -> None:
        """Show `image`; its number tells that it is new."""
        self.current_image = image
        self.id_live_preview += 1

    def progress(self) -> float:
        """The finished part of the job, 0 to 1."""
        if self.job_count == 0:
            return 0.0
        batches = max(self.job_count, 1)
        within = (self.sampling_step + 1) / self.sampling_steps if self.sampling_steps else 0.0
        return min(1.0, (self.job_no + min(within, 1.0)) / batches)

    def dict(self) -> dict[str, Any]:
        """The fields that the progress route shows."""
        names = (
            "skipped",
            "interrupted",
            "stopping_generation",
            "job",
            "job_count",
            "job_timestamp",
            "job_no",
            "sampling_step",
            "sampling_steps",
        )
        return {name: getattr(self, name) for name in names}
