"""An extension for webuis that tell a checkpoint's kind by its widths (Forge): theirs are SD 1.x of any width.

What such a webui reads from folders of its own, sizes and a tokenizer, is as A1111's yaml beside the checkpoint says.
"""

import json
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import yaml
from modules import shared

COPIED = "model_index.json", "scheduler", "tokenizer"
WIDTH, ANY = 768, -1  # of embeddings
SD1 = Path("runwayml", "stable-diffusion-v1-5")


def teach(file):
    """Has the webui know checkpoints of the widths in a yaml, as it knows SD 1.5."""
    from backend import loader
    from huggingface_guess import model_list

    params = yaml.safe_load(file.read_text(encoding="utf8"))["model"]["params"]
    unet, vae = (params[name]["params"] for name in ("unet_config", "first_stage_config"))
    widths = {"context_dim": unet["context_dim"], "model_channels": unet["model_channels"]}

    if not any(one.unet_config.items() >= widths.items() for one in model_list.models):
        known = {
            "huggingface_repo": str(folder_of(params, vae["ddconfig"], Path(loader.dir_path, "huggingface", SD1))),
            "unet_config": {**model_list.SD15.unet_config, **widths},
            "unet_extra_config": {"num_heads": unet["num_heads"], "num_head_channels": -1},
        }
        model_list.models.append(type("Miniature", (model_list.SD15,), known))


def folder_of(params, ddconfig, like):
    """A folder as the webui has one for each kind of model."""
    folder = Path(tempfile.mkdtemp(prefix="miniature-"))
    for name in COPIED:
        copy = shutil.copytree if (like / name).is_dir() else shutil.copy
        copy(like / name, folder / name)
    for name in ("text_encoder", "unet", "vae"):
        (folder / name).mkdir()
    text = Path(params["cond_stage_config"]["params"]["version"], "config.json")
    shutil.copy(text, folder / "text_encoder")
    shutil.copy(like / "unet" / "config.json", folder / "unet")
    sizes = {"block_out_channels": [ddconfig["ch"]], "layers_per_block": ddconfig["num_res_blocks"]}
    vae = json.loads((like / "vae" / "config.json").read_text(encoding="utf8"))
    config = {**vae, **sizes, "ch_mult": ddconfig["ch_mult"]}
    (folder / "vae" / "config.json").write_text(json.dumps(config), encoding="utf8")
    return folder


def widen_vae():
    """The webui's VAE has multiples of its first width only, and the first multiple is 1."""
    from backend import loader
    from backend.nn import vae

    class MiniatureVAE(vae.IntegratedAutoencoderKL):
        @classmethod
        def from_config(cls, config):
            made = vae.IntegratedAutoencoderKL.from_config(config)
            if "ch_mult" in config:
                sizes = {"ch": config["block_out_channels"][0], "ch_mult": config["ch_mult"]}
                depth = {"num_res_blocks": config["layers_per_block"], "attn_resolutions": []}
                rest = {"in_channels": 3, "out_ch": 3, "z_channels": 4, "resolution": 256, "double_z": True}
                made.encoder, made.decoder = (kind(**sizes, **depth, **rest) for kind in (vae.Encoder, vae.Decoder))
            return made

    loader.IntegratedAutoencoderKL = MiniatureVAE


def take_embeddings():
    """The webui's text engine of SD 1.5 takes embeddings of its width only."""
    from backend.text_processing import classic_engine

    database = classic_engine.EmbeddingDatabase
    classic_engine.EmbeddingDatabase = lambda tokenizer, width: database(tokenizer, ANY if width == WIDTH else width)


if find_spec("huggingface_guess"):
    widen_vae()
    take_embeddings()
    for found in sorted(Path(shared.cmd_opts.ckpt_dir).glob("*.yaml")):
        teach(found)
