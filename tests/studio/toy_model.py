"""An extension with a model class that is no LDM: 16 channels, 3 latents to 128 pixels of a side.

It knows of its host only what A1111 v1.10.1 has as well. Its network is one matrix, so that tests can do the same.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from modules import processing, rng, script_callbacks, scripts, sd_hijack, sd_hijack_clip, sd_models_config
from torch import nn

CONFIG = Path(scripts.basedir()) / "toy.yaml"
CONFIG.write_text("model: {target: toy_model.ToyModel, params: {width: 8, state_dict: null}}")
KEY = "model.diffusion_model.weight"
WIDTH = 8
calls = []


class ToyText(sd_hijack_clip.TextConditionalModel):
    def __init__(self):
        super().__init__()
        self.return_pooled = True
        self.table = sd_hijack.EmbeddingsWithFixes(nn.Embedding(49408, WIDTH), self.hijack, "clip_g")
        source = torch.Generator().manual_seed(0)
        self.table.wrapped.weight = nn.Parameter(torch.randn(49408, WIDTH, generator=source), requires_grad=False)

    def encode_with_transformers(self, tokens):
        states = self.table(tokens)
        states.pooled = states.mean(1)
        return states

    def encode_embedding_init_text(self, init_text, nvpt):
        return self.table.wrapped(torch.tensor(self.tokenize([init_text])[0][:nvpt]))


class FirstStage(nn.Module):
    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1), requires_grad=False)


class Denoiser:
    def __init__(self, model):
        self.inner_model = model
        self.sigmas = ((1 - model.alphas_cumprod) / model.alphas_cumprod).sqrt()
        self.log_sigmas = self.sigmas.log()

    def sigma_to_t(self, sigma):
        return (sigma.log() - self.log_sigmas[0]) / (self.log_sigmas[-1] - self.log_sigmas[0])

    def t_to_sigma(self, t):
        return torch.lerp(self.log_sigmas[0], self.log_sigmas[-1], torch.as_tensor(t)).exp()

    def get_sigmas(self, n):
        return torch.cat([self.t_to_sigma(torch.linspace(1, 0, n)), torch.zeros(1)])

    def __call__(self, x, sigma, cond):
        calls.append("own")
        return x - sigma.view(-1, 1, 1, 1) * self.inner_model.eps(x, cond)


class ToyModel(nn.Module):
    cond_stage_key, parameterization, latent_channels = "txt", "eps", 16

    def __init__(self, width, state_dict, use_ema):
        super().__init__()
        self.width, self.had, self.use_ema = width, sorted(state_dict), use_ema
        self.model = nn.Module()
        self.model.diffusion_model = nn.Linear(16, 16, bias=False)
        self.model.conditioning_key = "crossattn"
        self.first_stage_model, self.cond_stage_model = FirstStage(), ToyText()
        self.alphas_cumprod = torch.linspace(0.999, 0.001, 1000)
        self.size = None

    def before_load_weights(self, state_dict):
        state_dict[KEY] = state_dict.pop("toy")

    def after_load_weights(self, state_dict):
        self.is_toy = True
        state_dict.clear()

    def create_denoiser(self):
        return Denoiser(self)

    def get_learned_conditioning(self, texts):
        states, pooled = self.cond_stage_model(texts)
        return {"crossattn": states, "vector": pooled}

    def eps(self, x, cond):
        told = cond["crossattn"].square().sum((1, 2)).sin() + cond["vector"].sum(1).sin()
        seen = x / 30 + told.view(-1, 1, 1, 1)
        return self.model.diffusion_model(seen.movedim(1, -1)).movedim(-1, 1).tanh()

    def apply_model(self, x, t, cond):
        calls.append(t.tolist())
        return self.eps(x, cond)

    def fix_dimensions(self, width, height):
        return width // 32 * 32, height // 32 * 32

    def decode_first_stage(self, z):
        calls.append(tuple(z.shape))
        size = self.size or [side * 128 // 3 for side in z.shape[2:]]
        return nn.functional.interpolate(z[:, :3] * self.first_stage_model.gain / 60, size).tanh()

    def encode_first_stage(self, images):
        size = [latent_side(side) for side in images.shape[2:]]
        return nn.functional.adaptive_avg_pool2d(images, size).repeat(1, 6, 1, 1)[:, :16]

    def get_first_stage_encoding(self, latent):
        return latent


def latent_side(pixels):
    return pixels * 3 // 128


def guess(sd, filename):
    return str(CONFIG) if "toy" in Path(filename).name else original(sd, filename)


class Toy(scripts.Script):
    def title(self):
        return "Toy"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def before_process_batch(self, p, **kwargs):
        if hasattr(p.sd_model, "is_toy"):
            shape = (16, latent_side(p.height), latent_side(p.width))
            p.rng = rng.ImageRNG(shape, p.seeds, p.subseeds, p.subseed_strength)

    def process_before_every_sampling(self, p, **kwargs):
        if hasattr(p.sd_model, "is_toy"):
            hires = p.is_hr_pass
            p.sd_model.size = (p.hr_upscale_to_y, p.hr_upscale_to_x) if hires else (p.height, p.width)

    def post_sample(self, p, ps):
        if "Toy" in p.extra_generation_params:
            ps.samples = processing.DecodedSamples([torch.full((3, 96, 160), 0.5) for _ in ps.samples])


def undo():
    sd_models_config.guess_model_config_from_state_dict = original


original = sd_models_config.guess_model_config_from_state_dict
sd_models_config.guess_model_config_from_state_dict = guess
script_callbacks.on_script_unloaded(undo)
sys.modules["toy_model"] = SimpleNamespace(ToyModel=ToyModel, Denoiser=Denoiser, calls=calls)
