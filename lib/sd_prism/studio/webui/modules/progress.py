"""Where a job stands, told to the page while it runs: progress, time left and live preview."""

from __future__ import annotations

import base64
import io
import random
import string
import time
from typing import Any

from pydantic import BaseModel

from modules import shared

REMEMBERED = 16

current_task: str | None = None
pending_tasks: dict[str, float] = {}
finished_tasks: list[str] = []


def create_task_id(task_type: str) -> str:
    """A name for a job that has none."""
    letters = "".join(random.choices(string.ascii_uppercase + string.digits, k=7))
    return f"task({task_type}-{letters})"


def add_task_to_queue(id_job: str) -> None:
    """A job waits for its turn."""
    pending_tasks[id_job] = time.time()


def start_task(id_task: str) -> None:
    """A job's turn has come."""
    global current_task
    current_task = id_task
    pending_tasks.pop(id_task, None)


def finish_task(id_task: str) -> None:
    """A job is over, whatever its outcome."""
    global current_task
    if current_task == id_task:
        current_task = None
    pending_tasks.pop(id_task, None)
    if id_task not in finished_tasks:
        finished_tasks.append(id_task)
    del finished_tasks[:-REMEMBERED]


class ProgressRequest(BaseModel):
    """Which job is asked for, and which preview the page has already."""

    id_task: str | None = None
    id_live_preview: int = -1
    live_preview: bool = True


class ProgressResponse(BaseModel):
    """`progress` is 0 to 1, `eta` in seconds, `live_preview` a data URL if there is a new one."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


class PendingTasksResponse(BaseModel):
    """The jobs that wait."""

    size: int
    tasks: list[str]


def setup_progress_api(app: Any) -> None:
    """The page's own routes."""
    app.add_api_route("/internal/pending-tasks", get_pending_tasks, methods=["GET"], include_in_schema=False)
    app.add_api_route("/internal/progress", progressapi, methods=["POST"], include_in_schema=False)


def get_pending_tasks() -> PendingTasksResponse:
    """The jobs that wait."""
    return PendingTasksResponse(size=len(pending_tasks), tasks=list(pending_tasks))


def progressapi(req: ProgressRequest) -> ProgressResponse:
    """Where one job is. A live preview is made here, in the asker's thread."""
    queued, completed = req.id_task in pending_tasks, req.id_task in finished_tasks
    if req.id_task is None or req.id_task != current_task:
        return ProgressResponse(
            active=False, queued=queued, completed=completed, id_live_preview=-1, textinfo=_place(req.id_task)
        )
    state = shared.state
    done = min(_done(state), 1.0)
    left = (time.time() - state.time_start) * (1 - done) / done if done else None
    preview = _preview(req) if shared.opts.live_previews_enable and req.live_preview else None
    return ProgressResponse(
        active=True,
        queued=queued,
        completed=completed,
        progress=done,
        eta=left,
        live_preview=preview,
        id_live_preview=state.id_live_preview if preview else req.id_live_preview,
        textinfo=state.textinfo,
    )


def _place(id_task: str | None) -> str:
    waiting = sorted(pending_tasks, key=lambda name: pending_tasks[name])
    return f"In queue: {waiting.index(id_task) + 1}/{len(waiting)}" if id_task in waiting else "Waiting..."


def _done(state: Any) -> float:
    if state.job_count <= 0:
        return 0.0
    within = state.sampling_step / state.sampling_steps if state.sampling_steps > 0 else 0.0
    return (state.job_no + within) / state.job_count


def _preview(req: ProgressRequest) -> str | None:
    state = shared.state
    state.set_current_image()
    image = state.current_image
    if image is None or state.id_live_preview == req.id_live_preview:
        return None
    kind = shared.opts.live_previews_image_format
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
