"""Global callbacks: extensions register with `on_<name>(function)`, the host calls `<name>_callback(...)`."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

from modules import errors, extensions, util


class ImageSaveParams:
    """A picture about to be saved or just saved; `pnginfo["parameters"]` is the infotext."""

    def __init__(self, image: Any, p: Any, filename: str, pnginfo: dict) -> None:
        self.image, self.p, self.filename, self.pnginfo = image, p, filename, pnginfo


class ExtraNoiseParams:
    """Noise to be added, the latent, and the noisy latent."""

    def __init__(self, noise: Any, x: Any, xi: Any) -> None:
        self.noise, self.x, self.xi = noise, x, xi


class CFGDenoiserParams:
    """Before a model call; x, image_cond, sigma, text_cond and text_uncond are read back afterwards.

    The rows of x are all conds (one per AND part and image), then one uncond per image.
    """

    def __init__(
        self,
        x: Any,
        image_cond: Any,
        sigma: Any,
        sampling_step: int,
        total_sampling_steps: int,
        text_cond: Any,
        text_uncond: Any,
        denoiser: Any = None,
    ) -> None:
        self.x, self.image_cond, self.sigma = x, image_cond, sigma
        self.sampling_step, self.total_sampling_steps = sampling_step, total_sampling_steps
        self.text_cond, self.text_uncond, self.denoiser = text_cond, text_uncond, denoiser


class CFGDenoisedParams:
    """After a model call; x is not read back, so change it in place."""

    def __init__(self, x: Any, sampling_step: int, total_sampling_steps: int, inner_model: Any) -> None:
        self.x, self.inner_model = x, inner_model
        self.sampling_step, self.total_sampling_steps = sampling_step, total_sampling_steps


class AfterCFGCallbackParams:
    """After cond and uncond were combined; x is read back."""

    def __init__(self, x: Any, sampling_step: int, total_sampling_steps: int) -> None:
        self.x, self.sampling_step, self.total_sampling_steps = x, sampling_step, total_sampling_steps


class UiTrainTabParams:
    """The training tab's fields, which the studio does not have."""

    def __init__(self, txt2img_preview_params: Any) -> None:
        self.txt2img_preview_params = txt2img_preview_params


class ImageGridLoopParams:
    """A grid about to be made."""

    def __init__(self, imgs: list, cols: int, rows: int) -> None:
        self.imgs, self.cols, self.rows = imgs, cols, rows


@dataclasses.dataclass
class BeforeTokenCounterParams:
    """A prompt about to be counted; edit the fields."""

    prompt: str
    steps: int
    styles: list
    is_positive: bool = True


@dataclasses.dataclass
class ScriptCallback:
    """One registered function."""

    script: str
    callback: Any
    name: str = "unnamed"


_CATEGORIES = (
    "app_started",
    "model_loaded",
    "ui_tabs",
    "ui_train_tabs",
    "ui_settings",
    "before_image_saved",
    "image_saved",
    "extra_noise",
    "cfg_denoiser",
    "cfg_denoised",
    "cfg_after_cfg",
    "before_component",
    "after_component",
    "image_grid",
    "infotext_pasted",
    "script_unloaded",
    "before_ui",
    "on_reload",
    "list_optimizers",
    "list_unets",
    "before_token_counter",
)
callback_map: dict[str, list[ScriptCallback]] = {f"callbacks_{name}": [] for name in _CATEGORIES}
ordered_callbacks_map: dict[str, list[ScriptCallback]] = {}


def clear_callbacks() -> None:
    """Forget everything registered."""
    for callbacks in callback_map.values():
        callbacks.clear()
    ordered_callbacks_map.clear()


def _caller() -> str:
    return next((frame.filename for frame in inspect.stack() if frame.filename != __file__), "unknown file")


def add_callback(
    callbacks: list[ScriptCallback],
    fun: Any,
    *,
    name: str | None = None,
    category: str = "unknown",
    filename: str | None = None,
) -> None:
    """Append under the name "<extension>/<file>/<category>[/<name>]", made unique with -1, -2 ..."""
    filename = filename or _caller()
    extension = extensions.find_extension(filename)
    base = f"{extension.canonical_name if extension else 'base'}/{os.path.basename(filename)}/{category}"
    base += f"/{name}" if name is not None else ""
    taken = {callback.name for callback in callbacks}
    unique, number = base, 0
    while unique in taken:
        number += 1
        unique = f"{base}-{number}"
    callbacks.append(ScriptCallback(filename, fun, unique))


def sort_callbacks(
    category: str, unordered_callbacks: list[ScriptCallback], *, enable_user_sort: bool = True
) -> list[ScriptCallback]:
    """Ordered by the Before and After of every metadata.ini, else as registered."""
    lookup = {callback.name: callback for callback in unordered_callbacks}
    dependencies: dict[str, list[str]] = {name: [] for name in lookup}
    for extension in extensions.active():
        for order in extension.metadata.list_callback_order_instructions():
            if order.name in lookup:
                dependencies[order.name] += [name for name in order.after if name in lookup]
                for name in order.before:
                    if name in lookup:
                        dependencies[name].append(order.name)
    return [lookup[name] for name in util.topological_sort(dependencies)]


def ordered_callbacks(
    category: str, unordered_callbacks: list[ScriptCallback] | None = None, *, enable_user_sort: bool = True
) -> list[ScriptCallback]:
    """The callbacks of a category in calling order."""
    unordered = callback_map[f"callbacks_{category}"] if unordered_callbacks is None else unordered_callbacks
    known = ordered_callbacks_map.get(category)
    if known is None or len(known) != len(unordered):
        known = ordered_callbacks_map[category] = sort_callbacks(category, unordered)
    return known


def _call(category: str, *args: Any, backwards: bool = False, **kwargs: Any) -> list:
    """Call everyone; an exception is reported and the next one is called."""
    results = []
    callbacks = ordered_callbacks(category)
    for registered in reversed(callbacks) if backwards else list(callbacks):
        try:
            results.append(registered.callback(*args, **kwargs))
        except errors.OF_SCRIPTS:
            errors.report(f"Error executing callback {category} for {registered.script}", exc_info=True)
    return results


def remove_current_script_callbacks() -> None:
    """Forget what the calling file registered."""
    filename = _caller()
    _remove(lambda callback: callback.script == filename)


def remove_callbacks_for_function(callback_func: Any) -> None:
    """Forget one function everywhere."""
    _remove(lambda callback: callback.callback == callback_func)


def _remove(unwanted: Callable[[ScriptCallback], bool]) -> None:
    for callbacks in (*callback_map.values(), *ordered_callbacks_map.values()):
        callbacks[:] = [callback for callback in callbacks if not unwanted(callback)]


def app_started_callback(demo: Any, app: Any) -> None:
    """The web server is up; `demo` is None without a page."""
    _call("app_started", demo, app)


def app_reload_callback() -> None:
    """The page is about to be built anew."""
    _call("on_reload")


def model_loaded_callback(sd_model: Any) -> None:
    """A checkpoint was loaded."""
    _call("model_loaded", sd_model)


def ui_tabs_callback() -> list:
    """Tabs of extensions: (blocks, label, id)."""
    return [tab for tabs in _call("ui_tabs") for tab in tabs or []]


def ui_train_tabs_callback(params: UiTrainTabParams) -> None:
    """Never called by the studio, which does not train."""
    _call("ui_train_tabs", params)


def ui_settings_callback() -> None:
    """Extensions declare their settings."""
    _call("ui_settings")


def before_image_saved_callback(params: ImageSaveParams) -> None:
    """A picture is about to be saved; the fields may be changed."""
    _call("before_image_saved", params)


def image_saved_callback(params: ImageSaveParams) -> None:
    """A picture was saved."""
    _call("image_saved", params)


def extra_noise_callback(params: ExtraNoiseParams) -> None:
    """Noise is about to be added to a latent."""
    _call("extra_noise", params)


def cfg_denoiser_callback(params: CFGDenoiserParams) -> None:
    """Before a model call."""
    _call("cfg_denoiser", params)


def cfg_denoised_callback(params: CFGDenoisedParams) -> None:
    """After a model call, cond and uncond still apart."""
    _call("cfg_denoised", params)


def cfg_after_cfg_callback(params: AfterCFGCallbackParams) -> None:
    """After cond and uncond were combined."""
    _call("cfg_after_cfg", params)


def before_component_callback(component: Any, **kwargs: Any) -> None:
    """A component of the page is about to be created."""
    _call("before_component", component, **kwargs)


def after_component_callback(component: Any, **kwargs: Any) -> None:
    """A component of the page was created."""
    _call("after_component", component, **kwargs)


def image_grid_callback(params: ImageGridLoopParams) -> None:
    """A grid is about to be made."""
    _call("image_grid", params)


def infotext_pasted_callback(infotext: str, params: dict[str, Any]) -> None:
    """An infotext was parsed; `params` may be edited before the fields are read."""
    _call("infotext_pasted", infotext, params)


def script_unloaded_callback() -> None:
    """Scripts are about to be dropped; last registered, first called."""
    _call("script_unloaded", backwards=True)


def before_ui_callback() -> None:
    """The page is about to be built. The host calls these backwards too."""
    _call("before_ui", backwards=True)


def _filled(category: str) -> list:
    items: list = []
    _call(category, items)
    return items


def list_optimizers_callback() -> list:
    """Attention implementations of extensions."""
    return _filled("list_optimizers")


def list_unets_callback() -> list:
    """UNets of extensions."""
    return _filled("list_unets")


def before_token_counter_callback(params: BeforeTokenCounterParams) -> None:
    """A prompt is about to be counted."""
    _call("before_token_counter", params)


def on_app_started(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(demo, app)`, when the web server is up."""
    add_callback(callback_map["callbacks_app_started"], callback, name=name, category="app_started")


def on_before_reload(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback()`, before the page is built anew."""
    add_callback(callback_map["callbacks_on_reload"], callback, name=name, category="on_reload")


def on_model_loaded(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(sd_model)`, after a checkpoint was loaded."""
    add_callback(callback_map["callbacks_model_loaded"], callback, name=name, category="model_loaded")


def on_ui_tabs(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback()` returns a list of (blocks, label, id)."""
    add_callback(callback_map["callbacks_ui_tabs"], callback, name=name, category="ui_tabs")


def on_ui_train_tabs(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(params)`."""
    add_callback(callback_map["callbacks_ui_train_tabs"], callback, name=name, category="ui_train_tabs")


def on_ui_settings(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback()`, to declare settings with `shared.opts.add_option`."""
    add_callback(callback_map["callbacks_ui_settings"], callback, name=name, category="ui_settings")


def on_before_image_saved(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(ImageSaveParams)`."""
    add_callback(callback_map["callbacks_before_image_saved"], callback, name=name, category="before_image_saved")


def on_image_saved(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(ImageSaveParams)`."""
    add_callback(callback_map["callbacks_image_saved"], callback, name=name, category="image_saved")


def on_extra_noise(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(ExtraNoiseParams)`."""
    add_callback(callback_map["callbacks_extra_noise"], callback, name=name, category="extra_noise")


def on_cfg_denoiser(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(CFGDenoiserParams)`, before each model call."""
    add_callback(callback_map["callbacks_cfg_denoiser"], callback, name=name, category="cfg_denoiser")


def on_cfg_denoised(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(CFGDenoisedParams)`, after each model call."""
    add_callback(callback_map["callbacks_cfg_denoised"], callback, name=name, category="cfg_denoised")


def on_cfg_after_cfg(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(AfterCFGCallbackParams)`, after guidance."""
    add_callback(callback_map["callbacks_cfg_after_cfg"], callback, name=name, category="cfg_after_cfg")


def on_before_component(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(component, **kwargs)`."""
    add_callback(callback_map["callbacks_before_component"], callback, name=name, category="before_component")


def on_after_component(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(component, **kwargs)`."""
    add_callback(callback_map["callbacks_after_component"], callback, name=name, category="after_component")


def on_image_grid(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(ImageGridLoopParams)`."""
    add_callback(callback_map["callbacks_image_grid"], callback, name=name, category="image_grid")


def on_infotext_pasted(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(infotext, params)`, before fields are read."""
    add_callback(callback_map["callbacks_infotext_pasted"], callback, name=name, category="infotext_pasted")


def on_script_unloaded(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback()`, to undo patches."""
    add_callback(callback_map["callbacks_script_unloaded"], callback, name=name, category="script_unloaded")


def on_before_ui(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback()`, before the page is built."""
    add_callback(callback_map["callbacks_before_ui"], callback, name=name, category="before_ui")


def on_list_optimizers(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(items)`."""
    add_callback(callback_map["callbacks_list_optimizers"], callback, name=name, category="list_optimizers")


def on_list_unets(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(items)`."""
    add_callback(callback_map["callbacks_list_unets"], callback, name=name, category="list_unets")


def on_before_token_counter(callback: Callable, *, name: str | None = None) -> None:
    """Register `callback(BeforeTokenCounterParams)`."""
    add_callback(callback_map["callbacks_before_token_counter"], callback, name=name, category="before_token_counter")
