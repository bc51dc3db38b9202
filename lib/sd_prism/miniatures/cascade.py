"""Trains the miniature of Stable Cascade: `python -m sd_prism.miniatures.cascade STEP --work FOLDER`.

Steps, in order: `pictures` (the data set, drawn), `stage_a`, `encoder` (the picture encoder and the previewer),
`latents` (the data set, encoded by both), `stage_c` and `stage_b`. The text encoder is that of `mini-v1`, as it is.
Then `python -m sd_prism.miniatures.cascade_pack FOLDER` writes the two files, and `...judge report --model` the main
one says how good they are. Every net goes on from where it was saved, and with more `--steps` trains on.

`mini-cascade` as shipped took three hours on a third to all of a CPU core: 16,000 pieces of pictures for stage A,
41,000 pictures for the encoder, 77,000 for stage C, and for stage B 34,000 before it got its third level and 270,000
after.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cascade.config import CONDITIONS, TextConfig, UNetConfig
from ..cascade.effnet import BlockConfig, EffnetConfig, EffnetEncoder
from ..cascade.previewer import Previewer, PreviewerConfig
from ..cascade.schedule import SHIFT_C, Schedule
from ..cascade.stage_a import SCALE, StageA, StageAConfig
from ..cascade.text import TextEncoder, mask_of
from ..cascade.unet import UNet
from . import MINI_V1, world
from .cascade_start import new_unet
from .judge import HEADS, labels
from .muon import optimisers
from .train import Ema, Run, data_scene, reconstruction, seeded, some_empty, tokenize

STAGE_A = StageAConfig(hidden=48, blocks=2, codes=1)
EFFNET = EffnetConfig(
    12,
    (
        (BlockConfig(12, 12),),
        (BlockConfig(12, 20, 40),),
        (BlockConfig(20, 32, 64), BlockConfig(32, 32, 96)),
        (BlockConfig(32, 48, 128, 8),),
        (BlockConfig(48, 64, 192, 12), BlockConfig(64, 64, 256, 16)),
        (BlockConfig(64, 96, 256, 16), BlockConfig(96, 96, 384, 24), BlockConfig(96, 96, 384, 24)),
    ),
    192,
)
PREVIEWER = PreviewerConfig(widths=(128, 128, 96, 96, 64, 64, 32, 32))
COMPRESSIONS = (32, 42)
TRAINED_SHIFT_B = 2.5  # above the decoder's own 1: its Karras schedule spends most steps on high noise
STAGE_C = UNetConfig(
    kind="C",
    channels=16,
    patch=1,
    c_cond=64,
    hidden=(128, 128),
    levels=("CT", "CTA"),
    down=(1, 2),
    up=(2, 1),
    down_repeats=(1, 1),
    up_repeats=(1, 1),
    conditions=CONDITIONS,
    text=64,
    pooled=64,
    image=32,
)
STAGE_B = UNetConfig(
    kind="B",
    channels=4,
    patch=2,
    c_cond=64,
    hidden=(64, 128, 128),
    levels=("CT", "CTA", "CTA"),
    down=(2, 2, 2),
    up=(2, 2, 2),
    down_repeats=(1, 1, 1),
    up_repeats=(1, 1, 1),
    conditions=("sca",),
    pooled=64,
    effnet=16,
)
TEXT = TextConfig(width=64, hidden=256, layers=2, projection=64, activation="quick_gelu")
TOWER = "cond_stage_model.transformer."


def draw_pictures(work: Path, count: int, batch: int) -> None:
    """The data set, 1000 pictures a file; files that are there stay."""
    for part in range(count // 1000):
        file = work / f"pictures-{part:03d}.pt"
        if not file.exists():
            scenes = [data_scene(1000 * part + k) for k in range(1000)]
            data = torch.from_numpy(np.stack([np.asarray(world.draw(scene)) for scene in scenes]))
            torch.save(data.permute(0, 3, 1, 2).contiguous(), file)


def drawn(work: Path) -> Tensor:
    """The data set, (N,3,128,128) bytes; picture k is that of `data_scene(k)`."""
    return torch.cat([torch.load(file, weights_only=True, mmap=True) for file in sorted(work.glob("pictures-*.pt"))])


def some(pictures: Tensor, count: int) -> tuple[Tensor, list[int]]:
    """Random pictures (count,3,128,128) in [0,1], and their numbers."""
    index = torch.randint(len(pictures), (count,))
    return pictures[index].float() / 255, index.tolist()


def new_stage_a() -> StageA:
    """An untrained stage A whose blocks do something and whose latents have unit variance."""
    net = StageA(STAGE_A)
    for name, p in net.named_parameters():
        if name.endswith("gammas"):
            p.data = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.0, 0.3])
    out = net.down_blocks[-1][1]  # type: ignore[index]
    out.weight.data.fill_(SCALE)
    out.requires_grad_(False)
    return net


def train_stage_a(work: Path, steps: int, batch: int) -> None:
    """Encoder and decoder together, on quarters of pictures and on latents slightly off, as stage B leaves them."""
    pictures = drawn(work)
    net = new_stage_a().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    run = Run(work / "stage_a.pt", {"net": net}, optimisers(net, 0.01, 2e-3), steps)
    seeded(run)

    def loss_of(_: int) -> Tensor:
        top, left = torch.randint(0, 17, (2,)).tolist()
        x = some(pictures, batch)[0][:, :, 4 * top : 4 * top + 64, 4 * left : 4 * left + 64]
        z = net.encode(x)
        return reconstruction(2 * net.pixels(z + 0.07 * torch.randn_like(z)), 2 * x)

    run.loop(loss_of)
    net.eval()
    with torch.inference_mode():
        x = some(pictures, 64)[0]
        z = net.encode(x)
        mse = (net.decode(z) - x).square().mean((1, 2, 3))
        flat = z.transpose(0, 1).flatten(1)
        print(f"stage A: {float((-10 * mse.log10()).mean()):.2f} dB, std {flat.std(1).tolist()}", flush=True)


class Attributes(nn.Module):
    """What a small latent says of its scene; only training has it, so that latents say it clearly."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 128, 1), nn.SiLU(), nn.Conv2d(128, 128, 1), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(words)) for name, words in HEADS.items()})

    def loss(self, latent: Tensor, index: list[int]) -> Tensor:
        h = self.body(latent)
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        truth = [labels(data_scene(k)) for k in index]
        return torch.stack(
            [F.cross_entropy(head(h), torch.tensor([t[name] for t in truth])) for name, head in self.heads.items()]
        ).sum()


def train_encoder(work: Path, steps: int, batch: int) -> None:
    """The picture encoder and the previewer together, at both sizes of latents, latents slightly off."""
    pictures = drawn(work)
    modules = nn.ModuleDict(
        {"effnet": EffnetEncoder(EFFNET), "previewer": Previewer(PREVIEWER), "attributes": Attributes(EFFNET.latent)}
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack memory_format
    run = Run(work / "encoder.pt", {"modules": modules}, optimisers(modules, 0.01, 2e-3), steps)
    seeded(run)
    effnet, previewer, attributes = modules.values()

    def loss_of(step: int) -> Tensor:
        x, index = some(pictures, batch)
        z = effnet.encode(x, COMPRESSIONS[step % 2])  # type: ignore[operator]
        z = z + 0.15 * torch.randn_like(z)
        shown = previewer.blocks(z)  # type: ignore[operator]
        told = attributes.loss(z, index)  # type: ignore[operator]
        return reconstruction(2 * shown, 2 * F.adaptive_avg_pool2d(x, shown.shape[2:])) + 0.03 * told

    run.loop(loss_of)


def trained(net: nn.Module, work: Path, step: str, prefix: str = "") -> Any:
    """The net with the weights that a step left, ready to be used."""
    state = torch.load(work / f"{step}.pt", weights_only=True)
    state = state.get("net", state.get("modules"))
    net.load_state_dict({name.removeprefix(prefix): p for name, p in state.items() if name.startswith(prefix)})
    return net.eval().requires_grad_(False)


def make_latents(work: Path, count: int, batch: int) -> None:
    """The small latents of every picture at both sizes, and the large ones of the first third, 1000 a file."""
    stage_a = trained(StageA(STAGE_A), work, "stage_a").to(memory_format=torch.channels_last)
    effnet = trained(EffnetEncoder(EFFNET), work, "encoder", "effnet.").to(memory_format=torch.channels_last)
    pictures = drawn(work)[:count]
    for part, thousand in enumerate(pictures.split(1000)):
        file = work / f"latents-{part:03d}.pt"
        if file.exists():
            continue
        out: dict[str, list[Tensor]] = {}
        for some_bytes in thousand.split(batch):
            x = (some_bytes.float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                for compression in COMPRESSIONS:
                    out.setdefault(str(compression), []).append(effnet.encode(x, compression).half())
                if 3 * part < len(pictures) // 1000:
                    out.setdefault("large", []).append(stage_a.encode(x).half())
        torch.save({name: torch.cat(parts).contiguous() for name, parts in out.items()}, file)
        print(file.name, flush=True)


def latents(work: Path, name: str) -> Tensor:
    """What `make_latents` wrote under a name."""
    files = [torch.load(file, weights_only=True) for file in sorted(work.glob("latents-*.pt"))]
    return torch.cat([file[name] for file in files if name in file])


class Text(nn.Module):
    """The text encoder of `mini-v1`, with the rows of the tokens that captions are made of."""

    def __init__(self) -> None:
        super().__init__()
        from safetensors.torch import load_file

        file = load_file(MINI_V1)
        self.ids = file["prism.token_ids"].long()
        state = {name.removeprefix(TOWER): p.float() for name, p in file.items() if name.startswith(TOWER)}
        state["text_projection.weight"] = torch.eye(TEXT.width)
        self.rows = state["text_model.embeddings.token_embedding.weight"]
        state["text_model.embeddings.token_embedding.weight"] = torch.zeros(TEXT.vocabulary, TEXT.width)
        self.net = TextEncoder(TEXT)
        self.net.load_state_dict({name: p for name, p in state.items() if name in self.net.state_dict()})

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """States (N,77,64) before the final norm, and the pooled ones (N,64)."""
        ids = tokenize(captions)
        return self.net(ids, mask_of(ids), embeddings=self.rows[torch.searchsorted(self.ids, ids)])


def noised(x: Tensor, shift: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents at random noise levels, of unit variance; what the net is told; the noise; the weight of its error.

    The weight is that of v-prediction with min-SNR (gamma 5), bounded where sigma is so high that it shapes nothing.
    """
    schedule = Schedule(shift)
    sigma = schedule.sigma((torch.arange(len(x)) + torch.rand(())) / len(x))
    noise, s = torch.randn_like(x), sigma[:, None, None, None]
    weight = sigma.square().clamp(max=256) * (1 + 1 / sigma.square()).clamp(max=5)
    return (x + s * noise) / (1 + s * s).sqrt(), schedule.r(sigma), noise, weight


def train_unet(work: Path, name: str, config: UNetConfig, steps: int, loss_of: Callable[[UNet, Any], Tensor]) -> None:
    """A stage and the running mean of its weights, which is what gets packed."""
    net = new_unet(config)
    adam = ("embedding", "clf", f"up_blocks.{len(config.hidden) - 1}.0.channelwise", "effnet_mapper", "pixels_mapper")
    ema = Ema(net, 0.998)
    run = Run(work / f"{name}.pt", {"net": net}, optimisers(net, 0.01, 1e-3, adam), steps)
    mean_file = work / f"{name}-ema.pt"
    if run.step and mean_file.exists():
        ema.mean = torch.load(mean_file, weights_only=True)
    rng = seeded(run)

    def after() -> None:
        ema.update(run.step)
        if run.step % 100 == 0 or run.step == steps:
            torch.save(ema.mean, mean_file)

    run.loop(lambda _: loss_of(net, rng), after=after)


def train_stage_c(work: Path, steps: int, batch: int) -> None:
    """Small latents of both sizes from captions."""
    data, text = [latents(work, str(compression)) for compression in COMPRESSIONS], Text()

    def loss_of(net: UNet, rng: Any) -> Tensor:
        small = data[rng.randrange(2)]
        index = torch.randint(len(small), (batch,))
        captions = some_empty([world.caption(data_scene(k), rng) for k in index.tolist()], rng)
        x, r, noise, weight = noised(small[index].float(), SHIFT_C)
        eps = net(x, r, net.condition(*text(captions)))  # type: ignore[operator]
        return (weight * (eps - noise).square().mean((1, 2, 3))).mean()

    train_unet(work, "stage_c", STAGE_C, steps, loss_of)


def train_stage_b(work: Path, steps: int, batch: int) -> None:
    """Large latents from small ones, slightly off as stage C leaves them, and from captions."""
    large, text = latents(work, "large"), Text()
    data = [latents(work, str(compression))[: len(large)] for compression in COMPRESSIONS]

    def loss_of(net: UNet, rng: Any) -> Tensor:
        small = data[rng.randrange(2)]
        index = torch.randint(len(large), (batch,))
        captions = some_empty([world.caption(data_scene(k), rng) for k in index.tolist()], rng)
        x, r, noise, weight = noised(large[index].float(), TRAINED_SHIFT_B)
        given = small[index].float()
        given = given + 0.2 * torch.rand(batch, 1, 1, 1) * torch.randn_like(given)
        given = given * (torch.rand(batch, 1, 1, 1) > 0.05)
        clip = net.condition(text(captions)[1])  # type: ignore[operator]
        eps = net(x, r, clip, net.effnet(given, (16, 16)))  # type: ignore[operator]
        return (weight * (eps - noise).square().mean((1, 2, 3))).mean()

    train_unet(work, "stage_b", STAGE_B, steps, loss_of)


STEPS: dict[str, tuple[Callable[..., None], int, int]] = {
    "pictures": (draw_pictures, 30_000, 1),
    "stage_a": (train_stage_a, 1000, 16),
    "encoder": (train_encoder, 1700, 24),
    "latents": (make_latents, 15_000, 50),
    "stage_c": (train_stage_c, 1200, 64),
    "stage_b": (train_stage_b, 8000, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True, help="folder of the run's own files")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    train, steps, batch = STEPS[args.step]
    train(args.work, args.steps or steps, args.batch or batch)


if __name__ == "__main__":
    main()
