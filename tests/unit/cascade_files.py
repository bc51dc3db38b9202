"""Tiny files of Stable Cascade with random weights, in every layout that is met.

The names and shapes here are written from the published files, apart from the networks that read them.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

HEAD_WIDTH = 8
METADATA = {f"prism.cascade.{one}head_width": str(HEAD_WIDTH) for one in ("", "text_", "vision_")}
TEXT, IMAGE, TOKENS, R = 32, 24, 4, 64  # widths of text and picture vectors, tokens per vector, numbers per time
VOCABULARY = 49408


def linear(name, out, inside):
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def conv(name, out, inside, side=1):
    return {f"{name}.weight": (out, inside, side, side), f"{name}.bias": (out,)}


def batch_norm(name, width, affine=True):
    told = dict.fromkeys((f"{name}.weight", f"{name}.bias"), (width,)) if affine else {}
    return told | {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}


def unet_blocks(name, letter, width, skip, cond, conditions):
    if letter == "C":
        return {
            f"{name}.depthwise.weight": (width, 1, 3, 3),
            f"{name}.depthwise.bias": (width,),
            **linear(f"{name}.channelwise.0", 4 * width, width + skip),
            **dict.fromkeys((f"{name}.channelwise.2.gamma", f"{name}.channelwise.2.beta"), (1, 1, 1, 4 * width)),
            **linear(f"{name}.channelwise.4", width, 4 * width),
        }
    if letter == "T":
        mappers = ["mapper", *(f"mapper_{one}" for one in conditions)]
        return {key: shape for one in mappers for key, shape in linear(f"{name}.{one}", 2 * width, R).items()}
    heads = [f"{name}.attention.attn.{one}" for one in ("to_q", "to_k", "to_v", "out_proj")]
    attention = {key: shape for one in heads for key, shape in linear(one, width, width).items()}
    return attention | linear(f"{name}.kv_mapper.1", width, cond)


def unet_levels(widths, letters, down, up, up_repeats, cond, conditions):
    shapes = {}
    for level, count in enumerate(down):
        for index, letter in enumerate(letters[level] * count):
            shapes |= unet_blocks(f"down_blocks.{level}.{index}", letter, widths[level], 0, cond, conditions)
    for step, count in enumerate(up):
        width = widths[::-1][step]
        for index, letter in enumerate(letters[::-1][step] * count):
            skip = width if step and not index else 0
            shapes |= unet_blocks(f"up_blocks.{step}.{index}", letter, width, skip, cond, conditions)
        for repeat in range(up_repeats[step] - 1):
            shapes |= conv(f"up_repeat_mappers.{step}.{repeat}", width, width)
    return shapes


def stage_c_shapes(width=16, blocks=(1, 2), cond=24, text=TEXT, image=IMAGE):
    widths = (width, width)
    return {
        **linear("clip_txt_mapper", cond, text),
        **linear("clip_txt_pooled_mapper", cond * TOKENS, text),
        **linear("clip_img_mapper", cond * TOKENS, image),
        **conv("embedding.1", width, 16),
        **unet_levels(widths, ("CTA", "CTA"), blocks, blocks[::-1], (1, 1), cond, ("sca", "crp")),
        **conv("down_downscalers.1.1.blocks.0", width, width),
        **conv("up_upscalers.0.1.blocks.1", width, width),
        **conv("clf.1", 16, width),
    }


def stage_b_shapes(widths=(8, 16, 16, 24), blocks=(1, 1, 2, 1), up_repeats=(2, 2, 2, 2), cond=16, text=TEXT):
    letters = ("CT", "CT", "CTA", "CTA")[: len(widths)]
    shapes = {
        **linear("clip_mapper", cond * TOKENS, text),
        **conv("effnet_mapper.0", 4 * widths[0], 16),
        **conv("effnet_mapper.2", widths[0], 4 * widths[0]),
        **conv("pixels_mapper.0", 4 * widths[0], 3),
        **conv("pixels_mapper.2", widths[0], 4 * widths[0]),
        **conv("embedding.1", widths[0], 16),
        **unet_levels(widths, letters, blocks, blocks[::-1], up_repeats, cond, ("sca",)),
        **conv("clf.1", 16, widths[0]),
    }
    for level, (high, low) in enumerate(pairwise(widths)):
        shapes |= conv(f"down_downscalers.{level + 1}.1", low, high, 2)
        step = len(widths) - 2 - level
        shapes |= {f"up_upscalers.{step}.1.weight": (low, high, 2, 2), f"up_upscalers.{step}.1.bias": (high,)}
    return shapes


def stage_a_block(name, width):
    return {
        f"{name}.gammas": (6,),
        f"{name}.depthwise.1.weight": (width, 1, 3, 3),
        f"{name}.depthwise.1.bias": (width,),
        **linear(f"{name}.channelwise.0", 4 * width, width),
        **linear(f"{name}.channelwise.2", width, 4 * width),
    }


def stage_a_shapes(widths=(8, 16), bottleneck=2, codes=32):
    high, low = widths
    end = bottleneck + 1
    return {
        **conv("in_block.1", high, 12),
        **stage_a_block("down_blocks.0", high),
        **conv("down_blocks.1", low, high, 4),
        **stage_a_block("down_blocks.2", low),
        "down_blocks.3.0.weight": (4, low, 1, 1),
        **batch_norm("down_blocks.3.1", 4),
        "vquantizer.codebook.weight": (codes, 4),
        **conv("up_blocks.0.0", low, 4),
        **{key: shape for i in range(1, end) for key, shape in stage_a_block(f"up_blocks.{i}", low).items()},
        f"up_blocks.{end}.weight": (low, high, 4, 4),
        f"up_blocks.{end}.bias": (high,),
        **stage_a_block(f"up_blocks.{end + 1}", high),
        **conv("out_block.0", 12, high),
    }


def text_shapes(width=TEXT, layers=2, vocabulary=VOCABULARY):
    norms = {}
    for name in ("final_layer_norm", *(f"encoder.layers.{i}.layer_norm{j}" for i in range(layers) for j in (1, 2))):
        norms |= {f"text_model.{name}.weight": (width,), f"text_model.{name}.bias": (width,)}
    shapes = {
        "text_model.embeddings.token_embedding.weight": (vocabulary, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        **norms,
        "text_projection.weight": (width, width),
    }
    for i in range(layers):
        shapes |= clip_layer(f"text_model.encoder.layers.{i}", width)
    return shapes


def clip_layer(name, width):
    """A layer of either encoder, but for its norms."""
    shapes = {}
    for one in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= linear(f"{name}.self_attn.{one}", width, width)
    return shapes | linear(f"{name}.mlp.fc1", 4 * width, width) | linear(f"{name}.mlp.fc2", width, 4 * width)


def vision_shapes(width=16, layers=2, patch=56, projection=IMAGE):
    tower = "vision_model"
    norms, inner = {}, (f"encoder.layers.{i}.layer_norm{j}" for i in range(layers) for j in (1, 2))
    for name in ("pre_layrnorm", "post_layernorm", *inner):
        norms |= {f"{tower}.{name}.weight": (width,), f"{tower}.{name}.bias": (width,)}
    shapes = {
        f"{tower}.embeddings.class_embedding": (width,),
        f"{tower}.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{tower}.embeddings.position_embedding.weight": (1 + (224 // patch) ** 2, width),
        **norms,
        "visual_projection.weight": (projection, width),
    }
    for i in range(layers):
        shapes |= clip_layer(f"{tower}.encoder.layers.{i}", width)
    return shapes


def previewer_shapes(width=32):
    convs = [(width, 16, 1), (width, width, 3), None, (width // 2, width // 2, 3), None]
    convs += [(width // 4, width // 4, 3), None, (width // 4, width // 4, 3)]
    wide, shapes = width, {}
    for i, one in enumerate(convs):
        name = f"blocks.{3 * i}"
        if one is None:
            narrow = max(wide // 2, width // 4)
            shapes |= {f"{name}.weight": (wide, narrow, 2, 2), f"{name}.bias": (narrow,)}
            wide = narrow
        else:
            shapes |= conv(name, *one)
        shapes |= batch_norm(f"blocks.{3 * i + 2}", wide)
    return shapes | conv(f"blocks.{3 * len(convs)}", 3, wide)


def conv_and_norm(name, out, inside, side=1):
    return {f"{name}.0.weight": (out, inside, side, side), **batch_norm(f"{name}.1", out)}


def effnet_block(name, before, after, hidden, squeeze):
    """A block of EfficientNetV2: one convolution, two, or a depthwise one with attention over channels."""
    if not hidden:
        return conv_and_norm(f"{name}.0", after, before, 3)
    if not squeeze:
        return conv_and_norm(f"{name}.0", hidden, before, 3) | conv_and_norm(f"{name}.1", after, hidden)
    return {
        **conv_and_norm(f"{name}.0", hidden, before),
        **conv_and_norm(f"{name}.1", hidden, 1, 3),
        **conv(f"{name}.2.fc1", squeeze, hidden),
        **conv(f"{name}.2.fc2", hidden, squeeze),
        **conv_and_norm(f"{name}.3", after, hidden),
    }


def effnet_shapes(width=8, last=24):
    stages = [(0, 0), (2 * width, 0), (2 * width, 0), *[(2 * width, 4)] * 3]
    shapes = conv_and_norm("backbone.0", width, 3, 3)
    for stage, (hidden, squeeze) in enumerate(stages, 1):
        for block in range(2 if stage == 2 else 1):
            shapes |= effnet_block(f"backbone.{stage}.{block}.block", width, width, hidden, squeeze)
    shapes |= conv_and_norm("backbone.7", last, width)
    return shapes | {"mapper.0.weight": (16, last, 1, 1)} | batch_norm("mapper.1", 16, affine=False)


SHAPES = {
    "stage_c": stage_c_shapes,
    "stage_b": stage_b_shapes,
    "stage_a": stage_a_shapes,
    "text": text_shapes,
    "effnet": effnet_shapes,
    "vision": vision_shapes,
    "previewer": previewer_shapes,
}


def random_tensor(name, shape, generator):
    """Weights of such a size that no layer blows up what it gets."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return 1 + 0.1 * noise.abs()
    if len(shape) < 2 or name.endswith((".gamma", ".beta")):
        return 0.1 * noise
    if "embedding.weight" in name:
        return 0.2 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


def random_state(part, seed=0, dtype=torch.float32, **sizes):
    """A part's weights by their canonical names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: random_tensor(name, shape, generator) for name, shape in SHAPES[part](**sizes).items()}
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}


def in_proj(state):
    """Stage C or B with the one weight of query, key and value that the official files have."""
    packed = {name: value for name, value in state.items() if ".attn.to_" not in name}
    for name in state:
        if ".attn.to_q." in name:
            three = [state[name.replace("to_q", one)] for one in ("to_q", "to_k", "to_v")]
            packed[name.replace("to_q.", "in_proj_")] = torch.cat(three)
    return packed


def in_diffusers(state):
    """Stage C or B by the names of diffusers."""
    told = {}
    for name, value in state.items():
        new = name.replace(".attention.attn.to_", ".attention.to_").replace(".attn.out_proj.", ".to_out.0.")
        if new.startswith("clip_mapper."):
            new = f"clip_txt_pooled_mapper.{new.removeprefix('clip_mapper.')}"
        told[new] = value
    return told


def text_in_checkpoint(state):
    """The text encoder as all-in-one files have it."""
    stem = "text_encoder.clip_g."
    inside = {f"{stem}transformer.{name}": value for name, value in state.items() if name.startswith("text_model.")}
    inside[f"{stem}text_projection"] = state["text_projection.weight"].T.contiguous()
    return inside | {f"{stem}logit_scale": torch.tensor(4.6052)}


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def main_tensors(states, packed=False):
    """The tensors of an all-in-one main file of the parts in `states`."""
    stage_c = in_proj(states["stage_c"]) if packed else states["stage_c"]
    tensors = prefixed("model.diffusion_model.", stage_c)
    if "text" in states:
        tensors |= text_in_checkpoint(states["text"])
    if "previewer" in states:
        tensors |= prefixed("vae.previewer.", states["previewer"])
    if "effnet" in states:
        constants = {"mean": torch.zeros(3), "std": torch.ones(3)}  # which the encoder knows by itself
        tensors |= prefixed("vae.encoder.", states["effnet"] | constants)
    if "vision" in states:
        tensors |= prefixed("clip_l_vision.", states["vision"])
    return tensors


def decoder_tensors(states, packed=False):
    """The tensors of an all-in-one decoder file."""
    stage_b = in_proj(states["stage_b"]) if packed else states["stage_b"]
    tensors = prefixed("model.diffusion_model.", stage_b) | prefixed("vae.", states["stage_a"])
    return tensors | (text_in_checkpoint(states["text"]) if "text" in states else {})


def write(path, tensors, metadata=METADATA):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    return path


def write_sparse(path, shapes, dtype="F16"):
    """A file of these shapes in a format of two bytes, as large as a real one; its numbers are a hole in the disk."""
    end, entries = 0, {}
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    with Path(path).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return Path(path)


def tiny_main(path, *, parts=("stage_c", "text", "effnet", "previewer"), packed=False, seed=0, dtype=torch.float32):
    """An all-in-one main file: stage C, and the other parts of `parts`; `packed` has in_proj for to_q, to_k, to_v."""
    return write(path, main_tensors({part: random_state(part, seed, dtype) for part in parts}, packed))


def tiny_decoder(path, *, parts=("stage_b", "stage_a", "text"), packed=False, seed=1, dtype=torch.float32):
    """An all-in-one decoder file: stages B and A, and the text encoder that nobody reads."""
    return write(path, decoder_tensors({part: random_state(part, seed, dtype) for part in parts}, packed))


def write_index(folder, name, tensors, shards=2, metadata=METADATA):
    """Tensors over several files and the index that names them; returns the index."""
    folder = Path(folder)
    names = sorted(tensors)
    files = {f"{name}-{i + 1:05}-of-{shards:05}.safetensors": names[i::shards] for i in range(shards)}
    for file, own in files.items():
        write(folder / file, {one: tensors[one] for one in own}, metadata)
    index = folder / f"{name}.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": {one: file for file, own in files.items() for one in own}})
    )
    return index


def diffusers_folder(folder, states, shards=0):
    """A diffusers folder of parts: prior or decoder, vqgan, text_encoder."""
    places = {"stage_c": "prior", "stage_b": "decoder", "stage_a": "vqgan", "text": "text_encoder"}
    for part, state in states.items():
        home = Path(folder) / places[part]
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.json").write_text("{}")
        told = in_diffusers(state) if part in ("stage_c", "stage_b") else dict(state)
        if part == "stage_a":
            told["vquantizer.embedding.weight"] = told.pop("vquantizer.codebook.weight")
        name = "model" if part == "text" else "diffusion_pytorch_model"
        if shards:
            write_index(home, name, told, shards)
        else:
            write(home / f"{name}.safetensors", told)
    return Path(folder)
