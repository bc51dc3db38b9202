"""The studio against the bare diffusers loop on the same UNet, and what Prism costs where it is installed and off.

Two processes: a studio with Prism's scripts and one without. The bare loop runs in the second, on torch's layers as
they were before the studio patched them: one process draws steps up to a fifth slower than another for no reason of its
own. Rounds are interleaved, one thread each, CPU time, and the least of all rounds counts: load on the machine then
hits all alike. Read the ratios; the milliseconds are one machine's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..studio.header import BETA_END, BETA_START
from ..studio.lora import LAYERS
from . import report

Row = dict[str, Any]
Draw = Callable[[int, Callable[[], None]], None]
LIB = Path(__file__).resolve().parents[2]
REPOSITORY = LIB.parent
STEPS, SIZE, ROUNDS = 20, 128, 8
TARGETS = {"step": 1.05, "job with Prism off": 1.0}
JOB: dict[str, Any] = {
    "prompt": "species:fish, color:red, place:sea",
    "sampler_name": "Euler",
    "scheduler": "Automatic",
    "steps": STEPS,
    "cfg_scale": 7.0,
    "seed": 1,
    "width": SIZE,
    "height": SIZE,
}


def run(rounds: int = ROUNDS, steps: int = STEPS) -> dict[str, Any]:
    """Rows of milliseconds: first picture, step, job with Prism off, start; about a minute."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_processes:
        processes = {}
        for name in ("prism", "plain"):
            processes[name] = Process(name, Path(folder, name))
            open_processes.callback(processes[name].end)
            if name == "prism":
                first = processes[name].started + processes[name].ask("draw", steps)["wall"]
        best = interleaved(processes, rounds, steps)
        start = processes["plain"].ask("start", steps)
    rows = [
        row("first picture", {"cold process": first * 1e3}),
        row("step", {"studio": best["plain draw step"], "bare diffusers": best["plain bare step"]}),
        row("job with Prism off", {"with Prism": best["prism draw cpu"], "without": best["plain draw cpu"]}),
        row("start of Prism", {"import and ui()": start["prism"] * 1e3, "whole studio": start["studio"] * 1e3}),
    ]
    return report("studio", rows)


def row(what: str, ms: dict[str, float]) -> Row:
    """Milliseconds by name, and the ratio of the first to the second."""
    values = list(ms.values())
    ratio = values[0] / values[1] if len(values) > 1 else None
    return {"what": what, "ms": ms, "ratio": ratio, "target": TARGETS.get(what)}


def interleaved(processes: dict[str, Process], rounds: int, steps: int) -> dict[str, float]:
    """The least milliseconds of each process and loop for all it draws ("plain bare cpu") and for a step of it."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, process in processes.items():
            for loop in ("draw",) if name == "prism" else ("draw", "bare"):
                answer = process.ask(loop, steps)
                for what in ("cpu", "step"):
                    key = f"{name} {loop} {what}"
                    best[key] = min(best.get(key, float("inf")), answer[what] * 1e3)
    return best


class Process:
    """A measured process: it does what it is asked, one line at a time."""

    def __init__(self, which: str, data: Path) -> None:
        paths = {"PYTHONPATH": str(LIB), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "sd_prism.bench.studio", which, str(data)]
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **paths}
        )
        self._read()
        self.started = time.perf_counter() - begun

    def ask(self, what: str, steps: int) -> dict[str, float]:
        """The answer to "draw", "bare" or "start", in seconds."""
        assert self.process.stdin
        self.process.stdin.write(f"{what} {steps}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the measured process ended with exit code {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


# --- inside the measured process ----------------------------------------------------------------------------------


def serve(which: str, data: str) -> None:
    """Open a studio, or load its model alone, and answer lines from stdin until they end."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may come between the answers

    def answer(found: dict[str, float]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    import torch

    torch.set_num_threads(1)
    untouched = {kind: kind.forward for kind in LAYERS}
    begun = time.thread_time()
    draws = {"draw": opened_studio(data, builtin=which == "prism")}
    opened = time.thread_time() - begun
    draws["bare"] = with_forwards(untouched, bare_loop())
    answer({"started": opened})
    for line in sys.stdin:
        what, steps = line.split()
        if what == "start":
            answer({"prism": start_of_prism(), "studio": opened})
        else:
            answer(timed(partial(draws[what], int(steps))))


def with_forwards(forwards: dict[Any, Any], draw: Draw) -> Draw:
    """`draw` on layers whose forward is as given, for the length of a call."""

    def swap(wanted: dict[Any, Any]) -> dict[Any, Any]:
        found = {kind: kind.forward for kind in wanted}
        for kind, forward in wanted.items():
            kind.forward = forward
        return found

    def drawn(steps: int, mark: Callable[[], None]) -> None:
        patched = swap(forwards)
        try:
            draw(steps, mark)
        finally:
            swap(patched)

    return drawn


def timed(work: Callable[[Callable[[], None]], object]) -> dict[str, float]:
    """CPU and wall seconds of `work(mark)`, and its quickest step; it calls `mark` after each."""
    marks: list[float] = []
    wall, cpu = time.perf_counter(), time.thread_time()
    work(lambda: marks.append(time.thread_time()))
    step = min((later - earlier for earlier, later in pairwise(marks)), default=float("inf"))
    return {"cpu": time.thread_time() - cpu, "wall": time.perf_counter() - wall, "step": step}


def opened_studio(data: str, *, builtin: bool) -> Draw:
    """Whole jobs as HTTP asks for them, from the request to the pictures."""
    from ..studio import host, page

    host.open_host(data_dir=data, builtin=builtin)
    page.build()

    def draw(steps: int, mark: Callable[[], None]) -> None:
        host.run(host.request_of({**JOB, "steps": steps}), listener=lambda state: mark())

    return draw


def bare_loop() -> Draw:
    """The loop of a diffusers pipeline on the same UNet, with guidance in one batch and, as there, under no_grad."""
    import torch
    from diffusers import EulerDiscreteScheduler

    from ..miniatures import MINI_V1
    from ..studio import checkpoint

    model = checkpoint.load(MINI_V1)
    scheduler: Any = EulerDiscreteScheduler(
        beta_start=BETA_START, beta_end=BETA_END, beta_schedule="scaled_linear", prediction_type=model.prediction_type
    )
    context = model.text.encode(["", JOB["prompt"]])["crossattn"]
    noise = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))

    def draw(steps: int, mark: Callable[[], None]) -> None:
        scheduler.set_timesteps(steps)
        x = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([x, x]), t)
            out = model.unet(rows, t, encoder_hidden_states=context, return_dict=False)[0]
            uncond, cond = out.chunk(2)
            x = scheduler.step(uncond + JOB["cfg_scale"] * (cond - uncond), t, x, return_dict=False)[0]
            mark()

    return torch.no_grad()(draw)


def start_of_prism() -> float:
    """Seconds to import every script of Prism and to build its panels as often as a webui does; once per process."""
    import gradio as gr
    from modules import script_loading, scripts

    begun = time.thread_time()
    for file in sorted((REPOSITORY / "scripts").glob("*.py")):
        module = script_loading.load_module(str(file))
        found = [x for x in vars(module).values() if isinstance(x, type) and issubclass(x, scripts.Script)]
        for is_img2img in (False, True):
            script = found[0]()
            script.is_img2img, script.is_txt2img = is_img2img, not is_img2img
            with gr.Blocks(analytics_enabled=False):
                for _ in range(3):
                    script.ui(is_img2img)
    return time.thread_time() - begun


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = []
    for each in rows:
        ms = ", ".join(f"{name} {value:.1f} ms" for name, value in each["ms"].items())
        ratio = f"{each['ratio']:6.3f}" if each["ratio"] is not None else " " * 6
        target = f" (target {each['target']:.2f})" if each["target"] is not None else ""
        lines.append(f"{each['what']:20} {ratio}  {ms}{target}")
    return "\n".join(lines)


if __name__ == "__main__":
    serve(*sys.argv[1:])
