"""Hosts as processes: the studio, and any webui of AUTOMATIC1111's family, each with folders of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from sd_prism.miniatures.pack import for_webui

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
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
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",
    "SD_WEBUI_RESTARTING": "1",  # keeps a webui from opening a browser
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
NOT_INHERITED = ("COMMANDLINE_ARGS", "PYTHONPATH", "PYTHONHOME", "PRISM_DATA_DIR")
# The door itself, with the environment that the tests run in for its own.
DOOR = "import pathlib, sys, prism; prism.VENV = pathlib.Path(sys.prefix); sys.exit(prism.main())"
WEBUI_OPTIONS = (
    *("--skip-prepare-environment", "--skip-torch-cuda-test", "--do-not-download-clip", "--no-download-sd-model"),
    *("--use-cpu", "all", "--no-half", "--precision", "full", "--api"),
)


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


class Host:
    """A started host, spoken to over HTTP."""

    def __init__(self, name: str, command: Sequence[str], port: int, *, cwd: Path, folder: Path) -> None:
        self.name, self.log = name, folder / "log.txt"
        inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PICTURE_SECONDS, trust_env=False)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, env={**inherited, **ENVIRONMENT}, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        """Until the API answers; a host that ends or stays silent shows the end of its log."""
        started = time.monotonic()
        while time.monotonic() - started < START_SECONDS and self.process.poll() is None:
            if self.answers():
                return
            time.sleep(0.3)
        code = self.process.poll()
        how = f"did not answer within {START_SECONDS} seconds" if code is None else f"ended with exit code {code}"
        self.end()
        raise RuntimeError(f"{self.name} {how}; the end of its log:\n{self.tail()}")

    def answers(self) -> bool:
        try:
            return self.client.get("/sdapi/v1/scripts").status_code == 200
        except httpx.HTTPError:
            return False

    def tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])

    def end(self) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def ask(self, request: dict[str, Any]) -> httpx.Response:
        return self.client.post("/sdapi/v1/txt2img", json=request)

    def draw(self, request: dict[str, Any]) -> list[Picture]:
        """All pictures of one request."""
        answer = self.ask(request)
        assert answer.status_code == 200, f"{answer.text}\n{self.tail()}"
        body = answer.json()
        return [
            Picture(base64.b64decode(png), text)
            for png, text in zip(body["images"], json.loads(body["info"])["infotexts"], strict=True)
        ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def studio(folder: Path) -> Host:
    """The stand-alone studio with the shipped checkpoint."""
    port = free_port()
    options = ["studio", "--no-browser", "--port", str(port), "--data-dir", str(folder / "data")]
    return Host("studio", [sys.executable, "-c", DOOR, *options], port, cwd=ROOT, folder=folder)


def webui(folder: Path, name: str, path: str, python: str, args: Sequence[str]) -> Host:
    """A webui with this repository as its only extension, and the shipped checkpoint as its only one."""
    extensions, checkpoints = folder / "data" / "extensions", folder / "checkpoints"
    extensions.mkdir(parents=True)
    checkpoints.mkdir()
    (extensions / "sd-webui-prism").symlink_to(ROOT, target_is_directory=True)
    for_webui(checkpoints)
    port = free_port()
    options = ["--port", str(port), "--data-dir", str(folder / "data"), "--ckpt-dir", str(checkpoints)]
    command = [python, "launch.py", *WEBUI_OPTIONS, *options, *args]
    return Host(name, command, port, cwd=Path(path), folder=folder)
