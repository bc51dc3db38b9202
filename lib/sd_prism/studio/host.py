"""The studio's host in this process: open it, run one request, close it. Page, HTTP and command line all come here."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_prism.errors import PrismError

WEBUI = Path(__file__).resolve().parent / "webui"
REPOSITORY = Path(__file__).resolve().parents[3]


def data_folder(given: str | Path | None = None) -> Path:
    """Where the studio keeps what belongs to the user: `given`, else PRISM_DATA_DIR, else the platform's folder."""
    chosen = given or os.environ.get("PRISM_DATA_DIR")
    if chosen:
        try:
            return Path(chosen).expanduser().resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise _not_usable(chosen, error) from error
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Prism"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Prism"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "prism"


def _not_usable(folder: str | Path, error: Exception) -> PrismError:
    why = getattr(error, "strerror", None) or error
    return PrismError(
        f"The data folder {str(folder)[:200]!r} cannot be used: {why}; "
        "name a folder that can be written to with --data-dir"
    )


def _writable(folder: Path) -> Path:
    """`folder`, made if it does not exist; raises PrismError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, ValueError) as error:
        raise _not_usable(folder, error) from error


def _claim_modules() -> None:
    """Make `import modules` mean the studio's package, in this process only."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    loaded = sys.modules.get("modules.shared") or sys.modules.get("modules")
    place = getattr(loaded, "__file__", None)
    if loaded is not None and (place is None or WEBUI not in Path(place).resolve().parents):
        raise PrismError("The studio cannot start inside a running webui; start it by itself with: python prism.py")
    if str(WEBUI) not in sys.path:
        sys.path.insert(0, str(WEBUI))


# What Prism's scripts are made of; the rest of the package is the studio's own.
RELOADED = ("hosts", "panels", "cards", "settings", "infotext", "freeu")


def unload_scripts() -> None:
    """Let scripts undo their patches.

    Prism's own scripts then drop `sd_prism` from `sys.modules`, so that a webui sees new code; here the studio
    itself is part of that package and has to stay.
    """
    own = {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] == "sd_prism" and f"{name}.".split(".")[1] not in RELOADED
    }
    if "modules.script_callbacks" in sys.modules:
        sys.modules["modules.script_callbacks"].script_unloaded_callback()
    sys.modules.update(own)
    for name in RELOADED:  # else `from .. import infotext` would find the old one on the package
        if f"sd_prism.{name}" not in sys.modules:
            vars(sys.modules["sd_prism"]).pop(name, None)


def close_host() -> None:
    """Unload scripts and take the studio's `modules` out of this process (for tests)."""
    unload_scripts()
    for name in [name for name in sys.modules if name == "modules" or name.startswith("modules.")]:
        del sys.modules[name]
    if str(WEBUI) in sys.path:
        sys.path.remove(str(WEBUI))


def open_host(
    *,
    data_dir: str | Path | None = None,
    checkpoint: str | Path | None = None,
    extensions: Sequence[str | Path] = (),
    builtin: bool = True,
    lora_dir: str | Path | None = None,
) -> None:
    """Load settings, the list of checkpoints and all scripts.

    Args:
        checkpoint: a file to use from the start.
        extensions: further extension folders.
        builtin: load Prism's own `scripts/*.py` too.
        lora_dir: where networks lie, if not in models/Lora of the data folder.
    """
    folder = _writable(data_folder(data_dir))
    if checkpoint is not None and not os.path.exists(checkpoint):
        raise PrismError(
            f"There is no checkpoint {checkpoint}; give the path of a .safetensors file or a diffusers folder"
        )
    _claim_modules()
    from modules import extensions as host_extensions
    from modules import paths, sd_hijack, sd_models, shared

    unload_scripts()
    paths.configure(folder)
    shared.cmd_opts.prism_data_dir = str(folder) if data_dir else None
    shared.cmd_opts.ckpt = str(Path(checkpoint).resolve()) if checkpoint else None
    shared.configure()
    if lora_dir:
        shared.cmd_opts.lora_dir = str(Path(lora_dir).resolve())
    folders = [Path(extension).resolve() for extension in extensions]
    host_extensions.configure([REPOSITORY, *folders] if builtin else folders)
    sd_models.model_data.set_sd_model(None)
    sd_hijack.model_hijack.embedding_db.clear_embedding_dirs()
    sd_hijack.model_hijack.embedding_db.add_embedding_dir(shared.cmd_opts.embeddings_dir)
    _load_scripts()
    if checkpoint:
        shared.opts.data["sd_model_checkpoint"] = sd_models.find(shared.cmd_opts.ckpt).title
    after_reload(None)


def _load_scripts() -> None:
    """Look at the user's files anew and load all scripts, in the host's order."""
    from modules import extra_networks, script_callbacks, scripts, sd_models, sd_vae, ui_extra_networks

    sd_models.list_models()
    sd_vae.refresh_vae_list()
    extra_networks.initialize()
    ui_extra_networks.initialize()
    ui_extra_networks.register_default_pages()
    scripts.load_scripts()
    script_callbacks.list_optimizers_callback()
    script_callbacks.list_unets_callback()
    script_callbacks.before_ui_callback()
    script_callbacks.ui_settings_callback()


_rebuild: Callable[[], None] | None = None


def after_reload(rebuild: Callable[[], None] | None) -> None:
    """Say who builds the page when scripts were loaded again."""
    global _rebuild
    _rebuild = rebuild


def reload() -> None:
    """Reload UI: load all scripts again and build the page anew. The checkpoint stays; the running job ends first."""
    from modules import call_queue, script_callbacks, shared

    with call_queue.queue_lock:
        script_callbacks.app_reload_callback()
        unload_scripts()
        shared.forget_declared()
        _load_scripts()
        if _rebuild is not None:
            _rebuild()


TABS = ("txt2img", "img2img")
_defaults: dict[str, list] = {}


def runner_of(tab: str) -> Any:
    """The scripts of a tab: "txt2img" or "img2img"."""
    from modules import scripts

    return {"txt2img": scripts.scripts_txt2img, "img2img": scripts.scripts_img2img}[tab]


def remember_defaults() -> None:
    """Collect the default arguments of all scripts, once per start."""
    import gradio as gr
    from modules.api import requests

    with gr.Blocks(analytics_enabled=False):
        for tab in TABS:
            _defaults[tab] = requests.default_script_args(runner_of(tab))


@dataclass
class Outcome:
    """A finished job."""

    tab: str
    processed: Any
    p: Any
    args: list
    seconds: float


class Left(Exception):
    """The caller of a job left before it began."""


class Caller:
    """Who waits for a job. One that leaves stops it, or has it dropped when it has not begun."""

    def __init__(self) -> None:
        self._gone = self._served = False
        self._lock = threading.Lock()  # the interruption must not reach the next job

    def leave(self) -> None:
        """Nobody wants the pictures any more."""
        from modules import shared

        with self._lock:
            self._gone = True
            if self._served:
                shared.state.interrupt()

    @contextlib.contextmanager
    def served(self, tab: str) -> Iterator[None]:
        """The job's turn has come."""
        from modules import shared

        shared.state.begin(job=f"scripts_{tab}")
        try:
            with self._lock:
                self._served = True
            if self._gone:
                raise Left
            yield
        finally:
            with self._lock:
                self._served = False
            shared.state.end()


def run(
    request: Any,
    *,
    args: Sequence[Any] | None = None,
    is_api: bool = True,
    listener: Callable[[Any], None] | None = None,
    caller: Caller | None = None,
) -> Outcome:
    """Run a Txt2ImgRequest or an Img2ImgRequest; waits for the jobs before it.

    Args:
        args: values of all script components, when the page has them; else they come from the request.
        listener: called with the host's state after each step.
        caller: who may leave before the job is done.

    Raises:
        PrismError: the request or the checkpoint is not usable; the text says why.
        Left: the caller left before the job began.
    """
    from modules import call_queue, progress, shared
    from modules.api import checks, requests

    def arguments(runner: Any) -> list:
        pasted = requests.apply_infotext(request, runner)
        return requests.script_args(request, runner, _defaults[request.tab], pasted) if args is None else list(args)

    caller = caller or Caller()
    runner = runner_of(request.tab)
    checks.check_letters(request)
    values = arguments(runner)
    job = checks.checked(request)
    task = request.force_task_id or progress.create_task_id(request.tab)
    progress.add_task_to_queue(task)
    started = time.perf_counter()
    try:
        with call_queue.queue_lock, shared.state.listening(listener), caller.served(request.tab):
            if runner is not runner_of(request.tab):  # the scripts were loaded again while this job waited
                values = arguments(runner_of(request.tab))
            progress.start_task(task)
            processed, p = _process(requests.completed(job), values, is_api)
    finally:
        progress.finish_task(task)
    return Outcome(request.tab, processed, p, values, time.perf_counter() - started)


def _process(request: Any, args: list, is_api: bool) -> tuple[Any, Any]:
    """The finished job; raises PrismError when the memory was not enough for it."""
    from modules import devices

    try:
        return _drawn(request, args, is_api)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
    # Only here is the error forgotten, and with it what the job held.
    devices.torch_gc()
    raise PrismError(
        f"The memory was not enough for {request.width}x{request.height} with batch_size {request.batch_size}; "
        "choose a smaller batch_size or size"
    )


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(
        text in str(error) for text in ("can't allocate memory", "not enough memory", "out of memory")
    )


def _drawn(request: Any, args: list, is_api: bool) -> tuple[Any, Any]:
    from modules import processing, shared

    kinds = {
        "txt2img": processing.StableDiffusionProcessingTxt2Img,
        "img2img": processing.StableDiffusionProcessingImg2Img,
    }
    kind, runner = kinds[request.tab], runner_of(request.tab)
    taken = {field.name for field in dataclasses.fields(kind) if field.init} - {"sampler_index"}
    given = {name: value for name, value in request if name in taken}
    if is_api:
        given["do_not_save_samples"] = given["do_not_save_grid"] = not request.save_images
    with contextlib.closing(kind(**given)) as p:
        p.is_api = is_api
        p.scripts = runner
        p.outpath_samples = getattr(shared.opts, f"outdir_{request.tab}_samples")
        p.outpath_grids = getattr(shared.opts, f"outdir_{request.tab}_grids")
        p.script_args = tuple(args)
        processed = runner.run(p, *args) or processing.process_images(p)
    return processed, p


def change_settings(changes: dict[str, Any], *, is_api: bool = False) -> None:
    """Change settings and save them; another checkpoint is loaded first.

    Raises:
        PrismError: a name or a value is wrong, or the checkpoint cannot be loaded; then nothing was changed.
    """
    from modules import shared
    from modules.api import checks

    opts = shared.opts
    settings = {key: value for key, value in checks.settings_checked(changes).items() if value != getattr(opts, key)}
    for key in settings:
        if is_api and opts.data_labels[key].restrict_api:
            raise PrismError(f"setting {key} can only be changed on the page")
    title = settings.pop("sd_model_checkpoint", None)
    if title:
        _load_checkpoint(title)
    for key, value in settings.items():
        opts.set(key, value, is_api=is_api)
    opts.save(shared.config_filename())


def _load_checkpoint(title: str) -> None:
    from modules import call_queue, sd_models, shared

    with call_queue.queue_lock:
        info = sd_models.find(title)
        sd_models.reload_model_weights(info=info)
        shared.opts.data["sd_model_checkpoint"] = info.title  # a job's override may have loaded it already


def panels_on(args: Sequence[Any], tab: str = "txt2img") -> list[str]:
    """Titles of the always-on scripts whose first argument says that they are on."""
    found = []
    for script in runner_of(tab).alwayson_scripts:
        first = args[script.args_from] if script.args_to > script.args_from else None
        if first is True or (isinstance(first, dict) and first.get("enabled")):
            found.append(script.title())
    return found


def request_of(fields: dict[str, Any], tab: str = "txt2img") -> Any:
    """A Txt2ImgRequest or an Img2ImgRequest; raises PrismError for values of a wrong type."""
    from modules.api.models import REQUESTS
    from pydantic import ValidationError

    try:
        return REQUESTS[tab](**fields)
    except ValidationError as error:
        raise PrismError(validation_text(error.errors())) from error


def validation_text(found: Sequence[Any]) -> str:
    """Pydantic's errors as one line: field, value and what was expected."""

    def line(error: Any) -> str:
        if error["type"] == "json_invalid":
            place, why = error["loc"][-1], error.get("ctx", {}).get("error", "it cannot be read")
            return f'the body is no JSON: {why} at character {place}; send an object such as {{"prompt": "a fish"}}'
        field = ".".join(str(part) for part in error["loc"] if part != "body") or "request"
        return f"{field} is {repr(error.get('input'))[:80]}: {error['msg']}"

    return "; ".join(line(error) for error in found)
