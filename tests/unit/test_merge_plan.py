"""What is written into a live model, what is left alone, what is refused, and that everything can be undone."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sd_prism.errors import PrismError, UnknownName
from sd_prism.merge import MODES, Recipe, merge_into, modes, plan, restore
from torch import nn

UNET = "model.diffusion_model."
SHAPES = {
    UNET + "input_blocks.0.0.weight": (8, 4, 3, 3),
    UNET + "input_blocks.0.0.bias": (8,),
    UNET + "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
    UNET + "input_blocks.1.1.norm.weight": (8,),
    UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (8, 12),
    UNET + "output_blocks.0.0.in_layers.2.weight": (8, 16, 3, 3),
    UNET + "time_embed.0.weight": (16, 8),
    UNET + "out.2.weight": (4, 8, 3, 3),
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (10, 6),
    "cond_stage_model.logit_scale": (),
    "first_stage_model.decoder.conv_in.weight": (6, 4, 3, 3),
}
FIRST, K = UNET + "input_blocks.0.0.weight", UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
PROJ = UNET + "input_blocks.1.1.proj_in.weight"
MODE_TEXTS = [
    "B:0.4",
    "B:0.3 + C:0.2",
    "B:0.9 + C:0.8",
    "B-C:0.5:add",
    "B-C:0.5:train",
    "B-C:0.5:smooth",
    "B:0.5:cosine_a",
    "B:0.5:cosine_b",
    "B:0.5:slerp",
    "B-C:0.2:add + B:0.5:slerp",
    "B:0.5:swap:beta=0.7",
    "B:0.5:dare:seed=3",
    "B:0.5:ties + C:0.3:ties:keep=0.5",
    "B-C:0.5:extract:beta=0.4",
    "C + B:0.5",
    "B:1",
    "B:GRAD_V:BASE=0.3,VAE=0.2",
]


def model(seed, dtype=torch.float16, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def copy(tensors):
    return {name: one.clone() for name, one in tensors.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def merged(text, live, sources, previous=None):
    return merge_into(live, Recipe.parse(text), sources, previous=previous)


@pytest.fixture
def sources():
    return {"A": model(0), "B": model(1), "C": model(2)}


@pytest.fixture
def live(sources):
    return copy(sources["A"])


class Tree(nn.Module):
    """Modules nested as the names say."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.plant(name.split("."), tensor)

    def plant(self, path, tensor):
        if len(path) == 1:
            self.register_parameter(path[0], nn.Parameter(tensor.clone()))
            return
        if path[0] not in self._modules:
            self.add_module(path[0], Tree({}))
        self._modules[path[0]].plant(path[1:], tensor)


# --- what is written ---------------------------------------------------------------------------------------------


def test_a_sum_is_bit_equal_to_the_fp32_lerp_then_cast(sources, live):
    merged("B:0.3", live, sources)
    for name in SHAPES:
        assert torch.equal(live[name], torch.lerp(sources["A"][name].float(), sources["B"][name].float(), 0.3).half())


@pytest.mark.parametrize("text", ["B:1", "C:0.4 + B:1:slerp", "B:1:slerp"])
def test_a_weight_of_1_is_b_bit_by_bit(text, sources, live):
    merged(text, live, sources)
    assert same(live, sources["B"])


def test_a_weight_of_0_writes_nothing(sources, live):
    assert not merged("B:0 + C:0:slerp", live, sources).changed
    assert same(live, sources["A"])


def test_blocks_patterns_and_exceptions(sources, live):
    done = merged("B:0:M00=1,IN01=0.5,/norm=0:exclude=VAE", live, sources)
    assert torch.equal(live[K], sources["B"][K])
    assert torch.equal(live[PROJ], torch.lerp(sources["A"][PROJ], sources["B"][PROJ], 0.5))
    assert len(done.changed) == 2
    changed = {name for name in SHAPES if not torch.equal(live[name], sources["A"][name])}
    assert changed == {K, PROJ}


@pytest.mark.parametrize("text", MODE_TEXTS)
def test_files_dicts_and_modules_give_the_same_bits(text, sources, live, tmp_path):
    files = {}
    for name, tensors in sources.items():
        save_file(tensors, files.setdefault(name, tmp_path / f"{name}.safetensors"))
    tree = Tree(sources["A"])
    merged(text, live, sources)
    merged(text, tree, files)
    assert same(live, dict(tree.state_dict()))


def test_torch_counts_what_is_written_to_a_module(sources):
    tree = Tree(sources["A"])
    before = {name: one._version for name, one in tree.named_parameters()}
    done = merged("B:0:M00=1", tree, sources)
    assert {name for name, one in tree.named_parameters() if one._version > before[name]} == set(done.changed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_the_live_models_own_type_is_kept(dtype, sources):
    live = {name: one.to(dtype) for name, one in sources["A"].items()}
    merged("B:0.5", live, sources)
    for name in SHAPES:
        exact = torch.lerp(sources["A"][name].float(), sources["B"][name].float(), 0.5)
        assert torch.equal(live[name].float(), exact.to(dtype).float())
    restore(live, sources, None)
    assert all(torch.equal(live[name].float(), sources["A"][name].to(dtype).float()) for name in SHAPES)


def test_a_base_of_its_own_replaces_the_loaded_model(sources, live):
    done = merged("C + B:0.5", live, sources)
    assert torch.equal(live[K], torch.lerp(sources["C"][K], sources["B"][K], 0.5))
    assert len(done.changed) == len(SHAPES)
    restore(live, sources, done)
    assert same(live, sources["A"])


def test_ties_and_dare_take_differences_from_the_pristine_base(sources, live):
    merged("C:0.5 + B:1:dare:keep=1", live, sources)
    a, b, c = (sources[name][K].float() for name in "ABC")
    exact = torch.lerp(a, c, 0.5) + (b - a)
    assert torch.equal(live[K], exact.half())


def test_live_names_may_be_diffusers_and_hold_the_unet_alone(sources):
    names = {
        "time_embedding.linear_1.weight": UNET + "time_embed.0.weight",
        "conv_out.weight": UNET + "out.2.weight",
        "conv_in.bias": UNET + "input_blocks.0.0.bias",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": K,
        "down_blocks.0.attentions.0.norm.weight": UNET + "input_blocks.1.1.norm.weight",
    }
    live = {given: sources["A"][name].clone() for given, name in names.items()}
    done = merged("B:0.5", live, sources)
    for given, name in names.items():
        assert torch.equal(live[given], torch.lerp(sources["A"][name], sources["B"][name], 0.5))
    restore(live, sources, done)
    assert all(torch.equal(live[given], sources["A"][name]) for given, name in names.items())


def test_markers_whole_numbers_and_averages_are_left_alone(sources, live):
    extra = {
        "v_pred": torch.empty(0),
        "model_ema.decay": torch.tensor(0.5),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(5)[None],
    }
    live |= copy(extra)
    sources = {
        name: one | {key: value + (name == "B") for key, value in extra.items()} for name, one in sources.items()
    }
    merged("B:0.5", live, sources)
    assert all(torch.equal(live[name], one) for name, one in extra.items())


def test_what_a_model_lacks_stays_as_it_is_and_is_told(sources, live):
    for model_, name in (("B", K), ("C", PROJ)):
        del sources[model_][name]
    done = merged("B-C:0.5:add", live, sources)
    assert torch.equal(live[K], sources["A"][K]) and torch.equal(live[PROJ], sources["A"][PROJ])
    assert len(done.notes) == 2 and done.notes[0] == f'"B" lacks 1 tensors, {K} first; they stay as they are'


def test_another_prediction_type_is_told(sources, live):
    sources["B"]["v_pred"] = torch.empty(0)
    assert merged("B:0.5", live, sources).notes == ('"B" is marked as predicting v, "A" is not',)


# --- shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), [(9, 4), (9, 8), (4, 9), (8, 9)])
@pytest.mark.parametrize("text", ["B:0.5", "B-C:0.5:add", "B:0.5:slerp", "B:0.5:cosine_a", "B:1"])
def test_an_inpainting_models_common_channels_are_merged(ours, theirs, text, sources):
    for seed, (name, width) in enumerate((("A", ours), ("B", theirs), ("C", 4))):
        sources[name][FIRST] = model(seed + 5, shapes={FIRST: (8, width, 3, 3)})[FIRST]
    live = copy(sources["A"])
    done = merged(text, live, sources)
    common = min(ours, theirs, 4 if "C" in text else 9)
    assert live[FIRST].shape == (8, ours, 3, 3)
    assert torch.equal(live[FIRST][:, common:], sources["A"][FIRST][:, common:])
    assert not torch.equal(live[FIRST][:, :common], sources["A"][FIRST][:, :common])
    if text in ("B:0.5", "B:1"):
        a, b = (sources[name][FIRST][:, :common] for name in "AB")
        assert torch.equal(live[FIRST][:, :common], torch.lerp(a, b, float(text[2:])))
    restore(live, sources, done)
    assert same(live, sources["A"])


@pytest.mark.parametrize("linear", ["A", "B", "live"])
def test_1x1_convolutions_and_linear_layers_are_one(linear, sources, live):
    expected = torch.lerp(sources["A"][PROJ], sources["B"][PROJ], 0.5)
    target = live if linear == "live" else sources[linear]
    target[PROJ] = target[PROJ][:, :, 0, 0].clone()
    done = merged("B:0.5", live, sources)
    assert torch.equal(live[PROJ].flatten(), expected.flatten())
    assert live[PROJ].dim() == (2 if linear == "live" else 4)
    restore(live, sources, done)
    assert torch.equal(live[PROJ].flatten(), sources["A"][PROJ].flatten())


# --- refusals: nothing is touched ----------------------------------------------------------------------------------


def refused(text, live, sources, match, kind=PrismError):
    before = copy(live)
    with pytest.raises(kind, match=match):
        merged(text, live, sources)
    assert same(live, before)


def test_the_first_three_mismatches_are_named_and_nothing_is_broadcast(sources, live):
    for name in (K, PROJ, UNET + "time_embed.0.weight", UNET + "out.2.weight"):
        sources["B"][name] = sources["B"][name][:1]
    refused("B:0.5", live, sources, r'proj_in.weight is 1 x 8 x 1 x 1 in "B", 8 x 8 x 1 x 1 in the model;.*and 1 more')


def test_a_mismatch_where_nothing_is_merged_is_none(sources, live):
    sources["B"][K] = sources["B"][K][:1]
    assert len(merged("B:0.5:M00=0", live, sources).changed) == len(SHAPES) - 1


def test_another_architecture_is_named(sources, live):
    sources["B"][UNET + "label_emb.0.0.weight"] = torch.zeros(8, 8)
    refused("B:0.5", live, sources, '"B" is SDXL, but "A" is Stable Diffusion 1; only models of one architecture')
    refused("B:0.5", live, {**sources, "A": sources["B"]}, "The loaded model is Stable Diffusion 1, but .* is SDXL")


def test_missing_models_are_refused(sources, live, tmp_path):
    refused("D:0.5", live, sources, 'model "D" does not exist', UnknownName)
    refused("B:0.5", live, {"B": sources["B"]}, 'There is no model "A" among the sources')
    refused("B:0.5", live, {**sources, "B": tmp_path / "gone.safetensors"}, "gone.safetensors does not exist")
    refused("B:0.5:add", live, sources, 'The mode "add" needs a model to subtract')


def test_files_that_cannot_be_merged_are_refused(sources, live, tmp_path):
    save_file(sources["B"], path := tmp_path / "b.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    refused("B:0.5", live, {**sources, "B": path}, "it is cut off or damaged")
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path)
    refused("B:0.5", live, {**sources, "B": path}, '"B" .* cannot be merged: this is a LoRA')


def test_quantised_and_offloaded_weights_are_refused(sources, live):
    live[K] = live[K].to(torch.uint8)
    refused("B:0.5", live, sources, r"to_k.weight is stored as uint8 \(quantised\); load the model in fp16")
    live[K] = torch.empty(8, 12, device="meta")
    with pytest.raises(PrismError, match="is offloaded and not in memory"):
        merged("B:0.5", live, sources)


def test_the_live_model_cannot_be_its_own_source(sources, live):
    refused("B:0.5", live, {**sources, "A": live}, "is shared by a source and the live model")


def test_a_recipe_that_changes_during_the_run_is_refused(sources, live):
    refused("B:0.5:step=2-5", live, sources, r"changes during the run; give one of the recipes that recipe.run")


# --- plans -------------------------------------------------------------------------------------------------------


def test_an_unchanged_plan_is_the_previous_one(sources, live):
    done = merged("B:0.5", live, sources)
    assert merged("B:0.5", live, sources, done) is done


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("B:0.5:M00=0.2", 1),
        ("B:0.5:IN00=0", 2),
        ("B:0.5:/norm=0.1", 1),
        ("B:0.5:exclude=BASE", 2),
        ("B:0.6", len(SHAPES)),
        ("", len(SHAPES)),
    ],
)
def test_only_what_changed_is_written(text, written, sources, live):
    fresh = copy(live)
    first = merged("B:0.5", live, sources)
    assert len(first.changed) == len(SHAPES)
    assert len(merged(text, live, sources, first).changed) == written
    merged(text, fresh, sources)
    assert same(live, fresh)


def test_a_replaced_file_is_written_anew(sources, live, tmp_path):
    paths = {name: tmp_path / f"{name}.safetensors" for name in "AB"}
    for name, path in paths.items():
        save_file(sources[name], path)
    first = merged("B:0.5:M00=0", live, paths)
    save_file(sources["C"], tmp_path / "new")
    (tmp_path / "new").replace(paths["B"])
    second = merged("B:0.5:M00=0", live, paths, first)
    assert len(second.changed) == len(SHAPES) - 1
    assert torch.equal(live[PROJ], torch.lerp(sources["A"][PROJ], sources["C"][PROJ], 0.5))
    restore(live, paths, second)
    assert same(live, sources["A"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete mapped files")
def test_a_file_deleted_while_it_is_merged_can_be_restored_from(sources, live, tmp_path):
    paths = {name: tmp_path / f"{name}.safetensors" for name in "AB"}
    for name, path in paths.items():
        save_file(sources[name], path)
    done = merged("B:0.5", live, paths)
    for path in paths.values():
        path.unlink()
    merged("B:0.7", live, paths, done)
    restore(live, paths, done)
    assert same(live, sources["A"])
    done.release()
    refused("B:0.5", live, paths, "A.safetensors does not exist")
    with pytest.raises(PrismError, match=r"A\.safetensors does not exist"):
        merged("B:0.5", live, paths, done)


def test_parameters_that_the_host_replaced_are_found(sources):
    tree = Tree(sources["A"])
    first = merged("B:0.5", tree, sources)
    owner = tree.get_submodule(K.removesuffix(".weight"))
    with torch.inference_mode():
        owner.weight = nn.Parameter(owner.weight.clone(), requires_grad=False)
    merged("B:0.5:M00=1", tree, sources, first)
    assert torch.equal(owner.weight, sources["B"][K])


def test_statistics_are_computed_once(sources, live, monkeypatch):
    counted = []
    for name in ("products", "threshold", "column_similarity"):
        real = getattr(modes, name)
        monkeypatch.setattr(modes, name, lambda *args, real=real, **kwargs: counted.append(1) or real(*args, **kwargs))
    for mode in ("slerp", "ties", "cosine_a"):
        done = merged(f"B:0.3:{mode}", live, sources)
        counted.clear()
        merged(f"B:0.4:{mode}", live, sources, done)
        assert not counted, mode


def test_cosine_is_spread_over_the_whole_model_whatever_is_live(sources, live):
    merged("B:0.5:cosine_b", live, sources)
    unet = {name: one.clone() for name, one in sources["A"].items() if name.startswith(UNET)}
    merged("B:0.5:cosine_b", unet, sources)
    assert all(torch.equal(unet[name], live[name]) for name in unet)


def test_many_models_in_a_row_are_not_kept_open(sources, live):
    done = None
    for i in range(30):
        done = merged(f"M{i}:0.5", live, {**sources, f"M{i}": model(i)}, done)
    assert len(done.models._open) <= 8
    restore(live, sources, done)
    assert same(live, sources["A"])


def test_what_will_be_written_is_told_before_and_after(sources):
    live = {
        "conv_out.weight": torch.zeros(4, 8, 3, 3).half(),
        "conv_in.bias": sources["A"][UNET + "input_blocks.0.0.bias"].clone(),
    }
    told = []

    def put_right(names):
        told.append(names)
        live["conv_out.weight"] = sources["A"][UNET + "out.2.weight"].clone()

    done = merge_into(live, Recipe.parse("B:0.5:IN00=0"), sources, prepare=put_right)
    assert told == [("conv_out.weight",)] == [done.changed] and done.blocks == {"OUT"}
    exact = torch.lerp(sources["A"][UNET + "out.2.weight"], sources["B"][UNET + "out.2.weight"], 0.5)
    assert torch.equal(live["conv_out.weight"], exact)
    merge_into(live, Recipe.parse("B:0.5:IN00=0"), sources, previous=done, prepare=put_right)
    assert len(told) == 1
    assert restore(live, sources, done, prepare=told.append).blocks == {"OUT"} and len(told) == 2


# --- undoing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MODE_TEXTS)
def test_restore_is_bit_exact_after_every_mode(text, sources, live):
    done = restore(live, sources, merged(text, live, sources))
    assert same(live, sources["A"])
    assert restore(live, sources, done) is done


def test_thousands_of_moves_leave_no_trace(sources, live):
    moves = random.Random(0)
    blocks = ["IN00", "IN01", "M00", "OUT00", "TIME_EMBED", "OUT", "BASE", "VAE"]
    done = None
    for i in range(10_000):
        text = MODE_TEXTS[moves.randrange(len(MODE_TEXTS))] if i % 200 == 0 else f"B:{moves.random()}"
        if i % 200:
            text += f":{moves.choice(blocks)}={moves.uniform(-1, 2)}"
        done = merged(text, live, sources, done)
    fresh = copy(sources["A"])
    merged(text, fresh, sources)
    assert same(live, fresh)
    restore(live, sources, done)
    assert same(live, sources["A"])


class Broken(Exception):
    pass


@pytest.fixture
def breaks(monkeypatch):
    """Writing fails at the third tensor, which is half written then."""

    def arm():
        real, left = plan.write, [3]

        def write(out, *rest):
            left[0] -= 1
            if not left[0]:
                out.view(-1)[: out.numel() // 2 + 1].fill_(77)
                raise Broken
            real(out, *rest)

        monkeypatch.setattr(plan, "write", write)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("repair", ["restore", "merge", "restore without a plan"])
def test_an_exception_in_the_midst_of_writing_can_be_repaired(repair, sources, live, breaks, monkeypatch):
    first = merged("B:0.3", live, sources)
    breaks()
    with pytest.raises(Broken):
        merged("B:0.8", live, sources, first)
    monkeypatch.undo()
    if repair == "merge":
        again = merged("B:0.3", live, sources, first)
        fresh = copy(sources["A"])
        merged("B:0.3", fresh, sources)
        assert same(live, fresh) and again is not first and not again.unsure
    else:
        restore(live, sources, first if repair == "restore" else None)
        assert same(live, sources["A"])


def test_an_exception_in_the_first_merge_can_be_repaired(sources, live, breaks, monkeypatch):
    pristine = merged("", live, sources)
    breaks()
    with pytest.raises(Broken):
        merged("B:0.8", live, sources, pristine)
    monkeypatch.undo()
    restore(live, sources, pristine)
    assert same(live, sources["A"])


def test_parameters_made_in_inference_mode_are_written(sources):
    with torch.inference_mode():
        live = copy(sources["A"])
    done = merged("B:0.5", live, sources)
    assert torch.equal(live[K], torch.lerp(sources["A"][K], sources["B"][K], 0.5))
    restore(live, sources, done)
    assert same(live, sources["A"])


def test_a_merge_leaves_parameters_trainable(sources):
    tree = Tree(sources["A"])
    parameters = dict(tree.named_parameters())
    merged("B:0.5", tree, sources)
    assert all(one is parameters[name] and one.requires_grad for name, one in tree.named_parameters())
    assert not any(one.is_inference() for one in tree.parameters())


def test_all_modes_are_among_the_tested():
    assert {term.mode for text in MODE_TEXTS for term in Recipe.parse(text).terms} == set(MODES)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_merging_mapped_files_takes_little_memory(tmp_path):
    """In a process of its own: three models of 24 MB."""
    code = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from sd_prism.merge import Recipe, merge_into
from safetensors.torch import load_file
torch.set_num_threads(1)
files = {name: f"{sys.argv[2]}/{name}.safetensors" for name in "ABC"}
live = load_file(files["A"])
def own():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
done = merge_into(live, Recipe.parse("B:0.01:IN00=0"), {"A": files["A"], "B": files["B"]})
before = own()
for text in ("B:0.5", "B:0.3 + C:0.3", "B-C:0.5:add", "B-C:0.5:train"):
    done = merge_into(live, Recipe.parse(text), files, previous=done)
print(own() - before)
"""
    big = {UNET + f"input_blocks.{i}.0.in_layers.2.weight": (1024, 1024, 2) for i in range(6)}
    for i, name in enumerate("ABC"):
        save_file(model(i, shapes=big), tmp_path / f"{name}.safetensors")
    lib = Path(__file__).resolve().parents[2] / "lib"
    run = subprocess.run([sys.executable, "-c", code, lib, tmp_path], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 16
