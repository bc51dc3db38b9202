"""Scripts: the class that extensions derive from, how their files are loaded, and who calls them.

The rules are the host's: a script module is named by its file and is not in `sys.modules`, every class in its
namespace that derives from `Script` is registered, a hook costs nothing unless it is overridden, and an exception in
a hook is reported and never ends the job.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr

from modules import errors, extensions, paths, script_callbacks, script_loading, util

AlwaysVisible = object()


class MaskBlendArgs:
    """The latents that are blended under an inpaint mask."""

    def __init__(
        self,
        current_latent: Any,
        nmask: Any,
        init_latent: Any,
        mask: Any,
        blended_latent: Any,
        denoiser: Any = None,
        sigma: Any = None,
    ) -> None:
        self.current_latent, self.nmask, self.init_latent, self.mask = current_latent, nmask, init_latent, mask
        self.blended_latent, self.denoiser, self.sigma = blended_latent, denoiser, sigma
        self.is_final_blend = denoiser is None


class PostSampleArgs:
    """`samples`: latents, or pictures when they have `already_decoded`."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples


class PostprocessImageArgs:
    """`image`: a PIL picture."""

    def __init__(self, image: Any) -> None:
        self.image = image


class PostProcessMaskOverlayArgs:
    """Mask and overlay of picture number `index` of the batch."""

    def __init__(self, index: int, mask_for_overlay: Any, overlay_image: Any) -> None:
        self.index, self.mask_for_overlay, self.overlay_image = index, mask_for_overlay, overlay_image


class PostprocessBatchListArgs:
    """`images`: tensors (C,H,W) in 0..1; the list may grow or shrink."""

    def __init__(self, images: list) -> None:
        self.images = images


@dataclass
class OnComponent:
    """What a function registered with `on_before_component` gets."""

    component: Any


class Script:
    """One script of an extension. Override what you need; `*args` are the values of what `ui()` returned."""

    name: str | None = None
    section: str | None = None
    filename: str = ""
    args_from: int = 0
    args_to: int = 0
    alwayson = False
    is_txt2img = False
    is_img2img = False
    tabname: str | None = None
    group: Any = None
    create_group = True
    infotext_fields: list | None = None
    paste_field_names: list | None = None
    api_info: Any = None
    on_before_component_elem_id: list | None = None
    on_after_component_elem_id: list | None = None
    setup_for_ui_only = False
    controls: list | None = None

    def title(self) -> str:
        """The name on the page; lower-cased it is the API's name."""
        raise NotImplementedError

    def ui(self, is_img2img: bool) -> Any:
        """Create components and return those whose values are arguments. Called three times per tab."""

    def show(self, is_img2img: bool) -> Any:
        """False, True (an entry in the Script menu) or AlwaysVisible."""
        return True

    def run(self, p: Any, *args: Any) -> Any:
        """Selectable scripts: do the whole job and return Processed."""

    def setup(self, p: Any, *args: Any) -> None:
        """Always-on scripts: when p has scripts and arguments, before anything else."""

    def before_process(self, p: Any, *args: Any) -> None:
        """Before override settings are applied."""

    def process(self, p: Any, *args: Any) -> None:
        """Prompts and seeds exist, the model is the right one."""

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """kwargs: batch_number, prompts, seeds, subseeds. Tags are still in the prompts."""

    def after_extra_networks_activate(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """kwargs: batch_number, prompts, seeds, subseeds, extra_network_data."""

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """kwargs: x, noise, c, uc. Once per pass."""

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """kwargs: batch_number, prompts, seeds, subseeds. Tags are cut out, conds not yet made."""

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """kwargs: images (N,C,H,W) in 0..1, batch_number."""

    def postprocess_batch_list(self, p: Any, pp: PostprocessBatchListArgs, *args: Any, **kwargs: Any) -> None:
        """kwargs: batch_number. `pp.images` may change its length."""

    def on_mask_blend(self, p: Any, mba: MaskBlendArgs, *args: Any) -> None:
        """Inpainting: at each step and once at the end."""

    def post_sample(self, p: Any, ps: PostSampleArgs, *args: Any) -> None:
        """After sampling, before decoding."""

    def postprocess_image(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None:
        """For each picture."""

    def postprocess_maskoverlay(self, p: Any, ppmo: PostProcessMaskOverlayArgs, *args: Any) -> None:
        """For each picture."""

    def postprocess_image_after_composite(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None:
        """For each picture, after the inpaint overlay."""

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """Last, and only when the job succeeded."""

    def before_component(self, component: Any, **kwargs: Any) -> None:
        """Before any component of the page is created."""

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """After any component of the page was created."""

    def on_before_component(self, callback: Callable[[OnComponent], None], *, elem_id: str) -> None:
        """Call `callback` before the component with this id is created."""
        if self.on_before_component_elem_id is None:
            self.on_before_component_elem_id = []
        self.on_before_component_elem_id.append((elem_id, callback))

    def on_after_component(self, callback: Callable[[OnComponent], None], *, elem_id: str) -> None:
        """Call `callback` after the component with this id was created."""
        if self.on_after_component_elem_id is None:
            self.on_after_component_elem_id = []
        self.on_after_component_elem_id.append((elem_id, callback))

    def describe(self) -> str:
        """Unused by hosts."""
        return ""

    def _tab_prefix(self) -> str:
        both = self.show(True) == self.show(False)
        return ("img2img_" if self.is_img2img else "txt2img_") if both else ""

    def elem_id(self, item_id: Any) -> str:
        """An HTML id from tab, title and `item_id`."""
        title = re.sub(r"[^a-z_0-9]", "", re.sub(r"\s", "_", self.title().lower()))
        return f"script_{self._tab_prefix()}{title}_{item_id}"

    def before_hr(self, p: Any, *args: Any) -> None:
        """Before the hires pass samples."""


class ScriptBuiltinUI(Script):
    """A part of the host's own page."""

    setup_for_ui_only = True

    def elem_id(self, item_id: Any) -> str:
        """An HTML id from tab and `item_id`."""
        return f"{self._tab_prefix()}{item_id}"

    def show(self, is_img2img: bool) -> Any:
        """Always."""
        return AlwaysVisible


current_basedir = paths.script_path


def basedir() -> str:
    """The extension's folder, while its script file is being loaded; else the host's folder."""
    return current_basedir


ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])
ScriptClassData = namedtuple("ScriptClassData", ["script_class", "path", "basedir", "module"])
scripts_data: list[ScriptClassData] = []
postprocessing_scripts_data: list = []


def list_scripts(scriptdirname: str, extension: str, *, include_extensions: bool = True) -> list[ScriptFile]:
    """The host's own files by name, then the extensions', ordered by every metadata.ini."""
    files: dict[str, ScriptFile] = {}
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for path in sorted(Path(paths.script_path, scriptdirname).glob(f"*{extension}")):
        files[path.name] = ScriptFile(paths.script_path, path.name, str(path))
        after[path.name], before[path.name] = [], []
    for ext in extensions.active() if include_extensions else []:
        for path in ext.files(scriptdirname, extension):
            name, section = f"{ext.canonical_name}/{path.name}", f"{scriptdirname}/{path.name}"
            files[name] = ScriptFile(ext.path, path.name, str(path))
            groups.setdefault(ext.canonical_name, []).append(name)
            after[name] = ext.metadata.get_script_requirements("After", section, scriptdirname)
            before[name] = ext.metadata.get_script_requirements("Before", section, scriptdirname)
    dependencies: dict[str, list[str]] = {name: [] for name in files}
    for name in files:
        dependencies[name] += [script for other in after[name] for script in groups.get(other, [other])]
        for other in before[name]:
            for script in groups.get(other, [other]):
                dependencies.setdefault(script, []).append(name)
    return [files[name] for name in util.topological_sort(dependencies) if name in files]


def list_files_with_name(filename: str) -> list[str]:
    """`filename` in the host's and every extension's folder, where it exists."""
    folders = [paths.script_path] + [ext.path for ext in extensions.active()]
    return [path for folder in folders if os.path.isfile(path := os.path.join(folder, filename))]


def _register(module: ModuleType, file: ScriptFile) -> None:
    for value in list(module.__dict__.values()):
        if inspect.isclass(value) and issubclass(value, Script):
            scripts_data.append(ScriptClassData(value, file.path, file.basedir, module))


def load_scripts() -> None:
    """Load every script file; a file that fails is reported and the others are loaded."""
    global current_basedir, scripts_txt2img, scripts_img2img
    scripts_data.clear()
    script_callbacks.clear_callbacks()
    extensions.list_extensions()
    own = list_scripts("modules/processing_scripts", ".py", include_extensions=False)
    for file in [*list_scripts("scripts", ".py"), *own]:
        kept = list(sys.path)
        sys.path.insert(0, file.basedir)
        current_basedir = file.basedir
        try:
            _register(script_loading.load_module(file.path), file)
        except Exception:
            errors.report(f"Error loading script: {file.filename}", exc_info=True)
        finally:
            sys.path[:] = kept
            current_basedir = paths.script_path
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()


def wrap_call(func: Callable, filename: str, funcname: str, *args: Any, default: Any = None, **kwargs: Any) -> Any:
    """Call; an exception is reported and gives `default`."""
    try:
        return func(*args, **kwargs)
    except errors.OF_SCRIPTS:
        errors.report(f"Error calling: {filename}/{funcname}", exc_info=True)
        return default


class ScriptRunner:
    """The scripts of one tab, their components and their hooks."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.selectable_scripts: list[Script] = []
        self.alwayson_scripts: list[Script] = []
        self.titles: list[str] = []
        self.title_map: dict[str, Script] = {}
        self.infotext_fields: list = []
        self.paste_field_names: list = []
        self.inputs: list = [None]
        self.callback_map: dict[str, tuple[int, list]] = {}
        self.on_before_component_elem_id: dict[str, list] = {}
        self.on_after_component_elem_id: dict[str, list] = {}

    # --- building -------------------------------------------------------------------------------------------------

    def initialize_scripts(self, is_img2img: bool) -> None:
        """Make one object of each registered class and sort them by what `show()` says."""
        self.scripts.clear()
        self.alwayson_scripts.clear()
        self.selectable_scripts.clear()
        for data in scripts_data:
            try:
                script = data.script_class()
                script.filename = data.path
                script.is_txt2img, script.is_img2img = not is_img2img, is_img2img
                script.tabname = "img2img" if is_img2img else "txt2img"
                visibility = script.show(script.is_img2img)
            except errors.OF_SCRIPTS:
                errors.report(f"Error: failed to initialize Script {data.module}", exc_info=True)
                continue
            if visibility:
                self.scripts.append(script)
                script.alwayson = visibility is AlwaysVisible
                (self.alwayson_scripts if script.alwayson else self.selectable_scripts).append(script)
        self.callback_map.clear()
        self.apply_on_before_component_callbacks()

    def apply_on_before_component_callbacks(self) -> None:
        """Take over what scripts registered with `on_before_component` and `on_after_component`."""
        for script in self.scripts:
            for own, taken in (
                (script.on_before_component_elem_id, self.on_before_component_elem_id),
                (script.on_after_component_elem_id, self.on_after_component_elem_id),
            ):
                for elem_id, callback in own or []:
                    taken.setdefault(elem_id, []).append((callback, script))
                if own:
                    own.clear()

    def create_script_ui(self, script: Script) -> None:
        """Call `ui()` for the page and note where the script's arguments lie."""
        script.args_from = script.args_to = len(self.inputs)
        try:
            self.create_script_ui_inner(script)
        except errors.OF_SCRIPTS:
            errors.report(f"Error creating UI for {script.name}: ", exc_info=True)

    def create_script_ui_inner(self, script: Script) -> None:
        """As `create_script_ui`, raising."""
        from modules.api import models

        controls = wrap_call(script.ui, script.filename, "ui", script.is_img2img)
        if controls is None:
            return
        # An InputAccordion kept by its own name stands for its checkbox.
        controls = script.controls = [getattr(control, "checkbox", control) for control in controls]
        script.name = wrap_call(script.title, script.filename, "title", default=script.filename).lower()
        for control in controls:
            control.custom_script_source = os.path.basename(script.filename)
        script.api_info = models.ScriptInfo(
            name=script.name,
            is_img2img=script.is_img2img,
            is_alwayson=script.alwayson,
            args=[models.ScriptArg.of(control) for control in controls],
        )
        self.infotext_fields += script.infotext_fields or []
        self.paste_field_names += script.paste_field_names or []
        self.inputs += controls
        script.args_to = len(self.inputs)

    def setup_ui_for_section(self, section: str | None, scriptlist: list[Script] | None = None) -> None:
        """Build the panels that belong to a section of the page (None: the usual place)."""
        for script in self.alwayson_scripts if scriptlist is None else scriptlist:
            if script.alwayson and script.section != section:
                continue
            if script.create_group:
                with gr.Group(visible=script.alwayson) as group:
                    self.create_script_ui(script)
                script.group = group
            else:
                self.create_script_ui(script)

    def prepare_ui(self) -> None:
        """Start a page: argument 0 is the Script menu's."""
        self.inputs = [None]

    def setup_ui(self) -> list:
        """Build all panels and the Script menu; returns the inputs of the Generate button."""
        titles = [wrap_call(s.title, s.filename, "title") or s.filename for s in self.scripts]
        self.title_map = {title.lower(): script for title, script in zip(titles, self.scripts)}
        self.titles = [
            wrap_call(s.title, s.filename, "title") or f"{s.filename} [error]" for s in self.selectable_scripts
        ]
        self.setup_ui_for_section(None)
        dropdown = gr.Dropdown(
            label="Script",
            # The host's id in both tabs; a page may have an id once only.
            elem_id="img2img_script_list" if any(script.is_img2img for script in self.scripts) else "script_list",
            choices=["None", *self.titles],
            value="None",
            type="index",
            visible=bool(self.titles),
        )
        self.inputs[0] = dropdown
        self.setup_ui_for_section(None, self.selectable_scripts)
        self._connect_menu(dropdown)
        self.apply_on_before_component_callbacks()
        return self.inputs

    def _connect_menu(self, dropdown: Any) -> None:
        with_group = [script for script in self.selectable_scripts if script.group is not None]

        def selected(index: int | None) -> Any:
            chosen = self.selectable_scripts[index - 1] if index else None
            shown = [gr.update(visible=script is chosen) for script in with_group]
            return shown if len(shown) > 1 else shown[0]

        if with_group:
            dropdown.change(selected, [dropdown], [script.group for script in with_group], show_progress="hidden")
        self.infotext_fields.append((dropdown, lambda params: params.get("Script", "None")))

    # --- calling --------------------------------------------------------------------------------------------------

    def run(self, p: Any, *args: Any) -> Any:
        """The selected script's own job, None when no script is selected."""
        index = args[0] if args else None
        if not index:
            return None
        script = self.selectable_scripts[index - 1]
        try:
            return script.run(p, *args[script.args_from : script.args_to])
        except SystemExit as error:
            raise RuntimeError(f"{script.filename} called exit({error.code})") from error

    def list_scripts_for_method(self, method_name: str) -> list[Script]:
        """Component hooks are for all scripts, the others for always-on ones."""
        return self.scripts if method_name in ("before_component", "after_component") else self.alwayson_scripts

    def create_ordered_callbacks_list(self, method_name: str, *, enable_user_sort: bool = True) -> list:
        """The scripts that override a hook, in calling order."""
        callbacks: list[script_callbacks.ScriptCallback] = []
        for script in self.list_scripts_for_method(method_name):
            if getattr(type(script), method_name, None) != getattr(Script, method_name, None):
                script_callbacks.add_callback(
                    callbacks,
                    script,
                    category=f"script_{method_name}",
                    name=type(script).__name__,
                    filename=script.filename,
                )
        return script_callbacks.sort_callbacks(f"script_{method_name}", callbacks)

    def ordered_callbacks(self, method_name: str, *, enable_user_sort: bool = True) -> list:
        """As `create_ordered_callbacks_list`, remembered."""
        number = len(self.list_scripts_for_method(method_name))
        known = self.callback_map.get(method_name)
        if known is None or known[0] != number:
            known = self.callback_map[method_name] = (number, self.create_ordered_callbacks_list(method_name))
        return known[1]

    def ordered_scripts(self, method_name: str) -> list[Script]:
        """The scripts that override a hook."""
        return [registered.callback for registered in self.ordered_callbacks(method_name)]

    def _hook(self, method: str, p: Any, *leading: Any, **kwargs: Any) -> None:
        for script in self.ordered_scripts(method):
            try:
                args = p.script_args[script.args_from : script.args_to]
                getattr(script, method)(p, *leading, *args, **kwargs)
            except errors.OF_SCRIPTS:
                errors.report(f"Error running {method}: {script.filename}", exc_info=True)

    def setup_scrips(self, p: Any, *, is_ui: bool = True) -> None:
        """The hook `setup`; the spelling is the host's."""
        for script in self.ordered_scripts("setup"):
            if script.setup_for_ui_only and not is_ui:
                continue
            try:
                script.setup(p, *p.script_args[script.args_from : script.args_to])
            except errors.OF_SCRIPTS:
                errors.report(f"Error running setup: {script.filename}", exc_info=True)

    def before_process(self, p: Any) -> None:
        """Call the hook of this name."""
        self._hook("before_process", p)

    def process(self, p: Any) -> None:
        """Call the hook of this name."""
        self._hook("process", p)

    def process_before_every_sampling(self, p: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("process_before_every_sampling", p, **kwargs)

    def before_process_batch(self, p: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("before_process_batch", p, **kwargs)

    def after_extra_networks_activate(self, p: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("after_extra_networks_activate", p, **kwargs)

    def process_batch(self, p: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("process_batch", p, **kwargs)

    def postprocess(self, p: Any, processed: Any) -> None:
        """Call the hook of this name."""
        self._hook("postprocess", p, processed)

    def postprocess_batch(self, p: Any, images: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("postprocess_batch", p, images=images, **kwargs)

    def postprocess_batch_list(self, p: Any, pp: PostprocessBatchListArgs, **kwargs: Any) -> None:
        """Call the hook of this name."""
        self._hook("postprocess_batch_list", p, pp, **kwargs)

    def post_sample(self, p: Any, ps: PostSampleArgs) -> None:
        """Call the hook of this name."""
        self._hook("post_sample", p, ps)

    def on_mask_blend(self, p: Any, mba: MaskBlendArgs) -> None:
        """Call the hook of this name."""
        self._hook("on_mask_blend", p, mba)

    def postprocess_image(self, p: Any, pp: PostprocessImageArgs) -> None:
        """Call the hook of this name."""
        self._hook("postprocess_image", p, pp)

    def postprocess_maskoverlay(self, p: Any, ppmo: PostProcessMaskOverlayArgs) -> None:
        """Call the hook of this name."""
        self._hook("postprocess_maskoverlay", p, ppmo)

    def postprocess_image_after_composite(self, p: Any, pp: PostprocessImageArgs) -> None:
        """Call the hook of this name."""
        self._hook("postprocess_image_after_composite", p, pp)

    def before_hr(self, p: Any) -> None:
        """Call the hook of this name."""
        self._hook("before_hr", p)

    def _component_hook(self, method: str, waiting: dict[str, list], elem_id: Any, component: Any, kwargs: Any) -> None:
        for callback, script in waiting.get(elem_id, []):
            wrap_call(callback, script.filename, f"on_{method}", OnComponent(component=component))
        for script in self.ordered_scripts(method):
            wrap_call(getattr(script, method), script.filename, method, component, **kwargs)

    def before_component(self, component: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        elem_id = kwargs.get("elem_id")
        self._component_hook("before_component", self.on_before_component_elem_id, elem_id, component, kwargs)

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """Call the hook of this name."""
        elem_id = getattr(component, "elem_id", None)
        self._component_hook("after_component", self.on_after_component_elem_id, elem_id, component, kwargs)

    def script(self, title: str) -> Script | None:
        """The script with this title, case ignored."""
        return self.title_map.get(title.lower())

    def set_named_arg(self, args: Any, script_name: str, arg_elem_id: str, value: Any, fuzzy: bool = False) -> Any:
        """`args` with the value of one script's component replaced (in place for a list)."""
        script = next((x for x in self.scripts if x.name == script_name), None)
        if script is None:
            raise RuntimeError(f"script {script_name} not found")
        for index, control in enumerate(script.controls or [], start=script.args_from):
            own = control.elem_id or ""
            if own == arg_elem_id or (fuzzy and arg_elem_id in own):
                if isinstance(args, tuple):
                    return (*args[:index], value, *args[index + 1 :])
                args[index] = value
                return args
        raise RuntimeError(f"arg_elem_id {arg_elem_id} not found in script {script_name}")


scripts_txt2img = ScriptRunner()
scripts_img2img = ScriptRunner()
scripts_current: ScriptRunner | None = None
