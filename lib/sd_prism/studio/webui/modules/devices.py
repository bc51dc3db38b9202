"""The device and types that models run in."""

from __future__ import annotations

import contextlib
import gc

import torch
from sd_prism.errors import PrismError

cpu = torch.device("cpu")
dtype = dtype_vae = dtype_unet = dtype_inference = torch.float32
fp8 = False
unet_needs_upcast = False


def get_optimal_device_name() -> str:
    """ "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def get_optimal_device() -> torch.device:
    """The device that models are put on."""
    return torch.device(get_optimal_device_name())


device = device_interrogate = device_gfpgan = device_esrgan = device_codeformer = get_optimal_device()


def torch_gc() -> None:
    """Give unused memory back, where the device keeps a pool."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def autocast(disable: bool = False) -> contextlib.AbstractContextManager[None]:
    """Mixed precision; the studio runs models in their own type, so nothing happens."""
    return contextlib.nullcontext()


def without_autocast(disable: bool = False) -> contextlib.AbstractContextManager[None]:
    """As `autocast`."""
    return contextlib.nullcontext()


class NansException(PrismError):
    """A tensor that should be a picture has no numbers in it."""


def test_for_nans(x: torch.Tensor, where: str) -> None:
    """Raise NansException when `x` has NaN; `where` is "unet" or "vae"."""
    if torch.isnan(x).any():
        part = {"unet": "the UNet", "vae": "the VAE"}.get(where, where)
        raise NansException(f"A tensor with NaNs was produced in {part}; lower the CFG scale or change the checkpoint.")
