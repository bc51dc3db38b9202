"""The studio killed in the middle of everything: what the user has set is there when it starts again."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time

import httpx
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")


def keep_busy(address, values):
    """A long job, and settings that are saved again and again until the studio is gone."""

    def draw():
        job = {"prompt": "long", "steps": 1000, "width": 64, "height": 64}
        httpx.post(f"{address}/sdapi/v1/txt2img", json=job, timeout=120)

    def save():
        for number in range(10_000):
            httpx.post(f"{address}/sdapi/v1/options", json={"eta_noise_seed_delta": number}, timeout=30)
            values.append(number)

    def until_gone(action):
        try:
            action()
        except httpx.HTTPError:
            return

    threads = [threading.Thread(target=until_gone, args=(action,), daemon=True) for action in (draw, save)]
    for thread in threads:
        thread.start()
    return threads


def test_kill_in_mid_run_leaves_the_settings_whole(tmp_path, launch_studio):
    data, extension, draw = tmp_path / "data", tmp_path / "none", random.Random(5)
    (extension / "scripts").mkdir(parents=True)
    (data).mkdir()
    styles = 'name,prompt,negative_prompt\n"mine","a red apple","dark"\n'
    (data / "styles.csv").write_text(styles)
    saved = -1
    for _ in range(2):
        studio, values = launch_studio(data, extension), []
        found = httpx.get(f"{studio.address}/sdapi/v1/options", timeout=60).json()["eta_noise_seed_delta"]
        assert found == max(saved, 0), "what was saved before the kill"
        threads = keep_busy(studio.address, values)
        while len(values) < 20:
            assert all(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        time.sleep(draw.random() / 10)
        studio.process.send_signal(signal.SIGKILL)
        studio.process.wait()
        for thread in threads:
            thread.join(30)
        saved = json.loads((data / "config.json").read_text())["eta_noise_seed_delta"]
        assert saved - values[-1] in (0, 1), "the last change that was answered, or the one in the works"
        assert (data / "styles.csv").read_text() == styles
