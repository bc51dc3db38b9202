"""Block merge in a webui: the panel, the loaded model's weights, and the way back."""
