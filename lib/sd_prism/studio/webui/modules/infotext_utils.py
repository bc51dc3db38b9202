"""Infotext: the text that is saved with a picture, read and written in the host's grammar."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from sd_prism.errors import PrismError

from modules import errors, paths, script_callbacks, shared, shared_options

# The host exports the same module under its older name.
sys.modules["modules.generation_parameters_copypaste"] = sys.modules[__name__]

PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")
NEGATIVE = "Negative prompt:"
# Of a page event: no spinner, and no entry in gradio's own API.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LARGEST = 2**63  # of a number; JSON writers refuse longer ones
# What the absence of a key means.
ABSENT = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
}


class PasteField(tuple):
    """(component, key or function of the parsed parameters), and the API's field name."""

    component: Any
    label: str | None
    function: Callable | None
    api: str | None

    def __new__(cls, component: Any, target: Any, *, api: str | None = None) -> PasteField:
        return super().__new__(cls, (component, target))

    def __init__(self, component: Any, target: Any, *, api: str | None = None) -> None:
        self.api, self.component = api, component
        self.label = target if isinstance(target, str) else None
        self.function = target if callable(target) else None


class ParamBinding:
    """A "Send to" button."""

    def __init__(
        self,
        paste_button: Any,
        tabname: str,
        source_text_component: Any = None,
        source_image_component: Any = None,
        source_tabname: str | None = None,
        override_settings_component: Any = None,
        paste_field_names: list[str] | None = None,
    ) -> None:
        self.paste_button, self.tabname = paste_button, tabname
        self.source_text_component, self.source_image_component = source_text_component, source_image_component
        self.source_tabname, self.override_settings_component = source_tabname, override_settings_component
        self.paste_field_names = paste_field_names or []


paste_fields: dict[str, dict[str, Any]] = {}
registered_param_bindings: list[ParamBinding] = []


def reset() -> None:
    """Forget all fields and buttons."""
    paste_fields.clear()
    registered_param_bindings.clear()


def register_paste_params_button(binding: ParamBinding) -> None:
    """Remember a "Send to" button."""
    registered_param_bindings.append(binding)


def add_paste_fields(tabname: str, init_img: Any, fields: list | None, override_settings_component: Any = None) -> None:
    """Declare what a paste into this tab fills in; plain pairs become PasteField."""
    fields = [field if isinstance(field, PasteField) else PasteField(*field) for field in fields or []]
    paste_fields[tabname] = {
        "init_img": init_img,
        "fields": fields,
        "override_settings_component": override_settings_component,
    }


def quote(text: Any) -> Any:
    """JSON-quoted when it has a comma, colon or newline, else unchanged."""
    return json.dumps(text, ensure_ascii=False) if any(mark in str(text) for mark in ",:\n") else text


def unquote(text: str) -> str:
    """The opposite of `quote`; text that is no JSON string comes back unchanged."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_pairs(line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in PAIR.findall(line):
        value = unquote(value)
        size = SIZE.match(value) if isinstance(value, str) else None
        if size:
            found[f"{key}-1"], found[f"{key}-2"] = size.groups()
        else:
            found[key] = value
    return found


def parse_generation_parameters(x: str, skip_fields: list[str] | None = None) -> dict[str, Any]:
    """The keys of an infotext, with "Prompt" and "Negative prompt".

    The last line holds parameters only if it has at least three pairs; a value such as 64x48 under "Size" is given
    as "Size-1" and "Size-2".
    """
    *lines, last = x.strip().split("\n")
    if len(PAIR.findall(last)) < 3:
        lines, last = [*lines, last], ""
    parts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    part = "Prompt"
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            part, line = "Negative prompt", line[len(NEGATIVE) :].strip()
        parts[part].append(line)
    params: dict[str, Any] = _read_pairs(last)
    # Leading empty lines are dropped, as in the host.
    params.update({key: "\n".join(_without_leading_empty(found)) for key, found in parts.items()})
    _find_styles(params)
    for key, value in ABSENT.items():
        params.setdefault(key, value)
    for key in shared.opts.infotext_skip_pasting if skip_fields is None else skip_fields:
        params.pop(key, None)
    return params


def _find_styles(params: dict[str, Any]) -> None:
    """Take the texts of known styles out of the prompts and name the styles instead, as the settings say."""
    wanted = shared.opts.infotext_styles
    if wanted == "Ignore":
        return
    extract = shared.prompt_styles.extract_styles_from_prompt
    prompt, negative = params["Prompt"], params["Negative prompt"]
    found, bare, bare_negative = extract(prompt, negative)
    if "Hires prompt" in params or "Hires negative prompt" in params:
        hires = params.get("Hires prompt", prompt), params.get("Hires negative prompt", negative)
        found_hires, hires_bare, hires_bare_negative = extract(*hires)
        if found_hires != found:
            return
        params["Hires prompt"] = "" if hires_bare == bare else hires_bare
        params["Hires negative prompt"] = "" if hires_bare_negative == bare_negative else hires_bare_negative
    params["Prompt"], params["Negative prompt"] = bare, bare_negative
    if wanted == "Apply" or (wanted == "Apply if any" and found):
        params["Styles array"] = found


def _without_leading_empty(lines: list[str]) -> list[str]:
    first = next((i for i, line in enumerate(lines) if line), len(lines))
    return lines[first:]


def create_override_settings_dict(text_pairs: list[str]) -> dict[str, Any]:
    """["Clip skip: 2"] -> {"CLIP_stop_at_last_layers": 2}."""
    params = {key.strip(): value.strip() for key, _, value in (pair.partition(":") for pair in text_pairs)}
    return {
        name: value
        for name, info in shared.opts.data_labels.items()
        if info.infotext in params and (value := _setting(name, params[info.infotext])) is not None
    }


def _setting(name: str, text: Any) -> Any:
    """A setting's value from its text, None when that is not valid."""
    try:
        own = name in shared_options.templates() and text is not None
        return shared_options.checked(name, text) if own else shared.opts.cast_value(name, text)
    except (PrismError, TypeError, ValueError, OverflowError):
        return None


def get_override_settings(params: dict[str, Any], *, skip_fields: Any = None) -> list[tuple[str, str, Any]]:
    """(key, setting, value) for each key that belongs to a setting and differs from its current value."""
    found = []
    for name, info in shared.opts.data_labels.items():
        key = info.infotext
        if not key or key in (skip_fields or ()) or params.get(key) is None:
            continue
        if name == "sd_model_checkpoint" and shared.opts.disable_weights_auto_swap:
            continue
        value = _setting(name, params[key])
        if value is not None and value != getattr(shared.opts, name, None):
            found.append((key, name, value))
    return found


def last_params() -> str:
    """The infotext of the last job, which pasting from an empty prompt restores."""
    try:
        with open(os.path.join(paths.data_path, "params.txt"), encoding="utf8") as file:
            return file.read()
    except OSError:
        return ""


def is_update(value: Any) -> bool:
    """Whether a value is what `gr.update` gives."""
    return isinstance(value, dict) and value.get("__type__") in ("update", "generic_update")


def _number(kind: type, value: Any) -> float:
    """A number that the page can be sent; whole ones keep all their digits."""
    try:
        number: float = int(value) if kind is int and isinstance(value, str) else float(value)
    except ValueError:
        number = float(value)
    if not abs(number) <= LARGEST:
        raise ValueError(f"{value} is too large")
    return number


def field_update(component: Any, target: Any, params: dict[str, Any]) -> Any:
    """What a paste does to one component: None and failing conversions mean no update."""
    try:
        value = target(params) if callable(target) else params.get(target)
    except Exception:
        errors.report(f"Error executing {target}", exc_info=True)
        value = None
    if value is None:
        return gr.update()
    if is_update(value):
        return value
    kind = type(component.value)
    try:
        if kind is bool and value == "False":
            return gr.update(value=False)
        return gr.update(value=_number(kind, value) if kind in (int, float) else kind(value))
    except (TypeError, ValueError, OverflowError):
        return gr.update()


def connect_paste(
    button: Any, paste_fields: list, input_comp: Any, override_settings_component: Any, tabname: str
) -> None:
    """Make `button` read the infotext in `input_comp` into all fields.

    Keys of settings that no field takes become entries of `override_settings_component`.
    """
    fields = [tuple(field) for field in paste_fields]
    if override_settings_component is not None:
        taken = {target for _, target in fields if isinstance(target, str)}
        fields.append((override_settings_component, lambda params: override_update(params, taken)))

    def paste(text: str) -> list:
        text = text or last_params()
        params = parse_generation_parameters(text)
        script_callbacks.infotext_pasted_callback(text, params)
        return [field_update(component, target, params) for component, target in fields]

    button.click(paste, [input_comp], [component for component, _ in fields], **QUIET)


def override_update(params: dict[str, Any], taken: set[str]) -> Any:
    """The override settings of an infotext, as entries such as "Clip skip: 2"."""
    found = [f"{key}: {value}" for key, _, value in get_override_settings(params, skip_fields=taken)]
    return gr.update(value=found, choices=found, visible=bool(found))


def create_buttons(tabs_list: list[str]) -> dict[str, gr.Button]:
    """A "Send to" button for each tab."""
    return {tab: gr.Button(f"Send to {tab}", elem_id=f"{tab}_tab") for tab in tabs_list}


def image_from_url_text(filedata: Any) -> Any:
    """A PIL picture from what a gallery, an image or an editor of the page gives; None for nothing."""
    if isinstance(filedata, dict):
        filedata = filedata.get("background")
    if isinstance(filedata, (list, tuple)):
        return image_from_url_text(filedata[0]) if filedata else None
    if not isinstance(filedata, (str, Path)):
        return filedata
    with Image.open(filedata) as image:
        image.load()
        return image


def send_image_and_dimensions(x: Any) -> tuple:
    """(picture, width, height); the size stays as it is when the setting "Send size" is off."""
    image = image_from_url_text(x)
    if image is None or not shared.opts.send_size:
        return image, gr.update(), gr.update()
    return image, image.width, image.height


def _send_image(binding: ParamBinding, target: Any, fields: list) -> None:
    sizes = [next((c for c, label in fields if label == key), None) for key in ("Size-1", "Size-2")]
    with_size = binding.tabname != "inpaint" and None not in sizes
    from_gallery = isinstance(binding.source_image_component, gr.Gallery)
    binding.paste_button.click(
        send_image_and_dimensions if with_size else image_from_url_text,
        [binding.source_image_component],
        [target, *sizes] if with_size else [target],
        js="extract_image_from_gallery" if from_gallery else None,
        **QUIET,
    )


def _send_fields(binding: ParamBinding, fields: list) -> None:
    """Copy what both tabs have, by the names of their infotext keys."""
    names = {"Prompt", "Negative prompt", "Steps", *binding.paste_field_names}
    if shared.opts.send_seed:
        names.add("Seed")
    source = paste_fields[binding.source_tabname or ""]["fields"]
    sources = {label: component for component, label in source if isinstance(label, str) and label in names}
    targets = {label: component for component, label in fields if isinstance(label, str) and label in sources}
    sent = [sources[label] for label in targets]
    binding.paste_button.click(lambda *x: x[0] if len(x) == 1 else x, sent, [*targets.values()], **QUIET)


def connect_paste_params_buttons() -> None:
    """Connect every registered button; all tabs must have declared their fields."""
    for binding in registered_param_bindings:
        target = paste_fields[binding.tabname]
        fields = target["fields"] or []
        if binding.source_image_component is not None and target["init_img"] is not None:
            _send_image(binding, target["init_img"], fields)
        if binding.source_text_component is not None and fields:
            overrides = binding.override_settings_component or target["override_settings_component"]
            connect_paste(binding.paste_button, fields, binding.source_text_component, overrides, binding.tabname)
        if binding.source_tabname is not None and fields:
            _send_fields(binding, fields)
        binding.paste_button.click(None, None, None, js=f"switch_to_{binding.tabname}")
