"""The studio's page, laid out as A1111's users expect and with its element ids."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from sd_prism.errors import PrismError
from sd_prism.studio import host

HERE = Path(__file__).resolve().parent
SYSTEM_FONTS = ["system-ui", "sans-serif"]
Fields = dict[str, Any]


def theme() -> Any:
    """gradio's default look with fonts that every system has, so that nothing is fetched."""
    return gr.themes.Default(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])


def head() -> str:
    """Links to the studio's and the extensions' style sheets and scripts."""
    from modules import extensions

    lines = [f"<script>{(HERE / 'js' / 'host.js').read_text(encoding='utf8')}</script>"]
    for extension in extensions.active():
        base = f"studio-file/{extension.canonical_name}"
        if (Path(extension.path) / "style.css").is_file():
            lines.append(f'<link rel="stylesheet" href="{base}/style.css">')
        for file in extension.files("javascript", ".js", ".mjs"):
            kind = ' type="module"' if file.suffix == ".mjs" else ""
            version = int(file.stat().st_mtime)
            lines.append(f'<script{kind} src="{base}/javascript/{file.name}?{version}"></script>')
    return "\n".join(lines)


def build() -> gr.Blocks:
    """The page; scripts build their panels in it."""
    from modules import gradio_extensions, infotext_utils, script_callbacks, scripts

    infotext_utils.reset()
    runner = scripts.scripts_txt2img
    runner.initialize_scripts(is_img2img=False)
    with (
        gr.Blocks(analytics_enabled=False, title="Prism studio", fill_width=True) as demo,
        gradio_extensions.component_hooks(runner),
    ):
        checkpoint, refresh = _checkpoint_row()
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("txt2img", elem_id="tab_txt2img", id="txt2img"):
                _txt2img(runner, checkpoint, refresh)
            for interface, label, ident in script_callbacks.ui_tabs_callback():
                with gr.Tab(label, elem_id=f"tab_{ident}", id=ident):
                    interface.render()
    host.remember_defaults()
    return demo.queue()


def native_size() -> int:
    """The size that the chosen checkpoint was trained for, from its header; 512 when that cannot be read."""
    from modules import sd_models

    from sd_prism.studio import header

    model = sd_models.model_data.sd_model
    try:
        if model is not None:
            return model.native_size
        return int(header.inspect(sd_models.select_checkpoint().filename).native_size)
    except (PrismError, OSError, AttributeError):
        return 512  # a damaged file is told about when it is loaded


def _checkpoint_row() -> tuple[gr.Dropdown, gr.Button]:
    from modules import sd_models
    from modules.ui_components import ToolButton

    with gr.Row(elem_id="quicksettings"):
        titles = sd_models.checkpoint_tiles()
        chosen = sd_models.select_checkpoint().title if titles else None
        dropdown = gr.Dropdown(
            titles, value=chosen, label="Stable Diffusion checkpoint", elem_id="setting_sd_model_checkpoint"
        )
        refresh = ToolButton("↻", elem_id="refresh_sd_model_checkpoint")
    return dropdown, refresh


def _txt2img(runner: Any, checkpoint: gr.Dropdown, refresh: gr.Button) -> None:
    fields, generate_button, paste_button = prompts()
    with gr.Row():
        with gr.Column(elem_id="txt2img_settings"):
            fields |= settings(native_size())
            with gr.Column(elem_id="txt2img_script_container"):
                runner.prepare_ui()
                runner.setup_ui()
        with gr.Column(elem_id="txt2img_results"):
            gallery = gr.Gallery(
                label="Output",
                show_label=False,
                elem_id="txt2img_gallery",
                columns=4,
                format="png",
                preview=True,
                object_fit="contain",
                interactive=False,
                buttons=["download", "fullscreen"],
                height="max(40vh, 320px)",
            )
            info = gr.HTML(elem_id="html_info_txt2img")
            infotexts = gr.State([])
    _connect(runner, fields, generate_button, (gallery, info, infotexts))
    _connect_paste(runner, fields, paste_button)
    _connect_checkpoint(checkpoint, refresh, fields)


def prompts() -> tuple[Fields, gr.Button, gr.Button]:
    from modules.ui_components import ToolButton

    with gr.Row(elem_id="txt2img_toprow"):
        with gr.Column(scale=6):
            prompt = gr.Textbox(
                "",
                label="Prompt",
                show_label=False,
                lines=3,
                elem_id="txt2img_prompt",
                placeholder="Prompt (press Ctrl+Enter to generate)",
            )
            negative = gr.Textbox(
                "",
                label="Negative prompt",
                show_label=False,
                lines=2,
                elem_id="txt2img_neg_prompt",
                placeholder="Negative prompt (press Ctrl+Enter to generate)",
            )
        with gr.Column(scale=1, min_width=180):
            button = gr.Button("Generate", variant="primary", elem_id="txt2img_generate")
            paste = ToolButton("↙", elem_id="paste")
    return {"prompt": prompt, "negative_prompt": negative}, button, paste


def settings(size: int) -> Fields:
    from modules import sd_samplers, sd_schedulers

    names = sd_samplers.visible_sampler_names()
    schedules = [x.label for x in sd_schedulers.schedulers]
    with gr.Row():
        sampler = gr.Dropdown(names, value=names[0], label="Sampling method", elem_id="txt2img_sampling")
        scheduler = gr.Dropdown(schedules, value=schedules[0], label="Schedule type", elem_id="txt2img_scheduler")
    steps = gr.Slider(1, 150, 20, step=1, label="Sampling steps", elem_id="txt2img_steps")
    with gr.Row():
        width = gr.Slider(64, 2048, size, step=8, label="Width", elem_id="txt2img_width")
        count = gr.Slider(1, 100, 1, step=1, label="Batch count", elem_id="txt2img_batch_count")
    with gr.Row():
        height = gr.Slider(64, 2048, size, step=8, label="Height", elem_id="txt2img_height")
        batch = gr.Slider(1, 8, 1, step=1, label="Batch size", elem_id="txt2img_batch_size")
    cfg = gr.Slider(1.0, 30.0, 7.0, step=0.5, label="CFG Scale", elem_id="txt2img_cfg_scale")
    seed = gr.Number(-1, label="Seed", precision=0, elem_id="txt2img_seed")
    return {
        "sampler_name": sampler,
        "scheduler": scheduler,
        "steps": steps,
        "width": width,
        "height": height,
        "n_iter": count,
        "batch_size": batch,
        "cfg_scale": cfg,
        "seed": seed,
    }


def _job(fields: Fields) -> Callable:
    """The function behind the Generate button."""
    names = list(fields)

    # gradio puts the progress bar where the parameter stands, so it has to come before the many values.
    def clicked(progress: Any = gr.Progress(), *values: Any) -> tuple:  # noqa: B008
        def step(state: Any) -> None:
            progress(state.progress(), desc=f"step {state.sampling_step + 1} of {state.sampling_steps}")

        try:
            # A number field that was emptied means its default, such as a random seed.
            given = {name: value for name, value in zip(names, values) if value is not None}
            request = host.request_of({**given, "save_images": True})
            script_args = [values[len(names)] or 0, *values[len(names) + 1 :]]
            processed = host.run(request, args=script_args, is_api=False, listener=step).processed
        except Exception as error:
            return gr.update(), _told(error), gr.update()
        pictures = [getattr(image, "already_saved_as", image) for image in processed.images]
        told = shown(processed.infotexts[0]) + _remarks(processed.comments)
        return gr.Gallery(pictures, selected_index=0), told, processed.infotexts

    return clicked


def _told(error: Exception) -> str:
    """Show an error as a message over the page, and under the picture."""
    text = str(error)
    if not isinstance(error, PrismError):
        from modules import errors

        errors.display(error, "txt2img")
        text = f"The picture could not be made: {type(error).__name__}: {error}"
    gr.Warning(html.escape(text), title="Not generated")
    return f'<p class="studio-error" role="alert">{html.escape(text)}</p>'


def shown(infotext: str) -> str:
    """An infotext as HTML."""
    return f'<p class="infotext">{html.escape(infotext)}</p>'


def _remarks(comments: str) -> str:
    """What scripts have to say about the job."""
    return f'<p class="studio-error comments">{html.escape(comments.strip())}</p>' if comments.strip() else ""


def _connect(runner: Any, fields: Fields, button: gr.Button, outputs: tuple) -> None:
    gallery, info, infotexts = outputs
    inputs = [*fields.values(), *runner.inputs]
    button.click(
        _job(fields),
        inputs,
        [gallery, info, infotexts],
        show_progress="full",
        show_progress_on=[gallery],
        concurrency_limit=1,
        api_visibility="private",
    )

    def selected(texts: list[str], event: gr.SelectData) -> str:
        return shown(texts[event.index]) if event.index < len(texts) else ""

    gallery.select(selected, [infotexts], [info], show_progress="hidden", api_visibility="private")


def add_paste_fields(runner: Any, fields: Fields) -> None:
    """Say which part of an infotext belongs to which field, the scripts' own included."""
    from modules import infotext_utils, sd_samplers
    from modules.infotext_utils import PasteField

    targets: dict[str, Any] = {
        "prompt": "Prompt",
        "negative_prompt": "Negative prompt",
        "steps": "Steps",
        "cfg_scale": "CFG scale",
        "seed": "Seed",
        "width": "Size-1",
        "height": "Size-2",
        "batch_size": "Batch size",
        "sampler_name": sd_samplers.get_sampler_from_infotext,
        "scheduler": sd_samplers.get_scheduler_from_infotext,
    }
    paste_fields = [PasteField(fields[name], target, api=name) for name, target in targets.items()]
    infotext_utils.add_paste_fields("txt2img", None, [*paste_fields, *runner.infotext_fields])


def _connect_paste(runner: Any, fields: Fields, button: gr.Button) -> None:
    from modules import infotext_utils

    add_paste_fields(runner, fields)
    everything = infotext_utils.paste_fields["txt2img"]["fields"]
    infotext_utils.connect_paste(button, everything, fields["prompt"], None, "txt2img")


def _connect_checkpoint(dropdown: gr.Dropdown, refresh: gr.Button, fields: Fields) -> None:
    from modules import sd_models, shared

    def choose(title: str, width: int, height: int) -> tuple:
        from modules.call_queue import queue_lock

        old = native_size()
        with queue_lock:
            try:
                model = sd_models.reload_model_weights(info=sd_models.find(title))
            except PrismError as error:
                gr.Warning(html.escape(str(error)), title="Checkpoint not loaded")
                return sd_models.select_checkpoint().title, gr.update(), gr.update()
            shared.opts.save(shared.config_filename())
        # A size that the user chose stays; the old model's own size becomes the new one's.
        sizes = [model.native_size if size == old else gr.update() for size in (width, height)]
        return model.sd_checkpoint_info.title, *sizes

    def refreshed() -> Any:
        sd_models.list_models()
        return gr.update(choices=sd_models.checkpoint_tiles())

    sizes = [fields["width"], fields["height"]]
    dropdown.input(choose, [dropdown, *sizes], [dropdown, *sizes], show_progress="minimal", api_visibility="private")
    refresh.click(refreshed, None, [dropdown], show_progress="hidden", api_visibility="private")
