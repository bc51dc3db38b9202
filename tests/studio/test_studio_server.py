"""The studio as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from sd_prism.errors import PrismError
from sd_prism.studio import server

SERVE = Path(__file__).with_name("serve.py")


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A served studio on the port after a taken one."""
    folder = tmp_path_factory.mktemp("studio")
    extension = folder / "nothing"
    extension.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(SERVE), str(port), str(folder / "data"), str(extension)]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        first, second = process.stdout.readline(), process.stdout.readline()
    yield SimpleNamespace(process=process, port=port, lines=(first, second), address=second.split()[-1], folder=folder)
    if process.poll() is None:
        process.kill()
    process.stdout.close()


def test_a_taken_port_gives_the_next_free_one(studio):
    assert re.fullmatch(rf"Port {studio.port} is taken; using \d+ instead\.\n", studio.lines[0]), studio.lines
    assert studio.lines[1].startswith("Prism studio: http://127.0.0.1:")
    assert httpx.get(f"{studio.address}/sdapi/v1/samplers").status_code == 200


def test_all_ports_taken_is_said(monkeypatch):
    monkeypatch.setattr(server, "PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PrismError, match="all taken"):
            server.free_socket("127.0.0.1", taken.getsockname()[1])


def test_two_starts_at_once_take_two_ports():
    with server.free_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.free_socket("127.0.0.1", port) as second:
            assert second.getsockname()[1] > port


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_an_impossible_port_is_told(port):
    with pytest.raises(PrismError, match=rf"--port is {port}; it must lie between 0 .* and 65535"):
        server.free_socket("127.0.0.1", port)


def test_the_network_address_is_one_of_this_machine():
    address = server.network_address()
    if address is not None:
        with socket.socket() as bound:
            bound.bind((address, 0))


@pytest.mark.skipif(os.name != "posix", reason="Ctrl+C is sent as a POSIX signal here")
def test_ctrl_c_ends_the_studio_within_two_seconds_in_the_middle_of_a_job(studio):
    def job():
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{studio.address}/sdapi/v1/txt2img", json={"prompt": "long", "steps": 1000}, timeout=30)

    threading.Thread(target=job, daemon=True).start()
    while not httpx.get(f"{studio.address}/sdapi/v1/progress").json()["progress"]:
        time.sleep(0.05)
    started = time.perf_counter()
    studio.process.send_signal(signal.SIGINT)
    assert studio.process.wait(timeout=5) == 0
    assert time.perf_counter() - started < 2
    rest = studio.process.stdout.read()
    assert "Traceback" not in rest, rest
