"""The merge against what memory allows, and against the loops of its peers, re-typed or called.

The floor of a merge is the exclusive or of two arrays into a third, over the same number of bytes: two reads and a
write. Everything on one thread, CPU time, the least of interleaved rounds, in one process: load on the machine hits all
alike. Read the ratios; the milliseconds are one machine's. If the floors before and after differ by more than a
quarter, the figures mean nothing, and the report says so.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..merge import Layout, Plan, Recipe, bake, merge_into, restore
from . import report

Row = dict[str, Any]
FULL: dict[str, Any] = {"cross_attention_dim": 768}  # SD 1.5's UNet, in diffusers' words
SMALL = FULL | {  # a quarter of its weights, in tensors of the same sizes
    "block_out_channels": (320, 1280),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
ROUNDS, UNSTEADY = 5, 1.25
LIMITS = {
    "weighted sum": 1.25,
    "weighted sum, mapped": 1.3,
    "weighted sum, mapped anew": 2.0,
    "mixed types": 3.0,
    "add difference": 4.5,
    "three models": 2.2,
    "one block, M00": 1.3,
    "restore": 0.8,
}
UNCHANGED_MS, PRIVATE_MB, BAKE = 1.0, 64.0, 1.5
W = 0.3


def run(full: bool = False) -> dict[str, Any]:
    """Rows of milliseconds and ratios; `full` takes all of SD 1.5's UNet, 1.7 GB a model, in place of a quarter."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = Bench(Path(folder), FULL if full else SMALL).rows()
    finally:
        torch.set_num_threads(threads)
    return report("merge", rows)


class Bench:
    """Three random models of one build in files, and the first one loaded."""

    def __init__(self, folder: Path, build: Mapping[str, Any]) -> None:
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            unet: Any = UNet2DConditionModel(**build)
        self.live: nn.Module = unet.half().to_empty(device="cpu").requires_grad_(False)
        names = Layout.of({name: tuple(one.shape) for name, one in self.live.state_dict().items()}).names
        self.full = build is FULL
        self.folder, self.names = folder, {given: name for name, given in names.items()}
        self.files = {label: folder / f"{label}.safetensors" for label in "ABC"}
        for seed, file in enumerate(self.files.values()):
            self._draw(seed, file)
        self._draw(1, folder / "bf16.safetensors", torch.bfloat16)
        self.held = {label: self.load(label) for label in "AB"}
        self.live.load_state_dict(self.held["A"])
        self.plan: Plan | None = None
        self._turn = 0

    def _draw(self, seed: int, file: Path, dtype: torch.dtype = torch.float16) -> None:
        from safetensors.torch import save_file

        generator = torch.Generator().manual_seed(seed)
        shapes = {self.names[name]: one.shape for name, one in self.live.state_dict().items()}
        save_file(
            {name: torch.randn(shape, generator=generator).mul_(0.05).to(dtype) for name, shape in shapes.items()}, file
        )

    def load(self, label: str) -> dict[str, Tensor]:
        """The model in memory, by the live model's names."""
        from safetensors.torch import load_file

        held = load_file(self.files[label])
        return {given: held[name] for given, name in self.names.items()}

    def rows(self) -> list[Row]:
        """All of them; memory first, while nothing else is held."""
        private = private_row(self)
        size = sum(one.numel() for one in self.live.parameters())
        floor = Floor(size)
        calls = self._ours() | {f"peer: {name}": call for name, call in self._peers().items()}
        before, best, after = floor.measure(), measure(calls | {"floor": floor}), floor.measure()
        unsteady = max(before, after) / min(before, after) > UNSTEADY
        times = {name: ms for name, ms in best.items() if name != "floor"}
        base = min(before, after, best["floor"])
        rows = [row(name, ms, base * self._share(name), unsteady=unsteady) for name, ms in times.items()]
        return [*rows, self._unchanged(), private, self._bake()]

    def _share(self, name: str) -> float:
        """The part of all bytes that a row is about."""
        if "M00" not in name:
            return 1.0
        sizes = {name: one.numel() for name, one in self.live.state_dict().items()}
        return sum(size for name, size in sizes.items() if name.startswith("mid_block.")) / sum(sizes.values())

    def _ours(self) -> dict[str, Callable[[], object]]:
        mixed = {**self.files, "B": self.folder / "bf16.safetensors"}
        return {
            "weighted sum": lambda: self.merge("B:{}", self.held),
            "weighted sum, mapped": lambda: self.merge("B:{}", self.files),
            "weighted sum, mapped anew": lambda: self.merge("B:{}", self.files, anew=True),
            "mixed types": lambda: self.merge("B:{}", mixed),
            "add difference": lambda: self.merge("B-C:{}:add", self.files),
            "three models": lambda: self.merge("B:{} + C:0.2", self.files),
            "one block, M00": lambda: self.merge("B:0.5:M00={}", self.files),
            "restore": self._restore,
        }

    def merge(self, text: str, sources: Mapping[str, Any], *, anew: bool = False) -> float:
        """Seconds of a merge with another weight than the last; the same plan stands before each."""
        if anew and self.plan:
            self.plan.release()
        before = merge_into(self.live, Recipe.parse(text.format(0.5)), sources, previous=None if anew else self.plan)
        self._turn += 1
        recipe = Recipe.parse(text.format(W + self._turn / 1000))
        if anew:
            before.release()
        start = time.process_time()
        self.plan = merge_into(self.live, recipe, sources, previous=before)
        return time.process_time() - start

    def _restore(self) -> float:
        self.plan = merge_into(self.live, Recipe.parse("B:0.5"), self.files, previous=self.plan)
        start = time.process_time()
        self.plan = restore(self.live, self.files, self.plan)
        return time.process_time() - start

    def _peers(self) -> dict[str, Callable[[], object]]:
        """Loops over models in memory that copy each result to the live model; sd-mecha where it is installed.

        sd-mecha leaves out what is not in SD 1.5's own layout, so it takes part at the full size only.
        """
        a, b = self.held.values()
        live = dict(self.live.state_dict())

        def each(work: Callable[[Tensor, Tensor], Tensor]) -> None:
            for name, out in live.items():
                out.copy_(work(a[name], b[name]))

        peers: dict[str, Callable[[], object]] = {
            "A1111's merger": lambda: each(lambda x, y: (1 - W) * x + W * y),
            "lerp of fp32 copies": lambda: each(lambda x, y: torch.lerp(x.float(), y.float(), W).half()),
        }
        if not self.full:
            return peers
        with suppress(ImportError):
            import sd_mecha  # type: ignore[import-not-found]
            from tqdm import tqdm

            files = [sd_mecha.model(str(self.files[label])) for label in "AB"]
            recipe = sd_mecha.weighted_sum(*files, alpha=W)
            silent = partial(tqdm, disable=True)
            peers["sd-mecha"] = lambda: sd_mecha.merge(recipe, output={}, threads=0, tqdm=silent)
        return peers

    def _unchanged(self) -> Row:
        recipe = Recipe.parse("B:0.5")
        plan = merge_into(self.live, recipe, self.files, previous=self.plan)
        best = measure({"again": lambda: merge_into(self.live, recipe, self.files, previous=plan)})
        return {"what": "unchanged plan", "ms": best["again"], "limit": UNCHANGED_MS, "unit": "ms"}

    def _bake(self) -> Row:
        """To copying a model of the same size to a file, both until the disk has it.

        In more rounds than the others: how long the system takes to write the same bytes varies by several times.
        """
        out, given = self.folder / "out.safetensors", {"A": "0" * 64, "B": "1" * 64}
        best = measure(
            {
                "bake": lambda: bake(Recipe.parse(f"B:{W}"), out, sources=self.files, hashes=given),
                "copy": lambda: copy(self.files["A"], out),
            },
            2 * ROUNDS,
        )
        ratio = best["bake"] / best["copy"]
        return {"what": "bake, to a copy", "ms": best["bake"], "ratio": ratio, "limit": BAKE, "unit": "x copy"}


class Floor:
    """Two reads and a write of the bytes of `size` elements of fp16, in arrays that no cache holds."""

    def __init__(self, size: int) -> None:
        count = min(size // 2, 1 << 25)
        self.a, self.b, self.out = (torch.zeros(count, dtype=torch.int32) for _ in range(3))
        self.times = size / 2 / count

    def __call__(self) -> float:
        start = time.process_time()
        torch.bitwise_xor(self.a, self.b, out=self.out)
        return (time.process_time() - start) * self.times

    def measure(self) -> float:
        """Milliseconds."""
        return measure({"floor": self})["floor"]


def measure(calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds: the least of interleaved rounds. A call that returns seconds has measured itself."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            own = call()
            took = own if isinstance(own, float) else time.process_time() - start
            best[name] = min(best[name], took * 1e3)
    return best


def copy(source: Path, out: Path) -> None:
    """Block by block, and wait for the disk."""
    with source.open("rb") as read, out.open("wb", buffering=0) as write:
        block = bytearray(8 << 20)
        while count := read.readinto(block):
            write.write(memoryview(block)[:count])
        os.fsync(write.fileno())


def private_row(bench: Bench) -> Row:
    """How much memory of its own the process takes for a first merge of mapped files, where the system tells."""
    gc.collect()
    before = private()
    bench.plan = merge_into(bench.live, Recipe.parse("B:0.5"), bench.files)
    grown = None if before is None else (private() or 0.0) - before
    return {"what": "private memory", "mb": grown, "limit": PRIVATE_MB, "unit": "MB"}


def private() -> float | None:
    """MB of anonymous memory of this process; Linux only."""
    with suppress(OSError), open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon"))
    return None


def row(name: str, ms: float, floor: float, *, unsteady: bool) -> Row:
    return {
        "what": name,
        "ms": ms,
        "floor_ms": floor,
        "ratio": ms / floor,
        "limit": LIMITS.get(name),
        "unit": "x floor",
        "unsteady": unsteady,
    }


def table(rows: list[Row]) -> str:
    """The rows as text: milliseconds, ratio, and the limit that it should keep."""
    lines = []
    for each in rows:
        value = each.get("ratio", each.get("mb", each.get("ms")))
        shown = f"{value:8.2f} {each['unit']}" if value is not None else f"{'-':>8}"
        ms = f"{each['ms']:9.1f} ms" if "ms" in each and each["unit"] != "ms" else ""
        limit = f"(limit {each['limit']:g})" if each.get("limit") else ""
        lines.append(f"{each['what']:28} {ms:12} {shown:18} {limit}".rstrip())
    if any(each.get("unsteady") for each in rows):
        lines.append("The floor changed by more than a quarter meanwhile: measure again when the machine is quiet.")
    return "\n".join(lines)
