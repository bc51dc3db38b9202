"""Jobs of the studio in this process, without page and HTTP, and their pictures by hand."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from PIL import Image

FIELDS = {"prompt": "a cat", "seed": 3, "steps": 4, "width": 64, "height": 64, "sampler_name": "Euler", "cfg_scale": 5}


def job(tab, runner=None, **fields):
    """A job of this tab that saves nothing, with its scripts' defaults if a runner is given."""
    from modules import processing

    kind = {"txt2img": "StableDiffusionProcessingTxt2Img", "img2img": "StableDiffusionProcessingImg2Img"}[tab]
    p = getattr(processing, kind)(**{**FIELDS, "do_not_save_samples": True, "do_not_save_grid": True, **fields})
    if runner is not None:
        p.scripts = runner
        p.script_args = tuple(script_defaults(runner))
    return p


def script_defaults(runner):
    args = [0] + [None] * (max(script.args_to for script in runner.scripts) - 1)
    for script in runner.scripts:
        args[script.args_from : script.args_to] = [control.value for control in script.controls or []]
    return args


def run(p):
    """Process a job as the host does."""
    from modules import processing, shared

    shared.state.begin(job="test")
    try:
        return processing.process_images(p)
    finally:
        shared.state.end()
        p.close()


def draw(tab, **fields):
    return run(job(tab, **fields))


def pixels(picture):
    return np.asarray(picture).astype(int)


def noise(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guided(engine, prompt="a cat", negative="", scale=5.0):
    """model(x, sigma) -> denoised with classifier-free guidance, written anew."""
    conds = engine.text.encode([prompt])["crossattn"], engine.text.encode([negative], negative=True)["crossattn"]
    denoiser = engine.denoiser()

    def denoised(x, sigma):
        cond, uncond = (denoiser(x, sigma, cond={"crossattn": c}) for c in conds)
        return uncond + (cond - uncond) * scale

    return denoised


def euler(model, x, sigmas):
    for sigma, following in itertools.pairwise(sigmas):
        x = x + (x - model(x, sigma.view(1))) / sigma * (following - sigma)
    return x


def picture_of(engine, latent):
    decoded = ((engine.decode(latent)[0] + 1) / 2).clamp(0, 1)
    return (255 * np.moveaxis(decoded.numpy(), 0, 2)).astype(np.uint8)


def painted(width=64, height=64):
    """A picture with something in it."""
    across = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", [across, across.rotate(180), Image.new("L", (width, height), 90)])
