"""Pictures of stage C's latents without any network, where no previewer came with the checkpoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 8  # pixels for each place of a latent, as the previewer makes them
CONTRAST = 4  # standard deviations from black to white


def colours(latent: Tensor) -> Tensor:
    """Latents (N,16,h,w) as pictures (N,3,8h,8w) in [0,1] without any network.

    The directions in which these latents vary most become light, red against green, and blue against yellow.
    """
    count, channels, height, width = latent.shape
    rows = latent.detach().double().cpu().nan_to_num().transpose(0, 1).reshape(channels, -1)
    rows = rows - rows.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    vectors = vectors[:, -3:].flip(1)
    vectors = vectors * vectors.sum(0).sign()  # else neighbouring steps may be each other's negatives
    light, red, blue = vectors.T @ rows / (CONTRAST * (vectors[:, 0] @ rows).std().clamp_min(1e-6)) + 0.0
    picture = torch.stack([light + red - blue / 2, light - red - blue / 2, light + blue]) + 0.5
    small = picture.view(3, count, height, width).transpose(0, 1).float().clamp(0, 1).to(latent.device)
    return F.interpolate(small, scale_factor=SIDE, mode="bilinear", align_corners=False)
