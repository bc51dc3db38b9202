"""What LoRA files call the layers of stage C and of the text encoder. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

FLAT = {"stage_c": "lora_prior_unet_", "text": "lora_prior_te_"}  # kohya's and OneTrainer's
DOTTED = "diffusion_model."  # ComfyUI's
DIFFUSERS = ((".attention.attn.to_", ".attention.to_"), (".attention.attn.out_proj", ".attention.to_out.0"))


def file_names(part: str, path: str) -> tuple[str, ...]:
    """The names that files have for the layer `path` of "stage_c" or "text"."""
    if part == "text":
        return (FLAT[part] + _flat(path),)
    other = path
    for ours, theirs in DIFFUSERS:
        other = other.replace(ours, theirs)
    return tuple(dict.fromkeys((FLAT[part] + _flat(path), FLAT[part] + _flat(other), DOTTED + path)))


def translated(key: str, names: Mapping[str, str]) -> str:
    """A tensor's key with the layer's name replaced by the one that `names` has for it; other keys as they are.

    "lora_prior_unet_clf_1.lora_up.weight" and "diffusion_model.clf.1.lora_up.weight" both name a layer, then what is
    done to it, which is dotted too.
    """
    end = len(key)
    while (end := key.rfind(".", 0, end)) > 0:
        if key[:end] in names:
            return names[key[:end]] + key[end:]
    return key


def _flat(path: str) -> str:
    return path.replace(".", "_")
