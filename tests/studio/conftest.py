"""A host with a tiny random model behind it, and an extension that records every hook."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch
from safetensors.torch import save_file
from sd_prism.errors import PrismError
from sd_prism.studio import denoiser, host, page

CONTEXT = 16


class TinyText:
    """Words to reproducible vectors, in place of CLIP."""

    def encode(self, texts, *, clip_skip=1, width=None, height=None, negative=False):
        rows = []
        for text in texts:
            source = torch.Generator().manual_seed(sum(map(ord, text)) + 7 * clip_skip)
            rows.append(torch.randn(77 * (1 + len(text.split()) // 75), CONTEXT, generator=source))
        longest = max(row.shape[0] for row in rows)
        return {"crossattn": torch.stack([torch.cat([r, r[:1].expand(longest - len(r), -1)]) for r in rows])}

    encoders = ()

    def process_texts(self, texts):
        return [[] for _ in texts], max(len(text.split()) for text in texts)

    def get_target_prompt_token_count(self, token_count):
        return 75


class TinyModel:
    """What `checkpoint.load` gives, at the smallest size."""

    family, prediction_type, native_size, latent_channels = "sd1", "epsilon", 64, 4

    def __init__(self, seed: int = 0) -> None:
        from diffusers import UNet2DConditionModel

        torch.manual_seed(seed)
        self.unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=CONTEXT,
            attention_head_dim=4,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).eval()
        self.vae, self.text = torch.nn.Identity(), TinyText()

    def predict(self, x, t, cond):
        return self.unet(x, t, encoder_hidden_states=cond["crossattn"]).sample

    def denoiser(self):
        return denoiser.Denoiser(self.predict, None, self.prediction_type)

    def decode(self, z):
        return torch.nn.functional.interpolate(z[:, :3], scale_factor=8).tanh()

    def encode(self, images):
        means = torch.nn.functional.avg_pool2d(images, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], 1)


def inspect_tiny(path):
    """Files named tiny*.safetensors are complete, others damaged."""
    if not Path(path).name.startswith("tiny"):
        raise PrismError(f"{path} has a damaged header")
    return SimpleNamespace(native_size=64, family="sd1", parts=("unet", "vae", "text"))


def load_tiny(path, device="cpu"):
    """Files named tiny*.safetensors load; others are refused as the engine refuses them."""
    path = Path(path)
    if not path.name.startswith("tiny"):
        raise PrismError(f"{path.name} is no checkpoint: the header is damaged")
    return TinyModel(seed=len(path.stem))


RECORDER = Path(__file__).with_name("recorder.py")


def make_extension(folder: Path, **scripts: str) -> Path:
    """An extension folder with these script files."""
    (folder / "scripts").mkdir(parents=True)
    for name, source in scripts.items():
        (folder / "scripts" / f"{name}.py").write_text(source, encoding="utf8")
    return folder


@pytest.fixture()
def extension(tmp_path):
    """extension("name", script=source, ...) writes an extension folder."""
    return lambda name, **scripts: make_extension(tmp_path / name, **scripts)


def make_data(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A data folder with two tiny checkpoints and a damaged one; the engine is the tiny one."""
    from sd_prism.studio import checkpoint, header

    patch.setattr(checkpoint, "load", load_tiny)
    patch.setattr(header, "inspect", inspect_tiny)
    models = folder / "models" / "Stable-diffusion"
    models.mkdir(parents=True, exist_ok=True)
    for name in ("tiny.safetensors", "tiny-two.safetensors", "zdamaged.safetensors"):
        (models / name).write_bytes(name.encode())
    return folder


def make_recorder(folder: Path) -> SimpleNamespace:
    """The recording extension and its log."""
    make_extension(folder, recorder=RECORDER.read_text(encoding="utf8"))
    log = folder / "log.txt"
    return SimpleNamespace(folder=folder, log=log, lines=lambda: log.read_text().splitlines())


@pytest.fixture()
def data(tmp_path, monkeypatch):
    return make_data(tmp_path / "data", monkeypatch)


@pytest.fixture()
def recorder(tmp_path):
    return make_recorder(tmp_path / "recorder")


@pytest.fixture()
def open_host(data):
    """Open a host with these extensions; closed after the test."""

    def opened(*extensions: Path):
        host.open_host(data_dir=data, extensions=extensions, builtin=False)
        page.build_fields()

    yield opened
    host.close_host()


@pytest.fixture(scope="module")
def tiny_host(tmp_path_factory):
    """A host without page and extensions, one for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        host.open_host(data_dir=make_data(tmp_path_factory.mktemp("tiny") / "data", patch), builtin=False)
        yield
        host.close_host()


@pytest.fixture()
def engine(tiny_host):
    """The engine of the host's first checkpoint; settings and cond caches are as at the start."""
    from modules import processing, sd_models, shared

    loaded = sd_models.reload_model_weights()
    settings = dict(shared.opts.data)
    for kind in (processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img):
        for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
            if name in vars(kind):
                setattr(kind, name, [None, None])
    yield loaded.engine
    shared.opts.data.update(settings)


TOY = Path(__file__).with_name("toy_model.py")


def add_toys(data: Path) -> None:
    """Two checkpoints for the class of `toy_model`, and one that it cannot be built of."""
    models = data / "models" / "Stable-diffusion"
    for seed, name in enumerate(("toy", "toy-two")):
        weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)) / 4
        save_file({"toy": weight, "unused": torch.zeros(3)}, models / f"{name}.safetensors")
    (models / "toy-damaged.safetensors").write_bytes(b"no model")


def make_toy(folder: Path) -> Path:
    """The extension that brings the class."""
    return make_extension(folder, toy=TOY.read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def toy_host(tmp_path_factory):
    """A host with a model class of an extension; one for all tests of a file."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        data = make_data(folder / "data", patch)
        add_toys(data)
        host.open_host(data_dir=data, extensions=[make_toy(folder / "toy")], builtin=False)
        page.build_fields()
        yield data
        host.close_host()
        sys.modules.pop("toy_model", None)


@contextmanager
def serving(folder: Path, **options):
    """The app in a client, with its data folder."""
    from fastapi.testclient import TestClient
    from sd_prism.studio import server

    with pytest.MonkeyPatch.context() as patch:
        data = make_data(folder / "data", patch)
        app = server.build(data_dir=data, **options)
        with TestClient(app) as client:
            yield SimpleNamespace(app=app, client=client, data=data)
        host.close_host()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The app with a recorder and none of Prism's scripts; one for all tests of a file."""
    folder = tmp_path_factory.mktemp("served")
    recorder = make_recorder(folder / "recorder")
    with serving(folder, extensions=[recorder.folder], builtin=False) as app:
        app.recorder = recorder
        yield app


@pytest.fixture()
def served_toy(tmp_path):
    """The app with a model class of an extension."""
    with serving(tmp_path, extensions=[make_toy(tmp_path / "toy")], builtin=False) as app:
        add_toys(app.data)
        yield app
    sys.modules.pop("toy_model", None)


@pytest.fixture(scope="module")
def served_prism(tmp_path_factory):
    """The app with Prism's scripts; one for all tests of a file."""
    with serving(tmp_path_factory.mktemp("served")) as app:
        yield app


@pytest.fixture(scope="module")
def launch_studio():
    """launch_studio(data, extension) serves the studio as a process of its own and waits until it answers."""
    started = []

    def launch(data: Path, extension: Path) -> SimpleNamespace:
        command = [sys.executable, str(Path(__file__).with_name("serve.py")), "0", str(data), str(extension)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return SimpleNamespace(process=process, address=process.stdout.readline().split()[-1])

    yield launch
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
