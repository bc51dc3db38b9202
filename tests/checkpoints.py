"""Small random models of each family, written as single files in LDM's layout."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from sd_prism.merge import ldm_keys

ATTENTION = {"sd1": (True, True, True, False), "sd2": (True, True, True, False), "sdxl": (False, True, True)}
DEPTH = {"sd1": [1, 1, 1, 1], "sd2": [1, 1, 1, 1], "sdxl": [1, 2, 3]}
CONTEXT = {"sd1": 64, "sd2": 128, "sdxl": 64 + 128}
POOLED = 32
CLIP_PREFIX = {"sd1": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
OPEN_PREFIX = {"sd2": "cond_stage_model.model.", "sdxl": "conditioner.embedders.1.model."}


def small_unet(family):
    from diffusers import UNet2DConditionModel

    attention = ATTENTION[family]
    extra = {}
    if family == "sdxl":
        extra = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
        extra["projection_class_embeddings_input_dim"] = POOLED + 6 * 256
    return UNet2DConditionModel(
        block_out_channels=(32, 64, 64, 64)[: len(attention)],
        layers_per_block=2,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        transformer_layers_per_block=DEPTH[family],
        attention_head_dim=8 if family == "sd1" else 1,
        cross_attention_dim=CONTEXT[family],
        use_linear_projection=family != "sd1",
        norm_num_groups=32,
        **extra,
    ).eval()


def small_vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        norm_num_groups=32,
    ).eval()


def small_text(width, act, projected):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 64,
        projection_dim=POOLED,
        hidden_act=act,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def open_clip_state(model):
    state, thirds = {}, {}
    for name, tensor in model.state_dict().items():
        theirs, third = ldm_keys.transformers_to_open_clip(name.removeprefix("text_model."))
        if third is None:
            state[theirs] = tensor.T if theirs == "text_projection" else tensor
        else:
            thirds.setdefault(theirs, {})[third] = tensor
    return {**state, **{name: torch.cat([t[i] for i in range(3)]) for name, t in thirds.items()}}


class Original:
    """The modules of one small model and its LDM state; `change(self)` may alter the modules first."""

    def __init__(self, family, text_model_prefix=True, change=None):
        torch.manual_seed(0)
        self.unet, self.vae, self.texts = small_unet(family), small_vae(), []
        if family in CLIP_PREFIX:
            self.texts.append(small_text(64, "quick_gelu", False))
        if family in OPEN_PREFIX:
            self.texts.append(small_text(128, "gelu", family == "sdxl"))
        if change:
            change(self)
        shape = ldm_keys.UNetShape(2, ATTENTION[family])
        unet = {ldm_keys.UNET + ldm_keys.unet_to_ldm(n, shape): t for n, t in self.unet.state_dict().items()}
        vae = {ldm_keys.vae_to_ldm(n): t for n, t in self.vae.state_dict().items()}
        is_conv = [n for n, t in vae.items() if ".attn_1." in n and t.ndim == 2]
        vae = {ldm_keys.VAE + n: t[:, :, None, None] if n in is_conv else t for n, t in vae.items()}
        self.state = {**unet, **vae}
        if family in CLIP_PREFIX:
            prefix = CLIP_PREFIX[family] + ("text_model." if text_model_prefix else "")
            state = self.texts[0].state_dict()
            self.state |= {prefix + n.removeprefix("text_model."): t for n, t in state.items()}
        if family in OPEN_PREFIX:
            self.state |= {OPEN_PREFIX[family] + n: t for n, t in open_clip_state(self.texts[-1]).items()}
            self.state[OPEN_PREFIX[family] + "logit_scale"] = torch.tensor(4.6)
        self.state["alphas_cumprod"] = torch.zeros(1000)
        self.state["model_ema.decay"] = torch.tensor(0.5)

    def save(self, path, dtype=torch.float32):
        save_file({n: t.to(dtype).contiguous() for n, t in self.state.items()}, path)
        return path
