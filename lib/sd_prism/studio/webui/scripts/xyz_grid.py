"""X/Y/Z plot: one picture for each combination of up to three settings' values, in a grid with a legend.

Extensions append to `axis_options` objects of this module's `AxisOption`.
"""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import gradio as gr
from modules import (
    axis_values,
    processing,
    scripts,
    sd_models,
    sd_samplers,
    sd_schedulers,
    sd_vae,
    shared,
    shared_options,
)
from modules.axis_values import csv_string_to_list_strip, list_to_csv_string
from modules.processing import Processed
from modules.shared import opts, state
from modules.ui_components import ToolButton
from modules.xyz_plot import SEEDS, TITLE, Axis, Plot
from sd_prism.errors import OutOfRange, PrismError, UnknownName

FILL = "\U0001f4d2"
AxisInfo = namedtuple("AxisInfo", ["axis", "values"])
Apply = Callable[[Any, Any, Any], None]
Confirm = Callable[[Any, Sequence[Any]], None]


# --- what an axis does to a cell: functions of (p, value, all values)


def apply_field(field: str) -> Apply:
    """Set an attribute of p."""
    return lambda p, x, xs: setattr(p, field, x)


def apply_override(field: str) -> Apply:
    """Set a setting for this cell only."""

    def apply(p: Any, x: Any, xs: Any) -> None:
        p.override_settings = {**p.override_settings, field: x}

    return apply


def apply_prompt(p: Any, x: str, xs: Sequence[str]) -> None:
    """Replace the first value by this one in both prompts."""
    if xs[0] not in p.prompt and xs[0] not in p.negative_prompt:
        raise PrismError(f'Prompt S/R looks for "{xs[0]}", which is in neither prompt; begin with a text to replace')
    p.prompt, p.negative_prompt = p.prompt.replace(xs[0], x), p.negative_prompt.replace(xs[0], x)


def apply_order(p: Any, x: Sequence[str], xs: Any) -> None:
    """Put these parts of the prompt, wherever they stand in it, into this order."""
    missing = [token for token in x if token not in p.prompt]
    if missing:
        raise PrismError(f'Prompt order looks for "{missing[0]}", which is not in the prompt')
    rest, between = p.prompt, []
    for token in sorted(x, key=p.prompt.find):
        before, _, rest = rest.partition(token)
        between.append(before)
    p.prompt = "".join(gap + token for gap, token in zip(between, x)) + rest


def apply_checkpoint(p: Any, x: str, xs: Any) -> None:
    """Draw with another checkpoint."""
    apply_override("sd_model_checkpoint")(p, sd_models.find(x).name, xs)


def apply_styles(p: Any, x: str, xs: Any) -> None:
    """Add styles; a value may name several, parted by commas."""
    p.styles = [*p.styles, *x.split(",")]


def apply_vae(p: Any, x: str, xs: Any) -> None:
    """Draw with another VAE."""
    known = {name.lower(): name for name in vae_names()}
    apply_override("sd_vae")(p, known[x.lower()], xs)


def apply_size(p: Any, x: str, xs: Any) -> None:
    """A size such as 64x128, width first."""
    p.width, p.height = _size(x)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise PrismError(f'Size has "{text}"; it must look like 64x128')
    return int(width), int(height)


def do_nothing(p: Any, x: Any, xs: Any) -> None:
    """Leave the cell alone."""


# --- whether the values can be used, asked before anything is drawn


def confirm_names(kind: str, names: Callable[[], Sequence[str]], *, fold: bool = False) -> Confirm:
    """All values have to be known names; with `fold` upper and lower case are one."""

    def confirm(p: Any, xs: Sequence[str]) -> None:
        known = {name.lower() if fold else name for name in names()}
        for x in xs:
            if (x.lower() if fold else x) not in known:
                raise UnknownName(kind, x, names())

    return confirm


def confirm_checkpoints(p: Any, xs: Sequence[str]) -> None:
    """All checkpoints have to be there."""
    for x in xs:
        sd_models.find(x)


def confirm_setting(key: str) -> Confirm:
    """All values have to be valid for this setting."""

    def confirm(p: Any, xs: Sequence[Any]) -> None:
        for x in xs:
            shared_options.checked(key, x)

    return confirm


def confirm_range(min_val: float, max_val: float, axis_label: str) -> Confirm:
    """All values have to lie within the range."""

    def confirm(p: Any, xs: Sequence[Any]) -> None:
        for x in xs:
            if not min_val <= x <= max_val:
                raise OutOfRange(axis_label, x, min_val, max_val, "X/Y/Z plot")

    return confirm


def confirm_sizes(p: Any, xs: Sequence[str]) -> None:
    """All values have to be sizes."""
    for x in xs:
        _size(x)


def confirm_styles(p: Any, xs: Sequence[str]) -> None:
    """All styles have to be there."""
    each = [name.strip() for x in xs for name in x.split(",")]
    confirm_names("style", lambda: list(shared.prompt_styles.styles))(p, each)


# --- menus


def sampler_names() -> list[str]:
    """The samplers that are not hidden."""
    return [x.name for x in sd_samplers.samplers if x.name not in opts.hide_samplers]


def schedule_names() -> list[str]:
    """The noise schedules."""
    return [x.label for x in sd_schedulers.schedulers]


def checkpoint_names() -> list[str]:
    """The checkpoints' titles."""
    return sorted(sd_models.checkpoints_list, key=str.casefold)


def upscaler_names() -> list[str]:
    """What the second pass can enlarge with."""
    return [*shared.latent_upscale_modes, *(x.name for x in shared.sd_upscalers)]


def vae_names() -> list[str]:
    """The VAE files, and the choices without one."""
    return ["Automatic", "None", *sd_vae.vae_dict]


# --- what the legend says


def _short(x: Any) -> Any:
    return round(x, 8) if isinstance(x, float) else x


def format_value_add_label(p: Any, opt: AxisOption, x: Any) -> str:
    """Label and value."""
    return f"{opt.label}: {_short(x)}"


def format_value(p: Any, opt: AxisOption, x: Any) -> Any:
    """The value."""
    return _short(x)


def format_value_join_list(p: Any, opt: AxisOption, x: Sequence[str]) -> str:
    """The parts, one after another."""
    return ", ".join(x)


def format_nothing(p: Any, opt: AxisOption, x: Any) -> str:
    """No text."""
    return ""


def format_remove_path(p: Any, opt: AxisOption, x: str) -> str:
    """The file's name."""
    return os.path.basename(x)


def str_permutations(x: Any) -> Any:
    """The type of an axis whose values are the orders of what is given."""
    return x


class AxisOption:
    """A setting that can lie on an axis.

    Attributes:
        type: int, float, str or `str_permutations`; what the texts of the value field become.
        apply: called with p, a value and all values; changes p, which is a shallow copy of the job's own.
        format_value: the legend's text, from p, the option and a value.
        confirm: raises, from p and all values, if one cannot be used.
        cost: how slow a change is; costly axes change least often.
        choices: gives the menu's entries.
        prepare: gives the values from the field's text, in place of reading it as CSV.
    """

    def __init__(
        self,
        label: str,
        type: Callable[[Any], Any],
        apply: Apply,
        format_value: Callable[[Any, Any, Any], Any] = format_value_add_label,
        confirm: Confirm | None = None,
        cost: float = 0.0,
        choices: Callable[[], Sequence[str]] | None = None,
        prepare: Callable[[str], Sequence[Any]] | None = None,
    ) -> None:
        self.label, self.type, self.apply, self.format_value = label, type, apply, format_value
        self.confirm, self.cost, self.choices, self.prepare = confirm, cost, choices, prepare


class AxisOptionImg2Img(AxisOption):
    """An axis of img2img only."""

    is_img2img = True


class AxisOptionTxt2Img(AxisOption):
    """An axis of txt2img only."""

    is_img2img = False


def _named(kind: str, names: Callable[[], list[str]], *, fold: bool = False) -> dict[str, Any]:
    return {"confirm": confirm_names(kind, names, fold=fold), "choices": names}


def _setting(label: str, kind: type, key: str) -> AxisOption:
    return AxisOption(label, kind, apply_override(key), confirm=confirm_setting(key))


SAMPLERS = _named("sampler", lambda: [x.name for x in sd_samplers.samplers], fold=True) | {"choices": sampler_names}

axis_options = [
    AxisOption("Nothing", str, do_nothing, format_value=format_nothing),
    AxisOption("Seed", int, apply_field("seed")),
    AxisOption("Var. seed", int, apply_field("subseed")),
    AxisOption("Var. strength", float, apply_field("subseed_strength")),
    AxisOption("Steps", int, apply_field("steps")),
    AxisOptionTxt2Img("Hires steps", int, apply_field("hr_second_pass_steps")),
    AxisOption("CFG Scale", float, apply_field("cfg_scale")),
    AxisOption("Prompt S/R", str, apply_prompt, format_value=format_value),
    AxisOption("Prompt order", str_permutations, apply_order, format_value=format_value_join_list),
    AxisOption("Sampler", str, apply_field("sampler_name"), format_value=format_value, **SAMPLERS),
    AxisOptionTxt2Img("Hires sampler", str, apply_field("hr_sampler_name"), **SAMPLERS),
    AxisOption(
        "Checkpoint name",
        str,
        apply_checkpoint,
        format_value=format_remove_path,
        confirm=confirm_checkpoints,
        cost=1.0,
        choices=checkpoint_names,
    ),
    AxisOption("Negative Guidance minimum sigma", float, apply_field("s_min_uncond")),
    AxisOption("Sigma Churn", float, apply_field("s_churn")),
    AxisOption("Sigma min", float, apply_field("s_tmin")),
    AxisOption("Sigma max", float, apply_field("s_tmax")),
    AxisOption("Sigma noise", float, apply_field("s_noise")),
    AxisOption("Schedule type", str, apply_field("scheduler"), **_named("schedule", schedule_names)),
    AxisOption("Eta", float, apply_field("eta")),
    _setting("Clip skip", int, "CLIP_stop_at_last_layers"),
    AxisOption("Denoising", float, apply_field("denoising_strength"), confirm=confirm_range(0, 1, "Denoising")),
    AxisOption("Initial noise multiplier", float, apply_field("initial_noise_multiplier")),
    _setting("Extra noise", float, "img2img_extra_noise"),
    AxisOptionTxt2Img("Hires upscaler", str, apply_field("hr_upscaler"), **_named("upscaler", upscaler_names)),
    AxisOption("VAE", str, apply_vae, cost=0.7, **_named("VAE", vae_names, fold=True)),
    AxisOption("Styles", str, apply_styles, confirm=confirm_styles, choices=lambda: list(shared.prompt_styles.styles)),
    AxisOption("Size", str, apply_size, confirm=confirm_sizes),
]


def values_of(option: AxisOption, text: str, chosen: Sequence[str] | None, letter: str) -> list[Any]:
    """The values of an axis, from the menu if `chosen` is given, else from the text field.

    Raises:
        PrismError: there is none, or one is not of the option's type.
    """
    if option.label == "Nothing":
        return [0]
    where = f"X/Y/Z plot: {letter} values ({option.label})"
    if chosen is not None:
        texts: Sequence[Any] = chosen
    else:
        texts = option.prepare(text) if option.prepare else csv_string_to_list_strip(text)
    if option.type in (int, float):
        values = axis_values.numbers(option.type, texts, where)  # type: ignore[arg-type]
    elif option.type is str_permutations:
        values = list(permutations(texts)) if texts else []
    else:
        values = [option.type(x) for x in texts]
    if not values:
        raise PrismError(f"{where} is empty; give at least one value")
    return values


class Script(scripts.Script):
    """The entry "X/Y/Z plot" of the Script menu."""

    def title(self) -> str:
        """The name on the page."""
        return TITLE

    def ui(self, is_img2img: bool) -> list[Any]:
        """Three axes, what to draw, and buttons that swap axes."""
        self.current_axis_options = [x for x in axis_options if getattr(x, "is_img2img", is_img2img) == is_img2img]

        def host_id(name: str) -> str:
            # The host gives the components of both tabs the same ids; here a page has each id once.
            return f"img2img_{name}" if is_img2img else name

        rows = [self._axis_row(letter, host_id) for letter in "xyz"]
        with gr.Row(variant="compact", elem_id=host_id("axis_options")):
            with gr.Column():
                draw_legend = self._switch("Draw legend", "draw_legend", True)
                no_fixed_seeds = self._switch("Keep -1 for seeds", "no_fixed_seeds")
                with gr.Row():
                    vary = [
                        self._switch(f"Vary seeds for {letter.upper()}", f"vary_seeds_{letter}", min_width=80)
                        for letter in "xyz"
                    ]
            with gr.Column():
                include_lone_images = self._switch("Include Sub Images", "include_lone_images")
                include_sub_grids = self._switch("Include Sub Grids", "include_sub_grids")
                csv_mode = self._switch("Use text inputs instead of dropdowns", "csv_mode")
            with gr.Column():
                margin_size = gr.Slider(
                    0, 500, 0, step=2, label="Grid margins (px)", elem_id=self.elem_id("margin_size")
                )
        with gr.Row(variant="compact", elem_id=host_id("swap_axes")):
            for one, other in ((0, 1), (1, 2), (0, 2)):
                names = "xyz"[one] + "xyz"[other]
                text = f"Swap {names[0].upper()}/{names[1].upper()} axes"
                button = gr.Button(text, elem_id=host_id(f"{names}_grid_swap_axes_button"))
                both = [*rows[one][:3], *rows[other][:3]]
                button.click(self._swapped, both, both, show_progress="hidden", api_visibility="private")
        self._connect(rows, csv_mode)
        self.infotext_fields = [field for letter, row in zip("XYZ", rows) for field in _paste_fields(letter, row)]
        values = [component for row in rows for component in row[:3]]
        switches = [draw_legend, include_lone_images, include_sub_grids, no_fixed_seeds, *vary]
        return [*values, *switches, margin_size, csv_mode]

    def _axis_row(self, letter: str, host_id: Callable[[str], str]) -> tuple[Any, Any, Any, Any]:
        labels = [x.label for x in self.current_axis_options]
        name = letter.upper()
        with gr.Row():
            kind = gr.Dropdown(
                labels,
                value=labels[letter == "x"],
                type="index",
                label=f"{name} type",
                elem_id=self.elem_id(f"{letter}_type"),
            )
            text = gr.Textbox("", lines=1, label=f"{name} values", elem_id=self.elem_id(f"{letter}_values"))
            menu = gr.Dropdown([], label=f"{name} values", visible=False, multiselect=True, interactive=True)
            fill = ToolButton(FILL, elem_id=host_id(f"xyz_grid_fill_{letter}_tool_button"), visible=False)
        return kind, text, menu, fill

    def _switch(self, label: str, name: str, value: bool = False, **kwargs: Any) -> Any:
        return gr.Checkbox(value, label=label, elem_id=self.elem_id(name), **kwargs)

    def _swapped(self, kind: Any, text: Any, menu: Any, other_kind: Any, other_text: Any, other_menu: Any) -> tuple:
        label, other = self.option(kind).label, self.option(other_kind).label
        return other, other_text, other_menu, label, text, menu

    def _connect(self, rows: Sequence[tuple], csv_mode: Any) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        for kind, text, menu, fill in rows:
            fill.click(self._filled, [kind, csv_mode], [text, menu], **quiet)
            for changed in (kind, csv_mode):
                changed.change(self._selected, [kind, text, menu, csv_mode], [fill, text, menu], **quiet)

    def _filled(self, kind: Any, csv_mode: bool) -> tuple[Any, Any]:
        choices = self.option(kind).choices
        if choices is None:
            return gr.update(), gr.update()
        return (list_to_csv_string(choices()), gr.update()) if csv_mode else (gr.update(), list(choices()))

    def _selected(self, kind: Any, text: str, chosen: list[str] | None, csv_mode: bool) -> tuple[Any, Any, Any]:
        """The fill button, the text and the menu for an axis; what was entered is carried over."""
        option = self.option(kind)
        has_menu = option.choices is not None
        choices = list(option.choices()) if option.choices else []
        given = chosen or []
        if has_menu and csv_mode and given:
            text, given = list_to_csv_string([x for x in given if x in choices]), []
        elif has_menu and not csv_mode and text:
            text, given = "", [x for x in csv_string_to_list_strip(text) if x in choices]
        return (
            gr.update(visible=has_menu),
            gr.update(visible=csv_mode or not has_menu, value=text),
            gr.update(choices=choices, visible=has_menu and not csv_mode, value=[x for x in given if x in choices]),
        )

    def option(self, kind: int | str | None) -> AxisOption:
        """The axis with this place in the menu, or with this label."""
        labels = [x.label for x in self.current_axis_options]
        if isinstance(kind, str):
            if kind not in labels:
                raise UnknownName("X/Y/Z plot axis", kind, labels)
            return self.current_axis_options[labels.index(kind)]
        place = kind or 0
        if not 0 <= place < len(labels):
            raise OutOfRange("X/Y/Z plot axis", place, 0, len(labels) - 1, "script_args")
        return self.current_axis_options[place]

    def axis(self, p: Any, letter: str, given: tuple[Any, str, list[str] | None], *, csv: bool, fix: bool) -> Axis:
        """An axis from what its fields hold; its values can be used."""
        kind, text, chosen = given
        option = self.option(kind)
        by_menu = option.choices is not None and not csv
        values = values_of(option, text or "", (chosen or []) if by_menu else None, letter)
        if option.confirm:
            option.confirm(p, values)
        if fix and option.label in SEEDS:
            values = [processing.get_fixed_seed(x) for x in values]
        return Axis(letter, option, values, list_to_csv_string(chosen or []) if by_menu else text)

    def run(
        self,
        p: Any,
        x_type: Any,
        x_values: str,
        x_values_dropdown: list[str] | None,
        y_type: Any,
        y_values: str,
        y_values_dropdown: list[str] | None,
        z_type: Any,
        z_values: str,
        z_values_dropdown: list[str] | None,
        draw_legend: bool,
        include_lone_images: bool,
        include_sub_grids: bool,
        no_fixed_seeds: bool,
        vary_seeds_x: bool,
        vary_seeds_y: bool,
        vary_seeds_z: bool,
        margin_size: float,
        csv_mode: bool,
    ) -> Processed:
        """Draw the plot."""
        if not no_fixed_seeds:
            processing.fix_seed(p)
        if not opts.return_grid:
            p.batch_size = 1
        given = {
            "X": (x_type, x_values, x_values_dropdown),
            "Y": (y_type, y_values, y_values_dropdown),
            "Z": (z_type, z_values, z_values_dropdown),
        }
        axes = [self.axis(p, name, one, csv=csv_mode, fix=not no_fixed_seeds) for name, one in given.items()]
        plot = Plot(p, axes, vary=(vary_seeds_x, vary_seeds_y, vary_seeds_z), fixed_seeds=not no_fixed_seeds)
        megapixels = round(plot.count * p.width * p.height / 1e6)
        if megapixels >= opts.img_max_size_mp:
            raise PrismError(
                f"The grid would have {megapixels} megapixels; the setting img_max_size_mp allows less than "
                f"{opts.img_max_size_mp:g}. Draw fewer or smaller cells"
            )
        state.xyz_plot_x, state.xyz_plot_y, state.xyz_plot_z = (AxisInfo(axis.option, axis.values) for axis in axes)
        try:
            plot.draw()
        finally:
            sd_models.reload_model_weights()
            sd_vae.reload_vae_weights()
        return plot.result(
            legend=draw_legend, margin=int(margin_size), sub_images=include_lone_images, sub_grids=include_sub_grids
        )


def _paste_fields(letter: str, row: tuple) -> list[tuple[Any, Any]]:
    kind, text, menu, _fill = row
    key = f"{letter} Values"
    return [
        (kind, f"{letter} Type"),
        (text, key),
        (menu, lambda params: gr.update(value=csv_string_to_list_strip(params.get(key, "")))),
    ]
