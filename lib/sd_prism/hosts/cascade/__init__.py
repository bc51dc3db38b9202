"""Stable Cascade in a webui: its files as checkpoints, its panel, its decoder in the job."""
