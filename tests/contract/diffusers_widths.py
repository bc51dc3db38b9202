"""An extension for webuis that load single files with diffusers (SD.Next): theirs are SD 1.x of any width.

What diffusers takes from a configuration of the full-size model is as A1111's yaml beside the checkpoint says.
"""

from pathlib import Path

import yaml
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from_single_file = StableDiffusionPipeline.from_single_file
TEXT = "cond_stage_model.transformer."
TOKENS = 77


def unet_of(state, config):
    made = UNet2DConditionModel(
        sample_size=config["image_size"],
        block_out_channels=[config["model_channels"] * one for one in config["channel_mult"]],
        layers_per_block=config["num_res_blocks"],
        cross_attention_dim=config["context_dim"],
        attention_head_dim=config["num_heads"],
    )
    made.load_state_dict(single.convert_ldm_unet_checkpoint(state, made.config))
    return made


def vae_of(state, config, scale):
    """LDM starts from its first width before any multiple; diffusers has one number for both."""
    widths = [config["ch"] * one for one in config["ch_mult"]]
    made = AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=config["num_res_blocks"],
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        latent_channels=config["z_channels"],
        scaling_factor=scale,
    )
    if config["ch_mult"][0] != 1:
        made.encoder.conv_in = nn.Conv2d(config["in_channels"], config["ch"], 3, padding=1)
        first = ResnetBlock2D(in_channels=config["ch"], out_channels=widths[0], temb_channels=None, eps=1e-6)
        made.encoder.down_blocks[0].resnets[0] = first
    made.load_state_dict(single.convert_ldm_vae_checkpoint(state, made.config))
    return made


def built(file, params, dtype):
    state = load_file(file)
    parts = {name: params[f"{name}_config"]["params"] for name in ("unet", "first_stage", "cond_stage")}
    text = CLIPTextModel(CLIPTextConfig.from_pretrained(parts["cond_stage"]["version"]))
    named = {name.removeprefix(TEXT): tensor for name, tensor in state.items() if name.startswith(TEXT)}
    text.load_state_dict(named, strict=False)
    scheduler = DDIMScheduler(
        beta_start=params["linear_start"],
        beta_end=params["linear_end"],
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if params.get("parameterization") == "v" else "epsilon",
    )
    made = StableDiffusionPipeline(
        vae=vae_of(state, parts["first_stage"]["ddconfig"], params["scale_factor"]),
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(parts["cond_stage"]["version"], model_max_length=TOKENS),
        unet=unet_of(state, parts["unet"]),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return made.to(dtype=dtype)


def load(path, **options):
    beside = Path(path).with_suffix(".yaml")
    if not beside.exists():
        return from_single_file(path, **options)
    params = yaml.safe_load(beside.read_text(encoding="utf8"))["model"]["params"]
    return built(path, params, options.get("torch_dtype"))


StableDiffusionPipeline.from_single_file = load
