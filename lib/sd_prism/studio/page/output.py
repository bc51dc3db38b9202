"""The right side of a generation tab, and the job behind its Generate button."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from sd_prism.errors import PrismError
from sd_prism.studio import host
from sd_prism.studio.page.events import QUIET
from sd_prism.studio.page.tab import Tab

SEND_TO = {
    "img2img": ("🖼️", "Send image and generation parameters to img2img tab."),
    "inpaint": ("🎨️", "Send image and generation parameters to img2img inpaint tab."),
    "pnginfo": ("ℹ️", "Send image to PNG Info tab."),
}
EXTRA_SEED = ("subseed", "subseed_strength", "seed_resize_from_w", "seed_resize_from_h")
RequestFields = Callable[[dict[str, Any]], dict[str, Any]]


def hidden(tab: Tab) -> None:
    """What the page's script fills in when Generate is clicked; these stand before all other fields."""
    tab.parts["task"] = gr.Textbox(visible=False, elem_id=tab.id("task"))
    if tab.name == "img2img":
        tab.fields["mode"] = gr.Textbox("img2img", visible=False, elem_id=tab.id("mode"))
        tab.fields["scale_tab"] = gr.Textbox("to", visible=False, elem_id=tab.id("scale_tab"))


def panel(tab: Tab) -> None:
    """Gallery, the buttons under it and the infotext."""
    with gr.Column(elem_id=tab.id("results")):
        with gr.Column(elem_id=tab.id("gallery_container"), elem_classes=["gallery-container"]):
            tab.parts["gallery"] = gr.Gallery(
                label="Output",
                show_label=False,
                elem_id=tab.id("gallery"),
                columns=4,
                format="png",
                preview=True,
                object_fit="contain",
                interactive=False,
                buttons=["download", "fullscreen"],
                height="max(50vh, 320px)",
            )
        _send_buttons(tab)
        tab.parts["info"] = gr.HTML(elem_id=f"html_info_{tab.name}", elem_classes=["infotext"])
        tab.parts["log"] = gr.HTML(elem_id=f"html_log_{tab.name}", elem_classes=["html-log"])
        # Processed.js() of the last job, which extensions' buttons read.
        tab.parts["generation_info"] = gr.Textbox(visible=False, elem_id=f"generation_info_{tab.name}")
        tab.parts["selected"] = gr.State(0)


def _send_buttons(tab: Tab) -> None:
    from modules import infotext_utils
    from modules.ui_components import ToolButton

    with gr.Row(elem_id=f"image_buttons_{tab.name}", elem_classes=["image-buttons"]):
        for target, (symbol, tooltip) in SEND_TO.items():
            button = ToolButton(symbol, elem_id=tab.id(f"send_to_{target}"), tooltip=tooltip)
            infotext_utils.register_paste_params_button(
                infotext_utils.ParamBinding(
                    paste_button=button,
                    tabname=target,
                    source_tabname=tab.name if tab.name == "txt2img" else None,
                    source_image_component=tab.parts["gallery"],
                    paste_field_names=tab.runner.paste_field_names,
                )
            )


def request_of(tab: Tab, values: dict[str, Any], own: RequestFields) -> Any:
    """The job's request, from the values of the tab's fields by name."""
    from modules import infotext_utils

    # A number field that was emptied means its default, such as a random seed.
    given = {name: value for name, value in values.items() if value is not None}
    if not given["subseed_show"] or not given.get("subseed_strength"):
        given = {name: value for name, value in given.items() if not name.startswith("subseed")}
    resized = given.get("seed_resize_from_w", 0) > 0 and given.get("seed_resize_from_h", 0) > 0
    if not values["subseed_show"] or not resized:
        given = {name: value for name, value in given.items() if not name.startswith("seed_resize")}
    given["override_settings"] = infotext_utils.create_override_settings_dict(given.get("override_settings") or [])
    return host.request_of({**given, **own(values), "save_images": True}, tab=tab.name)


def job(tab: Tab, own: RequestFields) -> Callable:
    """The function behind the Generate button: (task id, values of the fields, script arguments)."""
    names = list(tab.fields)

    def clicked(task: str, *values: Any) -> tuple:
        from modules import progress

        task = task or progress.create_task_id(tab.name)
        progress.add_task_to_queue(task)
        try:
            request = request_of(tab, dict(zip(names, values)), own)
            request.force_task_id = task
            # The Script menu gives None when nothing is chosen.
            script_args = [values[len(names)] or 0, *values[len(names) + 1 :]]
            processed = host.run(request, args=script_args, is_api=False).processed
        except Exception as error:
            return gr.update(), gr.update(), gr.update(), _told(error), gr.update()
        finally:
            progress.finish_task(task)
        pictures = [getattr(image, "already_saved_as", image) for image in processed.images]
        gallery = gr.Gallery(pictures, selected_index=0 if pictures else None)
        text = shown(processed.infotexts[0]) if processed.infotexts else ""
        return gallery, processed.js(), text, _remarks(processed.comments), 0

    return clicked


def _told(error: Exception) -> str:
    """Show an error as a message over the page, and under the picture."""
    text = str(error)
    if not isinstance(error, PrismError):
        from modules import errors

        errors.display(error, "generate")
        text = f"The picture could not be made: {type(error).__name__}: {error}"
    gr.Warning(html.escape(text), title="Not generated")
    return f'<p class="studio-error" role="alert">{html.escape(text)}</p>'


def shown(infotext: str) -> str:
    """An infotext as HTML."""
    return f"<p>{html.escape(infotext)}</p>"


def _remarks(comments: str) -> str:
    """What scripts have to say about the job."""
    return f'<p class="studio-error comments">{html.escape(comments.strip())}</p>' if comments.strip() else ""


def connect(tab: Tab, own: RequestFields) -> None:
    """Generate, the infotext of the picture that is looked at, and the recycled seeds."""
    parts = tab.parts
    parts["generate"].click(
        job(tab, own),
        [parts["task"], *tab.fields.values(), *tab.runner.inputs],
        [parts["gallery"], parts["generation_info"], parts["info"], parts["log"], parts["selected"]],
        js="submit" if tab.name == "txt2img" else "submit_img2img",
        concurrency_limit=None,  # the host's own queue keeps the order, and says who waits
        **QUIET,
    )
    outputs = [parts["info"], parts["selected"]]
    parts["gallery"].select(_selected, [parts["generation_info"]], outputs, **QUIET)
    inputs = [parts["generation_info"], parts["selected"]]
    for name, key in (("seed", "Seed"), ("subseed", "Variation seed")):
        parts[f"reuse_{name}"].click(_seed_reader(key), inputs, [tab.fields[name]], **QUIET)


def _selected(generation_info: str, event: gr.SelectData) -> tuple[str, int]:
    texts = _infotexts(generation_info)
    return (shown(texts[event.index]) if event.index < len(texts) else ""), event.index


def _infotexts(generation_info: str) -> list[str]:
    return json.loads(generation_info)["infotexts"] if generation_info else []


def _seed_reader(key: str) -> Callable[[str, int], int]:
    """The function that reads a seed from the infotext of the picture that is looked at."""

    def seed(generation_info: str, index: int) -> int:
        from modules import infotext_utils

        texts = _infotexts(generation_info)
        params = infotext_utils.parse_generation_parameters(texts[index], []) if index < len(texts) else {}
        return int(params.get(key, -1))

    return seed
