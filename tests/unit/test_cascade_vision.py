"""The vision encoder and its pictures against transformers' own, and what stage C takes of them against diffusers'."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sd_prism.cascade import formats
from sd_prism.cascade.config import VisionConfig
from sd_prism.cascade.vision import VisionEncoder
from sd_prism.errors import PrismError
from sd_prism.hosts.cascade.pictures import LENGTH, MOST, Asked, Pictures
from unit.cascade_files import IMAGE, METADATA, main_tensors, random_state, tiny_main, write


def picture(width=300, height=224, seed=0):
    """Noise of a few pixels' size, which shows how it is resized."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


def file_of(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def pair(request):
    """Transformers' model and ours with the same weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=96,
        projection_dim=IMAGE,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=224,
        patch_size=32,
        hidden_act=request.param,
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.3)
    state = {name: one for name, one in theirs.state_dict().items() if "position_ids" not in name}
    metadata = {"prism.cascade.vision_head_width": "16", "prism.cascade.vision_activation": request.param}
    ours = VisionEncoder(VisionConfig.of({name: one.shape for name, one in state.items()}, metadata))
    ours.load_state_dict(state, strict=True)
    return theirs, ours


def vector(encoder, names, pictures):
    cut = np.stack([np.asarray(pictures.cut(name, encoder.config.side)) for name in names])
    return encoder(torch.from_numpy(cut).permute(0, 3, 1, 2) / 255)


@pytest.fixture(scope="module")
def processor():
    """Transformers' preprocessing by Pillow, under its name of that version."""
    transformers = pytest.importorskip("transformers")
    return getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)()


@torch.no_grad()
@pytest.mark.parametrize("size", [(300, 224), (224, 224), (96, 200), (640, 333), (225, 640)])
def test_a_pictures_vector_equals_transformers(pair, processor, size):
    theirs, ours = pair
    pictures, image = Pictures(), picture(*size)
    found = vector(ours, [pictures.keep(file_of(image))], pictures)
    expected = theirs(processor(image, return_tensors="pt").pixel_values).image_embeds
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_several_pictures_are_the_vectors_that_diffusers_prior_has(pair, processor):
    pipeline = pytest.importorskip("diffusers").StableCascadePriorPipeline
    theirs, ours = pair
    pictures, images = Pictures(), [picture(seed=1), picture(200, 480, seed=2)]
    found = vector(ours, [pictures.keep(file_of(one)) for one in images], pictures)
    parts = SimpleNamespace(feature_extractor=processor, image_encoder=theirs)
    told, untold = pipeline.encode_image(parts, images, "cpu", torch.float32, 2, 1)
    assert (found.expand(2, -1, -1) - told).abs().max() < 1e-5 * told.abs().max()
    assert untold.shape == told.shape and not untold.any()


def test_the_published_build_has_its_number_of_weights():
    with torch.device("meta"):
        encoder = VisionEncoder(VisionConfig())
    assert sum(one.numel() for one in encoder.parameters()) == 303_966_208
    assert encoder.config.side == 224
    assert VisionConfig.of({name: one.shape for name, one in encoder.state_dict().items()}) == VisionConfig()


# --- files


PARTS = ("stage_c", "text", "vision")


@pytest.mark.parametrize("place", ["inside", "main_image_encoder.safetensors", "image_encoder/model.safetensors"])
def test_it_is_read_from_the_file_or_from_beside_it(place, tmp_path):
    states = {part: random_state(part) for part in PARTS}
    if place != "inside":
        write(tmp_path / place, states.pop("vision"))
    main = write(tmp_path / "main.safetensors", main_tensors(states))
    encoder = formats.load(main, "vision")
    assert torch.equal(encoder.visual_projection.weight, random_state("vision")["visual_projection.weight"])
    assert not encoder.training and formats.inspect(main).parts["vision"].problems() == ""


def test_one_that_does_not_fit_stage_c_is_left_where_it_is(tmp_path):
    write(tmp_path / "main_image_encoder.safetensors", random_state("vision", projection=IMAGE * 2))
    main = tiny_main(tmp_path / "main.safetensors", parts=("stage_c", "text"))
    assert "vision" not in formats.inspect(main).parts


def test_a_missing_weight_is_named():
    state = random_state("vision")
    del state["visual_projection.weight"]
    with pytest.raises(PrismError, match=r'vision encoder .* needs "visual_projection.weight"'):
        VisionConfig.of({name: one.shape for name, one in state.items()}, METADATA)


# --- names of pictures


def test_pictures_are_known_by_the_hash_of_their_file():
    pictures, content = Pictures(), file_of(picture())
    name = pictures.keep(content)
    assert len(name) == LENGTH and pictures.asked(name) == [Asked(name)]
    text = base64.b64encode(content).decode()
    for form in (text, f"data:image/png;base64,{text}"):
        assert Pictures().asked(form) == [Asked(name)]
        assert Pictures().asked(f"{form}:0.25") == [Asked(name, 0.25)]


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n"])
def test_several_pictures_have_blanks_or_commas_between(between):
    pictures = Pictures()
    contents = [file_of(picture(seed=seed)) for seed in range(3)]
    names = [pictures.keep(one) for one in contents[:2]]
    data = f"data:image/png;base64,{base64.b64encode(contents[2]).decode()}"
    found = pictures.asked(between.join([names[0], f"{names[1]}:0.5", data]))
    assert [one.weight for one in found] == [1, 0.5, 1] and [one.name for one in found[:2]] == names
    assert pictures.asked(" ".join(map(str, found))) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0123456789ab", "the picture 0123456789ab is not here"),
        ("a/b.png", "neither hash nor picture"),
        ("abc", "no base64"),
        (base64.b64encode(b"nothing").decode() + "AAAA", "no base64|no picture"),
        (base64.b64encode(b"no picture at all").decode(), "no picture that can be read"),
        (" ".join(["0123456789ab"] * (MOST + 1)), f"at most {MOST}"),
    ],
)
def test_what_is_no_picture_is_told(text, said):
    with pytest.raises(PrismError, match=said):
        Pictures().asked(text)


def test_the_oldest_pictures_go_first():
    pictures = Pictures()
    contents = [file_of(picture(16, 16, seed)) for seed in range(MOST + 1)]
    first, second, *_ = [pictures.keep(one) for one in contents[:MOST]]
    pictures.cut(first, 8)
    pictures.keep(contents[MOST])
    assert pictures.asked(first)
    with pytest.raises(PrismError, match="is not here"):
        pictures.asked(second)


def test_pictures_are_seen_upright_and_without_transparency():
    tall = Image.Exif()
    tall[0x0112] = 6  # turn right to see it
    pictures, image = Pictures(), picture(64, 32)
    turned = pictures.keep(file_of(image, exif=tall))
    upright = pictures.keep(file_of(image.rotate(-90, expand=True)))
    clear = image.copy()
    clear.putalpha(128)
    opaque, seen = (np.asarray(pictures.cut(pictures.keep(file_of(one)), 16)) for one in (image, clear))
    assert np.array_equal(*(np.asarray(pictures.cut(name, 16)) for name in (turned, upright)))
    assert np.array_equal(opaque, seen)
