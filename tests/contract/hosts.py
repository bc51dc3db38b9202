"""Hosts as processes: the studio, and any webui of AUTOMATIC1111's family, each with folders of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from sd_prism.miniatures import MINI_V1
from sd_prism.miniatures.pack import for_webui

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
RELOAD_SECONDS = 60
PICTURE_SECONDS = 300
END_SECONDS = 20
TAIL_LINES = 40
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PIP_NO_INDEX": "1",  # what a webui wants to install at its start fails at once
    "PYTHONUNBUFFERED": "1",
    "PYTHONHASHSEED": "0",  # SD.Next writes a set into its infotext
    "PYTHONIOENCODING": "utf-8",
    "SD_WEBUI_RESTARTING": "1",  # keeps a webui from opening a browser
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
NOT_INHERITED = ("COMMANDLINE_ARGS", "PYTHONPATH", "PYTHONHOME", "PRISM_DATA_DIR")
PROBE = Path(__file__).with_name("probe.py")
WIDTHS = PROBE.with_name("widths.py")
PATCHED_WIDTHS = PROBE.with_name("patched_widths.py")
DIFFUSERS_WIDTHS = PROBE.with_name("diffusers_widths.py")
PRISM = "sd-webui-prism"
SECOND = "second"
STYLE = "tagged"
STYLES = f'name,prompt,negative_prompt\n{STYLE},"title:""one #2""",year:1990\n'
# The studio without a copy of Prism's own: like a webui it finds Prism in the data folder.
STUDIO = """
import sys
sys.path.insert(0, sys.argv[1])
from sd_prism.studio import server
sys.exit(server.start(port=int(sys.argv[2]), data_dir=sys.argv[3], open_browser=False, builtin=False))
"""
WEBUI_OPTIONS = (
    *("--skip-prepare-environment", "--skip-torch-cuda-test", "--do-not-download-clip", "--no-download-sd-model"),
    *("--use-cpu", "all", "--no-half", "--precision", "full", "--api"),
)
BACKEND = "backend/args.py"  # of a webui that has a parser of its own for these
BACKEND_OPTIONS = "--always-cpu", "--all-in-fp32"
PATCHED = "ldm_patched/modules/args_parser.py"  # of another such webui
PATCHED_OPTIONS = *BACKEND_OPTIONS, "--clip-in-fp32"
PIPELINES = "modules/processing_diffusers.py"  # of one that draws with pipelines of diffusers
OWN_CODE = BACKEND, PATCHED, PIPELINES  # of webuis whose source is no longer A1111's
PIPELINES_OPTIONS = (
    *("--skip-all", "--skip-env", "--skip-torch", "--quick", "--experimental", "--ignore"),
    *("--use-cpu", "all", "--server-name", "127.0.0.1"),
)
PIPELINES_LACK = frozenset({"process_before_every_sampling", "cfg_denoiser", "post_sample"})
PIPELINES_MISREAD = frozenset({"8", "10", "33", "37"})  # it strips blanks, drops emoji, and splits at line breaks
PIPELINES_HIRES = {"hr_resize_mode": 1, "hr_upscaler": "Latent Nearest"}
GRID, THEIR_GRID = "x/y/z plot", "xyz grid"
GRID_LABELS = {
    "Legend": "Draw legend",
    "Include images": "Include Sub Images",
    "Include sub grids": "Include Sub Grids",
    "Random seeds": "Keep -1 for seeds",
}
JOBS_OWN = "[Param] "  # before an axis that other webuis name without it
CLIP_SKIP = "CLIP_stop_at_last_layers"
SECOND_TEXTS = {"hr_prompt": "refiner_prompt", "hr_negative_prompt": "refiner_negative"}
BACKEND_HIRES = {"hr_additional_modules": ["Use same choices"]}


@dataclass(frozen=True)
class Picture:
    """One picture of an answer: its file, and its text."""

    png: bytes
    infotext: str

    @property
    def pixels(self) -> bytes:
        return self.image.tobytes()

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.png)).convert("RGB")

    @property
    def encoded(self) -> str:
        """The whole file, as a request carries it."""
        return base64.b64encode(self.png).decode()


class Host:
    """A host with a data folder of its own, spoken to over HTTP."""

    reload_seconds = RELOAD_SECONDS

    def __init__(self, name: str, command: Sequence[str], port: int, *, cwd: Path, folder: Path) -> None:
        self.name, self.command, self.cwd = name, command, cwd
        self.log, self.data = folder / "log.txt", folder / "data"
        self.probed = self.data / "extensions" / PROBE.stem / "log.txt"
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=PICTURE_SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),  # a host may close one a while after an error's answer
        )
        self.hires: dict[str, Any] = {}  # what a request for a hires pass needs here besides
        self.kept_models = 0  # at most
        self.hires_cfg = False  # which has a CFG scale of its own, 1 where none is given
        self.upscaler: dict[str, Any] = {}  # or instead
        self.lacks: frozenset[str] = frozenset()  # hooks in whose place Prism has its own
        self.schedules = True  # its samplers have a menu of schedules, and noise as A1111 has it
        self.own_page = False  # with some ids that are not A1111's
        self.hires_apart = True  # its hires pass has networks and a checkpoint of its own
        self.broken = 500  # how it answers where a job breaks
        self.interrupted = 1  # pictures of an interrupted job of one
        self.misread: frozenset[str] = frozenset()  # rows that its own parser reads in another way, however written
        self.hires_prompt = "Hires prompt"  # in its infotext
        self.asks_what_to_count = True  # its token counter
        self.comments = True  # it cuts them out of prompts
        self.own_cascade = False  # it draws Cascade itself, in place of Prism
        self.reads_infotext = True
        self.in_order = True  # it calls every hook as A1111 does
        self.noise = 0  # of 255: how far an img2img picture is from itself
        self.process: subprocess.Popen[bytes] | None = None
        self.boot: list[str] = []  # the probe's lines of the start

    def start(self) -> None:
        """Until page, API and model are there; a host that ends or stays silent shows the end of its log."""
        self.hooks()
        inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.cwd, env={**inherited, **ENVIRONMENT}, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait(pages=1)
        self.boot = self.hooks()

    def _wait(self, *, pages: int, seconds: float = START_SECONDS) -> None:
        """Until the probe has seen so many pages, and the API answers.

        In that order: A1111 ends with an error when it is asked anything before it has added its routes.
        """
        assert self.process is not None
        started = time.monotonic()
        while time.monotonic() - started < seconds and self.process.poll() is None:
            if self.pages() >= pages and self.answers():
                return
            time.sleep(0.2)
        code = self.process.poll()
        how = f"did not answer within {seconds} seconds" if code is None else f"ended with exit code {code}"
        self.end()
        raise RuntimeError(f"{self.name} {how}; the end of its log:\n{self.tail()}")

    def answers(self) -> bool:
        try:
            return self.client.get("/contract/state").status_code == 200
        except httpx.HTTPError:
            return False

    def tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])

    def end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self) -> None:
        self.end()
        self.start()

    def exact_reading(self) -> AbstractContextManager[None]:
        """While it reads prompts to the last character."""
        return nullcontext()

    def state(self) -> dict[str, Any]:
        """What the probe sees of the host's inside; without the models that the host itself keeps."""
        found: dict[str, Any] = self.get("/contract/state")
        least = found["model"].count("is_cascade")
        found["cascade models"] = max(least, found["cascade models"] - self.kept_models)
        return found

    def reload(self) -> None:
        """Reload UI, until the new page is up."""
        pages = self.pages()
        self.press_reload()
        self._wait(pages=pages + 1, seconds=self.reload_seconds)

    def press_reload(self) -> None:
        """What the page sends when the button "Reload UI" of the settings is pressed."""
        self._press("settings_restart_gradio")

    def refresh_menus(self) -> None:
        """Have a host look for files of its own menu beside that of checkpoints, where it has that."""
        if self.hires:
            self._press("forge_refresh_checkpoint")

    def _press(self, elem_id: str) -> None:
        page = self.get("/config")
        (button,) = (x["id"] for x in page["components"] if x["props"].get("elem_id") == elem_id)
        number = next(
            index
            for index, one in enumerate(page["dependencies"])
            if button in (target[0] if isinstance(target, list) else target for target in one["targets"])
        )
        self.post("/run/predict", {"fn_index": number, "data": [], "session_hash": "contract"})

    def component(self, elem_id: str) -> dict[str, Any]:
        """What the page says of a component."""
        (found,) = (x["props"] for x in self.get("/config")["components"] if x["props"].get("elem_id") == elem_id)
        return dict(found)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def ask(self, request: dict[str, Any]) -> httpx.Response:
        """img2img for a request with pictures to start from, else txt2img."""
        if "infotext" in request and not self.reads_infotext:
            pytest.skip(
                "this webui's API reads no infotext: it answers with an error or passes over it, with and without Prism"
            )
        if request.get("enable_hr"):
            own = {"hr_cfg": request["cfg_scale"]} if self.hires_cfg else {}
            request = {**self.hires, **own, **request, **self.upscaler}
        return self.client.post(f"/sdapi/v1/{'img2img' if 'init_images' in request else 'txt2img'}", json=request)

    def draw(self, request: dict[str, Any]) -> list[Picture]:
        """All pictures of one request."""
        answer = self.ask(request)
        assert answer.status_code == 200, f"{answer.text}\n{self.tail()}"
        body = answer.json()
        return [
            Picture(base64.b64decode(png), text)
            for png, text in zip(body["images"], json.loads(body["info"])["infotexts"], strict=True)
        ]

    def hooks(self) -> list[str]:
        """The probe's lines since they were last asked for."""
        lines = self.probed.read_text(encoding="utf8").splitlines() if self.probed.exists() else []
        self.probed.write_text("", encoding="utf8")
        return lines

    def pages(self) -> int:
        """How many pages were started among the probe's lines."""
        return self.probed.read_text(encoding="utf8").count("app_started ")


class Studio(Host):
    def press_reload(self) -> None:
        """The studio's page asks a route of its own, which answers when all is done."""
        self.post("/internal/reload-ui")


class PipelinesHost(Host):
    """SD.Next."""

    reload_seconds = START_SECONDS

    def answers(self) -> bool:
        """It does before its model is loaded, and draws nothing then."""
        return super().answers() and bool(self.state()["model"])

    def ask(self, request: dict[str, Any]) -> httpx.Response:
        """Clip skip is the job's own here, and the grid and the prompts of a hires pass have other names."""
        request = {SECOND_TEXTS.get(name, name): value for name, value in request.items()}
        options = dict(request.get("override_settings", {}))
        own = {"clip_skip": options.pop(CLIP_SKIP), "override_settings": options} if CLIP_SKIP in options else {}
        own |= {"script_name": THEIR_GRID} if request.get("script_name") == GRID else {}
        return super().ask({**request, **own})

    def get(self, path: str) -> Any:
        """The grid, of which there are two on each of three tabs, as other webuis tell of theirs."""
        found = super().get(path)
        if path == "/sdapi/v1/scripts":
            return {tab: [GRID if name == THEIR_GRID else name for name in names] for tab, names in found.items()}
        if path != "/sdapi/v1/script-info":
            return found
        for one in found:
            if one["name"] == THEIR_GRID and not one["is_alwayson"]:
                one["name"] = GRID
                for part in one["args"]:
                    part["label"] = GRID_LABELS.get(part["label"], part["label"])
                    if part["label"] == "X type":
                        part["choices"] = [axis.removeprefix(JOBS_OWN) for axis in part["choices"]]
        return list({(one["name"], one["is_img2img"]): one for one in reversed(found)}.values())

    @contextmanager
    def exact_reading(self) -> Iterator[None]:
        """Its own parser leaves punctuation out, whatever is written; the other one does not."""
        self.post("/sdapi/v1/options", {"prompt_attention": "a1111"})
        try:
            yield
        finally:
            self.post("/sdapi/v1/options", {"prompt_attention": "native"})

    def press_reload(self) -> None:
        """SD.Next has a button that starts its server anew, before that has answered."""
        with suppress(httpx.HTTPError):
            self._press("restart_submit")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def studio(folder: Path) -> Host:
    """The stand-alone studio with the shipped checkpoint and a second one."""
    furnish(folder / "data")
    second_checkpoint(folder / "data" / "models" / "Stable-diffusion")
    port = free_port()
    command = [sys.executable, "-c", STUDIO, str(ROOT / "lib"), str(port), str(folder / "data")]
    return Studio("studio", command, port, cwd=ROOT, folder=folder)


def webui(folder: Path, name: str, path: str, python: str, args: Sequence[str]) -> Host:
    """A webui with the same extensions and checkpoints, and no other ones."""
    furnish(folder / "data")
    checkpoints = folder / "checkpoints"
    for_webui(checkpoints)
    for_webui(checkpoints, second_checkpoint(folder))
    port = free_port()
    if (Path(path) / PIPELINES).exists():
        return pipelines(folder, name, [python, "launch.py"], Path(path), port, args)
    options = ["--port", str(port), "--data-dir", str(folder / "data"), "--ckpt-dir", str(checkpoints)]
    own, patched = ((Path(path) / file).exists() for file in (BACKEND, PATCHED))
    if own:
        extension(folder / "data", WIDTHS)
        # beside a data folder it would not serve its own page's scripts
        options += [*BACKEND_OPTIONS, "--gradio-allowed-path", path]
    elif patched:
        extension(folder / "data", PATCHED_WIDTHS)
        options += PATCHED_OPTIONS
    command = [python, "launch.py", *WEBUI_OPTIONS, *options, *args]
    host = Host(name, command, port, cwd=Path(path), folder=folder)
    host.in_order, host.hires_cfg = not (own or patched), own or patched
    if patched:
        host.kept_models = 2  # its main thread's list of tasks has the first model that it made, and its loop the last
    if own:  # what is told of it here was seen without Prism
        host.hires, host.reads_infotext, host.noise, host.own_page = BACKEND_HIRES, False, 1, True
    return host


def pipelines(folder: Path, name: str, start: list[str], path: Path, port: int, args: Sequence[str]) -> Host:
    """SD.Next, whose settings say where checkpoints are, and what it calculates in."""
    data = folder / "data"
    extension(data, DIFFUSERS_WIDTHS)
    chosen = {"sd_model_checkpoint": MINI_V1.stem, "ckpt_dir": str(folder / "checkpoints")}
    exact = {"cuda_dtype": "FP32", "samples_format": "png", "lora_fuse_diffusers": False}
    quiet = {"live_previews_enable": False, "show_progress_every_n_steps": 0, "sd_checkpoint_autodownload": False}
    (data / "config.json").write_text(json.dumps({**chosen, **exact, **quiet}), encoding="utf8")
    options = ["--port", str(port), "--data-dir", str(data), "--log", str(folder / "sdnext.log")]
    host = PipelinesHost(name, [*start, *PIPELINES_OPTIONS, *options, *args], port, cwd=path, folder=folder)
    host.hires_apart, host.comments, host.hires_prompt = False, False, "Refiner prompt"
    host.asks_what_to_count = False
    host.misread, host.broken, host.interrupted = PIPELINES_MISREAD, 200, 0
    host.in_order, host.lacks, host.schedules, host.own_page = False, PIPELINES_LACK, False, True
    host.upscaler, host.reads_infotext, host.own_cascade = PIPELINES_HIRES, False, True
    return host


def without_prism(host: Host) -> None:
    """A host that has not been started yet."""
    (host.data / "extensions" / PRISM).unlink()


def furnish(data: Path) -> None:
    """A data folder with two extensions, this repository and the probe, and the shipped checkpoint chosen."""
    extension(data, PROBE)
    (data / "extensions" / PRISM).symlink_to(ROOT, target_is_directory=True)
    (data / "styles.csv").write_text(STYLES, encoding="utf-8")
    (data / "config.json").write_text(json.dumps({"sd_model_checkpoint": MINI_V1.name}), encoding="utf8")


def extension(data: Path, file: Path) -> None:
    """A file as an extension of its name."""
    scripts = data / "extensions" / file.stem / "scripts"
    scripts.mkdir(parents=True)
    shutil.copy(file, scripts)


def second_checkpoint(folder: Path) -> Path:
    """The shipped checkpoint with other weights in its middle block, so that its pictures differ."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(MINI_V1)
    for name, tensor in tensors.items():
        if name.startswith("model.diffusion_model.middle_block") and tensor.ndim == 4:
            tensors[name] = tensor * 0.5
    file = folder / f"{SECOND}.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    shutil.copy(MINI_V1.with_suffix(".yaml"), file.with_suffix(".yaml"))
    return file
