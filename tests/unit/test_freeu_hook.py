"""The hook on a real small diffusers UNet and on a small UNet of LDM's topology."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import pytest
import torch
from diffusers import UNet2DConditionModel
from sd_prism.errors import PrismError
from sd_prism.freeu import FreeU, attach
from sd_prism.freeu.hook import Concat, Reweight
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

IDENTITY = FreeU(1, 1, 1, 1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The paper as published, out of place: the oracle for both layouts.


def published_backbone(h: Tensor, b: float, version: int) -> Tensor:
    m = h.mean(1, keepdim=True)
    lo, hi = m.amin((2, 3), keepdim=True), m.amax((2, 3), keepdim=True)
    gain = b if version == 1 else 1 + (b - 1) * (m - lo) / (hi - lo)
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * gain, h[:, half:]], 1)


def published_filter(skip: Tensor, s: float) -> Tensor:
    spectrum = torch.fft.fftshift(torch.fft.fft2(skip), dim=(2, 3))
    row, col = skip.shape[2] // 2, skip.shape[3] // 2
    spectrum[..., max(0, row - 1) : row + 1, max(0, col - 1) : col + 1] *= s
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(2, 3))).real


# A small UNet in LDM's topology: input, middle and output blocks, called with (h, emb, context).


class ResBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.channels, self.out_channels = channels, out_channels
        self.norm = nn.GroupNorm(1, channels)
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(8, out_channels)
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x, emb):
        return self.skip(x) + self.conv(silu(self.norm(x))) + self.emb(emb)[:, :, None, None]


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(8, channels)

    def forward(self, x, context):
        return x + self.proj(context).mean(1)[:, :, None, None]


class Downsample(nn.Conv2d):
    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, 2, 1)


class Upsample(nn.Conv2d):
    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, 1, 1)

    def forward(self, x):
        return super().forward(interpolate(x, scale_factor=2))


class TimestepEmbedSequential(nn.Sequential):
    def forward(self, x, emb, context=None):
        for layer in self:
            given = {ResBlock: (emb,), Attention: (context,)}.get(type(layer), ())
            x = layer(x, *given)
        return x


class LDMUNet(nn.Module):
    """openaimodel.UNetModel in small; `freeu` re-weights at the concatenation itself, which makes it the oracle."""

    def __init__(self, width: int = 8, mult: tuple[int, ...] = (1, 2, 4, 4), blocks: int = 2, middle: bool = True):
        super().__init__()
        ch, widths = width, [width]
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(nn.Conv2d(4, width, 3, padding=1))])
        for level, m in enumerate(mult):
            for _ in range(blocks):
                self.input_blocks.append(TimestepEmbedSequential(ResBlock(ch, width * m), Attention(width * m)))
                ch = width * m
                widths.append(ch)
            if level + 1 < len(mult):
                self.input_blocks.append(TimestepEmbedSequential(Downsample(ch)))
                widths.append(ch)
        self.middle_block = (
            TimestepEmbedSequential(ResBlock(ch, ch), Attention(ch), ResBlock(ch, ch)) if middle else None
        )
        self.output_blocks = nn.ModuleList()
        for level, m in reversed([*enumerate(mult)]):
            for i in range(blocks + 1):
                layers = [ResBlock(ch + widths.pop(), width * m), Attention(width * m)]
                ch = width * m
                if level and i == blocks:
                    layers.append(Upsample(ch))
                self.output_blocks.append(TimestepEmbedSequential(*layers))
        self.out = nn.Conv2d(ch, 4, 3, padding=1)

    def forward(self, x, emb, context, freeu: dict[int, tuple[float, float, int]] | None = None):
        h, hs = x, []
        for block in self.input_blocks:
            h = block(h, emb, context)
            hs.append(h)
        if self.middle_block is not None:
            h = self.middle_block(h, emb, context)
        for k, block in enumerate(self.output_blocks):
            skip = hs.pop()
            if freeu and k in freeu:
                b, s, version = freeu[k]
                h, skip = published_backbone(h, b, version), published_filter(skip, s)
            h = block(torch.cat([h, skip], dim=1), emb, context)
        return self.out(h)


def ldm(**options) -> tuple[LDMUNet, tuple[Tensor, ...]]:
    torch.manual_seed(1)
    return LDMUNet(**options).eval(), (torch.randn(2, 4, 24, 40), torch.randn(2, 8), torch.randn(2, 5, 8))


def stages(value: FreeU, first: range, second: range, third: range) -> dict[int, tuple[float, float, int]]:
    places = zip((first, second, third), value.stages, strict=True)
    return {k: (stage.b, stage.s, value.version) for where, stage in places for k in where}


SD1 = {"channels": (range(7), range(7, 10), range(10, 12)), "resolution": (range(3), range(3, 6), range(6, 9))}
SDXL = {"channels": (range(4), range(4, 7), range(7, 9)), "resolution": (range(3), range(3, 6), range(6, 9))}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("rule", ["channels", "resolution"])
@pytest.mark.parametrize(
    ("mult", "width", "where"), [((1, 2, 4, 4), 8, SD1), ((1, 2, 4), 6, SDXL), ((1, 1, 1, 1), 8, SD1)]
)
@torch.no_grad()
def test_ldm_equals_the_published_formulas_at_the_published_places(mult, width, where, rule, version):
    unet, inputs = ldm(mult=mult, width=width)
    base, value = unet(*inputs), FreeU(1.3, 1.4, 0.9, 0.2, version=version, rule=rule, b3=1.2, s3=0.7)
    expected = unet(*inputs, freeu=stages(value, *where[rule]))
    with attach(unet, value) as attached:
        assert attached.layout == "ldm"
        assert attached.concats == len(unet.output_blocks)
        assert attached.stages == tuple(map(len, where[rule]))
        y = unet(*inputs)
    assert (y - expected).abs().max() < 5e-6
    assert (y - base).abs().max() > 1e-3
    assert torch.equal(unet(*inputs), base)


@torch.no_grad()
def test_ldm_without_a_middle_block_leaves_the_shared_skip_alone():
    unet, inputs = ldm(middle=False)
    value = FreeU()
    expected = unet(*inputs, freeu=stages(value, *SD1["channels"]))
    with attach(unet, value) as attached:
        assert attached.stages == (7, 3, 2)
        assert (unet(*inputs) - expected).abs().max() < 5e-6


@torch.no_grad()
def test_half_of_the_batch_is_independent_of_the_other():
    unet, (x, emb, context) = ldm()
    with attach(unet, FreeU()):
        both, one = unet(x, emb, context), unet(x[1:], emb[1:], context[1:])
    assert (both[1:] - one).abs().max() < 5e-6


@torch.inference_mode()
def test_inference_mode():
    unet, inputs = ldm()
    base = unet(*inputs)
    with attach(unet, FreeU()):
        assert not torch.equal(unet(*inputs), base)


@torch.no_grad()
def test_a_concatenation_that_a_neighbour_changed_is_left_alone(caplog):
    unet, inputs = ldm()
    block = unet.output_blocks[0]
    block[0] = ResBlock(70, 32)
    block[0].channels = 64
    block.register_forward_pre_hook(lambda module, args: (torch.cat([args[0], args[0][:, :6]], 1), *args[1:]))
    base = unet(*inputs)
    with attach(unet, FreeU()), caplog.at_level(logging.WARNING, "prism"):
        first = unet(*inputs)
        assert torch.equal(unet(*inputs), first)
    assert not torch.equal(first, base)
    assert [record.message for record in caplog.records] == [
        "FreeU left a concatenation alone: its shape is (2, 70, 3, 5), not (N, 32 + 32, H, W)"
    ]


# A real diffusers UNet.


def small(*, widths=(16, 32, 64, 64), **options) -> tuple[UNet2DConditionModel, tuple[Tensor, ...]]:
    torch.manual_seed(1)
    cross = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    unet = UNet2DConditionModel(
        block_out_channels=widths,
        down_block_types=cross,
        up_block_types=[name.replace("Down", "Up") for name in reversed(cross)],
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=8,
        **options,
    )
    return unet.eval(), (torch.randn(2, 4, 24, 40), torch.tensor(500), torch.randn(2, 5, 8))


@pytest.fixture(scope="module")
def unet_and_inputs():
    return small()


def hooks(unet: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in unet.modules())


@torch.no_grad()
def test_resolution_rule_version_1_is_enable_freeu(unet_and_inputs):
    unet, inputs = unet_and_inputs
    base = unet(*inputs).sample
    unet.enable_freeu(b1=1.5, b2=1.6, s1=0.9, s2=0.2)
    theirs = unet(*inputs).sample
    unet.disable_freeu()
    with attach(unet, FreeU(1.5, 1.6, 0.9, 0.2, version=1, rule="resolution")) as attached:
        assert (attached.layout, attached.concats, attached.stages) == ("diffusers", 12, (3, 3, 3))
        assert hooks(unet) == 6
        ours = unet(*inputs).sample
    assert (ours - theirs).abs().max() < 2e-6
    assert (ours - base).abs().max() > 1e-2
    assert torch.equal(unet(*inputs).sample, base)


@torch.no_grad()
def test_channel_rule_reaches_the_authors_ten_concatenations(unet_and_inputs):
    unet, inputs = unet_and_inputs
    base = unet(*inputs).sample
    with attach(unet, FreeU(version=1, rule="resolution")):
        resolution = unet(*inputs).sample
    with attach(unet, FreeU(version=1)) as attached:
        assert attached.stages == (7, 3, 2)
        assert hooks(unet) == 10
        assert (unet(*inputs).sample - resolution).abs().max() > 1e-2
    assert hooks(unet) == 0
    assert torch.equal(unet(*inputs).sample, base)


@torch.no_grad()
def test_version_2_and_zero_act(unet_and_inputs):
    unet, inputs = unet_and_inputs
    outputs = [unet(*inputs).sample]
    for value in (FreeU(version=1), FreeU(version=2), FreeU(1, 1, 1, 0), FreeU(1, 1, 0, 1), FreeU(0, 1, 1, 1)):
        with attach(unet, value):
            outputs.append(unet(*inputs).sample)
    for i, a in enumerate(outputs):
        assert all((a - b).abs().max() > 1e-5 for b in outputs[:i])


@torch.no_grad()
def test_identity_installs_nothing(unet_and_inputs):
    unet, inputs = unet_and_inputs
    base = unet(*inputs).sample
    with attach(unet, IDENTITY) as attached:
        assert attached.stages == (0, 0, 0)
        assert hooks(unet) == 0
        assert torch.equal(unet(*inputs).sample, base)


def test_an_exception_leaves_no_hook(unet_and_inputs):
    unet, _ = unet_and_inputs
    with pytest.raises(ZeroDivisionError), attach(unet, FreeU()):
        1 / 0  # noqa: B018
    assert hooks(unet) == 0


def test_a_failing_installation_leaves_no_hook(unet_and_inputs, monkeypatch):
    unet, _ = unet_and_inputs

    def refuse(hook):
        raise RuntimeError("no more hooks")

    monkeypatch.setattr(unet.up_blocks[1].resnets[0], "register_forward_pre_hook", refuse)
    with pytest.raises(RuntimeError), attach(unet, FreeU()):
        pass
    assert hooks(unet) == 0


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_contexts_on_one_unet_leave_nothing(unet_and_inputs, first_out):
    unet, _ = unet_and_inputs
    stacks = [ExitStack(), ExitStack()]
    for stack in stacks:
        stack.enter_context(attach(unet, FreeU()))
    assert hooks(unet) == 20
    stacks[first_out].close()
    assert hooks(unet) == 10
    stacks[1 - first_out].close()
    assert hooks(unet) == 0


@torch.no_grad()
def test_without_a_middle_block_the_shared_skip_is_left_alone():
    unet, inputs = small(mid_block_type=None)
    seen: list[tuple[Tensor, Tensor]] = []
    first = unet.up_blocks[0].resnets[0]
    with ExitStack() as stack:
        stack.callback(first.register_forward_pre_hook(lambda m, args: seen.append((args[0].clone(), args[0]))).remove)
        stack.enter_context(attach(unet, FreeU(version=1)))
        unet(*inputs)
    before, after = seen[0]
    h, skip = before.chunk(2, 1)
    assert torch.equal(h, skip)
    expected = torch.cat([published_backbone(h, 1.5, 1), published_filter(skip, 0.9)], 1)
    assert (after - expected).abs().max() < 2e-6


@torch.no_grad()
def test_one_width_at_every_level_takes_the_places_of_sd_1():
    unet, inputs = small(widths=(16, 16, 16, 16))
    base = unet(*inputs).sample
    with attach(unet, FreeU()) as attached:
        assert attached.stages == (7, 3, 2)
        hooked = [bool(resnet._forward_pre_hooks) for block in unet.up_blocks for resnet in block.resnets]
        assert hooked == [True] * 10 + [False] * 2
        assert (unet(*inputs).sample - base).abs().max() > 1e-4


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    unet, inputs = small()
    unet.train()
    gradients = []
    with attach(unet, FreeU()):
        for checkpoint in (False, True):
            if checkpoint:
                unet.enable_gradient_checkpointing(
                    lambda module, *args: torch.utils.checkpoint.checkpoint(module, *args, use_reentrant=reentrant)
                )
            unet.zero_grad()
            unet(*inputs).sample.square().mean().backward()
            gradients.append([p.grad.clone() for p in unet.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, rtol=1e-4, atol=1e-6)


# What is refused, and how.


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer_blocks = nn.ModuleList([nn.Linear(2, 2)])


class CascadeLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)])])
        self.up_blocks = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)])])


@pytest.mark.parametrize("model", [Transformer, CascadeLike, lambda: nn.Linear(2, 2)])
def test_other_models_are_refused_by_name(model):
    module = model()
    with (
        pytest.raises(PrismError, match=f"does not fit {type(module).__name__}.*Switch FreeU off"),
        attach(module, FreeU()),
    ):
        pass


def test_other_models_may_keep_identity_settings():
    with attach(nn.Linear(2, 2), IDENTITY) as attached:
        assert attached.concats == 0


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
@pytest.mark.parametrize("way", ["wrapped", "compile()", "forward", "inner"])
def test_a_compiled_unet_is_refused(layout, way):
    inner = (ldm() if layout == "ldm" else small())[0]
    unet: nn.Module = inner
    if way == "wrapped":
        unet = torch.compile(inner, backend="eager")
    elif way == "compile()":
        inner.compile(backend="eager")
    elif way == "forward":
        inner.forward = torch.compile(inner.forward, backend="eager")
    else:
        (inner.output_blocks[2] if layout == "ldm" else inner.up_blocks[1]).compile(backend="eager")
    with pytest.raises(PrismError, match=r"torch\.compile, which ignores hooks"), attach(unet, FreeU()):
        pass
    assert hooks(inner) == 0


# Schedules, overrides and the other settings, against the same formulas at the concatenations.


def lerp(factor: float, ratio: float) -> float:
    return 1 + ratio * (factor - 1)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
@torch.no_grad()
def test_a_schedule_moves_the_factors_and_is_asked_at_every_call(strength):
    unet, inputs = ldm()
    base, value = unet(*inputs), FreeU(version=1, schedule="0@0 1@0.5 0@1", strength=strength)
    at = [0.0]
    with attach(unet, value, lambda: at[0]):
        for at[0], ratio in ((0.0, 0), (0.25, 0.5), (0.5, 1), (0.75, 0.5), (1.0, 0)):
            ratio *= strength
            scaled = FreeU(*(lerp(factor, ratio) for factor in (value.b1, value.b2, value.s1, value.s2)), version=1)
            expected = unet(*inputs, freeu=None)
            assert torch.equal(expected, base) == (ratio == 0)
            with attach_off(unet):
                oracle = unet(*inputs, freeu=stages(scaled, *SD1["channels"]))
            assert (expected - oracle).abs().max() < 5e-6


class attach_off:
    """The UNet without its hooks for a moment, so that the oracle sees none."""

    def __init__(self, unet: nn.Module):
        self.unet = unet

    def __enter__(self):
        self.kept = [(module, dict(module._forward_pre_hooks)) for module in self.unet.modules()]
        for module, _ in self.kept:
            module._forward_pre_hooks.clear()

    def __exit__(self, *exc):
        for module, hooks in self.kept:
            module._forward_pre_hooks.update(hooks)


@torch.no_grad()
def test_the_hires_pass_has_a_schedule_of_its_own():
    unet, inputs = ldm()
    base, value = unet(*inputs), FreeU(schedule="1@0 0@0.5", hires_schedule="0")
    with attach(unet, value, lambda: 0.0, hires=True) as attached:
        assert attached.stages == (0, 0, 0)
        assert torch.equal(unet(*inputs), base)
    with attach(unet, value, lambda: 0.0):
        assert not torch.equal(unet(*inputs), base)
    with attach(unet, FreeU(schedule="0", hires_schedule="1"), hires=True):
        assert not torch.equal(unet(*inputs), base)


def test_a_schedule_without_progress_is_refused():
    unet, _ = ldm()
    with pytest.raises(PrismError, match="needs to know the progress"), attach(unet, FreeU(schedule="0@0 1@1")):
        pass
    with attach(unet, FreeU(schedule="0.5")):
        pass


@torch.no_grad()
def test_overrides_of_single_blocks_win_over_stages():
    unet, inputs = ldm()
    value = FreeU(1.2, 1, 0.8, 1, version=1, blocks="OUT00=1/1, OUT11=1.4/0.3")
    expected = unet(*inputs, freeu={**dict.fromkeys(range(1, 7), (1.2, 0.8, 1)), 11: (1.4, 0.3, 1)})
    with attach(unet, value):
        assert hooks(unet) == 7
        assert (unet(*inputs) - expected).abs().max() < 5e-6


def test_a_block_that_the_unet_lacks_is_told():
    unet, _ = ldm(mult=(1, 2, 4), width=6)
    told = "OUT09 does not exist in this UNet; its last block is OUT08"
    with pytest.raises(PrismError, match=told), attach(unet, FreeU(blocks="OUT09=1/1")):
        pass


@torch.no_grad()
def test_the_details_of_a_stage_reach_both_kernels():
    from sd_prism.freeu import backbone_, skip_filter

    x = torch.randn(2, 24, 12, 20)
    block = nn.Identity()
    value = FreeU(
        1.3,
        1,
        0.5,
        1,
        offset1=0.25,
        width1=0.75,
        cutoff1=0.6,
        high1=1.1,
        symmetric=True,
        keep_mean=True,
        compatible=True,
    )
    work = Reweight(Concat(block, 16, 8, 0), value.stages[0], value, value.curve(), None, 1.0)
    changed = x.clone()
    work.apply(changed, value.stages[0])
    h = backbone_(x[:, :16].clone(), 1.3, offset=0.25, width=0.75, window="inclusive")
    skip = skip_filter(x[:, 16:], 0.5, high=1.1, cutoff=0.6, symmetric=True, keep_mean=True)
    assert torch.equal(changed, torch.cat([h, skip], 1))


@pytest.mark.parametrize(("on", "enlarged", "least"), [(True, 2.0, 2), (True, 1.4, 1), (False, 2.0, 1), (True, 0.5, 1)])
def test_the_lowest_waves_grow_with_the_hires_pass_if_asked(on, enlarged, least):
    value = FreeU(hires_radius=on)
    assert (
        Reweight(Concat(nn.Identity(), 4, 4, 0), value.stages[0], value, value.curve(), None, enlarged).least == least
    )


@torch.no_grad()
def test_a_replaced_forward_that_calls_the_blocks_itself_gets_freeu():
    """As ControlNet replaces it: the blocks are called from outside, with residuals added to what is concatenated."""
    unet, inputs = ldm()

    def controlled(x, emb, context):
        h, hs = x, []
        for block in unet.input_blocks:
            h = block(h, emb, context)
            hs.append(h)
        h = unet.middle_block(h, emb, context) + 0.1
        for block in unet.output_blocks:
            h = block(torch.cat([h, hs.pop() + 0.1], dim=1), emb, context)
        return unet.out(h)

    unet.forward = controlled
    base = unet(*inputs)
    with attach(unet, FreeU()):
        assert (unet(*inputs) - base).abs().max() > 1e-3
    assert torch.equal(unet(*inputs), base)


@pytest.mark.parametrize("version", [1, 2])
@torch.no_grad()
def test_a_measurement_holds_the_first_concatenation_of_each_stage_that_acts(version):
    unet, inputs = ldm()
    found: dict = {}
    with attach(unet, FreeU(version=version), measurements=found):
        measured = unet(*inputs)
    with attach(unet, FreeU(version=version)):
        assert torch.equal(measured, unet(*inputs))
    assert sorted(found) == [1, 2]
    for number, one in found.items():
        assert one.after[0] == pytest.approx(one.before[0] * (0.9 if number == 1 else 0.2), rel=1e-3)
        gains = [gain for row in one.gain for gain in row]
        most = 1.5 if number == 1 else 1.6
        assert gains == [most] if version == 1 else 1 <= min(gains) <= max(gains) <= most + 1e-6


def test_a_single_compiled_block_is_refused_like_a_compiled_unet():
    unet, _ = ldm()
    unet.output_blocks[3] = torch.compile(unet.output_blocks[3])
    with pytest.raises(PrismError, match=r"output_blocks\.3 runs through torch.compile"), attach(unet, FreeU()):
        pass


@torch.no_grad()
def test_a_measurement_takes_the_first_block_that_acts():
    unet, inputs = ldm()
    found: dict = {}
    with attach(unet, FreeU(1, 1, 1, 1, blocks="OUT03=1.2/0.5"), measurements=found):
        unet(*inputs)
    assert list(found) == [1]
