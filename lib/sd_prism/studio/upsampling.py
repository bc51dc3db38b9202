"""How LDM's UNet comes back to a size that its halving did not divide."""

from __future__ import annotations

from typing import Any

from diffusers.models.upsampling import Upsample2D
from torch import Tensor
from torch.nn import functional


class LdmUpsample2D(Upsample2D):
    """Doubles, convolves, and only then takes on the skip's size, as A1111 does; diffusers upsamples to that size."""

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """hidden_states (N,C,h,w) -> (N,C,2h,2w), or (N,C,*output_size)."""
        doubled = super().forward(hidden_states)
        if output_size is None or doubled.shape[2:] == output_size:
            return doubled
        return functional.interpolate(doubled, size=output_size, mode="nearest")
