"""A checkpoint's card is found by what its file is, and a stranger's is not."""

import pytest
from sd_prism.cards import Preset
from sd_prism.cards.card import Card, cards_of
from sd_prism.cards.match import Loaded, match, plain
from sd_prism.cards.shipped import presets

CARDS = cards_of(presets("card"))
SD1, GIGA, GENERAL, S3D = (
    "Stable Diffusion v1",
    "Gigafractal Diffusion",
    "Baka-Diffusion [General]",
    "Baka-Diffusion [S3D]",
)
SOTE, SYGIL, MINI, MINI_CASCADE = "SoteDiffusion Würstchen3", "Sygil-Diffusion", "Prism mini-v1", "Prism mini-cascade"

OURS = {
    SD1: [
        "v1-5-pruned-emaonly.safetensors",
        "v1-5-pruned-emaonly.safetensors [6ce0161689]",
        "v1-5-pruned-emaonly (1).safetensors",
        "v1-5-pruned-emaonly-fp16.safetensors",
        "v1-5-pruned.ckpt",
        "v1-5-pruned.ckpt [a9263745]",
        "v15PrunedEmaonly.safetensors",
        "sd-v1-4.ckpt",
        "sd-v1-4-full-ema.ckpt",
        "sdv1_4.ckpt",
        "sd-v1-5-inpainting.ckpt",
        "stable-diffusion-v1-5",
        "/models/stable-diffusion-v1-5/",
        "stable_diffusion-1.5.safetensors",
        "runwayml--stable-diffusion-v1-5",
        "models--CompVis--stable-diffusion-v1-4",
        r"base\SD1.5.safetensors",
        "SD 1.5/sd15.safetensors",
    ],
    GIGA: [
        "gigafractalDiffusion_pickletensor.ckpt",
        "gigafractalDiffusion_safetensor.safetensors",
        "gigafractal-diffusion",
        "Gigafractal.safetensors",
    ],
    GENERAL: [
        "Baka-Diffusion[General].safetensors",
        "bakaDiffusion_general.safetensors",
        "Baka-DiffusionV1(Fp16).safetensors",
    ],
    S3D: ["Baka-Diffusion[S3D].safetensors", "BakaDiffusion_S3D-fp16.safetensors", "baka-diffusion s3d.ckpt"],
    SOTE: [
        "sotediffusionWuerstchen3_main.safetensors",
        "sotediffusion-wuerstchen3.safetensors",
        "SoteDiffusion Würstchen3.safetensors",
        "sotediffusion_wurstchen3-fp16.safetensors",
    ],
    SYGIL: [
        "sygil-diffusion-v0.1.ckpt",
        "Sygil-Diffusion",
        "sygil_diffusion_v0.4.safetensors",
        "sygil-v0.1_125005_lora.ckpt",
    ],
    MINI: ["mini-v1.safetensors", "mini-v1-neon.safetensors [863fb4a180]"],
    MINI_CASCADE: ["mini-cascade-main.safetensors"],
}

STRANGERS = [
    "sd15_mix.safetensors",
    "sd15-anime-mix-v3.safetensors",
    "anything-v4.5-pruned.ckpt",
    "AnythingV3.0-pruned.safetensors",
    "dreamshaper_8.safetensors",
    "Realistic_Vision_V5.1.safetensors",
    "sd-v1-5-anime.safetensors",
    "protogen-v1-5.safetensors",
    "sd_xl_base_1.0.safetensors",
    "sd_xl_base_1.0_0.9vae.safetensors",
    "v2-1_768-ema-pruned.safetensors",
    "512-base-ema.ckpt",
    "stable-diffusion-2-1",
    "stable-diffusion-v1-6.safetensors",
    "sd3_medium.safetensors",
    "stable_cascade_stage_c.safetensors",
    "sotediffusion-v2.safetensors",
    "gigafractal2-diffusion.ckpt",
    "gigafractal_anything_mix.safetensors",
    "baka-anime-mix.safetensors",
    "mini-v1-mine.safetensors",
    "model.ckpt",
    "pruned.safetensors",
    "fp16.safetensors",
    ".safetensors",
    "",
]


def best(loaded, cards=CARDS):
    found = match(loaded, cards)
    return (found[0].card.name, found[0].why, found[0].sure) if found else None


@pytest.mark.parametrize(("card", "name"), [(card, name) for card, names in OURS.items() for name in names])
def test_a_card_is_found_by_the_name_of_its_file(card, name):
    found, why, sure = best(Loaded(name))
    assert (found, sure) == (card, True) and why.startswith("it is named")
    assert len(match(Loaded(name), CARDS)) == 1


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_has_no_card(name):
    assert best(Loaded(name)) is None


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_of_the_first_family_is_offered_its_base_model_as_a_guess(name):
    assert best(Loaded(name, family="sd1")) == (
        SD1,
        "a guess: it is a Stable Diffusion 1 model, of which nothing else is known",
        False,
    )
    assert all(best(Loaded(name, family=family)) is None for family in ("sd2", "sdxl", "cascade", "flux"))


@pytest.mark.parametrize(
    "loaded",
    [
        Loaded("mine", sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"),
        Loaded("mine", shorthash="6CE0161689"),
        Loaded("mine", oldhash="81761151", family="sd1"),
        Loaded("mine", oldhash="a9263745"),
    ],
)
def test_a_hash_tells_what_a_file_is_whatever_its_name(loaded):
    name, why, sure = best(loaded)
    assert (name, sure) == (SD1, True) and why.startswith("its hash is")


def test_the_hash_on_sotes_page_is_its_cards():
    assert best(Loaded("x", shorthash="c891d98d86"))[0] == SOTE


def test_a_hash_comes_before_a_name():
    loaded = Loaded("gigafractal.ckpt", sha256="fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556")
    assert [one.card.name for one in match(loaded, CARDS)] == [SD1, GIGA]


def test_a_name_does_not_count_against_the_family():
    assert best(Loaded("bakaDiffusion_s3d", family="sdxl")) is None
    assert best(Loaded("gigafractal-diffusion", family="sd2")) is None
    assert best(Loaded("sygil-diffusion", family="sd1"))[0] == SYGIL


def test_the_files_own_words_tell_a_renamed_file():
    told = best(Loaded("renamed", metadata={"modelspec.title": "Baka-Diffusion S3D"}, family="sd1"))
    assert told == (S3D, 'the file calls itself "Baka-Diffusion S3D"', True)


def test_a_card_may_name_words_of_the_file():
    mine = Card.of(Preset("card", "Mine", {}, extra={"match": {"metadata": {"ss_tag": "My Mix*"}}}))
    assert best(Loaded("x", metadata={"ss_tag": "my-mix v3"}), [mine]) == (
        "Mine",
        'the file calls itself "my-mix v3"',
        True,
    )
    assert best(Loaded("my mix", metadata={"ss_tag": "other"}), [mine]) is None


def test_what_was_made_from_a_model_is_a_guess():
    metadata = {"ss_sd_model_name": "sygil-diffusion-v0.1.ckpt"}
    assert best(Loaded("mine", metadata=metadata, family="sd1")) == (
        SYGIL,
        'a guess: the file says it was made from "sygil-diffusion-v0.1.ckpt"',
        False,
    )


def test_the_users_own_card_comes_first_where_both_fit():
    mine = Card.of(Preset("card", "My 1.5", {}, extra={"match": {"names": ["v15"]}}))
    assert [one.card.name for one in match(Loaded("v1-5-pruned"), [*CARDS, mine])] == ["My 1.5", SD1]


def test_a_card_for_this_very_checkpoint_is_found_again():
    loaded = Loaded("My Mix v2-fp16.safetensors [0123456789]", shorthash="0123456789", family="sd1")
    mine = Card.of(Preset("card", "Mine", {}, families=("sd1",), extra={"match": {"names": [plain(loaded.name)]}}))
    assert best(loaded, [*CARDS, mine])[0] == "Mine"
    assert best(Loaded("my_mix_v2.ckpt"), [mine])[1] == 'it is named "my_mix_v2"'
    assert best(Loaded("my_mix_v3.ckpt"), [mine]) is None


def test_a_name_may_be_written_as_the_file_has_it():
    mine = Card.of(Preset("card", "Mine", {}, extra={"match": {"names": ["My-Mix [S3D]_v2", "*"]}}))
    assert best(Loaded("my mix[s3d] v2-fp16.safetensors"), [mine])[0] == "Mine" and best(Loaded(""), [mine]) is None


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Würstchen3_FP16.safetensors", "wurstchen3"),
        ("a/b\\C d (2).ckpt [0123456789]", "cd"),
        ("pruned.ckpt", "pruned"),
        ("", ""),
    ],
)
def test_the_form_in_which_names_are_compared(name, form):
    assert plain(name) == form
