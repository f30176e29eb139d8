"""``infinity serve`` on a real Ray Serve: the bits of Python, keys, and a SIGTERM that loses no accepted request."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from infinity.generation.infinity_pipeline import InfinityPipeline
from infra.environment import free_port
from tests.fixtures.limits import AGES_S
from tests.fixtures.small_world import write_model

pytest.importorskip("ray.serve", reason="what Ray Serve needs is not installed: pip install 'infinity-t2i[serving]'")
KEY = "a key for the test"
KNOWN = {"Authorization": f"Bearer {KEY}"}
DRAWN = "infinity_pictures_total "
ROOT = Path(__file__).parents[3]


@pytest.mark.ray
@pytest.mark.slow
def test_a_served_model_gives_the_pixels_of_python_and_finishes_what_it_accepted(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (tmp_path / "keys").write_text(f"{KEY}\n")
    port = free_port()
    command = [sys.executable, "-m", "infinity.cli", "serve", model, "--port", str(port), "--keys", tmp_path / "keys"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
    try:
        until = time.monotonic() + AGES_S
        while b"serving at" not in (tmp_path / "log").read_bytes():
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        address = f"http://127.0.0.1:{port}/v1/images/generations"
        assert httpx.post(address, json={"prompt": "a"}, timeout=AGES_S).status_code == 401

        def draw(seed: int) -> np.ndarray:
            response = httpx.post(
                address, json={"prompt": "a secret cube", "seed": seed, "n": 10},
                headers=KNOWN, timeout=AGES_S,
            )  # fmt: skip
            assert response.status_code == 200, response.text
            files = [io.BytesIO(base64.b64decode(entry["b64_json"])) for entry in response.json()["data"]]
            return np.stack([np.asarray(Image.open(file)) for file in files])

        def accepted() -> int:
            """Pictures that were drawn, and then those in the queue: no more than were accepted."""
            told = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=KNOWN, timeout=AGES_S).text
            (drawn,) = (float(line.split()[1]) for line in told.splitlines() if line.startswith(DRAWN))
            found = httpx.get(f"http://127.0.0.1:{port}/health", timeout=AGES_S).json()
            return int(drawn) + found["running"] + found["waiting"]

        with ThreadPoolExecutor(6) as clients:
            asked = [clients.submit(draw, 100 * number) for number in range(6)]
            # A request that is still on its way to a busy server may be refused; those that are in must be served.
            while accepted() < 60 and not all(each.done() for each in asked):
                time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            served = [each.result() for each in asked]
        assert server.wait(timeout=AGES_S) == 0
        pipe = InfinityPipeline.from_pretrained(model, device="cpu")
        for number, pictures in enumerate(served):
            expected = pipe("a secret cube", num_images_per_prompt=10, seed=100 * number, batch_size=1)
            assert np.array_equal(pictures, expected.pixels())
        assert b"secret" not in (tmp_path / "log").read_bytes()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
