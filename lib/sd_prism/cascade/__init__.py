"""Stable Cascade: a small latent of 16 channels (stage C), then its picture (stages B and A).

`formats` reads its files, `unet`, `text`, `stage_a`, `previewer` and `effnet` are its networks, `schedule`, `denoise`,
`guidance` and `sampling` its maths, `decode` makes pictures of latents.
"""
