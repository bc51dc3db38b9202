"""Stable Cascade (Wuerstchen v3): a prompt becomes a small latent (stage C), a larger one (stage B), a picture (A).

`unet` has stages C and B, `text` their text encoder, `formats` reads every layout of their files, `schedule`,
`sampling` and `decode` are the mathematics between them. Submodules load when they are imported, so that knowing the
name costs no torch.
"""
