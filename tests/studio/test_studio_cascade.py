"""Stable Cascade in the studio: the class and the script that a webui has, over the same networks."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from jobs import FIELDS, painted, pixels
from PIL import Image
from safetensors.torch import save_file
from sd_prism.cascade import direct, formats
from sd_prism.errors import PrismError
from sd_prism.miniatures import MINI_CASCADE, MINI_V1
from sd_prism.miniatures.cascade_draw import Cascade
from sd_prism.studio import generate, host, page
from unit.cascade_files import (
    METADATA,
    diffusers_folder,
    main_tensors,
    prefixed,
    random_state,
    tiny_decoder,
    tiny_main,
    write,
)

PANEL = "Prism Cascade"
SIZE = {"width": 128, "height": 128}
RECIPE = {"sampler_name": "Euler a", "scheduler": "SGM Uniform", "steps": 3, "cfg_scale": 5}
PARTS = ("stage_c", "text", "effnet", "previewer")
LAYER, TEXT_LAYER = "down_blocks.0.0.channelwise.0", "text_model.encoder.layers.0.mlp.fc1"


def network(part, layer, seed=7):
    """A LoRA of rank 2 and what it adds to the weight."""
    weight = random_state(part)[f"{layer}.weight"]
    source = torch.Generator().manual_seed(seed)
    up, down = torch.randn(len(weight), 2, generator=source), torch.randn(2, weight.shape[1], generator=source)
    return {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(1.0)}, up @ down / 2


def add_networks(folder, models):
    """The names of the ways to call two layers in files; each of the files changes both, and so does "baked"."""
    states = {part: random_state(part) for part in PARTS}
    c, c_delta = network("stage_c", LAYER)
    text, text_delta = network("text", TEXT_LAYER)
    states["stage_c"][f"{LAYER}.weight"] += c_delta
    states["text"][f"{TEXT_LAYER}.weight"] += text_delta
    write(models / "baked.safetensors", main_tensors(states))
    te = prefixed(f"lora_prior_te_{TEXT_LAYER.replace('.', '_')}.", text)
    spelled = {"kohya": f"lora_prior_unet_{LAYER.replace('.', '_')}", "dotted": f"diffusion_model.{LAYER}"}
    folder.mkdir(parents=True)
    for name, layer in spelled.items():
        save_file(prefixed(f"{layer}.", c) | te, folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    models, vaes = folder / "models" / "Stable-diffusion", folder / "models" / "VAE"
    tiny_main(models / "tiny-main.safetensors")
    tiny_main(models / "bare-main.safetensors", parts=("stage_c", "text"))
    states = {part: random_state(part) for part in PARTS}
    write(models / "fine-main.safetensors", main_tensors(states), {**METADATA, "prism.cascade.compression": "32"})
    tiny_decoder(models / "tiny-decoder.safetensors")
    write(vaes / "other-a.safetensors", random_state("stage_a", seed=9))
    add_networks(folder / "models" / "Lora", models)
    host.open_host(data_dir=folder)
    page.build_fields()
    host.remember_defaults()
    yield folder
    host.close_host()


@pytest.fixture()
def draw(data):
    """draw(field=value, ...) -> the host's answer; with the tiny main file, unless another checkpoint is named."""
    from modules import shared

    settings = dict(shared.opts.data)

    def drawn(checkpoint="tiny-main", panel=None, tab="txt2img", **fields):
        told = {"sd_model_checkpoint": checkpoint, **fields.pop("override_settings", {})}
        request = {**FIELDS, **SIZE, **RECIPE, "override_settings": told, **fields}
        if panel:
            request["alwayson_scripts"] = {PANEL: {"args": [panel]}}
        return host.run(host.request_of(request, tab)).processed

    yield drawn
    shared.opts.data.clear()
    shared.opts.data.update(settings)


# --- the menu


def test_main_files_are_in_the_menu_and_decoders_are_known(draw):
    from modules import sd_models

    offered = {title.partition(".safetensors")[0] for title in sd_models.checkpoint_tiles()}
    assert {"tiny-main", "bare-main", "mini-v1"} <= offered and "tiny-decoder" not in offered
    assert sd_models.get_closet_checkpoint_match("tiny-decoder").is_part
    assert sd_models.select_checkpoint().name_for_extra != "tiny-decoder"


def test_without_files_of_ones_own_the_studio_starts_with_stable_diffusion(tmp_path, data, monkeypatch):
    from modules import paths, sd_models, shared

    monkeypatch.setattr(paths, "models_path", str(tmp_path))
    monkeypatch.delitem(shared.opts.data, "sd_model_checkpoint", raising=False)
    sd_models.list_models()
    try:
        assert sd_models.select_checkpoint().filename == str(MINI_V1)
        shipped = sd_models.get_closet_checkpoint_match(MINI_CASCADE.name)
        assert shipped.title in sd_models.checkpoint_tiles() and sd_models.native_size(shipped) == 128
    finally:
        monkeypatch.undo()
        sd_models.list_models()


def test_a_decoder_is_no_checkpoint(draw):
    from modules import sd_models

    draw()
    model = sd_models.model_data.sd_model
    with pytest.raises(PrismError, match="is the decoder of Stable Cascade; choose its main file"):
        host.change_settings({"sd_model_checkpoint": "tiny-decoder"})
    assert sd_models.model_data.sd_model is model


def test_the_model_has_a_size_of_its_own(draw):
    from modules import sd_models

    draw()
    assert sd_models.model_data.sd_model.native_size == 1024 and page.native_size() == 1024


def test_the_metadata_may_say_the_size(data, tmp_path):
    from sd_prism.studio.header import inspect

    file = write(tmp_path / "m.safetensors", random_state("stage_c"), {"modelspec.resolution": "128x128"})
    assert inspect(file).native_size == 128


# --- pictures


def test_a_picture_is_the_one_of_the_networks_alone(draw, data):
    models = data / "models" / "Stable-diffusion"
    alone = Cascade.of(models / "tiny-main.safetensors", models / "tiny-decoder.safetensors")
    latents = alone.latents(["a cat"], steps=3, cfg=5.0, seed=3, compression=42)
    expected = alone.decoded(latents, ["a cat"], seed=3)[0].clamp(0, 1)
    found = pixels(draw().images[0])
    assert abs(found - np.moveaxis(expected.numpy() * 255, 0, 2)).max() <= 1.5


def test_a_batch_is_its_pictures(draw):
    both = draw(batch_size=2).images
    singles = [draw(seed=seed).images[0] for seed in (3, 4)]
    assert all(abs(pixels(one) - pixels(two)).max() <= 1 for one, two in zip(both, singles, strict=True))


def test_stable_diffusion_is_as_before_to_the_byte(draw):
    before = draw("mini-v1", sampler_name="Euler", scheduler="Automatic").images[0]
    for _ in range(2):
        draw()
        after = draw("mini-v1", sampler_name="Euler", scheduler="Automatic").images[0]
        assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a cat AND a dog :0.5"},
        {"prompt": "a [cat:dog:0.3]"},
        {"prompt": "(a cat:1.4)"},
        {"prompt": "word " * 90},
        {"negative_prompt": "a dog"},
        {"sampler_name": "DPM++ 2M"},
        {"sampler_name": "DDIM"},
        {"sampler_name": "LCM"},
        {"scheduler": "Karras"},
        {"subseed": 5, "subseed_strength": 0.5},
        {"panel": {"steps": 3, "cfg": 1.5}},
        {"panel": {"compression": 32}},
    ],
)
def test_what_is_asked_for_changes_the_picture(draw, fields):
    found, plain = draw(**fields).images[0], draw().images[0]
    assert found.size == (128, 128) and found.tobytes() != plain.tobytes()


def test_a_file_may_say_what_compression_it_was_trained_at(draw):
    found = draw("fine-main")
    assert "compression=32" in found.infotexts[0]
    assert found.images[0].tobytes() == draw(panel={"compression": 32}).images[0].tobytes()
    assert draw("fine-main", panel={"compression": 48}).images[0].tobytes() != found.images[0].tobytes()


@pytest.mark.parametrize("size", [(200, 96), (136, 264)])
def test_any_multiple_of_8_is_a_size(draw, size):
    assert draw(width=size[0], height=size[1]).images[0].size == size


def test_hires_and_img2img(draw):
    found = draw(enable_hr=True, hr_scale=1.5, hr_upscaler="Lanczos", denoising_strength=0.6)
    assert found.images[0].size == (192, 192)
    given = {"tab": "img2img", "init_images": [painted(128, 128)], "denoising_strength": 0.6}
    whole = draw(**given).images[0]
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    part = draw(mask=mask, mask_blur=0, inpaint_full_res=False, **given).images[0]
    assert whole.size == part.size == (128, 128)
    assert (pixels(part)[:, :64] == pixels(painted(128, 128))[:, :64]).all()


def test_without_the_picture_encoder_img2img_is_refused(draw):
    assert draw("bare-main").images[0].size == (128, 128)
    with pytest.raises(PrismError, match="encoder"):
        draw("bare-main", tab="img2img", init_images=[painted(128, 128)])


@pytest.mark.parametrize("checkpoint", ["tiny-main", "bare-main"])
@pytest.mark.parametrize("kind", ["Full", "Approx NN", "Approx cheap", "TAESD"])
def test_previews(draw, kind, checkpoint):
    from modules import shared

    shared.opts.show_progress_type = kind
    shown = []

    def look(state):
        if state.current_latent is not None:
            state.do_set_current_image()
            shown.append(state.current_image.size)

    with shared.state.listening(look):
        draw(checkpoint, width=256)
    assert shown and set(shown) == {(48, 24)}


def test_an_interrupt_gives_a_picture_of_the_right_size(draw):
    from modules import shared

    with shared.state.listening(lambda state: state.interrupt()):
        found = draw(steps=8)
    assert found.images[0].size == (128, 128) and "Interrupted" in found.comments


# --- networks, VAE menu, prompts


@pytest.mark.parametrize("spelled", ["kohya", "dotted"])
def test_networks_by_the_names_of_their_files(draw, spelled):
    plain, baked = draw().images[0], draw("baked").images[0]
    found = draw(prompt=f"a cat <lora:{spelled}:1>").images[0]
    assert abs(pixels(found) - pixels(baked)).max() <= 1
    assert abs(pixels(found) - pixels(plain)).max() > 4
    assert draw().images[0].tobytes() == plain.tobytes()


def test_layers_with_networks_need_no_call(draw):
    from modules import sd_models

    draw(prompt="a cat <lora:kohya:1>")
    layer = sd_models.model_data.sd_model.model.diffusion_model.get_submodule(LAYER)
    layer.network_current_names = ()
    with torch.no_grad():
        assert direct.direct(layer)
    assert layer.network_current_names == (("kohya", 1.0, 1.0, None),)


def test_the_vae_menu_swaps_stage_a(draw, data):
    models = data / "models" / "Stable-diffusion"
    plain = draw().images[0]
    found = draw(override_settings={"sd_vae": "other-a.safetensors"})
    assert "VAE: other-a.safetensors" in found.infotexts[0]
    alone = Cascade.of(models / "tiny-main.safetensors", models / "tiny-decoder.safetensors")
    other = formats.load(data / "models" / "VAE" / "other-a.safetensors", "stage_a", dtype=torch.float32)
    alone.decoder.stage_a = other
    latents = alone.latents(["a cat"], steps=3, cfg=5.0, seed=3, compression=42)
    expected = alone.decoded(latents, ["a cat"], seed=3)[0].clamp(0, 1)
    assert abs(pixels(found.images[0]) - np.moveaxis(expected.numpy() * 255, 0, 2)).max() <= 1.5
    assert draw().images[0].tobytes() == plain.tobytes()


def test_a_stage_a_does_not_keep_stable_diffusion_from_drawing(draw):
    plain = draw("mini-v1").images[0]
    found = draw("mini-v1", override_settings={"sd_vae": "other-a.safetensors"})
    assert found.images[0].tobytes() == plain.tobytes() and "other-a" in found.comments


def test_tokens_are_counted(draw):
    from modules import ui

    draw()
    assert "2/75" in ui.update_token_counter("a cat", 4, [])


# --- from outside


def alone(fields, checkpoint, folder):
    """The picture and its infotext of the function behind the command line."""
    request = {**FIELDS, **SIZE, **RECIPE, "alwayson_scripts": {PANEL: {"args": [fields]}}}
    found = generate.generate(request, checkpoint=checkpoint, data_dir=folder)
    picture = Image.open(io.BytesIO(found.images[0]))
    assert found.info["model"].startswith(checkpoint.name) and json.dumps(found.info)
    return picture, picture.text["parameters"]


def test_from_the_command_line_with_the_decoder_beside(tmp_path, draw, data):
    main = data / "models" / "Stable-diffusion" / "tiny-main.safetensors"
    expected = draw(panel={"steps": 4}).images[0]
    picture, infotext = alone({"steps": 4}, main, tmp_path)
    assert picture.tobytes() == expected.tobytes()
    assert "steps=4" in infotext and "decoder=tiny-decoder" in infotext


def test_a_folder_is_a_checkpoint_too(tmp_path, data):
    states = {part: random_state(part) for part in ("stage_c", "text")}
    folder = diffusers_folder(tmp_path / "folder", states)
    tiny_decoder(tmp_path / "folder-decoder.safetensors")
    picture, infotext = alone({}, folder, tmp_path / "data")
    assert picture.size == (128, 128) and "decoder=folder-decoder" in infotext
