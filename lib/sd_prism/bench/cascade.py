"""Stages C and B against the published architecture, re-typed as ComfyUI's modules and diffusers run it.

The reference keeps pictures as (N,C,H,W), permutes them around every norm and linear layer, has the global response
norm in five passes and makes everything of prompt and small latent anew at every step; it runs on the very weights of
ours. Real widths with one block a level: a shortened net, of which conditions are a larger part than of a full one, so
there is a column without them. One thread, CPU time, the least of interleaved rounds. Read the ratios; the milliseconds
are one machine's.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cascade.config import STAGE_B, STAGE_C, TextConfig, UNetConfig
from ..cascade.layers import AttentionBlock, ConvBlock, GlobalResponseNorm, TimestepBlock
from ..cascade.text import TextEncoder
from ..cascade.unet import StageB, StageC
from . import report

Row = dict[str, Any]
SHORT_C = replace(STAGE_C, down=(1, 1), up=(1, 1))
SHORT_B = replace(STAGE_B, down=(1, 1, 1, 1), up=(1, 1, 1, 1))
SIDE_C, PIXELS_B = (
    24,
    512,
)  # a latent of 1024 pixels for C, whose own prompt is a sixth of it; B has no prompt to speak of
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
LIMITS = {"f32": 0.95, "bf16": 0.90}
ROUNDS, SECONDS = 12, 120.0
INSPECT_MS, SPARSE_BYTES = 50.0, 8_000_000_000
STEPS = 10  # of the decoder


def run(dtypes: Sequence[str] = tuple(DTYPES), short: bool = False) -> dict[str, Any]:
    """Rows of milliseconds and of ratios to the reference; `short` takes tiny nets, to see that everything works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            rows = [row(case(DTYPES[dtype], short), dtype) for dtype in dtypes for case in (CaseC, CaseB)]
            rows += [calls_row(), inspect_row()]
    finally:
        torch.set_num_threads(threads)
    return report("cascade", rows)


def tiny(config: UNetConfig) -> UNetConfig:
    width = 128
    return replace(config, hidden=(width,) * len(config.hidden), c_cond=width)


class CaseC:
    """One step of stage C for one picture of 1024 pixels and one prompt."""

    name = "stage C"

    def __init__(self, dtype: torch.dtype, short: bool) -> None:
        self.net = drawn(StageC(tiny(SHORT_C) if short else SHORT_C), dtype)
        side = 8 if short else SIDE_C
        given = ((1, 16, side, side), (1, 77, STAGE_C.text), (1, STAGE_C.pooled), (1, 1, STAGE_C.image))
        self.x, self.text, self.pooled, self.images = (torch.randn(shape).to(dtype) for shape in given)
        self.r = torch.tensor([0.5])
        self.clip = self.reference_clip()

    def ours(self) -> Tensor:
        return self.net(self.x, self.r, self.net.condition(self.text, self.pooled, self.images))

    def reference(self) -> Tensor:
        return reference(self.net, self.x, self.r, self.reference_clip(), 2)

    def reference_told_once(self) -> Tensor:
        return reference(self.net, self.x, self.r, self.clip, 2)

    def reference_clip(self) -> Tensor:
        net, width = self.net, self.net.config.c_cond
        pooled, images = net.clip_txt_pooled_mapper(self.pooled), net.clip_img_mapper(self.images)
        tokens = [net.clip_txt_mapper(self.text), pooled.view(1, -1, width), images.view(1, -1, width)]
        return F.layer_norm(torch.cat(tokens, 1), (width,), eps=1e-6)

    def diffusers(self) -> Callable[[], Tensor]:
        net = in_diffusers(self.net, clip_text_in_channels=STAGE_C.text, clip_image_in_channels=STAGE_C.image)
        return lambda: net(
            self.x, self.r.to(self.x.dtype), self.pooled[:, None], self.text, self.images, return_dict=False
        )[0]


class CaseB:
    """One step of stage B for one picture of 512 pixels."""

    name = "stage B"

    def __init__(self, dtype: torch.dtype, short: bool) -> None:
        self.net = drawn(StageB(tiny(SHORT_B) if short else SHORT_B), dtype)
        side = (128 if short else PIXELS_B) // 4
        given = ((1, 4, side, side), (1, STAGE_B.effnet, side * 4 // 42, side * 4 // 42), (1, STAGE_B.pooled))
        self.x, self.latent, self.pooled = (torch.randn(shape).to(dtype) for shape in given)
        self.r = torch.tensor([0.5])
        self.size = (side // 2, side // 2)
        self.map, self.own_map = self.reference_map(), self.net.effnet(self.latent, self.size)
        self.clip = self.reference_clip()

    def ours(self) -> Tensor:
        return self.net(self.x, self.r, self.net.condition(self.pooled), self.own_map)

    def reference(self) -> Tensor:
        return reference(self.net, self.x, self.r, self.reference_clip(), 1, self.reference_map())

    def reference_told_once(self) -> Tensor:
        return reference(self.net, self.x, self.r, self.clip, 1, self.map)

    def reference_clip(self) -> Tensor:
        width = self.net.config.c_cond
        return F.layer_norm(self.net.clip_mapper(self.pooled).view(1, -1, width), (width,), eps=1e-6)

    def reference_map(self) -> Tensor:
        def mapped(mapper: Any, x: Tensor) -> Tensor:
            return planes_norm(mapper["2"](F.gelu(mapper["0"](x))))

        def resized(x: Tensor) -> Tensor:
            return F.interpolate(x, size=self.size, mode="bilinear", align_corners=True)

        pixels = self.x.new_zeros(1, 3, 8, 8)
        return mapped(self.net.effnet_mapper, resized(self.latent)) + resized(mapped(self.net.pixels_mapper, pixels))

    def diffusers(self) -> Callable[[], Tensor]:
        net = in_diffusers(self.net, effnet_in_channels=STAGE_B.effnet, pixel_mapper_in_channels=3)
        return lambda: net(
            self.x, self.r.to(self.x.dtype), self.pooled[:, None], effnet=self.latent, return_dict=False
        )[0]


def drawn(net: Any, dtype: torch.dtype) -> Any:
    """The net with random weights, those of the response norms too, which start as zeros."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, GlobalResponseNorm):
            module.gamma.normal_()
            module.beta.normal_()
    return net.to(dtype).eval()


def row(case: CaseC | CaseB, dtype: str) -> Row:
    """Ratios to the reference; `told_once` is to the reference that makes nothing of prompt and small latent anew."""
    expected = case.reference().float()
    error = (case.ours().float() - expected).abs().max().item()
    calls = {
        "ours": case.ours,
        "called": called(case.ours),
        "reference": case.reference,
        "reference, told once": case.reference_told_once,
    }
    with suppress(ImportError):
        calls["diffusers"] = case.diffusers()
    ms = measure(calls)
    return {
        "what": case.name,
        "dtype": dtype,
        "ms": ms,
        "ratio": ms["ours"] / ms["reference"],
        "called": ms["called"] / ms["reference"],
        "told_once": ms["ours"] / ms["reference, told once"],
        "diffusers": ms["ours"] / ms["diffusers"] if "diffusers" in ms else None,
        "limit": LIMITS[dtype],
        "error": error / expected.abs().max().item(),
    }


def called(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The call while the classes of layers have another `forward`, as LoRA extensions leave them for good."""

    def patched() -> Tensor:
        kinds: tuple[Any, ...] = (nn.Linear, nn.Conv2d)
        before = [kind.forward for kind in kinds]

        def around(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda layer, x: forward(layer, x)

        try:
            for kind, forward in zip(kinds, before):
                kind.forward = around(forward)
            return call()
        finally:
            for kind, forward in zip(kinds, before):
                kind.forward = forward

    return patched


def planes_norm(x: Tensor) -> Tensor:
    """Layer norm over the channels of (N,C,H,W)."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6).permute(0, 3, 1, 2)


def reference(net: Any, x: Tensor, r: Tensor, clip: Tensor, zeros: int, effnet: Tensor | None = None) -> Tensor:
    """The whole network; `zeros` conditions beside the timestep."""
    numbers = [r, *(torch.zeros_like(r) for _ in range(zeros))]
    embeddings = [embedded(one).to(x.dtype) for one in numbers]
    patch = net.config.patch
    x = planes_norm(net.embedding["1"](F.pixel_unshuffle(x, patch)))
    x = x if effnet is None else x + effnet
    skips: list[Tensor] = []
    for scaler, blocks, mappers in zip(net.down_downscalers, net.down_blocks, net.down_repeat_mappers):
        x = reference_level(blocks, mappers, rescaled(scaler, x), embeddings, clip, None)
        skips.insert(0, x)
    for i, (blocks, mappers, scaler) in enumerate(zip(net.up_blocks, net.up_repeat_mappers, net.up_upscalers)):
        x = rescaled(scaler, reference_level(blocks, mappers, x, embeddings, clip, skips[i] if i else None))
    return F.pixel_shuffle(net.clf["1"](planes_norm(x)), patch)


def embedded(r: Tensor) -> Tensor:
    frequencies = torch.exp(-math.log(10000) / 31 * torch.arange(32, dtype=torch.float32))
    angles = (r * 10000)[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def rescaled(scaler: nn.Module, x: Tensor) -> Tensor:
    *_, layer = scaler.modules()
    return x if layer is scaler else layer(planes_norm(x))


def reference_level(
    blocks: Any, mappers: Any, x: Tensor, embeddings: Sequence[Tensor], clip: Tensor, skip: Tensor | None
) -> Tensor:
    for mapper in (*mappers, None):
        for i, block in enumerate(blocks):
            if isinstance(block, ConvBlock):
                x = reference_conv(block, x, None if i else skip)
            elif isinstance(block, TimestepBlock):
                x = reference_timestep(block, x, embeddings)
            else:
                x = reference_attention(block, x, clip)
        x = x if mapper is None else mapper(x)
    return x


def reference_conv(block: Any, x: Tensor, skip: Tensor | None) -> Tensor:
    h = planes_norm(block.depthwise(x))
    h = h if skip is None else torch.cat([h, skip], 1)
    first, grn, last = block.channelwise.values()
    h = F.gelu(first(h.permute(0, 2, 3, 1)))
    g = torch.norm(h, p=2, dim=(1, 2), keepdim=True)
    h = grn.gamma * (h * (g / (g.mean(-1, keepdim=True) + 1e-6))) + grn.beta + h
    return x + last(h).permute(0, 3, 1, 2)


def reference_timestep(block: Any, x: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
    scale, shift = block.mapper(embeddings[0])[:, :, None, None].chunk(2, 1)
    for name, embedding in zip(block.conditions, embeddings[1:]):
        more, further = getattr(block, f"mapper_{name}")(embedding)[:, :, None, None].chunk(2, 1)
        scale, shift = scale + more, shift + further
    return x * (1 + scale) + shift


def reference_attention(block: AttentionBlock, x: Tensor, clip: Tensor) -> Tensor:
    attn: Any = block.attention["attn"]
    tokens = block.kv_mapper["1"](F.silu(clip))
    count, channels, height, width = x.shape
    own = planes_norm(x).reshape(count, channels, -1).permute(0, 2, 1)
    both = torch.cat([own, tokens], 1)
    projected = (attn.to_q(own), attn.to_k(both), attn.to_v(both))
    q, k, v = (one.view(count, -1, attn.heads, channels // attn.heads).transpose(1, 2) for one in projected)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, -1, channels)
    return x + attn.out_proj(out).permute(0, 2, 1).view(count, channels, height, width)


def in_diffusers(net: Any, **inputs: Any) -> Any:
    """The same net, with the same weights, as diffusers' module."""
    from diffusers import StableCascadeUNet  # type: ignore[attr-defined]

    config = net.config
    kinds = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}
    with torch.device("meta"):
        theirs: Any = StableCascadeUNet(
            in_channels=config.channels,
            out_channels=config.channels,
            patch_size=config.patch,
            conditioning_dim=config.c_cond,
            block_out_channels=config.hidden,
            num_attention_heads=[width // config.head_width for width in config.hidden],
            down_num_layers_per_block=config.down,
            up_num_layers_per_block=config.up,
            down_blocks_repeat_mappers=config.down_repeats,
            up_blocks_repeat_mappers=config.up_repeats,
            block_types_per_layer=[[kinds[letter] for letter in letters] for letters in config.levels],
            timestep_conditioning_type=config.conditions,
            switch_level=(False,) if config.kind == "C" else None,
            dropout=0.0,
            **inputs,
        )
    renamed = {}
    for name, weight in net.state_dict().items():
        name = name.replace("attn.to_", "to_").replace("attn.out_proj", "to_out.0")
        renamed[f"clip_txt_pooled_mapper{name[11:]}" if name.startswith("clip_mapper") else name] = weight
    theirs.load_state_dict(renamed, strict=True, assign=True)
    return theirs.eval()


def calls_row() -> Row:
    """How often the decoder runs stage B, without and with a negative prompt."""
    from ..cascade.decode import Decoder, DecoderSettings
    from ..cascade.stage_a import StageA, StageAConfig

    calls = {}
    stage_a = StageA(StageAConfig(hidden=16, blocks=1, codes=8))
    for cfg in (1.0, 1.2):
        decoder = Decoder(drawn(StageB(tiny(SHORT_B)), torch.float32), stage_a)
        pooled = torch.randn(1, STAGE_B.pooled)
        settings = DecoderSettings(steps=STEPS, cfg=cfg)
        decoder.decode(torch.randn(1, 16, 3, 3), (128, 128), pooled, pooled, settings=settings, seeds=[0])
        calls[f"CFG {cfg:g}"] = decoder.calls
    one, more = calls.values()
    return {"what": "decoder calls", "calls": calls, "ratio": one / more, "limit": 0.5, "unit": "x calls"}


def inspect_row() -> Row:
    """Telling what an all-in-one file of 8 GB holds; the file is sparse, only its header takes room."""
    from ..cascade.formats import inspect

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "main.safetensors"
        header = sparse(file)
        before = bytes_read()
        inspect(file)
        after = bytes_read()
        ms = measure({"inspect": lambda: inspect(file)})["inspect"]
    read = None if before is None or after is None else after - before
    return {
        "what": "inspect 8 GB",
        "ms": {"ours": ms},
        "limit": INSPECT_MS,
        "read": read,
        "header": header,
        "unit": "ms",
    }


def sparse(file: Path) -> int:
    """An all-in-one main file without any bytes of tensors; gives the length of its header."""
    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": StageC(STAGE_C),
            "text_encoder.clip_g.transformer.": TextEncoder(TextConfig()),
        }
    header, place = {}, 0
    for start, part in parts.items():
        for name, weight in part.state_dict().items():
            size = 2 * weight.numel()
            header[start + name] = {"dtype": "BF16", "shape": [*weight.shape], "data_offsets": [place, place + size]}
            place += size
    text = json.dumps(header).encode()
    rest = max(SPARSE_BYTES - place - len(text) - 8, 2)
    header["unknown"] = {"dtype": "U8", "shape": [rest], "data_offsets": [place, place + rest]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + place + rest)
    return 8 + len(text)


def bytes_read() -> int | None:
    """What this process has read from files until now; Linux only."""
    with suppress(OSError), open("/proc/self/io") as file:
        return int(file.readline().split()[1])
    return None


def measure(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each call: the least of interleaved rounds, as many as fit into two minutes, three at least."""
    best = dict.fromkeys(calls, float("inf"))
    end = time.monotonic() + SECONDS
    for done in range(ROUNDS):
        if done > 2 and time.monotonic() > end:
            break
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], (time.process_time() - start) * 1e3)
    return best


def table(rows: list[Row]) -> str:
    """The rows as text: our time, its ratio to the reference's and the limit that it should keep.

    Then: where every layer must be called, to a reference that is told prompt and small latent once, and to diffusers.
    """
    titles = ("ours ms", "ratio", "limit", "called", "told once", "diffusers")
    lines = [f"{'':14} {'':5}" + "".join(f" {title:>10}" for title in titles)]
    for each in rows:
        ms = each.get("ms", {}).get("ours")
        numbers = (
            ms,
            each.get("ratio"),
            each["limit"],
            each.get("called"),
            each.get("told_once"),
            each.get("diffusers"),
        )
        shown = (
            f" {'-':>10}" if one is None else f" {one:10.{digits}f}" for one, digits in zip(numbers, (1, 3, 2, 3, 3, 3))
        )
        lines.append(f"{each['what']:14} {each.get('dtype', ''):5}" + "".join(shown))
    return "\n".join(lines)
