import pytest
import torch
from checkpoints import Original
from sd_prism.merge import Recipe, merge_into, restore
from sd_prism.merge.blocks import Layout
from sd_prism.merge.sources import Tensors
from sd_prism.merge.split import Split


def live_of(original):
    """A diffusers pipeline's tensors by its own names."""
    parts = {"unet": original.unet, "vae": original.vae}
    parts |= {f"text_encoder{'_2' if i else ''}": text for i, text in enumerate(original.texts)}
    named = {}
    for part, module in parts.items():
        for name, tensor in module.state_dict().items():
            inner = name if part in ("unet", "vae") or name.startswith("text_") else f"text_model.{name}"
            named[f"{part}.{inner}"] = tensor.clone()
    return named


def moved(original):
    """Another model of the same build."""
    with torch.no_grad():
        for module in (original.unet, original.vae, *original.texts):
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_diffusers_pipeline_takes_every_tensor_of_a_single_file(family):
    one, other = Original(family), Original(family, change=moved)
    live, wanted = live_of(one), live_of(other)
    before = {name: tensor.clone() for name, tensor in live.items()}
    sources = {"A": Split(Tensors(one.state)), "B": Split(Tensors(other.state))}
    plan = merge_into(live, Recipe.parse("B:1"), sources)
    assert not plan.notes
    for name, tensor in live.items():
        assert torch.equal(tensor, wanted[name]), name
    restore(live, sources, plan)
    assert all(torch.equal(live[name], tensor) for name, tensor in before.items())


def test_the_attentions_of_stable_cascades_first_files():
    start = "down_blocks.0.2.attention.attn"
    fused = torch.arange(12.0).reshape(6, 2)
    split = Split(Tensors({"clf.1.weight": torch.zeros(2), f"{start}.in_proj_weight": fused}))
    live = {"clf.1.weight": torch.zeros(2)}
    live |= {f"down_blocks.0.2.attention.to_{x}.weight": torch.zeros(2, 2) for x in "qkv"}
    merge_into(
        live, Recipe.parse("B:1"), {"A": Split(Tensors({name: live[name].clone() for name in live})), "B": split}
    )
    assert torch.equal(torch.cat([live[f"down_blocks.0.2.attention.to_{x}.weight"] for x in "qkv"]), fused)


def test_views_cost_no_memory():
    original = Original("sd2")
    split = Split(Tensors(original.state))
    name = "text_encoder.text_model.encoder.layers.1.self_attn.k_proj.weight"
    fused = original.state["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"]
    assert split.tensor(name).untyped_storage().data_ptr() == fused.untyped_storage().data_ptr()
    assert split.entries[name].shape == tuple(split.tensor(name).shape) == (128, 128)
    assert Layout.of({name: entry.shape for name, entry in split.entries.items()}).homes
