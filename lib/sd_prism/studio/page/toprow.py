"""The top of a generation tab: prompts, Generate, Interrupt and Skip, tools and styles."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sd_prism.studio.page.events import AT_ONCE, QUIET
from sd_prism.studio.page.tab import Tab

KEYS = "(Press Ctrl+Enter to generate, Alt+Enter to skip, Esc to interrupt)"
STYLE_HELP = "A style adds its text to the prompt: in place of {prompt} in the style's text, else after the prompt."


def build(tab: Tab) -> None:
    """Adds the fields prompt, negative_prompt and styles, and the buttons generate and paste."""
    with gr.Row(elem_id=tab.id("toprow"), elem_classes=["toprow"]):
        with gr.Column(elem_id=tab.id("prompt_container"), scale=6):
            _prompt(tab, "prompt", "Prompt", 3)
            _prompt(tab, "neg_prompt", "Negative prompt", 2)
        with gr.Column(scale=1, elem_id=tab.id("actions_column"), min_width=260):
            _generate_box(tab)
            _tools(tab)
            _styles_row(tab)
    _style_editor(tab)


def _prompt(tab: Tab, part: str, label: str, lines: int) -> None:
    name = "prompt" if part == "prompt" else "negative_prompt"
    counter = "token_counter" if part == "prompt" else "negative_token_counter"
    with gr.Column(elem_id=tab.id(f"{part}_row"), elem_classes=["prompt-row"]):
        box = gr.Textbox(
            "",
            label=label,
            show_label=False,
            lines=lines,
            elem_id=tab.id(part),
            elem_classes=["prompt"],
            placeholder=f"{label}\n{KEYS}",
        )
        tab.parts[counter] = gr.HTML("<span>0/75</span>", elem_id=tab.id(counter), elem_classes=["token-counter"])
    tab.add(name, box, label)


def _generate_box(tab: Tab) -> None:
    """The page's script shows Interrupt and Skip in place of Generate while a job runs."""
    with gr.Column(elem_id=tab.id("generate_box"), elem_classes=["generate-box"]):
        interrupt = gr.Button("Interrupt", elem_id=tab.id("interrupt"), elem_classes=["generate-box-interrupt"])
        skip = gr.Button("Skip", elem_id=tab.id("skip"), elem_classes=["generate-box-skip"])
        interrupting = gr.Button(
            "Interrupting...", elem_id=tab.id("interrupting"), elem_classes=["generate-box-interrupting"]
        )
        tab.parts["generate"] = gr.Button("Generate", variant="primary", elem_id=tab.id("generate"))
    interrupt.click(_interrupt, None, None, js=f"() => showSubmitInterruptingPlaceholder('{tab.name}')", **AT_ONCE)
    interrupting.click(_interrupt, None, None, **AT_ONCE)
    skip.click(_skip, None, None, **AT_ONCE)


def _interrupt() -> None:
    from modules import shared

    state = shared.state
    if shared.opts.interrupt_after_current and state.job_count > 1 and not state.stopping_generation:
        state.stop_generating()
        gr.Info("The job ends after the current picture; press again to end it at once.")
    else:
        state.interrupt()


def _skip() -> None:
    from modules import shared

    shared.state.skip()


def _tools(tab: Tab) -> None:
    from modules.ui_components import ToolButton

    with gr.Row(elem_id=tab.id("tools"), elem_classes=["tools"]):
        # The host's id is "paste" in both tabs; a page may have an id once only.
        paste_id = "paste" if tab.name == "txt2img" else tab.id("paste")
        tab.parts["paste"] = ToolButton(
            "↙️", elem_id=paste_id, tooltip="Read parameters from the prompt, or from the last job if it is empty"
        )
        clear = ToolButton("🗑️", elem_id=tab.id("clear_prompt"), tooltip="Clear prompt")
        tab.parts["style_apply"] = ToolButton(
            "📋", elem_id=tab.id("style_apply"), tooltip="Apply all selected styles to prompts"
        )
    prompts = [tab.fields["prompt"], tab.fields["negative_prompt"]]
    clear.click(lambda *x: x, prompts, prompts, js="confirm_clear_prompt", **QUIET)


def _style_names() -> list[str]:
    from modules import shared

    return list(shared.prompt_styles.styles)


def _styles_row(tab: Tab) -> None:
    from modules.ui_components import ToolButton

    with gr.Row(elem_id=tab.id("styles_row"), elem_classes=["tools"]):
        styles = gr.Dropdown(
            _style_names(),
            label="Styles",
            show_label=False,
            elem_id=tab.id("styles"),
            value=[],
            multiselect=True,
            container=False,
        )
        tab.parts["styles_edit"] = ToolButton("🖌️", elem_id=tab.id("styles_edit_button"), tooltip="Edit styles")
    tab.add("styles", styles, lambda params: params.get("Styles array"))


def _style_editor(tab: Tab) -> None:
    """A dialog over the page, opened by the brush button."""
    from modules import shared, ui_common
    from modules.ui_components import ToolButton

    with gr.Column(elem_id=tab.id("styles_dialog"), elem_classes=["popup-dialog"], visible=False) as dialog:
        with gr.Row():
            chosen = gr.Dropdown(
                _style_names(),
                value=None,
                label="Style",
                elem_id=tab.id("styles_edit_select"),
                allow_custom_value=True,
                info=STYLE_HELP,
            )
            ui_common.create_refresh_button(
                [tab.fields["styles"], chosen],
                lambda: shared.prompt_styles.reload(),
                lambda: {"choices": _style_names()},
                f"refresh_{tab.name}_styles",
            )
            copy = ToolButton("📝", elem_id=tab.id("style_copy"), tooltip="Copy main UI prompt to style.")
        texts = [
            gr.Textbox("", label=label, lines=3, elem_id=tab.id(f"edit_style_{part}"))
            for part, label in (("prompt", "Style prompt"), ("neg_prompt", "Style negative prompt"))
        ]
        with gr.Row():
            save = gr.Button("Save", variant="primary", elem_id=tab.id("edit_style_save"))
            delete = gr.Button("Delete", elem_id=tab.id("edit_style_delete"))
            close = gr.Button("Close", elem_id=tab.id("edit_style_close"))
    menus = [tab.fields["styles"], chosen]
    prompts = [tab.fields["prompt"], tab.fields["negative_prompt"]]
    tab.parts["styles_edit"].click(lambda: gr.update(visible=True), None, [dialog], **QUIET)
    close.click(lambda: gr.update(visible=False), None, [dialog], **QUIET)
    chosen.change(_shown_style, [chosen], texts, **QUIET)
    copy.click(lambda *x: x, prompts, texts, **QUIET)
    save.click(_save_style, [chosen, *texts], menus, **QUIET)
    delete.click(_delete_style, [chosen], menus, **QUIET)
    tab.parts["style_apply"].click(_apply_styles, [*prompts, menus[0]], [*prompts, menus[0]], **QUIET)


def _shown_style(name: str | None) -> tuple:
    """The texts of a known style; for a new name what stands there stays."""
    from modules import shared

    style = shared.prompt_styles.styles.get(name or "")
    return (style.prompt or "", style.negative_prompt or "") if style else (gr.update(), gr.update())


def _save_style(name: str | None, prompt: str, negative: str) -> tuple:
    from modules import shared, styles

    known = shared.prompt_styles.styles
    if not name:
        gr.Warning("A style needs a name: write one into the field Style.")
        return gr.update(), gr.update()
    known[name] = styles.PromptStyle(name, prompt, negative, known[name].path if name in known else None)
    shared.prompt_styles.save_styles()
    return gr.update(choices=_style_names()), gr.update(choices=_style_names(), value=name)


def _delete_style(name: str | None) -> tuple:
    from modules import shared

    shared.prompt_styles.styles.pop(name or "", None)
    shared.prompt_styles.save_styles()
    return gr.update(choices=_style_names()), gr.update(choices=_style_names(), value=None)


def _apply_styles(prompt: str, negative: str, names: list[str]) -> tuple[str, str, list]:
    from modules import shared

    styles = shared.prompt_styles
    return (
        styles.apply_styles_to_prompt(prompt, names),
        styles.apply_negative_styles_to_prompt(negative, names),
        [],
    )


def connect_counters(tab: Tab) -> None:
    """Count tokens when the prompt, the steps or the styles change."""
    from modules import ui

    steps, styles = tab.fields["steps"], tab.fields["styles"]

    def connect(name: str, counter: str, is_positive: bool) -> None:
        def count(text: str, number: int, names: list[str]) -> Any:
            return ui.update_token_counter(text, number, names, is_positive=is_positive)

        box = tab.fields[name]
        gr.on(
            [box.change, styles.change, steps.change],
            count,
            [box, steps, styles],
            [tab.parts[counter]],
            trigger_mode="always_last",
            **AT_ONCE,
        )

    connect("prompt", "token_counter", True)
    connect("negative_prompt", "negative_token_counter", False)
