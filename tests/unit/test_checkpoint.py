"""Small random models written in LDM's layout, read back, and compared with the modules they came from."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import ATTENTION, OPEN_PREFIX, POOLED, Original, small_unet
from safetensors.torch import save_file
from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys
from sd_prism.studio.checkpoint import load, predicts_v
from sd_prism.studio.header import Sidecar, family_config, inspect
from sd_prism.studio.model_config import unet_config


@pytest.fixture(scope="module")
def originals():
    return {family: Original(family) for family in ATTENTION}


@pytest.mark.parametrize("family", ATTENTION)
def test_a_small_model_of_each_family_comes_back_equal(family, originals, tmp_path):
    original = originals[family]
    model = load(original.save(tmp_path / "small.safetensors"))
    assert model.family == family and model.name == "small" and model.prediction_type == "epsilon"
    cond = model.text.encode(["a cat", "a dog in the snow"])
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10.5, 800.0])
    added = None
    if family == "sdxl":
        vector = cond["vector"]
        sizes = torch.tensor([[1024, 1024, 0, 0, 1024, 1024]]).repeat(2, 1)
        added = {"text_embeds": vector[:, :POOLED], "time_ids": sizes}
    with torch.no_grad():
        want = original.unet(x, t, cond["crossattn"], added_cond_kwargs=added).sample
        latents = original.vae.encode(torch.ones(1, 3, 32, 32)).latent_dist.mode() * model.vae.config.scaling_factor
    assert torch.allclose(model.predict(x, t, cond), want, atol=1e-5)
    assert torch.allclose(model.encode(torch.ones(1, 3, 32, 32)), latents, atol=1e-5)
    assert model.decode(latents).shape == (1, 3, 32, 32)


def test_sd1_text_is_the_last_state_and_clip_skip_the_one_before(originals, tmp_path):
    model, clip = load(originals["sd1"].save(tmp_path / "m.safetensors")), originals["sd1"].texts[0]
    ids = torch.tensor([[49406, 320, 2368, *[49407] * 74]])
    with torch.no_grad():
        out = clip(ids, output_hidden_states=True)
        skipped = clip.final_layer_norm(out.hidden_states[-2])
    assert torch.allclose(model.text.encode(["a cat"])["crossattn"], out.last_hidden_state, atol=1e-5)
    assert torch.allclose(model.text.encode(["a cat"], clip_skip=2)["crossattn"], skipped, atol=1e-5)
    with pytest.raises(PrismError, match="clip skip is 4; this model's text encoder has 3 layers"):
        model.text.encode(["a cat"], clip_skip=4)


def test_sd2_text_is_the_normalised_state_before_the_last_padded_with_zeros(originals, tmp_path):
    model, clip = load(originals["sd2"].save(tmp_path / "m.safetensors")), originals["sd2"].texts[0]
    with torch.no_grad():
        out = clip(torch.tensor([[49406, 320, 2368, 49407, *[0] * 73]]), output_hidden_states=True)
        want = clip.final_layer_norm(out.hidden_states[-2])
    assert torch.allclose(model.text.encode(["a cat"], clip_skip=2)["crossattn"], want, atol=1e-5)


def test_sdxl_joins_two_encoders_and_a_size_vector(originals, tmp_path):
    model, (one, two) = load(originals["sdxl"].save(tmp_path / "m.safetensors")), originals["sdxl"].texts
    cond = model.text.encode(["a cat"], width=832, height=1216)
    with torch.no_grad():
        first = one(torch.tensor([[49406, 320, 2368, *[49407] * 74]]), output_hidden_states=True).hidden_states[-2]
        second = two(torch.tensor([[49406, 320, 2368, 49407, *[0] * 73]]), output_hidden_states=True)
    assert torch.allclose(cond["crossattn"], torch.cat([first, second.hidden_states[-2]], -1), atol=1e-5)
    assert torch.allclose(cond["vector"][:, :POOLED], second.text_embeds, atol=1e-5)
    assert cond["vector"].shape == (1, POOLED + 6 * 256)
    assert cond["vector"][0, POOLED] == pytest.approx(float(torch.tensor(1216.0).cos()), abs=1e-4)
    empty = model.text.encode([""], negative=True)
    assert not empty["crossattn"].any() and not empty["vector"][:, :POOLED].any() and empty["vector"].any()


def test_both_spellings_of_the_clip_prefix_load(originals, tmp_path):
    short = Original("sd1", text_model_prefix=False)
    a = load(originals["sd1"].save(tmp_path / "a.safetensors")).text.encode(["fish"])["crossattn"]
    b = load(short.save(tmp_path / "b.safetensors")).text.encode(["fish"])["crossattn"]
    assert torch.equal(a, b)


def test_a_compact_token_table_is_expanded(originals, tmp_path):
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    ids = torch.tensor([320, 2368, 49406, 49407])
    state = {**originals["sd1"].state, "prism.token_ids": ids.int(), name: originals["sd1"].state[name][ids]}
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "compact.safetensors")
    full = load(originals["sd1"].save(tmp_path / "full.safetensors"))
    compact = load(tmp_path / "compact.safetensors")
    table = compact.text.encoders[0].model.state_dict()["embeddings.token_embedding.weight"]
    assert table.shape == (49408, 64) and not table[321].any()
    assert torch.equal(compact.text.encode(["a cat"])["crossattn"], full.text.encode(["a cat"])["crossattn"])


def test_a_yaml_beside_the_file_decides(originals, tmp_path):
    path = originals["sd1"].save(tmp_path / "v.safetensors", torch.float16)
    (tmp_path / "v.yaml").write_text(
        "model: {params: {parameterization: v, image_size: 16, unet_config: {params: {num_heads: 2}}}}"
    )
    header, model = inspect(path), load(path)
    assert (header.prediction_type, header.native_size, header.dtype) == ("v_prediction", 128, "float16")
    assert model.unet.config.attention_head_dim == (2, 2, 2, 2) and model.denoiser().prediction_type == "v_prediction"


def test_inspect_reads_parts_and_family(originals, tmp_path):
    header = inspect(originals["sdxl"].save(tmp_path / "x.safetensors"))
    assert (header.family, header.parts, header.native_size) == ("sdxl", ("unet", "vae", "text"), 1024)
    assert inspect(originals["sd2"].save(tmp_path / "y.safetensors")).notes[0].startswith("prediction type unknown")


def test_v_prediction_keys_of_sdxl(originals, tmp_path):
    state = {**originals["sdxl"].state, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "v.safetensors")
    model = load(tmp_path / "v.safetensors")
    assert model.prediction_type == "v_prediction" and model.alphas_cumprod[-1] < 1e-6


@pytest.mark.parametrize(
    ("names", "family", "says"),
    [
        (
            "lora_unet_down_blocks_0.lora_down.weight",
            "lora",
            "is a LoRA, which goes on top of a checkpoint; put it into models/Lora",
        ),
        ("first_stage_model.decoder.conv_in.weight", "vae", "is a VAE alone; put it into models/VAE"),
        (
            "model.diffusion_model.clip_txt_mapper.weight model.diffusion_model.clf.1.weight",
            "cascade",
            "Stable Cascade file, which only the script Prism Cascade loads; ",
        ),
        ("something.else", "unknown", "no Stable Diffusion 1, 2 or XL"),
    ],
)
def test_other_files_are_named(names, family, says, tmp_path):
    save_file({name: torch.zeros(2, 2) for name in names.split()}, tmp_path / "f.safetensors")
    assert inspect(tmp_path / "f.safetensors").family == family
    with pytest.raises(PrismError, match=says):
        load(tmp_path / "f.safetensors")


def test_damaged_files_say_so(originals, tmp_path):
    path = originals["sd1"].save(tmp_path / "m.safetensors")
    data = path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-100])
    with pytest.raises(PrismError, match="its header announces"):
        inspect(tmp_path / "cut.safetensors")
    broken = b"{not json"
    cases = {"empty": b"", "long": struct.pack("<Q", 10**9) + b"{}", "json": struct.pack("<Q", len(broken)) + broken}
    entry = b'{"a": {"dtype": 1, "shape": 5}}'
    cases["entry"] = struct.pack("<Q", len(entry)) + entry
    cases["deep"] = struct.pack("<Q", 200_000) + b"[" * 200_000
    cases["list"] = struct.pack("<Q", 2) + b"[]"
    endless = b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, Infinity]}}'
    cases["endless"] = struct.pack("<Q", len(endless)) + endless
    for name, content in cases.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(PrismError, match="download it again"):
            inspect(tmp_path / f"{name}.safetensors")


def test_a_header_without_metadata_may_say_null(tmp_path):
    text = b'{"__metadata__": null}'
    (tmp_path / "null.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert inspect(tmp_path / "null.safetensors").metadata == {}


def test_an_unreadable_file_and_an_impossible_path_are_told(tmp_path, monkeypatch):
    path = tmp_path / "closed.safetensors"
    path.write_bytes(bytes(20))

    def closed(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", closed)
    with pytest.raises(PrismError, match=r"closed.safetensors cannot be read \(Permission denied\)"):
        inspect(path)
    with pytest.raises(PrismError, match="does not exist"):
        inspect(tmp_path / ("x" * 5000))


def test_missing_and_pickled_files_are_refused(tmp_path):
    with pytest.raises(PrismError, match="does not exist"):
        inspect(tmp_path / "none.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02")
    with pytest.raises(PrismError, match="is a pickle, which can run any code"):
        load(tmp_path / "old.ckpt")


def test_missing_and_unexpected_weights_are_listed(originals, tmp_path):
    state = dict(originals["sd1"].state)
    state["first_stage_model.decoder.extra.weight"] = torch.zeros(1)
    del state["first_stage_model.decoder.conv_out.bias"]
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "m.safetensors")
    with pytest.raises(PrismError, match=r"VAE weights: 1 missing \(decoder.conv_out.bias\); 1 unexpected"):
        load(tmp_path / "m.safetensors")
    no_vae = {n: t for n, t in state.items() if not n.startswith(ldm_keys.VAE)}
    save_file({n: t.contiguous() for n, t in no_vae.items()}, tmp_path / "n.safetensors")
    with pytest.raises(PrismError, match="has no vae"):
        load(tmp_path / "n.safetensors")


def test_a_header_is_read_without_torch(originals, tmp_path):
    path, lib = originals["sd1"].save(tmp_path / "m.safetensors"), Path(__file__).parents[2] / "lib"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sd_prism.studio.header import inspect;"
        "print(inspect(sys.argv[2]).family, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(lib), str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["sd1", "False"]


def test_the_hash_is_a1111s(originals, tmp_path):
    import hashlib

    path = originals["sd1"].save(tmp_path / "m.safetensors")
    model = load(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    next(model.unet.parameters()).data.zero_()  # writing to a loaded weight leaves the file alone
    assert model.sha256 == before and model.hash == before[:10]


def test_the_sd2_guess_reads_the_networks_answer(originals):
    unet = small_unet("sd2")
    unet.conv_out.weight.data.zero_()
    unet.conv_out.bias.data.fill_(-2.0)
    assert predicts_v(unet)
    unet.conv_out.bias.data.fill_(0.5)
    assert not predicts_v(unet)


def test_a_diffusers_folder_loads_the_same_model(originals, tmp_path):
    original = originals["sd1"]
    for name, part in {"unet": original.unet, "vae": original.vae, "text_encoder": original.texts[0]}.items():
        part.save_pretrained(tmp_path / "folder" / name)
    (tmp_path / "folder" / "scheduler").mkdir()
    scheduler = tmp_path / "folder" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({"prediction_type": "v_prediction", "beta_start": 0.00085, "beta_end": 0.012}))
    folder, single = load(tmp_path / "folder"), load(original.save(tmp_path / "m.safetensors"))
    assert (folder.family, folder.prediction_type, folder.name) == ("sd1", "v_prediction", "folder")
    cond, x, t = single.text.encode(["a cat"]), torch.randn(1, 4, 8, 8), torch.tensor([300.0])
    assert torch.equal(folder.text.encode(["a cat"])["crossattn"], cond["crossattn"])
    assert torch.allclose(folder.predict(x, t, cond), single.predict(x, t, cond), atol=1e-4)
    assert len(folder.hash) == 10


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ATTENTION)
def test_the_unet_map_is_diffusers_own_and_inverts(family, originals):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    original = originals[family]
    ldm = {n: n for n in original.state if n.startswith(ldm_keys.UNET)}
    theirs = convert_ldm_unet_checkpoint(ldm, dict(original.unet.config))
    shape = ldm_keys.UNetShape.of(n.removeprefix(ldm_keys.UNET) for n in ldm)
    assert shape == ldm_keys.UNetShape(2, ATTENTION[family])
    assert set(theirs) == set(original.unet.state_dict())
    for diffusers_name, ldm_name in theirs.items():
        name = ldm_name.removeprefix(ldm_keys.UNET)
        assert ldm_keys.unet_to_diffusers(name, shape) == diffusers_name
        assert ldm_keys.unet_to_ldm(diffusers_name, shape) == name


def test_the_vae_map_is_diffusers_own_and_inverts(originals):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    ldm = {n: t for n, t in originals["sd1"].state.items() if n.startswith(ldm_keys.VAE)}
    marked = {n: torch.full_like(t, float(i)) for i, (n, t) in enumerate(ldm.items())}
    theirs = convert_ldm_vae_checkpoint(marked, {"down_block_types": [0] * 4, "up_block_types": [0] * 4})
    assert set(theirs) == set(originals["sd1"].vae.state_dict())
    for name, tensor in marked.items():
        short = name.removeprefix(ldm_keys.VAE)
        assert theirs[ldm_keys.vae_to_diffusers(short)].flatten()[0] == tensor.flatten()[0]
        assert ldm_keys.vae_to_ldm(ldm_keys.vae_to_diffusers(short)) == short


def test_the_open_clip_map_is_diffusers_own(originals):
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    prefix, clip = OPEN_PREFIX["sdxl"], originals["sdxl"].texts[1]
    state = {n: t for n, t in originals["sdxl"].state.items() if n.startswith(prefix)}
    state[prefix + "text_projection"] = state[prefix + "text_projection"].contiguous()
    theirs = {n.removeprefix("text_model."): t for n, t in convert_open_clip_checkpoint(clip, state, prefix).items()}
    assert set(theirs) == {n.removeprefix("text_model.") for n in clip.state_dict()}
    for name in (n.removeprefix(prefix) for n in state if not n.endswith("logit_scale")):
        for part, mine in enumerate(ldm_keys.open_clip_to_transformers(name)):
            ours, third = ldm_keys.transformers_to_open_clip(mine)
            assert mine in theirs and ours == name and third in (None, part)


def test_a_foreign_name_is_refused():
    with pytest.raises(PrismError, match="is no name of a Stable Diffusion"):
        ldm_keys.unet_to_diffusers("double_blocks.0.img_attn.qkv.weight")


SD1 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
SDXL = {
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize(("family", "config"), [("sd1", SD1), ("sd2", SD2), ("sdxl", SDXL)])
def test_the_published_unets_are_recognised_from_their_shapes(family, config):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        published = UNet2DConditionModel(**config)
        shape = ldm_keys.UNetShape(2, ATTENTION[family])
        shapes = {ldm_keys.unet_to_ldm(n, shape): tuple(t.shape) for n, t in published.state_dict().items()}
        derived = unet_config(shapes, family_config(family)["unet"], Sidecar())
        again = UNet2DConditionModel(**derived)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in published.state_dict().items()
    }
    heads = [m.heads for n, m in published.named_modules() if n.endswith("attn2")]
    assert [m.heads for n, m in again.named_modules() if n.endswith("attn2")] == heads


def test_a_picture_from_noise_to_pixels(originals, tmp_path):
    from sd_prism.studio.rng import ImageRNG
    from sd_prism.studio.samplers import sampler

    model, dpm = load(originals["sd1"].save(tmp_path / "m.safetensors")), sampler("DPM++ 2M")
    cond, rng = model.text.encode(["a (red:1.2) fish", "a fish"]), ImageRNG((4, 8, 8), [1, 2])
    denoiser = dpm.wrap(model.denoiser())
    sigmas = dpm.sigmas("Automatic", 3, denoiser)
    latents = dpm.function(denoiser, dpm.begin(rng.next(), sigmas), sigmas, extra_args={"cond": cond})
    assert torch.isfinite(model.decode(latents)).all() and model.decode(latents).shape == (2, 3, 64, 64)
