"""FreeU's kernels against the formulas of its peers, re-typed, and against a floor that any in-place filter has.

One thread, CPU time of this thread, the minimum over interleaved rounds: load on the machine then hits all alike.
Read the ratios; the milliseconds are one machine's.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from ..freeu.backbone import backbone_
from ..freeu.filter import skip_filter, skip_filter_
from . import report

Row = dict[str, Any]
SKIPS = ((1280, 8, 8), (1280, 16, 16), (640, 32, 32), (320, 64, 64), (640, 64, 64), (320, 128, 128), (640, 52, 38))
BACKBONES = ((1280, 32, 32), (640, 64, 64), (640, 128, 128))
# Every concatenation of a decoder: backbone channels, skip channels, side of the latent; for 512 and 1024 pixels.
DECODERS = {
    "SD 1.5": tuple(
        (h, skip, side)
        for side, widths in (
            (8, ((1280, 1280),) * 3),
            (16, ((1280, 1280), (1280, 1280), (1280, 640))),
            (32, ((1280, 640), (640, 640), (640, 320))),
            (64, ((640, 320), (320, 320), (320, 320))),
        )
        for h, skip in widths
    ),
    "SDXL": tuple(
        (h, skip, side)
        for side, widths in (
            (32, ((1280, 1280), (1280, 1280), (1280, 640))),
            (64, ((1280, 640), (640, 640), (640, 320))),
            (128, ((640, 320), (320, 320), (320, 320))),
        )
        for h, skip in widths
    ),
}
FACTORS = {1280: (1.5, 0.9), 640: (1.6, 0.2)}  # b and s by the width of the backbone
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
BATCH, ROUNDS, SECONDS = 2, 30, 2.0


def run(
    dtypes: tuple[str, ...] = ("f32", "bf16", "f16"), decoders: tuple[str, ...] = tuple(DECODERS)
) -> dict[str, Any]:
    """Rows of milliseconds and of ratios to ours, for skip filter, backbone gain and whole decoders."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            rows = [skip_row(shape, name) for name in dtypes for shape in SKIPS]
            rows += [backbone_row(shape, name) for name in dtypes for shape in BACKBONES]
            rows += [decoder_row(family, name) for name in dtypes if name != "f16" for family in decoders]
    finally:
        torch.set_num_threads(threads)
    return report("freeu", rows)


def skip_row(shape: tuple[int, int, int], dtype: str) -> Row:
    """The skip filter at s = 0.2, R = 1: in place and into a new tensor, peers always the latter."""
    x = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0)).to(DTYPES[dtype])
    out, work = torch.empty_like(x), x.clone()
    error = (skip_filter(x, 0.2).float() - fft_filter(x.float(), 0.2)).abs().max().item()
    memory = {"ours": peak(lambda: skip_filter_(work, 0.9), x), "diffusers": peak(lambda: fft_filter(x, 0.2), x)}
    times = measure(
        {
            "ours": lambda: skip_filter_(work, 0.9),
            "ours, new tensor": lambda: skip_filter(x, 0.2),
            "diffusers": lambda: fft_filter(x, 0.2),
            "ljleb": lambda: fft_filter_shifted_mask(x, 0.2),
            "floor": lambda: torch.mul(x, 0.2, out=out),
        }
    )
    return {**row("skip filter", shape, dtype, times, error), "memory": memory}


def backbone_row(shape: tuple[int, int, int], dtype: str) -> Row:
    """The backbone gain, version 2, b = 1.5."""
    h = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0)).to(DTYPES[dtype])
    work, half = h.clone(), shape[0] // 2
    error = (backbone_(h.clone(), 1.5).float() - mean_gain(h.float(), 1.5)).abs().max().item()
    times = measure(
        {
            "ours": lambda: backbone_(work, 1.0001),
            "comfy": lambda: mean_gain(work, 1.0001),
            "floor": lambda: work[:, :half].mul_(1.0),
        }
    )
    return row("backbone v2", shape, dtype, times, error)


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make and still hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage_of(one) for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)}
        out = func(*args, **(kwargs or {}))
        for made in tree_flatten(out)[0]:
            if isinstance(made, Tensor) and storage_of(made) not in given | self.known:
                self.hold(made)
        return out

    def hold(self, made: Tensor) -> None:
        where, size = storage_of(made), made.untyped_storage().nbytes()
        self.known.add(where)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(made.untyped_storage(), self.release, where, size)

    def release(self, where: int, size: int) -> None:
        self.known.discard(where)
        self.now -= size


def storage_of(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def peak(call: Callable[[], object], x: Tensor) -> float:
    """The most memory that `call` holds at a time, in sizes of x."""
    call()  # tables that stay are made by the first call
    with Live() as live:
        call()
    return live.most / (x.numel() * x.element_size())


def decoder_row(family: str, dtype: str) -> Row:
    """One UNet evaluation's concatenations, version 2: milliseconds beyond the plain concatenations, the floor.

    All write into the same buffers: fresh ones of this size cost page faults that vary more than what is measured.
    """
    generator = torch.Generator().manual_seed(0)
    parts = [
        tuple(torch.randn(BATCH, c, side, side, generator=generator).to(DTYPES[dtype]) for c in (h, skip, h + skip))
        for h, skip, side in DECODERS[family]
    ]

    def each(work: Callable[[Tensor, Tensor, Tensor], object]) -> Callable[[], None]:
        def all_of_them() -> None:
            for h, skip, out in parts:
                work(h, skip, out)

        return all_of_them

    times = measure({"floor": each(plain), "ours": each(ours), "diffusers": each(peer)}, seconds=3 * SECONDS)
    times = {name: ms - times["floor"] if name != "floor" else ms for name, ms in times.items()}
    error = max(difference(h, skip, out) for h, skip, out in parts)
    return row("decoder", (len(parts), 0, 0), dtype, times, error, name=family)


def difference(h: Tensor, skip: Tensor, out: Tensor) -> float:
    return (ours(h, skip, out).float() - peer(h, skip, out.clone()).float()).abs().max().item()


def plain(h: Tensor, skip: Tensor, out: Tensor) -> Tensor:
    return torch.cat([h, skip], 1, out=out)


def ours(h: Tensor, skip: Tensor, out: Tensor) -> Tensor:
    """As the hook does: both parts in place in the concatenation."""
    x = torch.cat([h, skip], 1, out=out)
    if h.shape[1] in FACTORS:
        b, s = FACTORS[h.shape[1]]
        backbone_(x[:, : h.shape[1]], b)
        skip_filter_(x[:, h.shape[1] :], s)
    return x


def peer(h: Tensor, skip: Tensor, out: Tensor) -> Tensor:
    """As Comfy and Forge do: both parts, then the concatenation."""
    if h.shape[1] in FACTORS:
        b, s = FACTORS[h.shape[1]]
        h, skip = mean_gain(h.clone(), b), fft_filter(skip, s)
    return torch.cat([h, skip], 1, out=out)


def row(
    what: str, shape: tuple[int, int, int], dtype: str, times: dict[str, float], error: float, name: str = ""
) -> Row:
    ratios = {name: ms / times["ours"] for name, ms in times.items() if name != "ours"}
    return {
        "what": what,
        "shape": name or "x".join(map(str, (BATCH, *shape))),
        "dtype": dtype,
        "ms": times,
        "ratio": ratios,
        "over_floor": times["ours"] / times["floor"],
        "max_error": error,
    }


def measure(calls: dict[str, Callable[[], object]], seconds: float = 0.0) -> dict[str, float]:
    """Milliseconds of each call: the least of interleaved rounds, as many as fit into a few seconds."""
    best = dict.fromkeys(calls, float("inf"))
    end = time.monotonic() + (seconds or SECONDS)
    for done in range(ROUNDS):
        if done > 2 and time.monotonic() > end:
            break
        for name, call in calls.items():
            for _ in range(2):  # the second finds its data in the cache, as FreeU does behind a concatenation
                start = time.thread_time()
                call()
                best[name] = min(best[name], (time.thread_time() - start) * 1e3)
    return best


def fft_filter(x: Tensor, s: float) -> Tensor:
    """As in diffusers, Comfy and Forge: shift, a mask of ones with a box, shift back; fp32 inside."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    gain = torch.ones_like(spectrum.real)
    gain[..., height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = s
    spectrum = torch.fft.ifftshift(spectrum * gain, dim=(-2, -1))
    return torch.fft.ifftn(spectrum, dim=(-2, -1)).real.to(x.dtype)


def fft_filter_shifted_mask(x: Tensor, s: float, high: float = 1.0) -> Tensor:
    """As in sd-webui-freeu: one mask for all planes, shifted with the spectrum."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    gain = torch.full((height, width), float(high))
    gain[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = s
    spectrum *= gain
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real.to(x.dtype)


def mean_gain(h: Tensor, b: float) -> Tensor:
    """As in Comfy's second node and in Forge: mean over channels, normalised per sample, assigned to half of h."""
    m = h.mean(1).unsqueeze(1)
    flat = m.view(len(h), -1)
    hi, lo = flat.max(-1, keepdim=True).values[..., None, None], flat.min(-1, keepdim=True).values[..., None, None]
    half = h.shape[1] // 2
    h[:, :half] = h[:, :half] * ((b - 1) * ((m - lo) / (hi - lo)) + 1)
    return h


def table(rows: list[Row]) -> str:
    """The rows as text: our time, how many times longer each peer takes, how far from the floor we are, memory."""
    peers = ("diffusers", "ljleb", "comfy")
    head = f"{'':12} {'shape':15} {'dtype':5} {'ours ms':>8} {'new ms':>8}"
    lines = [head + "".join(f" {peer:>9}" for peer in peers) + f" {'/ floor':>8} {'max error':>9} {'memory':>12}"]
    for each in rows:
        new = each["ms"].get("ours, new tensor")
        line = f"{each['what']:12} {each['shape']:15} {each['dtype']:5} {each['ms']['ours']:8.3f} "
        line += f"{new:8.3f}" if new is not None else f"{'-':>8}"
        for peer in peers:
            line += f" {each['ratio'][peer]:8.1f}x" if peer in each["ratio"] else f" {'-':>9}"
        line += f" {each['over_floor']:7.1f}x {each['max_error']:9.1e}"
        memory = each.get("memory")
        lines.append(line + (f" {memory['ours']:5.3f} / {memory['diffusers']:4.1f}" if memory else ""))
    return "\n".join(lines)
