"""The miniatures' VAE: SD's own layout (8x, 4 channels, GroupNorm of 32 groups), cheap enough to train on a CPU.

GroupNorm(32) over few channels is instance norm and loses flat colours where nothing flows around it: at the
decoder's last norm. So the full-resolution level has 96 channels, three to a group: one real channel and the two
constants +K and -K, which keep mean and scale. Training works on the real channels alone (`ConstNorm` is that group
in closed form); `ldm_state` writes the constants out, and the file is a plain LDM autoencoder.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CH = 32  # what LDM's encoder starts from, whatever its first level's width
REAL = 16  # real channels of the full-resolution level
WIDE = 96  # its channels in the file: groups 0-15 are (real, +K, -K), groups 16-31 constants only
K = 2.0
WIDTHS = (REAL, 32, 32, 64)
DDCONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 128,
    "in_channels": 3,
    "out_ch": 3,
    "ch": CH,
    "ch_mult": [3, 1, 1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
EPS = 1e-6


class ConstNorm(nn.Module):
    """GroupNorm over groups (x, +K, -K), seen from x alone; x is (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True) / 3
        var = (x.square().mean((2, 3), keepdim=True) + 2 * K * K) / 3 - mean.square()
        gain = self.weight[:, None, None] * (var + EPS).rsqrt()
        return torch.addcmul(self.bias[:, None, None] - mean * gain, x, gain)


def norm(channels: int) -> nn.Module:
    return ConstNorm(channels) if channels == REAL else nn.GroupNorm(32, channels, EPS)


def conv(cin: int, cout: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, size, stride, size // 2 if stride == 1 else 0)


class ResBlock(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(cin), conv(cin, cout)
        self.norm2, self.conv2 = norm(cout), conv(cout, cout)
        nn.init.zeros_(self.conv2.weight)
        if cin != cout:
            self.nin_shortcut = conv(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (conv(channels, channels, 1) for _ in range(4))
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT.unsqueeze(1) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.reshape(x.shape)
        return x + self.proj_out(h)


class Mid(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = (
            ResBlock(channels, channels),
            Attention(channels),
            ResBlock(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    downsample: Resample
    upsample: Resample

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(a, b) for a, b in itertools.pairwise(channels))


class Resample(nn.Module):
    """`downsample.conv` or `upsample.conv` of a level."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels, 3, stride)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = conv(3, CH)
        self.down = nn.ModuleList()
        for k, width in enumerate(WIDTHS):
            level = Level([WIDTHS[k - 1] if k else CH, width])
            if k < 3:
                level.downsample = Resample(width, 2)
            self.down.append(level)
        self.mid = Mid(WIDTHS[-1])
        self.norm_out, self.conv_out = norm(WIDTHS[-1]), conv(WIDTHS[-1], 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            assert isinstance(level, Level)
            for block in level.block:
                h = block(h)
            if hasattr(level, "downsample"):
                h = level.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = conv(4, WIDTHS[-1])
        self.mid = Mid(WIDTHS[-1])
        self.up = nn.ModuleList()
        for k, width in enumerate(WIDTHS):
            level = Level([WIDTHS[min(k + 1, 3)], width, width])
            if k > 0:
                level.upsample = Resample(width, 1)
            self.up.append(level)
        self.norm_out, self.conv_out = norm(WIDTHS[0]), conv(WIDTHS[0], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            assert isinstance(level, Level)
            for block in level.block:
                h = block(h)
            if hasattr(level, "upsample"):
                h = level.upsample.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


class VAE(nn.Module):
    """Pictures (N,3,H,W) in [-1,1] to latents (N,4,H/8,W/8) in SD's scale, and back."""

    SCALE = 0.18215

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.quant_conv, self.post_quant_conv = conv(8, 8, 1), conv(4, 4, 1)
        with torch.no_grad():
            for layer in (self.quant_conv, self.post_quant_conv):
                layer.weight.copy_(torch.eye(layer.out_channels)[:, :, None, None])
                assert layer.bias is not None
                layer.bias.zero_()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, x: Tensor) -> Tensor:
        return self.moments(x)[0] * self.SCALE

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z / self.SCALE))

    @torch.no_grad()
    def whiten(self, pictures: Tensor) -> None:
        """Folds a matrix into quant_conv and its inverse into post_quant_conv: unit covariance after SD's factor."""
        mean = torch.cat([self.moments(x)[0] for x in pictures.split(16)])
        z = mean.permute(1, 0, 2, 3).flatten(1).double()
        mu = z.mean(1)
        values, vectors = torch.linalg.eigh(torch.cov(z))
        forth = vectors @ torch.diag(values.rsqrt()) @ vectors.T / self.SCALE
        back = torch.linalg.inv(forth)
        q, p = self.quant_conv, self.post_quant_conv
        assert q.bias is not None and p.bias is not None
        w, b = q.weight[:4, :, 0, 0].double(), q.bias[:4].double()
        q.weight[:4] = (forth @ w).float()[:, :, None, None]
        q.bias[:4] = (forth @ (b - mu)).float()
        w = p.weight[:, :, 0, 0].double()
        p.bias.copy_((w @ mu + p.bias.double()).float())
        p.weight.copy_((w @ back).float()[:, :, None, None])
        q.weight[4:], q.bias[4:] = 0, -20.0  # what is left of the posterior's noise does not follow the change


# --- the plain LDM file ------------------------------------------------------------------------------------------

LDM_PREFIX = "first_stage_model."


def ldm_state(vae: VAE) -> dict[str, Tensor]:
    """The state dict of LDM's AutoencoderKL(DDCONFIG) that computes exactly what `vae` computes."""
    plain = {name: p.detach().clone() for name, p in vae.state_dict().items()}
    out: dict[str, Tensor] = {}
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            out |= _wide_conv(name, module, keeps_constants=not name.endswith("conv2"))
        elif isinstance(module, ConstNorm):
            out |= _wide_norm(name, module)
        elif isinstance(module, nn.GroupNorm):
            out |= {f"{name}.{k}": plain[f"{name}.{k}"] for k in ("weight", "bias")}
    return out


def from_ldm(state: Mapping[str, Tensor]) -> VAE:
    """The VAE that `ldm_state` wrote out; what only carried constants is left behind."""
    vae, slots = VAE(), _slots()
    narrow = {}
    for name, p in state.items():
        for dim in [dim for dim in range(min(p.ndim, 2)) if p.shape[dim] == WIDE]:
            p = p.index_select(dim, slots)
        narrow[name] = p.float()
    vae.load_state_dict(narrow)
    return vae


def _slots() -> Tensor:
    """Where the real channels stand among the 96."""
    return torch.arange(REAL) * 3


def _constants() -> Tensor:
    bias = torch.zeros(WIDE)
    bias[1::3], bias[2::3] = K, -K
    return bias


def _wide_conv(name: str, layer: nn.Conv2d, *, keeps_constants: bool) -> dict[str, Tensor]:
    assert layer.bias is not None
    weight, bias = layer.weight.detach(), layer.bias.detach()
    full_size = ".down.0." in name or ".up.0." in name or name == "decoder.conv_out"
    if weight.shape[1] == REAL and full_size | (".down.1.block.0" in name):
        spread = torch.zeros(weight.shape[0], WIDE, *weight.shape[2:])
        spread[:, _slots()] = weight
        weight = spread
    if weight.shape[0] == REAL and full_size:
        spread = torch.zeros(WIDE, *weight.shape[1:])
        spread[_slots()] = weight
        weight = spread
        wide_bias = _constants() if keeps_constants else torch.zeros(WIDE)
        wide_bias[_slots()] = bias
        bias = wide_bias
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _wide_norm(name: str, layer: ConstNorm) -> dict[str, Tensor]:
    weight, bias = torch.zeros(WIDE), torch.zeros(WIDE)
    weight[_slots()], bias[_slots()] = layer.weight.detach(), layer.bias.detach()
    return {f"{name}.weight": weight, f"{name}.bias": bias}
