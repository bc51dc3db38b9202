"""The previewer's names, sizes and arithmetic."""

import torch
import torch.nn.functional as F
from sd_prism.cascade.previewer import Previewer, PreviewerConfig

SHAPES = {
    0: (512, 16, 1, 1),
    3: (512, 512, 3, 3),
    6: (512, 256, 2, 2),
    9: (256, 256, 3, 3),
    12: (256, 128, 2, 2),
    15: (128, 128, 3, 3),
    18: (128, 128, 2, 2),
    21: (128, 128, 3, 3),
    24: (3, 128, 1, 1),
}


def test_the_published_tree():
    with torch.device("meta"):
        state = Previewer(PreviewerConfig()).state_dict()
    assert {n: tuple(p.shape) for n, p in state.items() if p.ndim == 4} == {
        f"blocks.{k}.weight": shape for k, shape in SHAPES.items()
    }
    assert "blocks.11.num_batches_tracked" in state
    assert PreviewerConfig.of({name: p.shape for name, p in state.items()}) == PreviewerConfig()


@torch.no_grad()
def test_every_layer_as_written_by_hand():
    torch.manual_seed(0)
    net = Previewer(PreviewerConfig(widths=(12, 10, 8, 8, 6, 6, 6, 6))).eval()
    for name, p in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(p, 0.5, 1.5)
    state = net.state_dict()
    assert PreviewerConfig.of({name: p.shape for name, p in state.items()}) == net.config
    x = latent = torch.randn(2, 16, 3, 5)
    for k, shape in SHAPES.items():
        weight, bias = state[f"blocks.{k}.weight"], state[f"blocks.{k}.bias"]
        x = (
            F.conv_transpose2d(x, weight, bias, 2)
            if shape[2] == 2
            else F.conv2d(x, weight, bias, padding=shape[2] // 2)
        )
        if k < 24:
            mean, var, scale, shift = (
                state[f"blocks.{k + 2}.{name}"].view(1, -1, 1, 1)
                for name in ("running_mean", "running_var", "weight", "bias")
            )
            x = (F.gelu(x) - mean) / (var + 1e-5).sqrt() * scale + shift
    assert x.shape == (2, 3, 24, 40)
    torch.testing.assert_close(net(latent), x.clamp(0, 1), atol=1e-5, rtol=0)
