"""A request: completed from its infotext and the model, and turned into script arguments."""

from __future__ import annotations

from typing import Any

from sd_prism.errors import PrismError, UnknownName

from modules import infotext_utils, scripts, sd_models, shared
from modules.api import checks, script_values
from modules.api.models import Request


def completed(job: Request) -> Request:
    """The job with a size; one that was left open is that of the model that the job will use."""
    if job.width is None or job.height is None:
        name = (job.override_settings or {}).get("sd_model_checkpoint")
        chosen = shared.opts.sd_model_checkpoint
        size = sd_models.reload_model_weights(info=sd_models.find(name) if name else None).native_size
        if name:
            shared.opts.data["sd_model_checkpoint"] = chosen
        job.width, job.height = job.width or size, job.height or size
    checks.check_size(job)
    return job


def default_script_args(runner: scripts.ScriptRunner) -> list:
    """What `ui()` gives, inside a throw-away page. It is called twice per script, as the host does."""
    args: list = [0] + [None] * (max([script.args_to for script in runner.scripts] + [1]) - 1)
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
        place = slice(script.args_from, script.args_to)
        args[place] = script_values.completed(script, request.script_args, args[place])
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
        known, place = field.api in type(request).model_fields, places.get(id(field.component))
        value = _field_value(field, params) if known or place is not None else None
        if value is None:
            continue
        if known and field.api not in request.model_fields_set:
            setattr(request, str(field.api), value)
        elif not known and place is not None:
            pasted[place] = value
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
