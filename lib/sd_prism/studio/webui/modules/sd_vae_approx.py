"""Previews without the VAE's decoder: a linear map from latent channels to colours, fitted to each VAE once."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch

from modules import devices, shared

PATCH, PATCHES = 16, 8  # pixels of a side, patches in a row
_coefficients: WeakKeyDictionary[torch.nn.Module, torch.Tensor] = WeakKeyDictionary()


def cheap_approximation(sample: torch.Tensor) -> torch.Tensor:
    """Latents (...,C,h,w) as pictures (...,3,h,w), roughly in -1..1, one pixel for each latent's."""
    vae = shared.sd_model.first_stage_model
    if vae not in _coefficients:
        _coefficients[vae] = _fitted()
    map_ = _coefficients[vae].to(sample)
    return torch.einsum("...lxy,lr->...rxy", sample, map_[:-1]) + map_[-1].view(3, 1, 1)


def model() -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes previews of the kind "Approx NN": the linear map, for the studio brings no network for them."""
    return cheap_approximation


def forget() -> None:
    """The weights of a VAE were replaced."""
    _coefficients.clear()


@torch.no_grad()
def _fitted() -> torch.Tensor:
    """(C+1,3): the least-squares map, its last row constant, from what the encoder makes of patches of plain colour."""
    source = torch.Generator().manual_seed(0)
    colours = torch.rand(1, 3, PATCHES, PATCHES, generator=source) * 2 - 1
    picture = colours.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).to(devices.device)
    model = shared.sd_model
    latent = model.get_first_stage_encoding(model.encode_first_stage(picture))[0].float().cpu()
    target = torch.nn.functional.interpolate(picture.cpu(), size=latent.shape[1:], mode="area")[0]
    rows = latent.flatten(1).T
    known = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
    # gelsd bears channels that depend on each other.
    return torch.linalg.lstsq(known, target.flatten(1).T.double(), driver="gelsd").solution
