"""Networks in prompts, against models whose weights were changed by exact arithmetic."""

from __future__ import annotations

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import Original
from fastapi.testclient import TestClient
from networks import add, lora, save, text_names, unet_names
from PIL import Image
from sd_prism.studio import generate, host, server

JOB = {"prompt": "a red cat", "steps": 2, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
PARTS = ("unet", "text")


def names(original, part, family):
    """Layers and their names in files: LDM's names and te1 and te2 for SDXL."""
    if part == "unet":
        return list(unet_names(original.unet, "ldm" if family == "sdxl" else "diffusers"))
    words = ["lora_te1", "lora_te2"] if family == "sdxl" else ["lora_te"]
    return [pair for text, word in zip(original.texts, words) for pair in text_names(text, word)]


def network(original, family, seed=0, parts=PARTS):
    return lora([pair for part in parts for pair in names(original, part, family)], seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small models, the networks "whole" and "other" for each, and models that have them in their weights."""
    folder = tmp_path_factory.mktemp("lora")
    models, networks = folder / "models" / "Stable-diffusion", folder / "models" / "Lora"
    models.mkdir(parents=True)
    for family in ("sd1", "sd2", "sdxl"):
        original = Original(family)
        original.save(models / f"{family}.safetensors")
        for seed, name in enumerate(("whole", "other")):
            save(network(original, family, seed)[0], networks / f"{family}-{name}.safetensors")

    def baked(name, family, *changes):
        """changes: (seed, parts, multiplier)."""

        def change(original):
            deltas_of = [network(original, family, seed)[1] for seed, _, _ in changes]
            for deltas, (_, parts, multiplier) in zip(deltas_of, changes):
                wanted = {module for part in parts for module, _ in names(original, part, family)}
                add({module: delta for module, delta in deltas.items() if module in wanted}, multiplier)

        Original(family, change=change).save(models / f"{name}.safetensors")

    for family in ("sd1", "sd2", "sdxl"):
        baked(f"{family}-baked", family, (0, PARTS, 0.8))
    baked("sd1-twice", "sd1", (0, PARTS, 1.6))
    baked("sd1-parts", "sd1", (0, ["text"], 0.5), (0, ["unet"], -0.7))
    baked("sd1-two", "sd1", (0, PARTS, 0.8), (1, PARTS, 0.6))
    yield folder
    host.close_host()


def draw(folder, model, prompt=JOB["prompt"], **fields):
    request = {**JOB, "prompt": prompt, "override_settings": {"sd_model_checkpoint": f"{model}.safetensors"}, **fields}
    return generate.generate(request, data_dir=folder)


def pixels(result, index=0):
    return np.asarray(Image.open(io.BytesIO(result.images[index]))).astype(int)


def difference(one, two):
    return int(np.abs(pixels(one) - pixels(two)).max())


@pytest.mark.parametrize(
    ("model", "tags", "baked"),
    [
        ("sd1", "<lora:sd1-whole:0.8>", "sd1-baked"),
        ("sd2", "<lora:sd2-whole:0.8>", "sd2-baked"),
        ("sdxl", "<lora:sdxl-whole:0.8>", "sdxl-baked"),
        ("sd1", "<lora:sd1-whole:0.5:-0.7>", "sd1-parts"),
        ("sd1", "<lora:sd1-whole:te=0.5:unet=-0.7>", "sd1-parts"),
        ("sd1", "<lora:sd1-whole:0.8> <lyco:sd1-other:0.6>", "sd1-two"),
    ],
)
def test_a_network_draws_what_the_changed_weights_draw(folder, model, tags, baked):
    plain, on = draw(folder, model), draw(folder, model, f"{JOB['prompt']}{tags}")
    assert difference(plain, on) > 20
    assert difference(on, draw(folder, baked)) <= 1
    assert pixels(draw(folder, model)).tobytes() == pixels(plain).tobytes()


def test_a_network_of_strength_zero_is_none(folder):
    assert difference(draw(folder, "sd1"), draw(folder, "sd1", f"{JOB['prompt']}<lora:sd1-whole:0>")) == 0


def test_a_network_goes_on_top_of_the_next_checkpoint(folder):
    """Both have one build, so that the weights change in the modules that the network is in."""
    tagged = f"{JOB['prompt']}<lora:sd1-whole:0.8>"
    draw(folder, "sd1", tagged)
    assert difference(draw(folder, "sd1-baked", tagged), draw(folder, "sd1-twice")) <= 1
    assert difference(draw(folder, "sd1", tagged), draw(folder, "sd1-baked")) <= 1


def test_another_folder_of_networks_can_be_named(folder, tmp_path):
    shutil.copy(folder / "models" / "Lora" / "sd1-whole.safetensors", tmp_path / "moved.safetensors")
    plain = draw(folder, "sd1")
    request = {**JOB, "prompt": "a red cat<lora:moved:0.8>", "override_settings": {"sd_model_checkpoint": "sd1"}}
    assert difference(plain, generate.generate(request, data_dir=folder, lora_dir=tmp_path)) > 20


def test_networks_reach_hires_batches_and_clip_skip(folder):
    fields = {
        "batch_size": 2,
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.6,
        "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "sd1.safetensors"},
    }
    on = draw(folder, "sd1", f"{JOB['prompt']}<lora:sd1-whole:0.8>", **fields)
    fields["override_settings"] = {**fields["override_settings"], "sd_model_checkpoint": "sd1-baked.safetensors"}
    baked = draw(folder, "sd1-baked", **fields)
    for i in (0, 1):
        assert np.abs(pixels(on, i) - pixels(baked, i)).max() <= 1


def test_layers_remember_and_forget_as_in_the_host(folder):
    draw(folder, "sd1", f"{JOB['prompt']}<lora:sd1-whole:0.8>")
    from modules import shared

    layer = shared.sd_model.network_layer_mapping["diffusion_model_input_blocks_1_1_transformer_blocks_0_attn1_to_q"]
    assert layer.network_layer_name == "diffusion_model_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    assert layer.network_current_names == (("sd1-whole", 0.8, 0.8, None),)
    assert not torch.equal(layer.weight, layer.network_weights_backup) and layer.network_bias_backup is None
    own = layer.network_weights_backup.clone()
    draw(folder, "sd1")
    assert layer.network_current_names == () and torch.equal(layer.weight, own)
    layer.load_state_dict({"weight": own + 1})
    assert layer.network_weights_backup is None and torch.equal(layer.weight, own + 1)
    draw(folder, "sd1", f"{JOB['prompt']}<lora:sd1-whole:0.8>")
    assert torch.equal(layer.network_weights_backup, own + 1)
    draw(folder, "sd1")
    layer.load_state_dict({"weight": own})
    text = shared.sd_model.network_layer_mapping["transformer_text_model_encoder_layers_0_self_attn_q_proj"]
    assert text is shared.sd_model.engine.text.encoders[0].core.encoder.layers[0].self_attn.q_proj


def test_names_of_layers_are_the_hosts(folder):
    draw(folder, "sdxl")
    from modules import shared

    known = set(shared.sd_model.network_layer_mapping)
    assert {
        "diffusion_model_input_blocks_4_1_transformer_blocks_0_attn2_to_out_0",
        "diffusion_model_output_blocks_2_2_conv",
        "diffusion_model_time_embed_0",
        "diffusion_model_label_emb_0_0",
        "diffusion_model_out_2",
        "0_transformer_text_model_encoder_layers_1_mlp_fc1",
        "1_model_transformer_resblocks_1_mlp_c_fc",
        "1_model_transformer_resblocks_1_attn_out_proj",
    } <= known


def test_infotext_names_the_hash_and_paste_finds_the_file_by_it(folder):
    result = draw(folder, "sd1", f"{JOB['prompt']}<lora:sd1-whole:0.8>")
    file = folder / "models" / "Lora" / "sd1-whole.safetensors"
    data = file.read_bytes()
    shorthash = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()[:12]
    assert f'Lora hashes: "sd1-whole: {shorthash}"' in result.infotexts[0]
    assert "<lora:sd1-whole:0.8>" in result.infotexts[0]
    from modules import script_callbacks

    params = {"Prompt": "a <lora:elsewhere:0.5> <lora:gone:1>", "Lora hashes": f"elsewhere: {shorthash}, gone: 123"}
    script_callbacks.infotext_pasted_callback("", params)
    assert params["Prompt"] == "a <lora:sd1-whole:0.5> <lora:gone:1>"
    assert "Lora hashes" not in draw(folder, "sd1").infotexts[0]


@pytest.fixture()
def only(folder):
    """only("name", state, ...) puts one more file into the Lora folder for a test."""
    made = []

    def put(name, state, **options):
        made.append(save(state, folder / "models" / "Lora" / f"{name}.safetensors", **options))
        return made[-1]

    yield put
    for file in set(made):
        file.unlink()


def comments(prompt, **fields):
    from modules.api.models import Txt2ImgRequest

    request = {**JOB, "prompt": prompt, "override_settings": {"sd_model_checkpoint": "sd1.safetensors"}, **fields}
    return host.run(Txt2ImgRequest(**request)).processed.comments


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("<lora:none such:1>", "Lora not found: none such"),
        ("<lora:sd1-whole:strong>", "<lora:sd1-whole:strong> is left out: its strengths must be numbers"),
        ("<lora:strange:1>", "strange.safetensors cannot be used: it is of a kind that is not known (oft_blocks)"),
        ("<lora:elsewhere:1>", "Lora elsewhere is for another kind of model"),
        ("<lora:misfit:1>", "Networks with errors: misfit (1)"),
    ],
)
def test_what_cannot_be_had_is_remarked_and_the_picture_is_made(folder, only, tag, says):
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    only("strange", {f"{layer}.oft_blocks": torch.zeros(2, 2, 2)})
    only("elsewhere", {"lora_unet_joint_blocks_1.lora_up.weight": torch.zeros(2, 2)})
    only("misfit", {f"{layer}.lora_up.weight": torch.ones(3, 1), f"{layer}.lora_down.weight": torch.ones(1, 3)})
    plain = draw(folder, "sd1")
    assert says in comments(f"a cat{tag}")
    assert difference(plain, draw(folder, "sd1", f"{JOB['prompt']}{tag}")) == 0


def test_half_precision_aliases_and_changed_files(folder, only):
    original = Original("sd1")
    state = network(original, "sd1")[0]
    only("v1-000010", state, dtype=torch.float16, ss_output_name="nice name")
    by_alias = draw(folder, "sd1", f"{JOB['prompt']}<lora:nice name:0.8>")
    assert difference(by_alias, draw(folder, "sd1-baked")) <= 2
    before = draw(folder, "sd1", f"{JOB['prompt']}<lora:v1-000010:0.8>")
    assert pixels(before).tobytes() == pixels(by_alias).tobytes()
    draw(folder, "sd1")  # as in the host, a file is read anew when its tag comes back
    only("v1-000010", network(original, "sd1", 1)[0])
    assert difference(before, draw(folder, "sd1", f"{JOB['prompt']}<lora:v1-000010:0.8>")) > 20


def test_a_network_may_bring_embeddings_along(folder, only):
    plain = draw(folder, "sd1")
    from modules import sd_hijack, shared

    own = shared.sd_model.cond_stage_model.encode_embedding_init_text("red cat", 2).clone()
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    nothing = {f"{layer}.lora_up.weight": torch.zeros(32, 1), f"{layer}.lora_down.weight": torch.zeros(1, 32)}
    wide = {"bundle_emb.wide.clip_l": torch.ones(1, 64), "bundle_emb.wide.clip_g": torch.ones(1, 128)}
    only("pivot", {**nothing, **wide, "bundle_emb.shiny.string_to_param.*": own})
    on = draw(folder, "sd1", "a shiny<lora:pivot:1>")
    assert difference(on, plain) == 0 and 'TI hashes: "shiny: pivot"' in on.infotexts[0]
    assert list(sd_hijack.model_hijack.embedding_db.word_embeddings) == ["shiny"]
    assert difference(draw(folder, "sd1", "a shiny"), plain) > 20
    assert not sd_hijack.model_hijack.embedding_db.ids_lookup


def test_pickles_and_damaged_files_are_told_and_the_others_are_there(folder, tmp_path):
    from sd_prism.studio.lora import Catalogue

    (tmp_path / "bad.safetensors").write_bytes(b"no network")
    (tmp_path / "old.pt").write_bytes(b"")
    (tmp_path / "below").mkdir()
    shutil.copy(folder / "models" / "Lora" / "sd1-whole.safetensors", tmp_path / "below")
    catalogue, told = Catalogue(), []
    catalogue.scan(tmp_path, told.append)
    assert list(catalogue.files) == ["sd1-whole"] and len(told) == 2
    assert "bad.safetensors is damaged" in told[0] and "old.pt is a pickle" in told[1]


def test_an_alias_of_two_files_means_neither(tmp_path):
    from sd_prism.studio.lora import Catalogue

    for name in ("one", "two"):
        save({"x.alpha": torch.ones(1)}, tmp_path / f"{name}.safetensors", ss_output_name="same")
    catalogue = Catalogue()
    catalogue.scan(tmp_path, print)
    assert catalogue.find("same") is None and catalogue.find("one").name == "one"
    assert catalogue.prompt_name(catalogue.find("two")) == "two"


def test_routes_list_the_networks_and_look_again(folder, only):
    host.close_host()
    app = server.build(data_dir=folder, builtin=False)
    with TestClient(app) as client:
        listed = {x["name"]: x for x in client.get("/sdapi/v1/loras").json()}
        assert set(listed) == {f"{family}-{name}" for family in ("sd1", "sd2", "sdxl") for name in ("whole", "other")}
        file = only("late", {"x.alpha": torch.ones(1)}, ss_output_name="very late")
        assert client.post("/sdapi/v1/refresh-loras").status_code == 200
        late = next(x for x in client.get("/sdapi/v1/loras").json() if x["name"] == "late")
    metadata = {"ss_output_name": "very late"}
    assert late == {"name": "late", "alias": "very late", "path": str(file), "metadata": metadata}


def test_cards_write_the_tag_that_finds_the_file(folder, only):
    only("v1-000010", {"x.alpha": torch.ones(1)}, ss_output_name='a "nice" name')
    draw(folder, "sd1")
    from modules import shared, ui_extra_networks

    page = next(page for page in ui_extra_networks.extra_pages if page.title == "Lora")
    page.refresh()

    def card():
        return next(item for item in page.list_items() if item["name"] == "v1-000010")

    item = card()
    assert json.loads(item["prompt"]) == '<lora:a "nice" name:1>'
    assert item["search_terms"][0] == "Lora/v1-000010.safetensors"
    shared.opts.data["lora_preferred_name"] = "Filename"
    assert json.loads(card()["prompt"]) == "<lora:v1-000010:1>"
    shared.opts.data["lora_preferred_name"] = "Alias from file"


def test_reload_ui_keeps_networks_working(folder):
    draw(folder, "sd1", "a red cat<lora:sd1-whole:0.8>")
    host.reload()
    on = draw(folder, "sd1", "a red cat<lora:sd1-whole:0.8>")
    assert difference(on, draw(folder, "sd1-baked")) <= 1
    host.reload()
    plain = draw(folder, "sd1")
    host.close_host()
    assert difference(plain, draw(folder, "sd1")) == 0


def test_torchs_layers_are_themselves_again_after_the_host(folder):
    draw(folder, "sd1")
    patched = torch.nn.Linear.forward
    host.close_host()
    assert torch.nn.Linear.forward is not patched and torch.nn.Linear.forward.__module__ == "torch.nn.modules.linear"
    assert torch.nn.Conv2d._load_from_state_dict is torch.nn.Module._load_from_state_dict
