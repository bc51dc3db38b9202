"""The PNG Info tab: what a picture was made with, and buttons that send it on."""

from __future__ import annotations

import html

import gradio as gr
from PIL import Image, UnidentifiedImageError

from sd_prism.studio.page.events import QUIET


def build() -> None:
    """Reads infotext from PNG, JPEG and WebP files."""
    from modules import infotext_utils

    with gr.Row():
        with gr.Column():
            image = gr.Image(
                elem_id="pnginfo_image",
                label="Source",
                sources=["upload", "clipboard"],
                type="filepath",
                image_mode=None,
                format="png",
                height="max(50vh, 320px)",
            )
        with gr.Column():
            shown = gr.HTML(elem_id="pnginfo_html")
            text = gr.Textbox(visible=False, elem_id="pnginfo_generation_info")
            with gr.Row():
                buttons = infotext_utils.create_buttons(["txt2img", "img2img", "inpaint"])
    infotext_utils.add_paste_fields("pnginfo", image, None)
    for tabname, button in buttons.items():
        infotext_utils.register_paste_params_button(
            infotext_utils.ParamBinding(
                paste_button=button, tabname=tabname, source_text_component=text, source_image_component=image
            )
        )
    image.change(_read, [image], [shown, text], **QUIET)


def _read(path: str | None) -> tuple[str, str]:
    """(the picture's texts as HTML, its infotext)."""
    from modules import images

    if path is None:
        return "", ""
    try:
        with Image.open(path) as image:
            infotext, items = images.read_info_from_image(image)
    except (OSError, UnidentifiedImageError) as error:
        return f'<p class="studio-error">{html.escape(str(error))}</p>', ""
    texts = {"parameters": infotext, **items} if infotext else items
    told = "".join(
        f"<h4>{html.escape(str(key))}</h4><p class='infotext'>{html.escape(str(value))}</p>"
        for key, value in texts.items()
    )
    return told or "<p>There is no text in this picture.</p>", infotext or ""
