"""Network files as trainers write them, and the weights they stand for in exact arithmetic."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from sd_prism.merge import ldm_keys

RANK, ALPHA = 4, 2.0
LAYERS = (torch.nn.Linear, torch.nn.Conv2d)


def unet_names(unet, style="diffusers"):
    """(module, kohya's name) for the UNet: from diffusers' paths, or from LDM's as for SDXL."""
    attention = tuple("CrossAttn" in kind for kind in unet.config.down_block_types)
    for path, module in unet.named_modules():
        if isinstance(module, LAYERS):
            if style == "ldm":
                path = ldm_keys.unet_to_ldm(f"{path}.weight", ldm_keys.UNetShape(2, attention))[: -len(".weight")]
            yield module, "lora_unet_" + path.replace(".", "_")


def text_names(text, word="lora_te"):
    """(module, kohya's name) for a text encoder's layers."""
    for path, module in text.named_modules():
        if isinstance(module, LAYERS) and "layers." in path:
            path = path.removeprefix("text_model.")
            yield module, f"{word}_text_model_" + path.replace(".", "_")


def lora(names, seed=0, strength=0.2):
    """A LoRA for all these layers: the file's tensors, and by module what alpha/rank * up @ down is in float64."""
    source = torch.Generator().manual_seed(seed)
    state, deltas = {}, {}
    for module, name in names:
        weight = module.weight.detach()
        kernel = weight.shape[2:]
        down = torch.randn(RANK, weight.shape[1], *kernel, generator=source)
        up = torch.randn(weight.shape[0], RANK, *(1 for _ in kernel), generator=source)
        up *= strength * float(weight.std()) / RANK**0.5
        state |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
        state[f"{name}.alpha"] = torch.tensor(ALPHA)
        product = up.double().flatten(1) @ down.double().flatten(1)
        deltas[module] = product.reshape(weight.shape) * (ALPHA / RANK)
    return state, deltas


@torch.no_grad()
def add(deltas, multiplier):
    """Change the modules' weights by exact arithmetic, rounded once."""
    for module, delta in deltas.items():
        module.weight.copy_((module.weight.double() + multiplier * delta).float())


def save(state, path, dtype=torch.float32, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.to(dtype).contiguous() for name, t in state.items()}, path, metadata or None)
    return path
