"""Command-line options as the host names them; the studio's server fills in what it was started with."""

from __future__ import annotations

import argparse

parser = argparse.ArgumentParser(add_help=False)

cmd_opts = argparse.Namespace(
    ckpt=None,
    ckpt_dir=None,
    api=True,
    nowebui=False,
    listen=False,
    share=False,
    port=7860,
    server_name=None,
    hide_ui_dir_config=False,
    no_prompt_history=False,
    freeze_settings=False,
    lowvram=False,
    medvram=False,
    medvram_sdxl=False,
    no_half=True,
    no_half_vae=True,
    disable_extra_extensions=False,
    disable_all_extensions=False,
    enable_insecure_extension_access=False,
    api_auth=None,
    gradio_auth=None,
    use_cpu=[],
    precision="full",
    lora_dir=None,
    vae_dir=None,
    embeddings_dir=None,
    prism_data_dir=None,
)
