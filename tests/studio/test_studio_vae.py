"""The VAE menu and the change of checkpoints, with the real engine and small random weights."""

from __future__ import annotations

import hashlib

import pytest
import torch
from checkpoints import Original
from jobs import draw, pixels
from safetensors.torch import save_file
from sd_prism.errors import PrismError
from sd_prism.merge import ldm_keys
from sd_prism.studio import host


def with_other_vae(original):
    for parameter in original.vae.parameters():
        parameter.data.mul_(1.1)


def with_other_unet(original):
    for parameter in original.unet.parameters():
        parameter.data.add_(0.02)


def vae_file(state, path, prefix=""):
    """A VAE alone, as they are handed around: LDM's names, here and there something of the training left in it."""
    weights = {n.removeprefix(ldm_keys.VAE): t for n, t in state.items() if n.startswith(ldm_keys.VAE)}
    save_file({prefix + n: t.contiguous() for n, t in weights.items()} | {"loss.logvar": torch.zeros(1)}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    models, vaes = folder / "models" / "Stable-diffusion", folder / "models" / "VAE"
    models.mkdir(parents=True)
    vaes.mkdir()
    Original("sd1").save(models / "a.safetensors")
    Original("sd1", change=with_other_vae).save(models / "baked.safetensors")
    Original("sd1", change=with_other_unet).save(models / "other.safetensors")
    Original("sd2").save(models / "second.safetensors")
    (models / "zdamaged.safetensors").write_bytes(b"no model")
    state = Original("sd1", change=with_other_vae).state
    vae_file(state, vaes / "fine.safetensors")
    vae_file(state, vaes / "prefixed.safetensors", ldm_keys.VAE)
    vae_file(state, models / "second.vae.safetensors")
    vae_file({n: t[:1] if t.ndim else t for n, t in state.items()}, vaes / "narrow.safetensors")
    host.open_host(data_dir=folder, builtin=False)
    yield folder
    host.close_host()


@pytest.fixture()
def on(folder):
    """draw with this checkpoint and these further settings; the settings are as they were afterwards."""
    return lambda name, **settings: draw("txt2img", override_settings={"sd_model_checkpoint": name, **settings})


def picture(result):
    return pixels(result.images[0]).tolist()


def loaded():
    from modules import shared

    return shared.sd_model


def test_the_list_has_the_files_of_the_folder_and_those_beside_checkpoints(folder):
    from modules import sd_models, sd_vae

    assert list(sd_vae.vae_dict) == [
        "fine.safetensors",
        "narrow.safetensors",
        "prefixed.safetensors",
        "second.vae.safetensors",
    ]
    names = {info.name for info in sd_models.checkpoints_list.values()}
    assert "second.safetensors" in names and "second.vae.safetensors" not in names


@pytest.mark.parametrize("name", ["fine.safetensors", "prefixed.safetensors"])
def test_a_file_draws_as_if_it_were_in_the_checkpoint_and_leaves_no_trace(folder, on, name):
    plain, baked = on("a"), on("baked")
    chosen = on("a", sd_vae=name)
    assert picture(chosen) == picture(baked) != picture(plain)
    digest = hashlib.sha256((folder / "models" / "VAE" / name).read_bytes()).hexdigest()[:10]
    assert f"VAE hash: {digest}, VAE: {name}" in chosen.infotexts[0]
    assert picture(on("a")) == picture(plain) == picture(on("a", sd_vae="None"))
    assert "VAE" not in on("a").infotexts[0]


def test_the_module_stays_and_model_loaded_fires(on):
    from modules import script_callbacks

    on("a")
    module, seen = loaded().first_stage_model, []
    script_callbacks.on_model_loaded(seen.append)
    on("a", sd_vae="fine.safetensors")
    assert loaded().first_stage_model is module and len(seen) == 2  # once there, once back
    script_callbacks.remove_callbacks_for_function(seen.append)


def test_automatic_takes_the_file_named_as_the_checkpoint(on):
    from modules import sd_vae

    on("second")
    assert sd_vae.get_loaded_vae_name() == "second.vae.safetensors"
    on("second", sd_vae="None")
    on("a")
    assert sd_vae.get_loaded_vae_name() is None


def test_a_file_of_another_shape_and_one_that_is_no_vae_are_told(folder, on):
    plain = on("a")
    with pytest.raises(PrismError, match=r"narrow.safetensors does not fit the loaded model; VAE weights: .*sd_vae"):
        on("a", sd_vae="narrow.safetensors")
    Original("sd1").save(folder / "models" / "VAE" / "whole.safetensors")
    from modules import sd_vae

    sd_vae.refresh_vae_list()
    with pytest.raises(PrismError, match=r"whole.safetensors is no VAE file"):
        on("a", sd_vae="whole.safetensors")
    assert picture(on("a")) == picture(plain)


def test_a_vae_that_is_gone_is_told_and_the_checkpoints_own_used(on, capsys):
    assert picture(on("a", sd_vae="gone.safetensors")) == picture(on("a"))
    assert 'VAE "gone.safetensors" of the settings does not exist' in capsys.readouterr().err


def test_checkpoints_of_one_build_share_their_modules(on):
    first = picture(on("a"))
    model, unet, encoder = loaded(), loaded().model.diffusion_model, loaded().cond_stage_model.encoders[0].model
    second = picture(on("other"))
    assert second != first and loaded() is model and loaded().model.diffusion_model is unet
    assert (
        loaded().sd_checkpoint_info.name == "other.safetensors"
        and loaded().cond_stage_model.encoders[0].model is encoder
    )
    assert picture(on("a")) == first
    on("second")
    assert loaded() is not model
    assert picture(on("other")) == second  # loaded anew


def test_a_chosen_vae_outlives_the_change_of_checkpoints(on):
    from modules import shared

    expected = picture(on("baked"))
    shared.opts.sd_vae = "fine.safetensors"
    on("other")
    assert picture(on("a")) == expected
    shared.opts.sd_vae = "Automatic"
    from modules import sd_vae

    sd_vae.reload_vae_weights()
    assert picture(on("a")) != expected


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_one_before_whole(on):
    from modules import shared

    before = picture(on("a"))
    model, weights = loaded(), loaded().model.diffusion_model.conv_in.weight.clone()
    for name, vae in (("zdamaged", "Automatic"), ("other", "narrow.safetensors")):
        shared.opts.sd_vae = vae
        with pytest.raises(PrismError):
            on(name)
        shared.opts.sd_vae = "Automatic"
        assert loaded() is model and loaded().sd_checkpoint_info.name == "a.safetensors"
        assert torch.equal(loaded().model.diffusion_model.conv_in.weight, weights)
    assert picture(on("a")) == before
