"""An extension for webuis that tell a checkpoint's kind by its widths (reForge): theirs are SD 1.x of any width.

What such a webui has as constants, the sizes of text encoder and VAE, is as A1111's yaml beside the checkpoint says.
"""

from functools import partial
from pathlib import Path

import yaml
from ldm_patched.modules import sd1_clip, supported_models
from ldm_patched.modules.sd import VAE
from ldm_patched.modules.supported_models_base import ClipTarget
from modules import shared
from modules_forge import forge_loader


def teach(params):
    """Has the webui know checkpoints of the widths in a yaml, as it knows SD 1.5."""
    unet = params["unet_config"]["params"]
    widths = {"context_dim": unet["context_dim"], "model_channels": unet["model_channels"]}
    text = str(Path(params["cond_stage_config"]["params"]["version"], "config.json"))

    class Text(sd1_clip.SD1ClipModel):
        def __init__(self, **kwargs):
            super().__init__(clip_model=partial(sd1_clip.SDClipModel, textmodel_json_config=text), **kwargs)

    known = {
        "unet_config": {**supported_models.SD15.unet_config, **widths},
        "unet_extra_config": {"num_heads": unet["num_heads"], "num_head_channels": -1},
        "clip_target": lambda self, state_dict: ClipTarget(sd1_clip.SD1Tokenizer, Text),
    }
    if not any(one.unet_config == known["unet_config"] for one in supported_models.models):
        supported_models.models.append(type("Miniature", (supported_models.SD15,), known))


def widen_vae(known):
    """The webui's VAE has one width."""
    sizes = {(one["ch"], one["ch"] * one["ch_mult"][0]): one for one in known}

    def vae(sd, **kwargs):
        ends = [sd[name].shape[0] for name in ("encoder.conv_in.weight", "decoder.norm_out.weight") if name in sd]
        ddconfig = sizes.get(tuple(ends))
        return VAE(sd=sd, config=ddconfig and {"params": {"ddconfig": ddconfig, "embed_dim": 4}}, **kwargs)

    forge_loader.VAE = vae


files = sorted(Path(shared.cmd_opts.ckpt_dir).glob("*.yaml"))
known = [yaml.safe_load(file.read_text(encoding="utf8"))["model"]["params"] for file in files]
for params in known:
    teach(params)
widen_vae([params["first_stage_config"]["params"]["ddconfig"] for params in known])
