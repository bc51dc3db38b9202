"""A judge that never saw a sampler: a small classifier of the world's drawings, used on generated pictures.

It is trained on drawings alone (slightly blurred and noisy, since a decoder is), with seeds of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import MINI_CASCADE, MINI_CASCADE_DECODER, MINI_V1, MINI_V1_NEON, world

FILE = Path(__file__).with_name("judge.safetensors")
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
        for cin, cout in itertools.pairwise(widths):
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

    judge = Judge().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack memory_format
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


# --- generated pictures ------------------------------------------------------------------------------------------


def exam(count: int, seed: int, *, natural: bool = False) -> tuple[list[world.Scene], list[str]]:
    """Scenes to ask for and their prompts; no seed of training is among them. Natural prompts leave homonyms out."""
    rng = random.Random(900_000_000 + seed)
    scenes: list[world.Scene] = []
    while len(scenes) < count:
        scene = replace(world.random_scene(rng), count=1, size="large", quality="best")
        if not (natural and scene.word in world.HOMONYMS):
            scenes.append(scene)
    return scenes, [(_sentence if natural else _tags)(scene) for scene in scenes]


def _tags(scene: world.Scene) -> str:
    return f"{scene.namespace}:{scene.word}, color:{scene.color}, place:{scene.place}, style:{scene.style}"


def _sentence(scene: world.Scene) -> str:
    style = "" if scene.style == "flat" else f", {scene.style} style"
    return f"a {scene.color} {scene.word} {world.WHERE[scene.place]}{style}"


@torch.inference_mode()
def drawn(
    model: Any, prompts: Sequence[str], *, negative: str = "", steps: int = 20, cfg: float = 5.0, seed: int = 0
) -> Tensor:
    """Pictures (N,3,128,128) in [-1,1] by DPM++ 2M Karras with guidance, the webui's way, 16 at a time."""
    from ..studio.rng import ImageRNG
    from ..studio.samplers import sampler

    chosen, denoiser, out = sampler("DPM++ 2M"), model.denoiser(), []
    sigmas = chosen.sigmas("Karras", steps, denoiser)
    for start in range(0, len(prompts), 16):
        part = list(prompts[start : start + 16])
        cond = model.text.encode([*part, *[negative] * len(part)])

        def guided(x: Tensor, sigma: Tensor, cond: dict[str, Tensor] = cond) -> Tensor:
            told, plain = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), cond=cond).chunk(2)
            return plain + cfg * (told - plain)

        noise = ImageRNG((4, 16, 16), [seed + start + k for k in range(len(part))]).first()
        latents = chosen.function(guided, chosen.begin(noise, sigmas), sigmas)
        out.append(model.decode(latents).clamp(-1, 1))
    return torch.cat(out)


def merged(share: float) -> Any:
    """`mini-v1` with such a share of its neon partner."""
    from ..merge import Recipe, merge_into
    from ..studio.checkpoint import load as load_checkpoint

    model = load_checkpoint(MINI_V1)
    merge_into(model.unet, Recipe.parse(f"neon:{share}"), {"A": MINI_V1, "neon": MINI_V1_NEON})
    return model


def walk(judge: Judge, count: int, shares: Sequence[float]) -> dict[float, dict[str, float]]:
    """From `mini-v1` to its neon partner, by prompts that name no style: the shares right, with neon as the style."""
    scenes, prompts = exam(count, 3)
    prompts = [world.without_style(prompt) for prompt in prompts]
    wanted = [replace(scene, style=world.NEON) for scene in scenes]
    return {share: share_right(judge, drawn(merged(share), prompts, seed=40_000), wanted) for share in shares}


def noise_level(pictures: Tensor) -> float:
    """What "worst quality" adds: the median distance of a pixel from its 3x3 mean, which edges hardly touch."""
    mean = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return float((pictures - mean).abs().mean(1).flatten(1).median(1).values.mean())


def report(draw: Callable[..., Tensor], judge: Judge, count: int) -> dict[str, Any]:
    """The measures of quality: shares of right answers for both forms of prompt, homonyms, and what a negative does.

    Args:
        draw: `drawn` with a model, or `cascade_draw.Cascade.drawn`.
    """
    out: dict[str, Any] = {"pictures": count}
    for form, natural in (("namespaced", False), ("natural", True)):
        scenes, prompts = exam(count, 1, natural=natural)
        out[form] = share_right(judge, draw(prompts, seed=10_000), scenes)
    senses = [(ns, word) for ns, word in world.SUBJECTS if word in world.HOMONYMS]
    asked = [f"{ns}:{word}, color:{color}, place:plain" for ns, word in senses for color in world.COLORS]
    wanted = [f"{ns}:{word}" for ns, word in senses for _ in world.COLORS]
    answers = judge.read(draw(asked, seed=20_000))
    out["homonyms told apart"] = sum(a["subject"] == w for a, w in zip(answers, wanted)) / len(wanted)
    prompts = exam(32, 2)[1]
    plain, better = (draw(prompts, negative=text, seed=30_000) for text in ("", "worst quality"))
    worst = draw([f"{prompt}, quality:worst" for prompt in prompts], seed=30_000)
    out["noise"] = {
        "plain": noise_level(plain),
        'negative "worst quality"': noise_level(better),
        "quality:worst": noise_level(worst),
    }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "report", "merge"])
    parser.add_argument("--judge", type=Path, default=FILE)
    parser.add_argument("--model", type=Path, default=MINI_V1)
    parser.add_argument("--steps", type=int, default=1500, help="of the judge's training")
    parser.add_argument("--count", type=int, default=400, help="pictures to judge")
    args = parser.parse_args()
    torch.manual_seed(1)
    if args.what == "train":
        train(args.judge, args.steps, 48)
        return
    if args.what == "merge":
        print(json.dumps(walk(load(args.judge), args.count, (0, 0.25, 0.5, 0.75, 1)), indent=2))
        return
    print(json.dumps(report(_drawing(args.model), load(args.judge), args.count), indent=2))


def _drawing(file: Path) -> Callable[..., Tensor]:
    """How a checkpoint draws; that of Cascade with the decoder beside it."""
    if file.name == MINI_CASCADE.name:
        from .cascade_draw import Cascade

        return Cascade.of(file, file.with_name(MINI_CASCADE_DECODER.name)).drawn
    from ..studio.checkpoint import load as load_checkpoint

    return partial(drawn, load_checkpoint(file))


if __name__ == "__main__":
    main()
