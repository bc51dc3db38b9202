"""A request: checked, completed from its infotext, and turned into script arguments."""

from __future__ import annotations

import math
import re
from typing import Any

import gradio as gr
from sd_prism.errors import OutOfRange, PrismError, UnknownName

from modules import infotext_utils, scripts, sd_models, sd_samplers, sd_schedulers, shared, shared_options
from modules.api.models import Request

MAX_PROMPT = 20_000
SIZE = (64, 4096)
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 1000),
    "batch_size": (1, 64),
    "n_iter": (1, 1000),
    "seed": (-1, 2**63),
    "subseed": (-1, 2**63),
    "seed_resize_from_h": (-1, 8192),
    "seed_resize_from_w": (-1, 8192),
    **dict.fromkeys(("eta", "s_churn", "s_tmin", "s_tmax", "s_noise"), (0, 8192)),
}
NOT_HERE = ("refiner_checkpoint", "restore_faces", "tiling")


def check_letters(request: Request) -> None:
    """Raise PrismError for text that no file can hold."""
    for name, value in request.model_dump().items():
        _check_letters(name, value)


def check(request: Request) -> None:
    """Raise PrismError for the first thing that is wrong; nothing is loaded for that."""
    for name in ("prompt", "negative_prompt"):
        _check_length(name, getattr(request, name))
    for name, (low, high) in RANGES.items():
        if getattr(request, name) is not None:
            _check_range(name, getattr(request, name), low, high)
    for name in ("cfg_scale", "subseed_strength"):
        if not math.isfinite(getattr(request, name)):
            raise PrismError(f"{name} is {getattr(request, name)}; it must be a number")
    for name in ("width", "height"):
        if getattr(request, name) is not None:
            _check_size(name, getattr(request, name))
    for name in NOT_HERE:
        if getattr(request, name):
            raise PrismError(f"{name} is nothing that the studio can do; leave it out")
    _check_names(request)


def _check_length(name: str, text: str) -> None:
    if len(text) > MAX_PROMPT:
        raise PrismError(f"{name} has {len(text)} characters; the studio takes at most {MAX_PROMPT}")


def _check_letters(name: str, value: Any) -> None:
    """Half of a two-part character, which JSON can say and no file can hold."""
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        _check_letters(name, part)
    half = re.search("[\ud800-\udfff]", value) if isinstance(value, str) else None
    if half:
        raise PrismError(f"{name} has half a character (U+{ord(half[0]):X}) at {half.start()}; send the whole one")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if 2**64 < abs(value) < math.inf:  # too long to be shown
        raise PrismError(f"{name} is far outside its range; it must lie between {low:g} and {high:g} (txt2img)")
    if not low <= value <= high:
        raise OutOfRange(name, value, low, high, "txt2img")


def _check_size(name: str, value: int) -> None:
    _check_range(name, value, *SIZE)
    if value % 8:
        below = value - value % 8
        raise PrismError(f"{name} is {value}; it must be a multiple of 8. Nearest: {below} and {below + 8}")


def _check_names(request: Request) -> None:
    name = request.sampler_name or request.sampler_index or "Euler"
    sampler, schedule = sd_samplers.split_name(name)
    if sampler.lower() not in sd_samplers.samplers_map:
        raise UnknownName("Sampler not found: sampler", name, sd_samplers.all_samplers_map)
    request.sampler_name = sd_samplers.samplers_map[sampler.lower()]
    wanted = request.scheduler or schedule or "Automatic"
    labels = {x.label.lower(): x.label for x in sd_schedulers.schedulers}
    labels |= {x.name.lower(): x.label for x in sd_schedulers.schedulers}
    if wanted.lower() not in labels:
        raise UnknownName("schedule", wanted, [x.label for x in sd_schedulers.schedulers])
    request.scheduler = labels[wanted.lower()]
    settings = dict(request.override_settings or {})
    own = shared_options.templates()
    for key, value in settings.items():
        if key not in shared.opts.data_labels:
            raise UnknownName("setting", key, shared.opts.data_labels)
        # None means "as it is" where no value is the default.
        if key in own and (value is not None or own[key].default is not None):
            settings[key] = shared_options.checked(key, value)
    if settings.get("sd_model_checkpoint"):
        settings["sd_model_checkpoint"] = sd_models.find(str(settings["sd_model_checkpoint"])).title
    request.override_settings = settings


def set_native_size(request: Request) -> None:
    """Fill in a size that was left open from the model that the job will use."""
    if request.width is None or request.height is None:
        name = (request.override_settings or {}).get("sd_model_checkpoint")
        chosen = shared.opts.sd_model_checkpoint
        size = sd_models.reload_model_weights(info=sd_models.find(name) if name else None).native_size
        if name:
            shared.opts.data["sd_model_checkpoint"] = chosen
        request.width, request.height = request.width or size, request.height or size


def default_script_args(runner: scripts.ScriptRunner) -> list:
    """What `ui()` gives in a throw-away page. It is called twice per script, as the host does."""
    args: list = [0] + [None] * (max([script.args_to for script in runner.scripts] + [1]) - 1)
    with gr.Blocks(analytics_enabled=False):
        for script in runner.scripts:
            if scripts.wrap_call(script.ui, script.filename, "ui", script.is_img2img):
                controls = scripts.wrap_call(script.ui, script.filename, "ui", script.is_img2img) or []
                args[script.args_from : script.args_to] = [control.value for control in controls]
    return args


def _named(name: str, among: list[scripts.Script]) -> scripts.Script:
    known = {str(script.name or script.title().lower()): script for script in among}
    if name.lower() not in known:
        raise UnknownName("Script not found: script", name, known)
    return known[name.lower()]


def script_args(request: Request, runner: scripts.ScriptRunner, defaults: list, pasted: dict[int, Any]) -> list:
    """Defaults, then what the infotext says, then what the request says; surplus arguments are dropped."""
    args = list(defaults)
    for index, value in pasted.items():
        args[index] = value
    if request.script_name:
        script = _named(request.script_name, runner.selectable_scripts)
        args[script.args_from : script.args_to] = request.script_args
        args[0] = runner.selectable_scripts.index(script) + 1
    for name, given in (request.alwayson_scripts or {}).items():
        script = _named(name, runner.scripts)
        if not script.alwayson:
            raise PrismError(f'"{name}" is a selectable script; name it in script_name, not in alwayson_scripts')
        if not isinstance(given, dict) or not isinstance(given.get("args", []), list):
            raise PrismError(f'alwayson_scripts["{name}"] must look like {{"args": [...]}}')
        values = given.get("args", [])[: script.args_to - script.args_from]
        args[script.args_from : script.args_from + len(values)] = values
    return args


def apply_infotext(request: Request, runner: scripts.ScriptRunner) -> dict[int, Any]:
    """Fill the fields that the request leaves open from its infotext; returns script arguments by index."""
    if not request.infotext:
        return {}
    params = infotext_utils.parse_generation_parameters(request.infotext)
    fields = infotext_utils.paste_fields.get(request.tab, {}).get("fields", [])
    # Argument 0 is the Script menu's; which script runs is for the request to say.
    places = {id(component): index for index, component in enumerate(runner.inputs) if index}
    pasted: dict[int, Any] = {}
    for field in fields:
        value = _field_value(field, params)
        if value is None:
            continue
        if field.api and field.api in type(request).model_fields:
            if field.api not in request.model_fields_set:
                setattr(request, field.api, value)
        elif id(field.component) in places:
            pasted[places[id(field.component)]] = value
    settings = {name: value for _, name, value in infotext_utils.get_override_settings(params)}
    request.override_settings = {**settings, **(request.override_settings or {})}
    return pasted


def _field_value(field: infotext_utils.PasteField, params: dict[str, Any]) -> Any:
    update = infotext_utils.field_update(field.component, field[1], params)
    value = update.get("value") if infotext_utils.is_update(update) else update
    try:
        return int(value) if type(field.component.value) is int and isinstance(value, float) else value
    except (ValueError, OverflowError):  # not finite
        return None
