"""A judge that never saw a sampler: a small classifier of the world's drawings, used on generated pictures.

It is trained on drawings alone (slightly blurred and noisy, since a decoder is), with seeds of its own.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import world

HEADS: dict[str, tuple[str, ...]] = {
    "subject": tuple(f"{namespace}:{word}" for namespace, word in world.SUBJECTS),
    "color": tuple(world.COLORS),
    "place": world.PLACES,
    "style": (*world.STYLES, world.NEON),
    "count": world.COUNTS,
    "quality": world.QUALITIES,
}


def labels(scene: world.Scene) -> dict[str, int]:
    """The index of every attribute in `HEADS`."""
    words = {
        "subject": f"{scene.namespace}:{scene.word}",
        "color": scene.color,
        "place": scene.place,
        "style": scene.style,
        "count": world.COUNTS[scene.count - 1],
        "quality": scene.quality,
    }
    return {head: HEADS[head].index(word) for head, word in words.items()}


class Judge(nn.Module):
    """Pictures (N,3,128,128) in [-1,1] to logits per attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 80, 128, 128)
        self.body = nn.Sequential()
        for cin, cout in zip(widths, widths[1:]):
            self.body.append(nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout), nn.SiLU()))
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], len(words)) for name, words in HEADS.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return {name: head(h) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[dict[str, str]]:
        """What each picture shows, in words."""
        answers = {name: logits.argmax(1).tolist() for name, logits in self(pictures).items()}
        return [{name: HEADS[name][answers[name][k]] for name in HEADS} for k in range(len(pictures))]


def load(file: Path) -> Judge:
    """The trained judge, from safetensors."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict({name: p.float() if p.is_floating_point() else p for name, p in load_file(file).items()})
    return judge.eval()


def share_right(judge: Judge, pictures: Tensor, scenes: Sequence[world.Scene]) -> dict[str, float]:
    """The share of pictures in which each attribute is the scene's."""
    answers = judge.read(pictures)
    wanted = [{name: HEADS[name][index] for name, index in labels(scene).items()} for scene in scenes]
    return {name: sum(a[name] == w[name] for a, w in zip(answers, wanted)) / len(answers) for name in HEADS}


def train(file: Path, steps: int, batch: int) -> None:
    from safetensors.torch import save_file

    from .train import pictures

    judge = Judge().to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=steps)
    rng = random.Random(500_000_000)
    for step in range(steps):
        scenes = [world.random_scene(rng, style=world.NEON if rng.random() < 0.08 else None) for _ in range(batch)]
        x = pictures(scenes)
        if rng.random() < 0.6:
            x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = x + rng.random() * 0.15 * torch.randn_like(x)
        truth = [labels(scene) for scene in scenes]
        answers = judge(x)
        losses = {
            name: F.cross_entropy(logits, torch.tensor([t[name] for t in truth]), label_smoothing=0.02)
            for name, logits in answers.items()
        }
        opt.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        opt.step()
        schedule.step()
        if step % 100 == 99:
            print(step + 1, {name: round(loss.item(), 3) for name, loss in losses.items()}, flush=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file(state, file)
    scenes = [world.random_scene(rng) for _ in range(500)]
    print("on new drawings:", share_right(load(file), pictures(scenes), scenes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=48)
    args = parser.parse_args()
    torch.manual_seed(1)
    train(args.file, args.steps, args.batch)
