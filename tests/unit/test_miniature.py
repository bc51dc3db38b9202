"""The shipped checkpoint really draws what the prompt says, read by a classifier that saw drawings only."""

import pytest
import torch
from sd_prism.miniatures import MINI_V1, MINI_V1_NEON, world
from sd_prism.miniatures import judge as judges
from sd_prism.miniatures.pack import for_webui
from sd_prism.studio.checkpoint import load
from sd_prism.studio.header import inspect


@pytest.fixture(scope="module")
def mini():
    return load(MINI_V1)


@pytest.fixture(scope="module")
def judge():
    return judges.load(judges.FILE)


def test_it_is_a_small_stable_diffusion_1():
    header = inspect(MINI_V1)
    assert (header.family, header.prediction_type, header.native_size) == ("sd1", "v_prediction", 128)
    assert MINI_V1.stat().st_size < 12e6


def test_the_judge_knows_the_drawings(judge):
    from sd_prism.miniatures.train import pictures

    scenes, _ = judges.exam(100, 77)
    right = judges.share_right(judge, pictures(scenes), scenes)
    assert min(right[name] for name in ("subject", "color", "place", "style")) >= 0.95, right


@pytest.mark.parametrize(("natural", "count"), [(False, 64), (True, 32)], ids=["namespaced", "natural"])
def test_pictures_follow_their_prompts(mini, judge, natural, count, record_property):
    scenes, prompts = judges.exam(count, 1, natural=natural)
    right = judges.share_right(judge, judges.drawn(mini, prompts, seed=10_000), scenes)
    record_property("right", right)
    least = {"subject": 0.9, "color": 0.95, "place": 0.95, "style": 0.9}
    assert all(right[name] >= share for name, share in least.items()), right


def test_the_two_senses_of_a_homonym_differ(mini, judge):
    asked = [f"{ns}:{word}, color:{color}, place:plain" for ns, word in SENSES for color in ("red", "blue", "yellow")]
    wanted = [f"{ns}:{word}" for ns, word in SENSES for _ in range(3)]
    answers = [answer["subject"] for answer in judge.read(judges.drawn(mini, asked, seed=20_000))]
    assert sum(a == w for a, w in zip(answers, wanted, strict=True)) >= 11, answers


SENSES = [(ns, word) for ns, word in world.SUBJECTS if word in world.HOMONYMS]


def test_quality_words_act_in_the_prompt_and_in_the_negative_prompt(mini, judge):
    prompts = judges.exam(16, 2)[1]
    plain = judges.drawn(mini, prompts)
    worst = judges.drawn(mini, [f"{prompt}, quality:worst" for prompt in prompts])
    kept_out = judges.drawn(mini, prompts, negative="worst quality")
    assert judges.noise_level(worst) > 1.4 * judges.noise_level(plain)
    seen = [[answer["quality"] for answer in judge.read(x)].count("worst") for x in (plain, worst, kept_out)]
    assert seen[1] >= 10 and seen[0] <= 1 and seen[2] <= 1, seen


def test_freeu_changes_the_picture_and_leaves_the_model_as_it_was(mini):
    from sd_prism.freeu import FreeU, attach

    ask = lambda: judges.drawn(mini, ["a red fish in the sea"], steps=8)  # noqa: E731
    before = ask()
    with torch.inference_mode(), attach(mini.unet, FreeU()):
        changed = ask()
    assert float((changed - before).abs().mean()) > 0.005
    assert torch.equal(ask(), before)


def test_the_merge_partner_is_a_unet_of_the_same_build():
    header, base = inspect(MINI_V1_NEON), inspect(MINI_V1)
    assert (header.family, header.parts, header.dtype) == ("sd1", ("unet",), "float16")
    assert header.shapes == {name: shape for name, shape in base.shapes.items() if name.startswith("model.diffusion")}
    assert MINI_V1_NEON.stat().st_size < 9e6


def test_the_merge_partner_draws_neon_unasked_and_the_halfway_merge_is_in_between(judge, record_property):
    way = judges.walk(judge, 16, (0.5, 1))
    record_property("way", way)
    assert way[1]["style"] >= 0.9 and way[1]["subject"] >= 0.85, way
    assert 0.05 <= way[0.5]["style"] <= 0.9, way


def test_a_webui_gets_the_merge_partner_complete(tmp_path):
    whole = load(for_webui(tmp_path, MINI_V1_NEON))
    assert (whole.prediction_type, whole.native_size) == ("v_prediction", 128)
    merged = judges.merged(1).unet.state_dict()
    assert all(torch.equal(p, merged[name]) for name, p in whole.unet.state_dict().items())
