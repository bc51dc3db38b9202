"""The shipped checkpoints, and the scripts that draw their world, train them and judge them."""

from pathlib import Path

CHECKPOINTS = Path(__file__).with_name("checkpoints")
MINI_V1 = CHECKPOINTS / "mini-v1.safetensors"
MINI_V1_NEON = CHECKPOINTS / "mini-v1-neon.safetensors"
MINI_CASCADE = CHECKPOINTS / "mini-cascade-main.safetensors"
MINI_CASCADE_DECODER = CHECKPOINTS / "mini-cascade-decoder.safetensors"
