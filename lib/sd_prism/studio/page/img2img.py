"""The img2img tab: a picture, perhaps with a mask that is painted or uploaded."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from sd_prism.errors import PrismError
from sd_prism.studio.page import tab as tabs
from sd_prism.studio.page.events import QUIET
from sd_prism.studio.page.places import place
from sd_prism.studio.page.tab import Tab

RESIZE_MODES = ["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
FILLS = ["fill", "original", "latent noise", "latent nothing"]
# Ways to give the picture: (id, label, element id).
MODES = (
    ("img2img", "img2img", "img2img_img2img_tab"),
    ("inpaint", "Inpaint", "img2img_inpaint_tab"),
    ("inpaint_upload", "Inpaint upload", "img2img_inpaint_upload_tab"),
)
OPAQUE = 128  # alpha above this is painted, as in the host
EDITOR_HEIGHT = 480


def settings(tab: Tab) -> None:
    """All fields below the prompts."""
    tabs.settings(tab, {"image": _image, "inpaint": _inpaint, "dimensions": _dimensions, "denoising": _denoising})


def request_fields(values: dict[str, Any]) -> dict[str, Any]:
    """What only this tab's request has, from the page's values; raises PrismError without a picture."""
    image, mask = picture_and_mask(values)
    found: dict[str, Any] = {"init_images": [image], "mask": mask}
    if values["scale_tab"] == "by":
        found |= {name: int(side * values["scale_by"]) for name, side in zip(("width", "height"), image.size)}
    return found


def picture_and_mask(values: dict[str, Any]) -> tuple[Image.Image, Image.Image | None]:
    """The picture of the chosen mode, and the mask (white is painted over) unless the mode has none."""
    mode, mask = values["mode"], None
    image = values["init_img"]
    if mode == "inpaint":
        editor = values["init_img_with_mask"] or {}
        image = editor.get("background")
        mask = painted(image, editor.get("layers") or []) if image else None
    elif mode == "inpaint_upload":
        image, mask = values["init_img_inpaint"], values["init_mask_inpaint"]
        if mask is None:
            raise PrismError("Inpaint upload needs a mask too: drop one into the field Mask, white where to paint")
    if image is None:
        label = next(label for ident, label, _ in MODES if ident == mode)
        raise PrismError(f"There is no picture to start from: drop one into the tab {label}")
    return image, mask


def painted(image: Image.Image, layers: list[Image.Image]) -> Image.Image:
    """White where any layer is painted, in the picture's size."""
    mask = Image.new("L", image.size)
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A").resize(image.size, Image.Resampling.NEAREST)
        mask = ImageChops.lighter(mask, alpha.point(lambda value: 255 if value > OPAQUE else 0))
    return mask


def _picture(label: str, elem_id: str, image_mode: str | None = "RGBA") -> gr.Image:
    # PNG, because gradio's own choice loses digits.
    return gr.Image(
        label=label,
        elem_id=elem_id,
        sources=["upload", "clipboard"],
        type="pil",
        image_mode=image_mode,  # type: ignore[arg-type]
        format="png",
        height=EDITOR_HEIGHT,
    )


def _image(tab: Tab) -> None:
    with gr.Tabs(elem_id="mode_img2img"):
        for ident, label, elem_id in MODES:
            with place(label, ident, elem_id):
                _inputs(tab, ident)
    resize = gr.Radio(RESIZE_MODES, value=RESIZE_MODES[0], type="index", label="Resize mode", elem_id="resize_mode")
    tab.fields["resize_mode"] = resize


def _inputs(tab: Tab, mode: str) -> None:
    if mode == "img2img":
        tab.fields["init_img"] = _picture("Image for img2img", "img2img_image")
    elif mode == "inpaint":
        tab.fields["init_img_with_mask"] = gr.ImageEditor(
            label="Image for inpainting with mask",
            elem_id="img2maskimg",
            sources=["upload", "clipboard"],
            type="pil",
            format="png",
            brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"),
            layers=gr.LayerOptions(allow_additional_layers=False),
            transforms=(),
            height=EDITOR_HEIGHT,
        )
    else:
        tab.fields["init_img_inpaint"] = _picture("Image for img2img", "img_inpaint_base")
        tab.fields["init_mask_inpaint"] = _picture("Mask", "img_inpaint_mask")


def _inpaint(tab: Tab) -> None:
    # Shown by page.css for the modes with a mask.
    with gr.Column(elem_id="inpaint_controls"):
        blur = gr.Slider(0, 64, 4, step=1, label="Mask blur", elem_id="img2img_mask_blur")
        modes = ["Inpaint masked", "Inpaint not masked"]
        invert = gr.Radio(modes, value=modes[0], type="index", label="Mask mode", elem_id="img2img_mask_mode")
        fill = gr.Radio(
            FILLS, value="original", type="index", label="Masked content", elem_id="img2img_inpainting_fill"
        )
        areas = ["Whole picture", "Only masked"]
        with gr.Row():
            area = gr.Radio(
                areas, value=areas[0], type="index", label="Inpaint area", elem_id="img2img_inpaint_full_res"
            )
            padding = gr.Slider(
                0,
                256,
                32,
                step=4,
                label="Only masked padding, pixels",
                elem_id="img2img_inpaint_full_res_padding",
            )
    tab.add("mask_blur", blur, "Mask blur")
    tab.add("inpainting_mask_invert", invert, "Mask mode")
    tab.add("inpainting_fill", fill, "Masked content")
    tab.add("inpaint_full_res", area, "Inpaint area")
    tab.add("inpaint_full_res_padding", padding, "Masked area padding")


def _dimensions(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4), gr.Tabs(elem_id="img2img_tabs_resize"):
            with place("Resize to", "to", "img2img_tab_resize_to"):
                tabs.size_sliders(tab)
            with place("Resize by", "by", "img2img_tab_resize_by"):
                scale = gr.Slider(0.05, 4.0, 1.0, step=0.05, label="Scale", elem_id="img2img_scale")
                preview = gr.HTML("no image selected", elem_id="img2img_scale_resolution_preview")
        tabs.batch_sliders(tab)
    tab.fields["scale_by"] = scale
    tab.parts["scale_preview"] = preview


def _denoising(tab: Tab) -> None:
    strength = gr.Slider(0.0, 1.0, 0.75, step=0.01, label="Denoising strength", elem_id="img2img_denoising_strength")
    tab.add("denoising_strength", strength, "Denoising strength")


def connect(tab: Tab) -> None:
    """What depends on the picture: its size, and what it will be scaled to."""
    names = ("mode", "scale_tab", "scale_by", "init_img", "init_img_with_mask", "init_img_inpaint")
    inputs = [tab.fields[name] for name in names]
    sizes = [tab.fields["width"], tab.fields["height"]]
    tab.parts["detect_size"].click(_size, inputs, sizes, js="withImg2imgTabs", **QUIET)
    gr.on(
        [tab.fields[name].change for name in ("scale_by", "init_img", "init_img_inpaint")],
        _scaled,
        inputs,
        [tab.parts["scale_preview"]],
        js="withImg2imgTabs",
        trigger_mode="always_last",
        **QUIET,
    )


def _picture_of(mode: str, image: Any, editor: Any, uploaded: Any) -> Image.Image | None:
    return {"img2img": image, "inpaint": (editor or {}).get("background"), "inpaint_upload": uploaded}[mode]


def _size(mode: str, scale_tab: str, scale: float, *given: Any) -> tuple:
    image = _picture_of(mode, *given)
    return image.size if image else (gr.update(), gr.update())


def _scaled(mode: str, scale_tab: str, scale: float, *given: Any) -> str:
    image = _picture_of(mode, *given)
    if image is None:
        return "no image selected"
    sizes = f"{image.width}x{image.height}", f"{int(image.width * scale)}x{int(image.height * scale)}"
    first, then = (f"<span class='resolution'>{size}</span>" for size in sizes)
    return f"resize: from {first} to {then}"
