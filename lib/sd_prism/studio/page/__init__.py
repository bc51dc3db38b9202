"""The studio's page, laid out as A1111's users expect and with its element ids."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import gradio as gr

from sd_prism.studio import host
from sd_prism.studio.page import img2img, networks, output, png_info, toprow, txt2img
from sd_prism.studio.page.places import place
from sd_prism.studio.page.settings import Settings
from sd_prism.studio.page.tab import Tab, native_size

__all__ = ["HERE", "build", "build_fields", "head", "native_size", "theme"]

HERE = Path(__file__).resolve().parent
SYSTEM_FONTS = ["system-ui", "sans-serif"]
SCRIPTS = ("host.js", "places.js", "buttons.js", "progress.js", "settings.js", "localization.js")
ROOMS = {"txt2img": txt2img, "img2img": img2img}


def theme() -> Any:
    """gradio's default look with fonts that every system has, so that nothing is fetched."""
    return gr.themes.Default(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])


def head(demo: gr.Blocks) -> str:
    """Links to the studio's and the extensions' style sheets and scripts, and what the page is told once."""
    from modules import extensions, localization, shared

    tooltips = {block.elem_id: tip for block in demo.blocks.values() if (tip := getattr(block, "webui_tooltip", None))}
    told = json.dumps(tooltips).replace("<", "\\u003c")
    lines = [f"<script>{localization.localization_js(shared.opts.localization)}; window.tooltips = {told};</script>"]
    lines += [f"<script>{(HERE / 'js' / name).read_text(encoding='utf8')}</script>" for name in SCRIPTS]
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
    from modules import gradio_extensions, infotext_utils, localization, paths, script_callbacks, ui_loadsave

    infotext_utils.reset()
    localization.list_localizations(f"{paths.data_path}/localizations")
    loadsave = ui_loadsave.UiLoadsave(f"{paths.data_path}/ui-config.json")
    settings = Settings()
    interfaces, tabs = [], []
    for name in ROOMS:
        with _blocks() as interface:
            tabs.append(_generation(name))
        interfaces.append((interface, name, name))
    with _blocks() as interface:
        png_info.build()
    interfaces.append((interface, "PNG Info", "pnginfo"))
    with _blocks(), gr.Tabs():  # the studio has no training; what scripts add for it is not shown
        script_callbacks.ui_train_tabs_callback(script_callbacks.UiTrainTabParams(_preview_params(tabs[0])))
    interfaces += script_callbacks.ui_tabs_callback()
    with _blocks() as interface:
        settings.build(loadsave)
    interfaces.append((interface, "Settings", "settings"))
    with _blocks(title="Prism studio", fill_width=True) as demo:
        with gradio_extensions.component_hooks(None):
            settings.quicksettings()
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as row:
            for interface, label, ident in interfaces:
                with place(label, ident, f"tab_{ident}"):
                    interface.render()
                if ident != "settings":
                    loadsave.add_block(interface, ident)
        loadsave.add_component(f"webui/Tabs@{row.elem_id}", row)
        loadsave.setup_ui()
        infotext_utils.connect_paste_params_buttons()
        settings.connect(demo, tabs)
        gr.HTML(_footer(), elem_id="footer")
    loadsave.dump_defaults()
    host.remember_defaults()
    return demo.queue()


def _blocks(**kwargs: Any) -> gr.Blocks:
    return gr.Blocks(analytics_enabled=False, **kwargs)


def build_fields() -> None:
    """Both tabs' fields and panels in a page that is thrown away, which lays out the scripts' arguments."""
    from modules import infotext_utils

    infotext_utils.reset()
    with _blocks():
        for name in ROOMS:
            tab = _start(name)
            toprow.build(tab)
            ROOMS[name].settings(tab)
            _declare_paste(tab)
    host.remember_defaults()


def _start(name: str) -> Tab:
    runner = host.runner_of(name)
    runner.initialize_scripts(is_img2img=name == "img2img")
    return Tab(name, runner)


def _generation(name: str) -> Tab:
    """A generation tab, whole."""
    from modules import gradio_extensions

    tab, room = _start(name), ROOMS[name]
    with gradio_extensions.component_hooks(tab.runner):
        output.hidden(tab)
        toprow.build(tab)
        with gr.Tabs(elem_id=tab.id("extra_tabs"), elem_classes=["extra-networks"]):
            with place("Generation", tab.id("generation"), tab.id("generation_tab")), gr.Row(equal_height=False):
                with gr.Column(elem_id=tab.id("settings")):
                    room.settings(tab)
                output.panel(tab)
            networks.build(tab)
    output.connect(tab, room.request_fields)
    toprow.connect_counters(tab)
    room.connect(tab)
    _declare_paste(tab)
    return tab


def _declare_paste(tab: Tab) -> None:
    """Say which part of an infotext belongs to which field, the scripts' own included."""
    from modules import infotext_utils

    fields = [*tab.paste, *tab.runner.infotext_fields]
    overrides = tab.fields["override_settings"]
    infotext_utils.add_paste_fields(tab.name, tab.fields.get("init_img"), fields, overrides)
    if tab.name == "img2img":
        infotext_utils.add_paste_fields("inpaint", tab.fields["init_img_with_mask"], fields, overrides)
    infotext_utils.register_paste_params_button(
        infotext_utils.ParamBinding(
            paste_button=tab.parts["paste"], tabname=tab.name, source_text_component=tab.fields["prompt"]
        )
    )


def _preview_params(tab: Tab) -> list[Any]:
    """The fields that a training tab makes its previews from."""
    names = ("prompt", "negative_prompt", "steps", "sampler_name", "cfg_scale", "seed", "width", "height")
    return [tab.fields[name] for name in names]


def _footer() -> str:
    import torch

    versions = f"python: {platform.python_version()} • torch: {torch.__version__} • gradio: {gr.__version__}"
    links = '<a href="docs">API</a> • <a href="#" onclick="reloadUi(); return false">Reload UI</a>'
    return f'<div>{links}</div><div class="versions">{versions}</div>'
