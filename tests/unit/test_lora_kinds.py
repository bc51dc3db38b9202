"""Every kind of network against its formula in float64, written out index by index."""

from __future__ import annotations

import pytest
import torch
from sd_prism.errors import PrismError
from sd_prism.studio.lora_kinds import Change

OUT, IN, R = 6, 4, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


LINEAR, CONV = draw(OUT, IN), draw(OUT, IN, 3, 3)


def delta(parts, w=LINEAR, multiplier=1.0, dyn=None):
    found = Change.of(parts).delta(w, multiplier, dyn)
    assert found.shape == w.shape and found.dtype == w.dtype
    return found.double()


def close(found, wanted):
    return torch.allclose(found, wanted.double(), rtol=1e-5, atol=1e-5)


UP, DOWN = draw(OUT, R), draw(R, IN)
PLAIN = {"lora_up.weight": UP, "lora_down.weight": DOWN}


def test_lora_is_up_times_down_by_alpha_over_rank():
    wanted = torch.einsum("or,ri->oi", UP.double(), DOWN.double())
    assert close(delta(PLAIN), wanted)
    assert close(delta({**PLAIN, "alpha": torch.tensor(1.0)}, multiplier=0.5), wanted * 0.5 / R)
    assert close(delta({**PLAIN, "scale": torch.tensor(3.0), "alpha": torch.tensor(1.0)}), wanted * 3)


def test_lora_of_a_convolution_has_its_kernel_in_the_down_part_or_in_the_middle():
    down = draw(R, IN, 3, 3)
    parts = {"lora_up.weight": draw(OUT, R, 1, 1), "lora_down.weight": down}
    assert close(delta(parts, CONV), torch.einsum("or,rikl->oikl", parts["lora_up.weight"][..., 0, 0], down))
    mid, thin = draw(R, R, 3, 3), draw(R, IN, 1, 1)
    parts = {"lora_up.weight": draw(OUT, R, 1, 1), "lora_mid.weight": mid, "lora_down.weight": thin}
    wanted = torch.einsum("or,rskl,si->oikl", parts["lora_up.weight"][..., 0, 0], mid, thin[..., 0, 0])
    assert close(delta(parts, CONV), wanted)


def test_a_convolution_of_one_pixel_fits_a_linear_layer():
    parts = {"lora_up.weight": UP[..., None, None], "lora_down.weight": DOWN[..., None, None]}
    assert torch.equal(delta(parts), delta(PLAIN))


def test_dyn_takes_the_first_ranks():
    assert close(delta(PLAIN, dyn=1), torch.outer(UP[:, 0], DOWN[0]))


def test_peft_names_mean_the_same():
    assert torch.equal(delta({"lora_B.weight": UP, "lora_A.weight": DOWN}), delta(PLAIN))


def test_half_precision_is_read_as_numbers():
    halves = {name: t.half() for name, t in PLAIN.items()}
    assert close(delta(halves), UP.half().double() @ DOWN.half().double())


def test_loha_is_the_product_of_two_loras():
    parts = {"hada_w1_a": UP, "hada_w1_b": DOWN, "hada_w2_a": draw(OUT, R, seed=1), "hada_w2_b": draw(R, IN, seed=1)}
    wanted = (UP @ DOWN) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    assert close(delta({**parts, "alpha": torch.tensor(1.0)}), wanted / R)


def test_loha_of_a_convolution_has_a_core():
    cores = {f"hada_t{i}": draw(R, R, 3, 3, seed=i) for i in (1, 2)}
    factors = {f"hada_w{i}_{x}": draw(R, OUT if x == "a" else IN, seed=i) for i in (1, 2) for x in "ab"}
    one, two = (
        torch.einsum("rskl,ro,si->oikl", cores[f"hada_t{i}"], factors[f"hada_w{i}_a"], factors[f"hada_w{i}_b"])
        for i in (1, 2)
    )
    assert close(delta({**cores, **factors}, CONV), one * two)


def test_lokr_is_a_kronecker_product():
    one, two = draw(2, 2), draw(3, 2)
    wanted = torch.stack([one[i // 3, j // 2] * two[i % 3, j % 2] for i in range(OUT) for j in range(IN)])
    assert close(delta({"lokr_w1": one, "lokr_w2": two, "alpha": torch.tensor(9.0)}), wanted.reshape(OUT, IN))
    a, b = draw(3, 1), draw(1, 2)
    small = delta({"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(0.5)})
    assert close(small, torch.kron(one, a @ b) * 0.5)


def test_lokr_of_a_convolution():
    one, two = draw(2, 2), draw(3, 2, 3, 3)
    wanted = torch.stack([torch.kron(one, two[..., k, j]) for k in range(3) for j in range(3)], -1)
    assert close(delta({"lokr_w1": one, "lokr_w2": two}, CONV), wanted.reshape(CONV.shape))


def test_full_and_norm_are_added_with_their_bias():
    full = Change.of({"diff": LINEAR, "diff_b": LINEAR[:, 0]})
    assert torch.equal(full.delta(LINEAR, 0.5, None), LINEAR * 0.5)
    assert torch.equal(full.bias(LINEAR, 0.5), LINEAR[:, 0] * 0.5)
    norm = Change.of({"w_norm": LINEAR[0], "b_norm": LINEAR[1]})
    assert torch.equal(norm.delta(LINEAR[2], 2.0, None), LINEAR[0] * 2)
    assert torch.equal(norm.bias(LINEAR[2], 2.0), LINEAR[1] * 2)
    assert Change.of(PLAIN).bias(LINEAR, 1.0) is None


def test_ia3_scales_inputs_or_outputs():
    by_input, by_output = draw(IN), draw(OUT)
    assert close(delta({"weight": by_input, "on_input": torch.tensor(True)}), LINEAR * by_input)
    assert close(delta({"weight": by_output, "on_input": torch.tensor(False)}), LINEAR * by_output[:, None])


def test_glora_works_on_the_weight_too():
    parts = {"a1.weight": draw(R, IN), "a2.weight": draw(IN, R), "b1.weight": draw(R, IN, seed=1)}
    parts["b2.weight"] = draw(OUT, R)
    wanted = parts["b2.weight"] @ parts["b1.weight"] + LINEAR @ parts["a2.weight"] @ parts["a1.weight"]
    assert close(delta({**parts, "alpha": torch.tensor(1.0)}), wanted)


def test_dora_gives_each_input_a_length():
    lengths = draw(1, IN).abs() + 1
    changed = LINEAR.double() + delta({**PLAIN, "dora_scale": lengths})
    assert close(changed.norm(dim=0), lengths[0])
    assert close(changed / changed.norm(dim=0), (LINEAR + UP @ DOWN) / (LINEAR + UP @ DOWN).norm(dim=0))


def test_other_kinds_are_refused_by_their_parts():
    with pytest.raises(PrismError, match=r"not known \(oft_blocks\); known: LoRA, LoHa"):
        Change.of({"oft_blocks": LINEAR})


def test_a_shape_that_does_not_fit_is_an_error():
    with pytest.raises(RuntimeError):
        Change.of(PLAIN).delta(draw(OUT, IN + 1), 1.0, None)
