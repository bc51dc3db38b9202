"""Stable Cascade as the host's model: the class that the host builds when a main file is chosen as checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from modules import devices
from torch import Tensor, nn

from . import reading
from .denoiser import CascadeDenoiser, sigma_at
from .parts import Cascade
from .text import CascadeText


class CascadeModel(Cascade, nn.Module):
    """Has what the host asks of a model; its parts are read from the file itself, by their own layout and format."""

    cond_stage_key = "txt"
    parameterization = "eps"

    def __init__(self, state_dict: Mapping[str, Any], use_ema: bool = False) -> None:
        """`state_dict` is the host's, in which `loading` has put the file; `use_ema` is the host's too."""
        super().__init__()
        self.cond_stage_model = CascadeText(self._assemble(reading.file_in(state_dict)))

    # --- loading

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> None:
        """The host's copy of the file is no longer needed."""
        state_dict.clear()

    def half(self) -> CascadeModel:
        """Stage C keeps the format that it was read in: many of its files are no numbers in fp16."""
        return self

    def after_load_weights(self, state_dict: Any) -> None:
        """The host takes what it does not know for Stable Diffusion 1."""
        self.is_sd1 = False

    @property
    def used_config(self) -> object:
        """Never the host's: it would load another file of Cascade into the networks of this one, which may differ."""
        return self

    @used_config.setter
    def used_config(self, path: object) -> None:
        pass

    def medvram_fields(self) -> list[tuple[Any, str]]:
        return [(self, "first_stage_model"), (self.cond_stage_model, "transformer"), (self, "model")]

    @property
    def stage_a_file(self) -> str:
        """The file of stage A that the VAE menu has chosen; "" for the decoder's own."""
        return str(getattr(self, "loaded_vae_file", None) or "") if self.first_stage_model.is_swapped else ""

    # --- prompts

    def get_learned_conditioning(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """States (N,77k,width) as "crossattn", and the pooled text of the first chunk (N,projection) as "vector"."""
        with devices.without_autocast(), reading.resident(self.cond_stage_model.transformer, self):
            states, pooled = self.cond_stage_model(texts)
        return {"crossattn": states, "vector": pooled}

    # --- sampling

    def ema_scope(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def create_denoiser(self) -> CascadeDenoiser:
        return CascadeDenoiser(self)

    def apply_model(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Predicted noise in x (N,16,h,w) of unit variance, at places t (N,) of `alphas_cumprod`."""
        return self.predict(x, self.schedule.r(sigma_at(self.alphas_cumprod, t)), cond)
