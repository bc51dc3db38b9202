"""A baked file equals the live merge bit by bit, is written whole or not at all, and says where it comes from."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sd_prism.errors import PrismError, UnknownName
from sd_prism.merge import Recipe, bake, baking, kernels, merge_into

UNET = "model.diffusion_model."
SHAPES = {
    UNET + "input_blocks.0.0.weight": (8, 4, 3, 3),
    UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (8, 12),
    UNET + "output_blocks.0.0.in_layers.2.weight": (8, 16, 3, 3),
    UNET + "output_blocks.0.0.in_layers.2.bias": (8,),
    "cond_stage_model.logit_scale": (),
    "first_stage_model.decoder.conv_in.weight": (6, 4, 3, 3),
}
FIRST = UNET + "input_blocks.0.0.weight"
POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
TEXTS = [
    "B:0.3",
    "B:0.3 + C:0.2",
    "B-C:0.5:add",
    "B-C:0.5:train",
    "B-C:0.5:smooth",
    "B:0.5:cosine_a",
    "B:0.5:slerp",
    "B:0.5:swap:beta=0.7",
    "B:0.5:dare:seed=3",
    "B:0.5:ties + C:0.3:ties",
    "B-C:0.5:extract:beta=0.4",
    "B:GRAD_V",
    "B:1",
]


def model(seed, dtype=torch.float16):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return tensors | {POSITIONS: torch.arange(5)[None], "v_pred": torch.empty(0), "model_ema.decay": torch.tensor(0.9)}


@pytest.fixture
def files(tmp_path):
    found = {}
    for seed, name in enumerate("ABC"):
        found[name] = tmp_path / f"{name}.safetensors"
        save_file(model(seed), found[name], metadata={"author": name})
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("stage", [kernels.STAGE, 100])
def test_it_equals_the_live_merge(text, stage, files, out, monkeypatch):
    monkeypatch.setattr(baking, "STAGE", stage)
    live = load_file(files["A"])
    merge_into(live, Recipe.parse(text), files)
    assert bake(Recipe.parse(text), out, sources=files) == out
    baked = load_file(out)
    assert baked.keys() == {*live} - {"model_ema.decay"}
    for name, one in baked.items():
        assert one.dtype == live[name].dtype and torch.equal(one, live[name]), name


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_the_format_can_be_chosen(dtype, kind, files, out):
    live = {name: one.to(kind) if name in SHAPES else one for name, one in load_file(files["A"]).items()}
    recipe = Recipe.parse("B-C:0.5:add:VAE=0")
    merge_into(live, recipe, files)
    baked = load_file(bake(recipe, out, sources=files, dtype=dtype))
    assert all(torch.equal(one, live[name]) and one.dtype == live[name].dtype for name, one in baked.items())
    assert baked[FIRST].dtype == kind and baked[POSITIONS].dtype == torch.int64


def test_markers_are_carried_over(files, out):
    baked = load_file(bake(Recipe.parse("B:0.5"), out, sources=files))
    assert baked["v_pred"].shape == (0,) and torch.equal(baked[POSITIONS], torch.arange(5)[None])


def test_an_inpainting_base_keeps_its_channels(files, out):
    wide = load_file(files["A"])
    wide[FIRST] = torch.randn(8, 9, 3, 3).half()
    save_file(wide, files["A"])
    baked = load_file(bake(Recipe.parse("B:0.5"), out, sources=files))
    assert torch.equal(baked[FIRST][:, 4:], wide[FIRST][:, 4:])
    assert torch.equal(baked[FIRST][:, :4], torch.lerp(wide[FIRST][:, :4], load_file(files["B"])[FIRST], 0.5))


def test_a_recipe_may_name_files(files, out, monkeypatch):
    monkeypatch.chdir(files["A"].parent)
    bake(Recipe.parse("A.safetensors + B.safetensors:0.5"), out)
    baked = load_file(out)
    assert torch.equal(baked[FIRST], torch.lerp(load_file(files["A"])[FIRST], load_file(files["B"])[FIRST], 0.5))
    bake(Recipe.parse("A.safetensors + B.safetensors-C.safetensors:0.5:add"), out)
    with pytest.raises(PrismError, match=r"does not say what it is merged into; write the base first: BASE \+ B:0\.5"):
        bake(Recipe.parse("B:0.5"), out)
    with pytest.raises(PrismError, match=r'"D\.safetensors" is no file; a model\'s name is the path of its \.safetens'):
        bake(Recipe.parse("A.safetensors + D.safetensors:0.5"), out)


def test_it_says_where_it_comes_from(files, out):
    recipe = Recipe.parse("B-C:0.5:add")
    told = metadata(bake(recipe, out, sources=files, hashes={"B": "b" * 64}))
    assert told["author"] == "A" and told["format"] == "pt"
    made = json.loads(told["sd_merge_recipe"])
    assert made.pop("type") == "sd-webui-prism" and Recipe.parse(made.pop("text")) == recipe.resolve(files)
    models = json.loads(told["sd_merge_models"])
    assert list(models) == [hashlib.sha256(files["A"].read_bytes()).hexdigest(), "b" * 64, *list(models)[2:]]
    assert [one["name"] for one in models.values()] == ["A.safetensors", "B.safetensors", "C.safetensors"]
    assert all(len(one["legacy_hash"]) == 8 and one["sd_merge_recipe"] is None for one in models.values())


def test_merges_of_merges_tell_all(files, out, tmp_path):
    bake(Recipe.parse("B:0.5"), out, sources=files)
    again = bake(Recipe.parse("C:0.5"), tmp_path / "again.safetensors", sources={**files, "A": out})
    models = json.loads(metadata(again)["sd_merge_models"])
    assert {one["name"] for one in models.values()} == {f"{name}.safetensors" for name in ("A", "B", "C", "out")}
    (own,) = (one["sd_merge_recipe"] for one in models.values() if one["name"] == "out.safetensors")
    assert own["text"] == "B:0.5"


def test_progress_counts_bytes_and_may_end_it(files, out):
    seen = []
    bake(Recipe.parse("B:0.5"), out, sources=files, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (out.stat().st_size,) * 2
    before = out.read_bytes()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake(Recipe.parse("B:0.7"), out, sources=files, progress=stop)
    assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 4


def refused(out, files, match, text="B:0.5", kind=PrismError, **options):
    there = sorted(out.parent.iterdir())
    with pytest.raises(kind, match=match):
        bake(Recipe.parse(text), out, sources=files, **options)
    assert sorted(out.parent.iterdir()) == there


def test_what_cannot_be_baked_is_refused_before_anything_is_written(files, out, tmp_path, monkeypatch):
    refused(out, files, 'format "fp8" does not exist', kind=UnknownName, dtype="fp8")
    refused(tmp_path / "out.ckpt", files, r"does not end in \.safetensors")
    refused(files["B"], files, "is one of the models that are merged; choose another name")
    refused(out, files, "A bake has no steps; leave step= away", text="B:0.5:step=2-5")
    short = load_file(files["B"])
    short[FIRST] = short[FIRST][:1]
    save_file(short, tmp_path / "short.safetensors")
    refused(out, {**files, "B": tmp_path / "short.safetensors"}, 'is 1 x 4 x 3 x 3 in "B", 8 x 4 x 3 x 3 in the model')
    monkeypatch.setattr(baking.shutil, "disk_usage", lambda folder: SimpleNamespace(free=9))
    refused(out, files, "has 9 bytes free, out.safetensors needs")
    with pytest.raises(PrismError, match=r"The folder .* does not exist; make it first"):
        bake(Recipe.parse("B:0.5"), tmp_path / "no" / "out.safetensors", sources=files)


def test_what_cannot_be_baked_is_told_from_headers_alone(files, out, monkeypatch):
    monkeypatch.setattr(baking, "_write_whole", None)
    short = load_file(files["B"]) | {FIRST: torch.zeros(1, 4, 3, 3)}
    save_file(short, files["B"])
    files["C"].write_bytes(files["C"].read_bytes()[:-1])
    for text, said in (("B:0.5", "8 x 4 x 3 x 3 in the model"), ("C:0.5", "cut off"), ("A:0.5:step=2-5", "no steps")):
        with pytest.raises(PrismError, match=said):
            baking.prepared(Recipe.parse(text), out, sources=files)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded(tmp_path):
    """In a process of its own: models of 100 MB, the largest tensor of 50 MB."""
    code = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from sd_prism.merge import Recipe, bake
torch.set_num_threads(1)
files = {name: f"{sys.argv[2]}/{name}.safetensors" for name in "AB"}
def own():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
def run(text, **more):
    bake(Recipe.parse(text), f"{sys.argv[2]}/out.safetensors", sources=files, hashes={"A": "0", "B": "1"}, **more)
run("B:0")
before, most = own(), 0
def look(done, total):
    global most
    most = max(most, own())
run("B:0.5", progress=look)
print(most - before)
"""
    big = {
        UNET + f"input_blocks.{i}.0.in_layers.2.weight": torch.zeros(n, 1024, 9).half() for i, n in ((0, 2800), (1, 9))
    }
    for name in "AB":
        save_file(big, tmp_path / f"{name}.safetensors")
    lib = Path(__file__).resolve().parents[2] / "lib"
    run = subprocess.run([sys.executable, "-c", code, lib, tmp_path], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 24
