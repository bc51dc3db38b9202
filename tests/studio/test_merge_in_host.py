"""Prism Block Merge through the whole house: every family, and what a host may do behind its back."""

from __future__ import annotations

import gc
import hashlib
import io
import re
import sys
import weakref
from types import ModuleType, SimpleNamespace

import pytest
import torch
from checkpoints import Original
from PIL import Image
from sd_prism.studio import generate, host

JOB = {"prompt": "a red cat", "steps": 2, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
WHOLE = {"ratio": 1, "vae": 1}
HALF = {"model": "sd1-other", "ratio": 0.5}
VAE_ONLY = {"model": "sd1-other", "ratio": 0, "vae": 1}
FAMILIES = "sd1", "sd2", "sdxl"


def shaken(original):
    source = torch.Generator().manual_seed(5)
    for part in (original.unet, original.vae, *original.texts):
        for value in part.parameters():
            value.data.mul_(1 + 0.3 * torch.randn(value.shape, generator=source))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    models = folder / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    for family in FAMILIES:
        Original(family).save(models / f"{family}.safetensors")
        Original(family, change=shaken).save(models / f"{family}-other.safetensors", torch.float16)
    yield folder
    host.close_host()


@pytest.fixture()
def draw(folder):
    """draw(arguments, model="sd1", ...): one picture's pixels and infotext; the model is as loaded afterwards."""

    def drawn(*args, model="sd1", **fields):
        scripts = {"alwayson_scripts": {"Prism Block Merge": {"args": list(args)}}} if args else {}
        override = {"override_settings": {"sd_model_checkpoint": f"{model}.safetensors"}}
        made = generate.generate({**JOB, **scripts, **override, **fields}, data_dir=folder)
        return SimpleNamespace(pixels=pixels(made.images[0]), infotext=made.infotexts[0])

    yield drawn
    drawn()


def pixels(png):
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


def loaded():
    return sys.modules["modules.shared"].sd_model


def models():
    return sys.modules["sd_prism.hosts.merge.models"]


def weights():
    engine, found = loaded().engine, hashlib.sha256()
    for part in (engine.unet, engine.vae, *(one.model for one in engine.text.encoders)):
        for tensor in part.state_dict().values():
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def test_weights_that_a_host_keeps_packed_are_left_alone_and_the_picture_says_why(draw, monkeypatch):
    plain, before = draw().pixels, weights()
    monkeypatch.setattr(loaded().model.diffusion_model, "storage_dtype", "nf4", raising=False)
    made = draw(HALF)
    assert (made.pixels, weights()) == (plain, before) and "keeps them packed (nf4)" in made.infotext


def patched_model():
    """The text encoder of an SDXL model in patchers, with a projection of its own beside the transformer's."""
    model, transformer, encoder, backbone, holder = (torch.nn.Module() for _ in range(5))
    transformer.text_model, transformer.text_projection = torch.nn.Module(), torch.nn.Linear(2, 2, bias=False)
    transformer.text_model.final_layer_norm = torch.nn.LayerNorm(2)
    encoder.transformer, encoder.text_projection = transformer, torch.nn.Parameter(torch.tensor([[1.0, 2], [3, 4]]))
    holder.clip_g, backbone.diffusion_model = encoder, torch.nn.Identity()
    clip = SimpleNamespace(cond_stage_model=holder, patcher=SimpleNamespace(backup={}))
    vae = SimpleNamespace(first_stage_model=torch.nn.Identity())
    unet = SimpleNamespace(model=backbone, patcher=None, backup={})
    model.forge_objects = SimpleNamespace(unet=unet, clip=clip, vae=vae)
    return model


def test_a_projection_beside_the_encoder_is_the_one_that_is_merged_the_way_round_that_files_have_it(draw):
    draw()
    from sd_prism.hosts.merge.weights import Weights

    model, name = patched_model(), "text_encoder_2.text_projection.weight"
    encoder = model.forge_objects.clip.cond_stage_model.clip_g
    weights = Weights(model)
    assert weights[name].tolist() == weights.base(name).tolist() == [[1, 3], [2, 4]]
    weights[name].copy_(torch.tensor([[5.0, 6], [7, 8]]))
    assert encoder.text_projection.tolist() == [[5, 7], [6, 8]]
    backup = {"clip_g.text_projection": SimpleNamespace(weight=torch.tensor([[0.0, 1], [2, 3]]))}
    model.forge_objects.clip.patcher.backup = backup
    assert weights.base(name).tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_of_one_gives_every_tensor_of_the_other_model(draw, family):
    plain = draw(model=family).pixels
    before = weights()
    other = draw(model=f"{family}-other").pixels
    theirs = weights()
    assert draw({**WHOLE, "model": f"{family}-other"}, model=family).pixels == other != plain
    assert weights() == theirs != before
    assert draw(model=family).pixels == plain and weights() == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "Nothing is merged: choose model B"),
        ({**HALF, "steps": "20-30"}, "is not merged: step=20-30 is never reached in 2 steps"),
        ({**HALF, "ratio": 0}, "Nothing is merged: all weights are 0"),
        ({"recipe": "SD1-Other:0.5"}, ""),
        ({**HALF, "strength": 0}, ""),
        ({**HALF, "steps": "1-"}, ""),
    ],
)
def test_a_merge_of_nothing_is_told(draw, monkeypatch, args, said):
    draw()
    told = []
    monkeypatch.setattr(sys.modules["sd_prism.hosts.merge.panel"].host, "remark", lambda p, text: told.append(text))
    draw(args)
    assert [said in one for one in told] == ([True] if said else [])


def test_the_text_of_a_recipe_is_all_that_the_infotext_says(draw):
    assert 'Prism Block Merge: "recipe=sd1-other [' in draw({"recipe": "sd1-other:0.5"}).infotext
    assert "; preset=GRAD_V, Version" in draw({"model": "sd1-other", "preset": "GRAD_V"}).infotext
    assert "; ratio=0.5, Version" in draw(HALF).infotext


def test_a_missing_model_is_told_with_few_names_and_one_in_other_case_is_found(draw):
    assert draw({**HALF, "model": "SD1-Other.SafeTensors"}).pixels == draw(HALF).pixels
    made = draw({**HALF, "model": "sd1-ohter"})
    assert 'did you mean \\"sd1-other\\"' in made.infotext and re.search(r"sd1, sd2, and \d more", made.infotext)
    add = draw({**HALF, "mode": "add"})
    assert "choose model C, or write" in add.infotext and '-\\"C\\":0.5' in add.infotext


def test_models_of_two_families_are_refused_and_nothing_is_written(draw):
    plain = draw()
    made = draw({"model": "sdxl"})
    assert made.pixels == plain.pixels and models().of(loaded()).touched is False
    assert "SDXL" in made.infotext and "Stable Diffusion 1" in made.infotext


def test_a_unet_alone_is_offered_to_be_merged_not_to_be_loaded(draw):
    draw()
    tiles = sys.modules["modules.sd_models"].checkpoint_tiles(use_short=True)
    assert {"mini-v1", "mini-v1-neon"} <= set(models().names())
    assert [name.split()[0] for name in tiles if name.startswith("mini-v1")] == ["mini-v1"]


def test_weights_that_the_host_loads_anew_are_not_taken_for_merged_ones(draw):
    plain = draw()
    once = draw(HALF)
    sys.modules["modules.sd_models"].reload_model_weights(forced_reload=True)
    assert draw(HALF).pixels == once.pixels
    sys.modules["modules.sd_models"].reload_model_weights(forced_reload=True)
    assert draw().pixels == plain.pixels


def test_weights_that_somebody_changed_in_memory_come_back(draw):
    plain = draw()
    weight = loaded().engine.unet.mid_block.resnets[0].conv1.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
    edited, before = draw(), weights()
    assert draw(HALF).pixels != draw().pixels == edited.pixels != plain.pixels
    assert weights() == before
    with torch.no_grad():
        weight.copy_(kept)


def test_a_checkpoint_whose_file_cannot_be_mapped_is_kept_in_memory(draw, monkeypatch):
    plain, before = draw(), weights()
    merged, slerp = draw(HALF), draw({**HALF, "mode": "slerp"})
    draw(model="sd2")
    monkeypatch.setattr(models(), "_readable", lambda file: False)
    assert draw(HALF).pixels == merged.pixels and draw({**HALF, "mode": "slerp"}).pixels == slerp.pixels
    assert draw().pixels == plain.pixels and weights() == before


def test_a_file_that_is_replaced_is_merged_anew(draw, folder):
    file = folder / "models" / "Stable-diffusion" / "sd1-other.safetensors"
    kept = file.read_bytes()
    first = draw(HALF)
    new = file.with_name("new.tmp")
    Original("sd1").save(new)
    new.replace(file)
    try:
        assert draw(HALF).pixels == draw().pixels
    finally:
        new.write_bytes(kept)
        new.replace(file)
    assert draw(HALF).pixels == first.pixels


def test_a_cut_off_file_is_told(draw, folder):
    (folder / "models" / "Stable-diffusion" / "cut.safetensors").write_bytes(
        (folder / "models" / "Stable-diffusion" / "sd1.safetensors").read_bytes()[:100_000]
    )
    sys.modules["modules.sd_models"].list_models()
    plain, made = draw(), draw({"model": "cut"})
    assert made.pixels == plain.pixels and "cut off" in made.infotext
    (folder / "models" / "Stable-diffusion" / "cut.safetensors").unlink()
    sys.modules["modules.sd_models"].list_models()


def test_another_unet_is_refused(draw, monkeypatch):
    running = ModuleType("sd_unet")
    running.current_unet = object()
    plain = draw()
    monkeypatch.setitem(sys.modules, "modules.sd_unet", running)
    monkeypatch.setattr(sys.modules["modules"], "sd_unet", running, raising=False)
    made = draw(HALF)
    assert made.pixels == plain.pixels and "SD Unet" in made.infotext


def test_a_model_that_the_host_has_emptied_is_no_longer_the_loaded_one(draw, monkeypatch):
    draw()
    from modules import sd_models
    from sd_prism.hosts.webui import loaded_model

    model = torch.nn.Module()
    model.sd_checkpoint_info = loaded().sd_checkpoint_info
    monkeypatch.setattr(sd_models.model_data, "sd_model", model)
    assert loaded_model() is model
    model._parameters = None
    assert loaded_model() is None


def test_a_model_that_is_gone_is_forgotten(draw):
    draw(HALF)
    kept = weakref.ref(models().of(loaded()))
    draw(model="sdxl")
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("part", ["conv_in", "mid_block"])  # the first one is among the samples
def test_a_dropped_model_that_lost_its_parts_is_forgotten(draw, caplog, part):
    """A1111 takes its own modules out of a model that it drops."""
    draw(model="sd2")
    before = weights()
    draw(HALF)
    dropped = loaded()
    delattr(dropped.engine.unet, part)
    draw({**HALF, "model": "sd2-other"}, model="sd2")
    assert models().of(dropped) is None and weights() != before
    models().restore_all()
    assert weights() == before and "ERROR" not in caplog.text


def test_an_error_as_one_model_is_restored_is_logged_and_the_next_one_follows(draw, monkeypatch, caplog):
    draw()
    before = weights()
    draw(HALF)
    restore = models().restore

    def fails(model):
        if model == "another":
            raise RuntimeError("on purpose")
        restore(model)

    monkeypatch.setattr(models(), "_merged", {"another": None, **models()._merged})
    monkeypatch.setattr(models(), "restore", fails)
    models().restore_all()
    assert weights() == before and "on purpose" in caplog.text


def test_a_picture_to_begin_with_is_encoded_by_the_jobs_own_vae(draw):
    """The host encodes it before it tells the job's networks."""
    picture = Image.new("RGB", (64, 64), (40, 160, 60))
    image = {"init_images": [picture], "denoising_strength": 0.1}
    tag = {"prompt": f"{JOB['prompt']} <merge:sd1-other:0:VAE=1>"}
    plain = draw(**image).pixels
    once = draw(VAE_ONLY, **image).pixels
    assert draw(VAE_ONLY, **image).pixels == once != plain == draw(**image).pixels
    tagged = draw(**image, **tag).pixels
    assert draw(**image, **tag).pixels == tagged not in (plain, once)


def test_axes_reach_every_setting_and_the_menus_name_the_checkpoints(draw):
    draw()
    host_ = sys.modules["sd_prism.hosts.merge.panel"].host
    assert "sd1-other" in host_.choices(host_.panel["model"])()
    (grid,) = [x.module for x in sys.modules["modules.scripts"].scripts_data if "xyz_grid" in x.script_class.__module__]
    axes = {option.label: option for option in grid.axis_options if "Block Merge" in option.label}
    assert len(axes) == len(host_.panel.fields) and {one.cost for one in axes.values()} == {0.5}
    by_hand = draw({**HALF, "blocks": "M00=1"}).pixels
    p = SimpleNamespace(extra_generation_params={})
    axes["[Prism Block Merge] Single blocks"].apply(p, "M00=1", [])
    axes["[Prism Block Merge] Model B"].apply(p, "sd1-other", [])
    sys.modules["sd_prism.hosts.merge.panel"].process(p, (False,))
    cell = host_.current(p)
    assert (cell["blocks"], cell["model"].split()[0], cell["enabled"]) == ("M00=1", "sd1-other", True)
    assert draw(cell).pixels == by_hand


def test_presets_of_other_tools_in_the_users_folder_have_names(draw, folder):
    own = folder / "prism" / "merge" / "mine.tsv"
    own.parent.mkdir(parents=True)
    ramp = [round(i / 24, 3) for i in range(25)]
    own.write_text("preset_name\tpreset_weights\nMINE\t" + ",".join(map(str, ramp)))
    (own.parent / "broken.txt").write_text("NAME\t1,2,3")
    by_number = draw({"model": "sd1-other", "weights": " ".join(map(str, ramp))})
    assert draw({"model": "sd1-other", "weights": "MINE"}).infotext == by_number.infotext
    assert draw({"recipe": "sd1-other:MINE:VAE=0"}).pixels == by_number.pixels
    assert draw(prompt="a red cat <merge:sd1-other:MINE:VAE=0>").pixels == by_number.pixels
    told = draw({"model": "sd1-other", "weights": "MINES"})
    assert "block preset" in told.infotext and told.pixels == draw().pixels


def test_a_preset_of_the_page_is_a_preset_of_the_recipe(draw):
    draw()
    found = sys.modules["sd_prism.hosts.merge.http"]
    told = found.loaded()
    assert told["name"] == "sd1" and len(told["spine"]) == 25 and told["merged"] == ""
    assert len(found.weights("19")["GRAD_V"]) == 19
    draw(HALF)
    assert found.loaded()["merged"].startswith("sd1-other [")


@pytest.mark.parametrize("base", ["sd1", "sd1-other"])  # in the studio's own type, and in half of it
def test_a_bake_of_the_page_is_a_checkpoint_with_the_same_picture(draw, base):
    other = {"sd1": "sd1-other", "sd1-other": "sd1"}[base]
    half = {"model": other, "ratio": 0.3, "te": 0.2, "recipe": f"{base}:0.1:VAE=0.4"}
    live = draw(half, model=base).pixels
    found = sys.modules["sd_prism.hosts.merge.http"]
    found.begin({**half, "name": f"half of {base}", "dtype": ""})
    while found.baking.running:
        pass
    assert found.baking.error == "" and found.baking.done == found.baking.total > 0
    assert found.baking.dtype == "fp32" and found.baking.notes == ()
    assert draw(model=f"half of {base}").pixels == live
    for name, said in ((f"half of {base}", "exists already"), ("../half", "without folders"), ("", "no name")):
        with pytest.raises(sys.modules["sd_prism.errors"].PrismError, match=said):
            found.begin({**half, "name": name, "dtype": ""})


def test_a_host_that_names_another_vae_by_its_file_alone_finds_the_model_as_it_was_loaded(draw):
    draw()
    before = weights()
    draw(VAE_ONLY)
    merged, change = weights(), sys.modules["sd_prism.hosts.merge.panel"]._vae_change
    assert change(lambda *given: (given, weights()), "pale.safetensors") == (("pale.safetensors",), before)
    assert merged != before


def test_a_bake_says_that_a_vae_of_the_webuis_choice_is_not_in_it(draw, monkeypatch):
    draw()
    found = sys.modules["sd_prism.hosts.merge.http"]
    monkeypatch.setattr(sys.modules["modules.sd_vae"], "loaded_vae_file", "/some/pale.safetensors")
    for vae, told in ((0.5, 1), (0, 0)):
        found.begin({**HALF, "vae": vae, "name": f"pale {vae}", "dtype": ""})
        while found.baking.running:
            pass
        assert len(found.baking.notes) == told
    found.begin({**HALF, "vae": 1, "name": "pale", "dtype": "fp16"})
    assert "pale.safetensors" in found.baking.notes[0]
    while found.baking.running:
        pass


def test_unloading_the_extension_restores_the_model(draw):
    draw()
    before = weights()
    draw(HALF)
    sys.modules["sd_prism.hosts.undo"].undo.close("merge")
    assert weights() == before
    sys.modules["sd_prism.hosts.undo"].undo.enter("merge", sys.modules["sd_prism.hosts.merge.panel"].held())
