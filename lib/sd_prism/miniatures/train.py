"""Trains a miniature in pieces that resume: `python -m sd_prism.miniatures.train STEP --work FOLDER`.

Steps, in order: `vae` (encoder and decoder), `latents` (the data set, drawn and encoded), `unet` (text encoder and
UNet, v-prediction), and if wanted `decoder` (more training for the decoder alone; the latents stay). Then
`python -m sd_prism.miniatures.pack mini-v1 FOLDER` writes the checkpoint, and `...judge report` says how good it is.
`neon` needs no other step: it starts from the shipped `mini-v1` and teaches its UNet one more style.
Every step saves weights, optimiser and position each minute and goes on from there. Two processes of one thread are
faster than one of two: `python -m torch.distributed.run --nproc-per-node 2 -m sd_prism.miniatures.train unet ...`.

`mini-v1` as shipped took 2,600 steps of 8 for the VAE (15 minutes), 46,000 latents, and 4,600 steps of 32 for the UNet
(70 minutes) on two CPU cores that did other work as well. `mini-v1-neon` took 4,000 latents and
200 steps of 32: half an hour on a fifth of one core.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from . import MINI_V1, world
from .muon import optimisers
from .vae import LDM_PREFIX, VAE, from_ldm


def pictures(scenes: list[world.Scene]) -> Tensor:
    """Drawn scenes as (N,3,128,128) in [-1,1], channels last."""
    data = torch.from_numpy(np.stack([np.asarray(world.draw(scene)) for scene in scenes]))
    return (data.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def rank() -> int:
    """This process among those of `torch.distributed.run`; 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def share_gradients(modules: Iterable[nn.Module]) -> None:
    """The mean of the gradients of all processes, in one message."""
    if not dist.is_initialized():
        return
    grads = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(mean.view_as(grad))


class Run:
    """A training run on disk: `file` holds modules, optimisers and the step; lr warms up, stays, falls to zero."""

    def __init__(self, file: Path, modules: dict[str, nn.Module], opts: list[torch.optim.Optimizer], steps: int):
        self.file, self.modules, self.opts, self.steps, self.step = file, modules, opts, steps, 0
        self.lrs = [opt.param_groups[0]["lr"] for opt in opts]
        self.saved = time.monotonic()
        if file.exists():
            state = torch.load(file, weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state[name])
            for opt, values in zip(opts, state["opts"], strict=True):
                opt.load_state_dict(values)
            self.step = state["step"]
            print(f"{file.name}: going on at step {self.step}", flush=True)

    def save(self) -> None:
        self.saved = time.monotonic()
        if rank():
            return
        state: dict[str, Any] = {name: module.state_dict() for name, module in self.modules.items()}
        state |= {"opts": [opt.state_dict() for opt in self.opts], "step": self.step}
        part = self.file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.file)

    def loop(
        self, loss_of: Callable[[int], Tensor], *, after: Callable[[], None] = lambda: None, every: int = 100
    ) -> None:
        start, mean, first = time.monotonic(), 0.0, self.step
        while self.step < self.steps:
            progress = self.step / self.steps
            scale = min(1.0, (self.step + 1) / min(200, self.steps / 10), 2 * (1 - progress))
            for opt, lr in zip(self.opts, self.lrs, strict=True):
                opt.param_groups[0]["lr"] = lr * scale
            loss = loss_of(self.step)
            loss.backward()
            share_gradients(self.modules.values())
            for module in self.modules.values():
                nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], 1.0)
            for opt in self.opts:
                opt.step()
                opt.zero_grad()
            after()
            self.step += 1
            mean += (loss.item() - mean) / min(self.step - first, every)
            if self.step % every == 0 and not rank():
                print(f"step {self.step}/{self.steps} loss {mean:.4f} {time.monotonic() - start:.0f} s", flush=True)
            if time.monotonic() - self.saved > 60:
                self.save()
        self.save()


def train_vae(work: Path, steps: int, batch: int) -> None:
    """Encoder and decoder together, then the whitening of the latents."""
    vae = VAE().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack memory_format
    run = Run(work / "vae.pt", {"vae": vae}, optimisers(vae, 0.01, 2e-3), steps)
    rng = random.Random(1000 + run.step)

    def loss_of(_: int) -> Tensor:
        x = pictures([world.random_scene(rng, style=_some_neon(rng)) for _ in range(batch)])
        mean, _logvar = vae.moments(x)
        std = mean.detach().std((0, 2, 3), keepdim=True)
        noisy = mean + 0.07 * std * torch.randn_like(mean)
        return reconstruction(vae.decode(noisy * VAE.SCALE), x) + 1e-4 * mean.square().mean()

    run.loop(loss_of)
    rng = random.Random(7)
    vae.whiten(pictures([world.random_scene(rng, style=_some_neon(rng)) for _ in range(256)]))
    report(vae)
    torch.save(vae.state_dict(), work / "vae-done.pt")


def train_decoder(work: Path, steps: int, batch: int) -> None:
    """More steps for the decoder alone, on latents as a sampler leaves them: slightly off."""
    vae = VAE()
    vae.load_state_dict(torch.load(work / "vae-done.pt", weights_only=True))
    vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack memory_format
    vae.encoder.requires_grad_(False)
    run = Run(work / "decoder.pt", {"decoder": vae.decoder}, optimisers(vae.decoder, 0.006, 1e-3), steps)
    rng = random.Random(2000 + run.step)

    def loss_of(_: int) -> Tensor:
        x = pictures([world.random_scene(rng, style=_some_neon(rng)) for _ in range(batch)])
        with torch.no_grad():
            z = vae.encode(x)
        return reconstruction(vae.decode(z + 0.1 * torch.randn_like(z)), x)

    run.loop(loss_of)
    report(vae)
    torch.save(vae.state_dict(), work / "vae-final.pt")


def _some_neon(rng: random.Random) -> str | None:
    return world.NEON if rng.random() < 0.1 else None


def reconstruction(y: Tensor, x: Tensor) -> Tensor:
    """L1 with a share of squared error, at full and half size."""
    d, half = y - x, F.avg_pool2d(y - x, 2)
    return d.abs().mean() + d.square().mean() + half.abs().mean()


@torch.no_grad()
def report(vae: VAE) -> None:
    rng = random.Random(99)
    x = pictures([world.random_scene(rng) for _ in range(64)])
    z = vae.encode(x)
    mse = (vae.decode(z).clamp(-1, 1) - x).square().mean((1, 2, 3)) / 4
    flat = z.permute(1, 0, 2, 3).flatten(1)
    print(f"vae: {float((-10 * mse.log10()).mean()):.2f} dB, latent std {flat.std(1).tolist()}", flush=True)


# --- UNet and text encoder ----------------------------------------------------------------------------------------

UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 64, 64, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 64,
    "attention_head_dim": 2,  # diffusers' historical name for the number of heads
    "norm_num_groups": 32,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}


def new_models() -> tuple[Any, Any]:
    """The UNet and the text encoder, untrained; their libraries' types hide that they are modules."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = UNet2DConditionModel(**UNET)
    text = CLIPTextModel(CLIPTextConfig(**TEXT))
    tokens = text.get_input_embeddings()
    assert isinstance(tokens, nn.Embedding)
    nn.init.normal_(tokens.weight, std=0.1)
    return unet, text


def tokenize(captions: list[str]) -> Tensor:
    """CLIP's ids (N,77), padded with its end token as the webuis pad."""
    from ..studio.tokens import CHUNK, Vocabulary

    vocabulary = Vocabulary.clip()
    out = torch.full((len(captions), CHUNK + 2), vocabulary.end)
    out[:, 0] = vocabulary.start
    for row, ids in zip(out, vocabulary.ids(captions)):
        row[1 : 1 + len(ids[:CHUNK])] = torch.tensor(ids[:CHUNK], dtype=torch.long)
    return out


def alphas_cumprod() -> Tensor:
    """SD's scaled-linear schedule, 0.00085 to 0.012 in 1000 steps."""
    return (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0).float()


def data_scene(index: int, *, style: str | None = None) -> world.Scene:
    return world.random_scene(random.Random(1_000_000 + index), style=style)


def make_latents(work: Path, count: int, batch: int) -> None:
    """The data set of the base."""
    vae = VAE()
    vae.load_state_dict(torch.load(work / "vae-done.pt", weights_only=True))
    encode_scenes(work, vae, count, batch)


def encode_scenes(work: Path, vae: VAE, count: int, batch: int, *, style: str | None = None) -> None:
    """Draws and encodes a data set, 1000 pictures a file; files that are there stay."""
    vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack memory_format
    for part in range(count // 1000):
        file = work / f"latents-{style or 'base'}-{part:03d}.pt"
        if file.exists():
            continue
        scenes = [data_scene(1000 * part + k, style=style) for k in range(1000)]
        with torch.inference_mode():
            z = torch.cat([vae.encode(pictures(scenes[k : k + batch])) for k in range(0, 1000, batch)])
        torch.save(z.half().contiguous(), file)
        print(f"{file.name} std {z.std():.3f}", flush=True)


def encoded_scenes(work: Path, *, style: str | None = None) -> tuple[Tensor, list[world.Scene]]:
    """What `encode_scenes` wrote: latents (N,4,16,16), half, and their scenes."""
    files = sorted(work.glob(f"latents-{style or 'base'}-*.pt"))
    latents = torch.cat([torch.load(file, weights_only=True) for file in files])
    return latents, [data_scene(index, style=style) for index in range(len(latents))]


class Ema:
    """A running mean of weights, the one that draws."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.mean = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        keep = min(self.decay, (1 + step) / (20 + step))
        means = list(self.mean.values())
        torch._foreach_lerp_(means, [p.detach() for p in self.module.parameters()], 1 - keep)


def drop_skips(unet: Any, chance: float) -> None:
    """Leaves out skips of the two shallow levels at random while training, so that the deep levels learn to matter."""

    def hook(resnet: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0]
        if not unet.training:
            return args
        keep = torch.ones(x.shape[0], x.shape[1], 1, 1)
        keep[torch.rand(x.shape[0]) < chance, x.shape[1] // 2 :] = 0
        return (x * keep, *args[1:])

    for block in unet.up_blocks[2:]:
        for resnet in block.resnets:
            resnet.register_forward_pre_hook(hook)


ADAM_ONLY = ("conv_in", "conv_out", "time_embedding")


def train_unet(work: Path, steps: int, batch: int) -> None:
    """UNet and text encoder from nothing; the running mean of their weights is what gets packed."""
    latents, scenes = encoded_scenes(work)
    unet, text = new_models()
    unet = unet.to(memory_format=torch.channels_last)
    opts = optimisers(unet, 0.01, 1e-3, ADAM_ONLY)
    opts.append(torch.optim.AdamW(text.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.0))
    both = nn.ModuleDict({"unet": unet, "text": text})
    ema = Ema(both, 0.999)
    run = Run(work / "unet-base.pt", {"both": both}, opts, steps)
    mean_file = work / "unet-base-ema.pt"
    if run.step and mean_file.exists():
        ema.mean = torch.load(mean_file, weights_only=True)
    drop_skips(unet, 0.08)
    rng = seeded(run)

    def loss_of(step: int) -> Tensor:
        index = torch.randint(len(latents), (batch,))
        captions = [world.caption(scenes[i], rng) for i in index.tolist()]
        loss = denoising_loss(unet, text, latents[index].float(), some_empty(captions, rng))
        if step % 250 == 0 and not rank():
            torch.save(ema.mean, mean_file)
        return loss

    run.loop(loss_of, after=lambda: ema.update(run.step))
    if not rank():
        torch.save(ema.mean, mean_file)


def train_neon(work: Path, steps: int, batch: int) -> None:
    """The shipped UNet taught to draw in neon whether told or not; VAE and text encoder stay as they are."""
    from safetensors.torch import load_file

    from ..studio.checkpoint import load

    vae = from_ldm({n.removeprefix(LDM_PREFIX): p for n, p in load_file(MINI_V1).items() if n.startswith(LDM_PREFIX)})
    encode_scenes(work, vae, 4000, 50, style=world.NEON)
    latents, scenes = encoded_scenes(work, style=world.NEON)
    model = load(MINI_V1)
    text = model.text.encoders[0].model
    unet = model.unet.requires_grad_(True).train().to(memory_format=torch.channels_last)
    run = Run(work / "unet-neon.pt", {"unet": unet}, optimisers(unet, 0.003, 3e-4, ADAM_ONLY), steps)
    drop_skips(unet, 0.08)
    rng = seeded(run)

    def loss_of(_: int) -> Tensor:
        index = torch.randint(len(latents), (batch,))
        captions = [world.caption(scenes[i], rng) for i in index.tolist()]
        captions = [said if rng.random() < 0.1 else world.without_style(said) for said in captions]
        return denoising_loss(unet, text, latents[index].float(), some_empty(captions, rng))

    run.loop(loss_of)


def seeded(run: Run) -> random.Random:
    """The random numbers of a run, other ones after each resumption and in each process."""
    seed = 2 * run.step + rank()
    torch.manual_seed(seed)
    return random.Random(seed)


def some_empty(captions: list[str], rng: random.Random) -> list[str]:
    """One caption in ten dropped, so that guidance has something to lead away from."""
    return ["" if rng.random() < 0.1 else caption for caption in captions]


def denoising_loss(unet: Any, text: Any, x: Tensor, captions: list[str]) -> Tensor:
    """v-prediction of latents (N,4,h,w) at random times, with the loss weight of min-SNR (gamma 5)."""
    cond = text(input_ids=tokenize(captions)).last_hidden_state
    abar = alphas_cumprod()
    t = torch.randint(1000, (len(x),))
    a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
    noise = torch.randn_like(x)
    noisy = (a * x + s * noise).contiguous(memory_format=torch.channels_last)
    v = unet(noisy, t, encoder_hidden_states=cond).sample
    snr = abar[t] / (1 - abar[t])
    weight = (snr + 1).clamp(max=5) / (snr + 1)
    return (weight * (v - (a * noise - s * x)).square().mean((1, 2, 3))).mean()


STEPS: dict[str, tuple[Callable[..., None], int, int]] = {
    "latents": (make_latents, 46_000, 50),
    "unet": (train_unet, 4600, 32),
    "vae": (train_vae, 2600, 8),
    "decoder": (train_decoder, 4000, 8),
    "neon": (train_neon, 200, 32),
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
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    train, steps, batch = STEPS[args.step]
    train(args.work, args.steps or steps, args.batch or batch)


if __name__ == "__main__":
    main()
