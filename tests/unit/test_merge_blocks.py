import json
from collections import Counter

import pytest
import torch
from sd_prism.errors import PrismError
from sd_prism.merge.blocks import Layout
from sd_prism.merge.ldm_keys import UNET, UNetShape, unet_to_diffusers, unet_to_ldm

IN, OUT = [f"IN{i:02d}" for i in range(12)], [f"OUT{i:02d}" for i in range(12)]
DIFFUSERS = {
    "sd1": {"cross_attention_dim": 768},
    "sd2": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
# Millions of parameters and tensors of each block, counted in the published checkpoints.
SIZES = {
    "sd1": {
        "IN01": (4.80, 36),
        "IN04": (15.75, 38),
        "IN07": (59.35, 38),
        "IN11": (31.14, 10),
        "M00": (97.04, 46),
        "OUT00": (49.16, 12),
        "OUT02": (63.91, 14),
        "OUT05": (90.48, 40),
        "OUT11": (5.93, 38),
        "IN00": (0.01, 2),
        "TIME_EMBED": (2.05, 4),
        "OUT": (0.01, 4),
    },
    "sdxl": {
        "IN01": (2.26, 10),
        "IN03": (0.92, 2),
        "IN07": (375.43, 218),
        "IN08": (381.98, 216),
        "M00": (413.12, 226),
        "OUT00": (400.01, 218),
        "OUT02": (406.56, 220),
        "OUT05": (35.17, 60),
        "OUT08": (3.38, 12),
        "IN00": (0.01, 2),
        "TIME_EMBED": (2.05, 4),
        "LABEL_EMB": (5.25, 4),
        "OUT": (0.01, 4),
    },
}
TOTALS = {"sd1": (859_520_964, 686), "sd2": (865_910_724, 686), "sdxl": (2_567_463_684, 1680)}


@pytest.fixture(scope="module", params=DIFFUSERS)
def unet(request):
    """(family, shapes) of a real UNet, as diffusers builds and names it."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(**DIFFUSERS[request.param])
    return request.param, {name: tuple(value.shape) for name, value in model.state_dict().items()}


def single_file(shapes):
    """The same UNet in a single file's names, through the map of names."""
    shape = UNetShape.of_diffusers(shapes)
    return {UNET + unet_to_ldm(name, shape): size for name, size in shapes.items()}


def test_names_map_both_ways_and_one_to_one(unet):
    _, shapes = unet
    shape = UNetShape.of_diffusers(shapes)
    ldm = {unet_to_ldm(name, shape): name for name in shapes}
    assert len(ldm) == len(shapes)
    assert shape == UNetShape.of(ldm)
    assert {unet_to_diffusers(name, shape): name for name in ldm} == {name: mapped for mapped, name in ldm.items()}


def test_both_namings_give_one_layout(unet):
    family, shapes = unet
    theirs, ours = Layout.of(shapes), Layout.of(single_file(shapes))
    assert theirs == ours
    assert theirs.homes == ours.homes
    assert theirs.family == family
    assert len(theirs.homes) == len(shapes)
    assert theirs.names == {name: theirs.names[name] for name in ours.names}


def test_blocks_have_the_published_sizes(unet):
    family, shapes = unet
    layout = Layout.of(shapes)
    values, tensors = Counter(), Counter()
    for name, block in layout.homes.items():
        values[block] += torch.Size(shapes[layout.names[name]]).numel()
        tensors[block] += 1
    assert (values.total(), tensors.total()) == TOTALS[family]
    for block, (millions, count) in SIZES.get(family, {}).items():
        assert (round(values[block] / 1e6, 2), tensors[block]) == (pytest.approx(millions, abs=0.011), count), block


def test_sliders_stand_in_the_order_of_the_run(unet):
    family, shapes = unet
    layout = Layout.of(shapes)
    if family == "sdxl":
        assert list(layout.blocks) == [*IN[:9], "M00", *OUT[:9], "TIME_EMBED", "LABEL_EMB", "OUT"]
    else:
        assert list(layout.blocks) == [*IN, "M00", *OUT, "TIME_EMBED", "OUT"]
    assert list(layout.spine) == [x for x in layout.blocks if x not in ("TIME_EMBED", "LABEL_EMB", "OUT")]


def test_the_original_authors_names_of_sdxl():
    """Names that stand in the published SDXL checkpoint, and their blocks."""
    known = {
        "model.diffusion_model.input_blocks.0.0.weight": "IN00",
        "model.diffusion_model.input_blocks.3.0.op.bias": "IN03",
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": "IN08",
        "model.diffusion_model.middle_block.1.transformer_blocks.9.norm3.weight": "M00",
        "model.diffusion_model.output_blocks.2.2.conv.weight": "OUT02",
        "model.diffusion_model.output_blocks.8.0.skip_connection.weight": "OUT08",
        "model.diffusion_model.time_embed.0.weight": "TIME_EMBED",
        "model.diffusion_model.label_emb.0.2.bias": "LABEL_EMB",
        "model.diffusion_model.out.2.weight": "OUT",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": "BASE",
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight": "BASE",
        "first_stage_model.decoder.conv_in.weight": "VAE",
    }
    left_alone = ["conditioner.embedders.0.transformer.text_model.embeddings.position_ids", "v_pred"]
    left_alone += ["conditioner.embedders.1.model.attn_mask", "denoiser.sigmas", "model_ema.decay"]
    layout = Layout.of(dict.fromkeys([*known, *left_alone], (1,)))
    assert layout.family == "sdxl"
    assert dict(layout.homes) == known
    assert set(layout.names) == {*known, *left_alone}


def sd1(*names):
    return dict.fromkeys(["model.diffusion_model.out.2.bias", *names], (4,))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (
            "cond_stage_model.transformer.encoder.layers.0.layer_norm1.bias",
            "cond_stage_model.transformer.text_model.encoder.layers.0.layer_norm1.bias",
        ),
        (
            "cond_stage_model.wrapped.transformer.text_model.embeddings.token_embedding.wrapped.weight",
            "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        ),
        ("conditioner.embedders.0.model.ln_final.bias", "cond_stage_model.model.ln_final.bias"),
        (
            "text_encoder.text_model.final_layer_norm.bias",
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
        ),
    ],
    ids=["old file", "A1111's wrappers", "SD 2 turbo", "diffusers"],
)
def test_text_encoders_under_other_names(given, name):
    layout = Layout.of(sd1(given))
    assert layout.names[name] == given
    assert layout.homes[name] == "BASE"


def test_a_vae_in_diffusers_names():
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
        vae = AutoencoderKL(**blocks, block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    given = sd1(*(f"vae.{name}" for name in vae.state_dict()))
    layout = Layout.of(given)
    inside = [name for name, block in layout.homes.items() if block == "VAE"]
    assert len(inside) == len(vae.state_dict()) == 248
    assert "first_stage_model.decoder.up.3.upsample.conv.weight" in inside
    assert "first_stage_model.encoder.mid.attn_1.proj_out.bias" in inside


def test_the_shipped_miniature():
    from sd_prism import miniatures

    with miniatures.MINI_V1.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    layout = Layout.of({name: entry["shape"] for name, entry in header.items() if name != "__metadata__"})
    assert layout.title == "Stable Diffusion 1"
    assert list(layout.blocks) == ["BASE", *IN, "M00", *OUT, "TIME_EMBED", "OUT", "VAE"]


# --- Stable Cascade ----------------------------------------------------------------------------------------------


def cascade(prefix="model.diffusion_model.", down=(2, 3), up=(3, 2), attention="attention.attn.to_q"):
    names = ["embedding.1.weight", "clf.1.weight", "clip_txt_mapper.weight", "clip_img_mapper.bias"]
    names += ["down_downscalers.1.1.blocks.0.weight", "up_upscalers.0.1.blocks.1.weight"]
    for way, levels in (("down", down), ("up", up)):
        for level, count in enumerate(levels):
            for i in range(count):
                start = f"{way}_blocks.{level}"
                names += [f"{start}.{3 * i}.depthwise.weight", f"{start}.{3 * i}.channelwise.0.weight"]
                names += [f"{start}.{3 * i + 1}.mapper.weight", f"{start}.{3 * i + 2}.{attention}.weight"]
    return dict.fromkeys((prefix + name for name in names), (1,))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_stage_c(prefix):
    layout = Layout.of(cascade(prefix))
    assert layout.title == "Stable Cascade stage C"
    assert list(layout.blocks) == [*IN[:5], *OUT[:5], "EMBED", "CLIP_EMB", "OUT"]
    homes = {name.removeprefix(UNET): block for name, block in layout.homes.items()}
    assert homes["down_blocks.0.5.attention.attn.to_q.weight"] == "IN01"
    assert homes["down_downscalers.1.1.blocks.0.weight"] == homes["down_blocks.1.0.depthwise.weight"] == "IN02"
    assert homes["up_upscalers.0.1.blocks.1.weight"] == homes["up_blocks.0.8.attention.attn.to_q.weight"] == "OUT02"
    assert homes["up_blocks.1.4.mapper.weight"] == "OUT04"
    assert (homes["embedding.1.weight"], homes["clip_img_mapper.bias"], homes["clf.1.weight"]) == (
        *("EMBED", "CLIP_EMB", "OUT"),
    )
    assert len(homes) == len(layout.names)


def test_stage_c_in_diffusers_names_has_the_authors_names():
    assert set(Layout.of(cascade("", attention="attention.to_q")).homes) == set(Layout.of(cascade()).homes)


def test_the_real_stage_c():
    from diffusers.models import StableCascadeUNet

    with torch.device("meta"):
        model = StableCascadeUNet(clip_text_in_channels=1280, clip_image_in_channels=768, switch_level=(False,))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    layout = Layout.of(shapes)
    assert len(layout.homes) == len(shapes) == 1550
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 3_589_103_632
    assert len(layout.spine) == 64
    assert layout.spine[31:33] == ("IN31", "OUT00")
    assert set(Counter(layout.homes[name] for name in layout.homes if "blocks." in name).values()) == {24, 26}


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight"], "this is a LoRA"),
        (["clip_l", "clip_g"], "no UNet among these 2 tensors"),
        (["first_stage_model.decoder.conv_in.weight"], "no UNet among these 1 tensors"),
        (["input_blocks.x.weight"], "no UNet among these 1 tensors"),
        (["up_blocks.0.upsamplers.0.conv.weight"], "a level beyond the 0 that this UNet has"),
        (["down_blocks.0.motion_modules.0.norm.weight"], "is no name of a Stable Diffusion"),
        ([], "no UNet among these 0 tensors"),
        (["double_blocks.0.img_attn.qkv.weight"], "expected Stable Diffusion 1, Stable Diffusion 2, SDXL"),
    ],
)
def test_what_is_no_such_model_is_refused(names, said):
    with pytest.raises(PrismError, match=said):
        Layout.of(dict.fromkeys(names, (1,)))


@pytest.mark.parametrize(
    ("marks", "family"),
    [
        ({}, "sd1"),
        ({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)}, "sd2"),
        ({"cond_stage_model.model.ln_final.weight": (64,)}, "sd2"),
        ({"model.diffusion_model.label_emb.0.0.weight": (1280, 2816)}, "sdxl"),
        ({"model.diffusion_model.label_emb.0.0.weight": (1536, 2560)}, "sdxl-refiner"),
    ],
)
def test_families_are_told_apart(marks, family):
    assert Layout.of({**sd1(), **marks}).family == family
