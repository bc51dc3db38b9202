"""A model class that an extension brings, through the doors that A1111 has for one."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from jobs import draw, job, painted, pixels, run
from safetensors.torch import save_file
from sd_prism.errors import PrismError

SIZE = {"width": 256, "height": 128}


@pytest.fixture()
def toy(toy_host):
    """The class's module, its first file in use; the settings are as they were afterwards."""
    from modules import sd_models, shared

    settings = dict(shared.opts.data)
    shared.opts.data["sd_model_checkpoint"] = sd_models.find("toy.safetensors").title
    model = sd_models.reload_model_weights()
    module = sys.modules["toy_model"]
    module.calls.clear()
    module.model = model
    yield module
    shared.opts.data.update(settings)


def scripted(tab="txt2img", **fields):
    from modules import scripts

    runner = {"txt2img": scripts.scripts_txt2img, "img2img": scripts.scripts_img2img}[tab]
    return job(tab, runner, **{**SIZE, **fields})


def drawn(tab="txt2img", **fields):
    return run(scripted(tab, **fields))


def steps(model, x, sigmas, texts=("a cat", ""), scale=5.0):
    """Euler steps with guidance, written anew."""
    conds = [model.get_learned_conditioning([text]) for text in texts]
    for sigma, following in itertools.pairwise(sigmas):
        cond, uncond = (x - sigma * model.eps(x, c) for c in conds)
        x = x + (x - (uncond + (cond - uncond) * scale)) / sigma * (following - sigma)
    return x


def shown(model, latent, size):
    pictures = torch.nn.functional.interpolate(latent[:, :3].detach() / 60, size).tanh()
    return (255 * np.moveaxis(((pictures[0] + 1) / 2).clamp(0, 1).numpy(), 0, 2)).astype(int)


def first_noise(seed=3, shape=(1, 16, 3, 6)):
    return torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed))[None]


# --- loading


def test_the_class_is_built_and_filled(toy, toy_host):
    model = toy.model
    assert (type(model), model.width, model.use_ema) == (toy.ToyModel, 8, False)
    assert model.had == ["toy", "unused"]
    expected = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) / 4
    assert torch.equal(model.model.diffusion_model.weight, expected)
    assert not any((model.is_sd1, model.is_sd2, model.is_sdxl, model.is_sd3, model.is_ssd, model.is_sdxl_inpaint))
    assert model.sd_checkpoint_info.name == "toy.safetensors" and len(model.sd_model_hash) == 10
    assert not model.training and torch.equal(model.alphas_cumprod_original, model.alphas_cumprod)


def test_another_file_of_the_class_gets_an_object_of_its_own(toy):
    from modules import script_callbacks, sd_models

    seen = []
    script_callbacks.on_model_loaded(seen.append)
    other = sd_models.reload_model_weights(info=sd_models.find("toy-two"))
    assert other is not toy.model and seen == [other] and sd_models.model_data.sd_model is other


def test_a_change_there_and_back_leaves_nothing_behind(toy):
    before = draw("txt2img", override_settings={"sd_model_checkpoint": "tiny.safetensors"})
    for _ in range(2):
        assert drawn(override_settings={"sd_model_checkpoint": "toy.safetensors"}).images[0].size == (256, 128)
        after = draw("txt2img", override_settings={"sd_model_checkpoint": "tiny.safetensors"})
        assert after.images[0].tobytes() == before.images[0].tobytes()


def test_a_file_that_cannot_be_read_leaves_the_model_in_use(toy):
    from modules import sd_models

    with pytest.raises(PrismError, match=r"toy-damaged\.safetensors could not be loaded"):
        sd_models.reload_model_weights(info=sd_models.find("toy-damaged"))
    assert sd_models.model_data.sd_model is toy.model


def test_a_config_beside_the_file_names_the_class_too(toy_host):
    from modules import sd_models

    models = toy_host / "models" / "Stable-diffusion"
    save_file({"toy": torch.eye(16)}, models / "beside.safetensors")
    text = "model: {target: toy_model.ToyModel, params: {width: 5, state_dict: null}}"
    (models / "beside.yaml").write_text(text)
    sd_models.list_models()
    model = sd_models.load_model(sd_models.find("beside"))
    assert model.width == 5 and torch.equal(model.model.diffusion_model.weight, torch.eye(16))


def test_a_config_of_an_unknown_class_is_told(toy_host):
    from modules import sd_models

    models = toy_host / "models" / "Stable-diffusion"
    save_file({"toy": torch.eye(16)}, models / "nowhere.safetensors")
    (models / "nowhere.yaml").write_text("model: {target: no.such.Class}")
    sd_models.list_models()
    with pytest.raises(PrismError, match="No module named"):
        sd_models.load_model(sd_models.find("nowhere"))


# --- pictures


def test_a_picture_by_hand(toy):
    model = toy.model
    levels = toy.Denoiser(model).get_sigmas(4)
    expected = shown(model, steps(model, first_noise() * levels[0], levels), (128, 256))
    found = drawn(scheduler="Uniform").images[0]
    assert abs(pixels(found) - expected).max() <= 1


@pytest.mark.parametrize("name", ["SGM Uniform", "Karras", "Exponential", "Simple", "KL Optimal", "Polyexponential"])
def test_schedules_ask_the_model_for_its_levels(toy, name):
    from modules import sd_schedulers

    levels = toy.Denoiser(toy.model)
    low, high = float(levels.sigmas[0]), float(levels.sigmas[-1])
    seen = sd_schedulers.schedulers_map[name].function(4, levels)
    assert float(seen[0]) == pytest.approx(high, rel=1e-5) and float(seen[-1]) >= low * 0.999
    assert bool((seen[1:] < seen[:-1]).all())
    assert drawn(scheduler=name).images[0].size == (256, 128)


def test_a_batch_is_its_pictures(toy):
    both = drawn(batch_size=2, n_iter=2).images
    assert len(both) == 4
    for place, picture in enumerate(both):
        assert pixels(picture).tolist() == pixels(drawn(seed=3 + place).images[0]).tolist()
    assert [call for call in toy.calls if isinstance(call, tuple)] == [(1, 16, 3, 6)] * 8  # decoded one by one


def test_prompts_in_all_their_forms(toy):
    prompts = ("a cat", "a cat AND a dog :0.5", "a [cat:dog:0.25]", "(a cat:1.4)", "word " * 90, "a cat BREAK a dog")
    pictures = {drawn(prompt=prompt).images[0].tobytes() for prompt in prompts}
    assert len(pictures) == len(prompts)


def test_and_is_the_weighted_sum(toy):
    model = toy.model
    levels = toy.Denoiser(model).get_sigmas(4)
    conds = [model.get_learned_conditioning([text]) for text in ("a cat", "a dog", "")]
    x = first_noise() * levels[0]
    for sigma, following in itertools.pairwise(levels):
        one, two, rest = (x - sigma * model.eps(x, c) for c in conds)
        denoised = rest + 5.0 * ((one - rest) + 0.5 * (two - rest))
        x = x + (x - denoised) / sigma * (following - sigma)
    found = drawn(prompt="a cat AND a dog :0.5", scheduler="Uniform").images[0]
    assert abs(pixels(found) - shown(model, x, (128, 256))).max() <= 1


def test_the_class_says_which_sizes_there_are(toy):
    assert drawn(width=250, height=140).images[0].size == (224, 128)


def test_samplers_of_timesteps_ask_for_them(toy):
    drawn(sampler_name="DDIM", steps=4)
    asked = [call[0] for call in toy.calls if isinstance(call, list)]
    assert asked == pytest.approx([751, 501, 251], abs=0.01) and "own" not in toy.calls


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M SDE", "LCM", "PLMS"])
def test_every_kind_of_sampler_draws(toy, sampler):
    assert np.asarray(drawn(sampler_name=sampler).images[0]).std() > 1


def test_hires_by_pictures(toy):
    found = drawn(enable_hr=True, hr_scale=1.5, hr_upscaler="Lanczos", hr_second_pass_steps=2)
    assert found.images[0].size == (384, 192)
    assert (1, 16, 4, 9) in toy.calls


def test_the_factor_of_latents_is_the_one_that_extensions_set(toy, monkeypatch):
    from modules import processing

    class Factor(int):
        def __rfloordiv__(self, pixels):
            return pixels * 3 // 128

    monkeypatch.setattr(processing, "opt_f", Factor(8))
    found = drawn(enable_hr=True, hr_scale=1.5, hr_upscaler="Latent", hr_second_pass_steps=2)
    assert found.images[0].size == (384, 192) and (1, 16, 4, 9) in toy.calls
    p = scripted(enable_hr=True, hr_resize_x=256, hr_resize_y=192)
    p.calculate_target_resolution()
    assert (p.hr_upscale_to_x, p.truncate_x) == (384, 3)


def test_img2img_and_inpainting(toy):
    given = {"init_images": [painted(256, 128)], "denoising_strength": 0.5}
    whole = drawn("img2img", **given)
    assert whole.images[0].size == (256, 128)
    mask = painted(256, 128).convert("L").point(lambda value: 255 if value > 128 else 0)
    part = drawn("img2img", mask=mask, inpaint_full_res=False, **given)
    assert part.images[0].tobytes() != whole.images[0].tobytes()


def test_the_class_adds_noise_its_own_way(toy, monkeypatch):
    seen = []

    def add(x, noise, amount):
        seen.append(float(amount))
        return noise * amount

    monkeypatch.setattr(toy.ToyModel, "add_noise_to_latent", staticmethod(add), raising=False)
    drawn("img2img", init_images=[painted(256, 128)], denoising_strength=0.5, scheduler="Uniform")
    assert seen == [pytest.approx(float(toy.Denoiser(toy.model).get_sigmas(4)[1]))]


def test_samples_that_come_decoded_are_taken_as_they_are(toy):
    p = scripted(batch_size=2)
    p.extra_generation_params["Toy"] = True
    found = run(p).images
    assert [picture.size for picture in found] == [(160, 96)] * 2 and pixels(found[0]).min() == 191


@pytest.mark.parametrize("kind", ["Full", "Approx NN", "Approx cheap"])
def test_previews(toy, kind):
    from modules import shared

    shared.opts.show_progress_type = kind
    sizes = []

    def look(state):
        state.do_set_current_image()
        sizes.append(state.current_image.size)

    with shared.state.listening(look):
        drawn(batch_size=2)
    assert len(sizes) == 4 and all(sizes)


def test_an_interrupted_job_gives_the_last_latent(toy):
    from modules import shared

    whole = drawn()
    with shared.state.listening(lambda state: state.interrupt()):
        found = drawn()
    assert found.images[0].size == (256, 128) and found.images[0].tobytes() != whole.images[0].tobytes()


def test_the_preview_method_may_serve_the_interrupted_picture(toy):
    from modules import shared

    shared.opts.live_preview_fast_interrupt, shared.opts.show_progress_type = True, "Approx cheap"
    with shared.state.listening(lambda state: state.interrupt()):
        assert drawn().images[0].size == (6, 3)


# --- prompts, embeddings, VAE


def test_tokens_are_counted(toy):
    from modules import ui

    assert "2/75" in ui.update_token_counter("a cat", 4, [])
    assert "90/150" in ui.update_token_counter("word " * 90, 4, [])


def test_weights_keep_the_mean(toy):
    plain, weighted = (toy.model.get_learned_conditioning([text])["crossattn"] for text in ("a cat", "a (cat:1.5)"))
    assert float(weighted.mean()) == pytest.approx(float(plain.mean()), rel=1e-4)
    ratio = weighted[0, 2] / plain[0, 2]
    assert torch.allclose(ratio, (weighted[0, 1] / plain[0, 1]) * 1.5, atol=1e-4)


def test_an_embedding_takes_the_place_of_its_name(toy, toy_host):
    from modules.sd_hijack import model_hijack

    folder = toy_host / "embeddings"
    folder.mkdir(exist_ok=True)
    save_file({"emb": torch.full((2, 8), 7.0)}, folder / "catty.safetensors")
    model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    states = toy.model.get_learned_conditioning(["a catty dog"])["crossattn"][0]
    plain = toy.model.get_learned_conditioning(["a dog"])["crossattn"][0]
    assert torch.equal(states[2:4], torch.full((2, 8), 7.0)) and torch.equal(states[4], plain[2])
    found = drawn(prompt="a catty dog")
    assert "TI hashes: " in found.infotexts[0]


def test_the_vae_menu_gives_its_file_to_the_class(toy, toy_host):
    from modules import sd_vae

    folder = toy_host / "models" / "VAE"
    folder.mkdir(exist_ok=True)
    save_file({"gain": torch.full((1,), 0.25)}, folder / "weak.safetensors")
    sd_vae.refresh_vae_list()
    plain = drawn()
    weak = drawn(override_settings={"sd_vae": "weak.safetensors"})
    assert "VAE: weak.safetensors" in weak.infotexts[0]
    assert pixels(weak.images[0]).std() < pixels(plain.images[0]).std()
    assert drawn().images[0].tobytes() == plain.images[0].tobytes()


# --- the host's own network extension, and HTTP


def test_networks_find_the_layers_by_the_hosts_names(toy):
    from sd_prism.studio import lora

    named = {layer.name: layer.module for layer in lora.layers(toy.model)}
    assert named == {"diffusion_model": toy.model.model.diffusion_model}


def test_over_http(served_toy):
    client = served_toy.client
    assert client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
    fields = {"prompt": "a cat", "steps": 2, "seed": 3, "batch_size": 2, **SIZE}
    fields["override_settings"] = {"sd_model_checkpoint": "toy.safetensors"}
    answer = client.post("/sdapi/v1/txt2img", json=fields)
    assert answer.status_code == 200 and len(answer.json()["images"]) == 2
    fields["override_settings"]["sd_model_checkpoint"] = "toy-damaged"
    assert client.post("/sdapi/v1/txt2img", json=fields).status_code >= 400
