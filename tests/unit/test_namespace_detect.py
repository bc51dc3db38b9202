"""Which dialect a checkpoint speaks."""

import pytest
from safetensors import safe_open
from sd_prism.errors import UnknownName
from sd_prism.miniatures import MINI_V1
from sd_prism.namespaces.detect import HASHES, KNOWN, detect
from sd_prism.namespaces.dialects import DIALECTS


@pytest.mark.parametrize(("name", "dialect"), [
    ("v1-5-pruned-emaonly.safetensors", "sd1"),
    ("v1-5-pruned-emaonly-fp16.safetensors [0123456789]", "sd1"),
    ("sd-v1-4.ckpt", "sd1"),
    ("sd-v1-4-full-ema", "sd1"),
    ("sd-v1-5-inpainting.ckpt", "sd1"),
    ("stable-diffusion-v1-5.safetensors", "sd1"),
    ("sd15.safetensors", "sd1"),
    ("gigafractal2_20000.ckpt", "gigafractal"),
    ("Gigafractal Diffusion.safetensors", "gigafractal"),
    ("Baka-Diffusion[General].safetensors", "danbooru"),
    ("Baka-Diffusion[S3D].safetensors", "danbooru"),
    ("anime\\bakaDiffusion_S3D.safetensors", "danbooru"),
    ("sotediffusion-wuerstchen3-decoder.safetensors", "sote"),
    ("SoteDiffusion Wuerstchen3.safetensors", "sote"),
    ("sygil-diffusion-v0.4.ckpt", "sygil"),
    ("sub/folder/Sygil_Diffusion_v0.3_fp16.safetensors", "sygil"),
    ("ponyDiffusionV6XL_v6StartWithThisOne.safetensors", "pony"),
    ("autismmixSDXL_autismmixPony.safetensors", "pony"),
    ("animagine-xl-3.1.safetensors", "animagine"),
    ("animagineXLV31_v31", "animagine"),
    ("mini-v1.safetensors", "pass"),
    ("mini-v1-neon.safetensors [0123456789]", "pass"),
    ("dreamshaper_8.safetensors", None),
    ("v1-5-dreambooth-of-my-cat.safetensors", None),
    ("my-sd-v1-5-mix.safetensors", None),
    ("model.safetensors", None),
    ("pony_diffusion_v5.ckpt", None),
    ("animagine-xl-2.0.safetensors", None),
    ("sponyX.safetensors", None),
    ("notpony_v6.safetensors", None),
    ("ponytail_xl.safetensors", None),
    ("notanimagine-xl-3.1.safetensors", None),
    ("MyPony_v2.safetensors", "pony"),
    ("v15.safetensors", "sd1"),
    ("15.safetensors", None),
    ("", None),
])  # fmt: skip
def test_names(name, dialect):
    assert detect(name) == dialect


@pytest.mark.parametrize(("name", "family", "dialect"), [
    ("v1-5-pruned.safetensors", "sd1", "sd1"),
    ("v1-5-pruned.safetensors", "sdxl", None),
    ("anything.safetensors", "sd1", None),
    ("ponyDiffusionV6XL.safetensors", "sdxl", "pony"),
    ("my pony.safetensors", "sd1", None),
    ("ponyxl", "sdxl", "pony"),
    ("ponyxl", "", "pony"),
    ("ponyxl", "sd1", None),
    ("notpony_v6", "sdxl", None),
    ("animagine-xl-3.1", "sdxl", "animagine"),
    ("bakadiffusion", "sd1", "danbooru"),
    ("bakadiffusion", "sdxl", None),
    ("sotediffusion", "cascade", "sote"),
])  # fmt: skip
def test_the_family_must_fit(name, family, dialect):
    assert detect(name, family=family) == dialect


def test_a_hash_says_more_than_a_name():
    assert detect("renamed.safetensors", sha256="C891D98D86") == "sote"
    assert detect("sygil.safetensors", sha256="67ab2fd8ec" + "0" * 54) == "pony"
    assert detect("renamed.safetensors [e3c47aedb0]") == "animagine"
    assert detect("sygil.safetensors", sha256="f" * 64) == "sygil"


def test_the_hash_on_gigafractals_card_is_another_models():
    assert detect("renamed.ckpt", sha256="a9263745") is None
    assert not any(short.startswith("a9263745") for short in HASHES)


def test_the_shipped_miniature_is_known_by_its_name_and_by_its_title():
    assert detect(MINI_V1.name) == "pass"
    with safe_open(MINI_V1, "np") as file:
        assert detect("renamed", metadata=file.metadata()) == "pass"


def test_metadata():
    assert detect("a.safetensors", metadata={"modelspec.title": "Sygil Diffusion v0.4"}) == "sygil"
    assert detect("a.safetensors", metadata={"ss_output_name": "gigafractal"}) == "gigafractal"
    assert detect("a.safetensors", metadata={"ss_sd_model_name": "ponyDiffusionV6XL.safetensors"}) == "pony"
    assert detect("a.safetensors", metadata={"modelspec.title": "stable-diffusion-v1-5"}) == "sd1"
    assert detect("a.safetensors", metadata={"format": "pt"}) is None


def test_what_was_trained_from_stable_diffusion_1_may_want_anything():
    assert detect("a.safetensors", metadata={"ss_sd_model_name": "v1-5-pruned.safetensors"}) is None


def test_the_users_rules_come_first():
    rules = [("My*Mix", "pony"), ("C891D98D86", "sd1"), ("*", "danbooru")]
    assert detect("folder/mymix.safetensors", rules=rules) == "pony"
    assert detect("sotediffusion", sha256="c891d98d86" + "0" * 54, rules=rules) == "sd1"
    assert detect("sygil.safetensors", rules=rules) == "danbooru"
    assert detect("sygil.safetensors", rules=rules[:2]) == "sygil"


def test_a_rule_for_an_unknown_dialect_says_so():
    with pytest.raises(UnknownName, match='did you mean "pony"'):
        detect("a", rules=[("a", "poni")])


def test_every_answer_is_a_dialect():
    assert {*HASHES.values(), *(known.dialect for known in KNOWN)} == set(DIALECTS)
    assert all(len(short) == 10 and short == short.lower() for short in HASHES)
