"""``infinity serve`` on a real Ray Serve: the bits of Python, keys, and a SIGTERM that loses no accepted request."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.jobs.serving import ServePlan, application, last_words, serve_until_stopped
from infinity.serving.settings import ServingConfig
from infra.environment import free_port
from tests.fixtures.limits import AGES_S
from tests.fixtures.small_world import write_model

pytest.importorskip("ray.serve", reason="what Ray Serve needs is not installed: pip install 'infinity-t2i[serving]'")
KEY = "a key for the test"
KNOWN = {"Authorization": f"Bearer {KEY}"}
DRAWN = "infinity_pictures_total "
ROOT = Path(__file__).parents[3]


@contextmanager
def serving(folder: Path, model: str, *options: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Serve a model by the command, from a process of its own; its output is in the file ``log`` of the folder."""
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "infinity.cli", "serve", model, "--port", port, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        server = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=file, stderr=file, cwd=ROOT, start_new_session=True
        )
    try:
        until = time.monotonic() + AGES_S
        while b"serving at" not in log.read_bytes():
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)
        yield server, f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def pictures(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    files = [io.BytesIO(base64.b64decode(entry["b64_json"])) for entry in response.json()["data"]]
    return np.stack([np.asarray(Image.open(file)) for file in files])


@pytest.mark.ray
@pytest.mark.slow
def test_replicas_that_the_cluster_has_no_room_for_are_refused_instead_of_waited_for(local_ray: None) -> None:
    plan = ServePlan(serving=ServingConfig(model="nowhere"), replicas=9_999)
    with pytest.raises(ValueError, match="--replicas: 9999 replicas want 9999 CPUs, the Ray cluster has"):
        serve_until_stopped(plan, print)
    with pytest.raises(ValueError, match="--gpus: 1 replicas want 9999 GPUs, the Ray cluster has"):
        serve_until_stopped(plan.replace(replicas=1, gpus=9_999.0), print)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "a=nowhere"), "expected an adapter"),
        (("--lora", "a"), "--lora: expected name=place"),
        (("--keys", "nowhere"), "nowhere: there is no such file"),
        (("--host", "0.0.0.0"), "can be reached by others"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["serve", write_model(tmp_path), *options])
    assert found.exit_code == 1
    assert message in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ""}, "keys: others reach a served application; expected the place of a file of API keys"),
        ({"keys": "nowhere"}, "there is no such file"),
        ({"key_digests": ["0"]}, "key_digests: expected the place of the keys themselves"),
        ({"modell": "x"}, "modell"),
        ({"limits": {"max_batch": 0}}, "expected at least 1"),
    ],
)
def test_a_wrong_application_of_a_configuration_file_is_refused_with_its_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    with pytest.raises((ValueError, OSError), match=message):
        application({"model": "m", "keys": str(keys), **change})


def test_an_application_of_a_configuration_file_knows_the_digests_of_its_keys_alone(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# of a person\n{KEY}\n")
    (given,) = application({"model": "m", "keys": str(keys), "quantize": "int8"})._bound_deployment.init_args
    config = ServingConfig.from_json(given, where="test")
    assert config.admits(KEY)
    assert not config.admits("another key for it")
    assert (config.model, config.quantize) == ("m", "int8")
    assert KEY not in str(given)


def test_the_reason_of_a_replica_that_did_not_start_is_found_in_what_ray_says() -> None:
    traceback = (
        "3 times in a row. Error:\nray::init()\n  File x, line 1\nValueError: one\n\nDuring this\na.b.AdapterError: two"
    )
    assert last_words(traceback) == "two"
    assert last_words("no traceback") == ""


@pytest.mark.ray
@pytest.mark.slow
def test_a_served_model_gives_the_pixels_of_python_and_finishes_what_it_accepted(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (tmp_path / "keys").write_text(f"{KEY}\n")
    with serving(tmp_path, model, "--keys", tmp_path / "keys") as (server, place):
        address = f"{place}/v1/images/generations"
        assert httpx.post(address, json={"prompt": "a"}, timeout=AGES_S).status_code == 401

        def draw(seed: int) -> np.ndarray:
            response = httpx.post(
                address, json={"prompt": "a secret cube", "seed": seed, "n": 10},
                headers=KNOWN, timeout=AGES_S,
            )  # fmt: skip
            return pictures(response)

        def accepted() -> int:
            """Pictures that were drawn, and then those in the queue: no more than were accepted."""
            told = httpx.get(f"{place}/metrics", headers=KNOWN, timeout=AGES_S).text
            (drawn,) = (float(line.split()[1]) for line in told.splitlines() if line.startswith(DRAWN))
            found = httpx.get(f"{place}/health", timeout=AGES_S).json()
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
        for number, found in enumerate(served):
            expected = pipe("a secret cube", num_images_per_prompt=10, seed=100 * number, batch_size=1)
            assert np.array_equal(found, expected.pixels())
        assert b"secret" not in (tmp_path / "log").read_bytes()


def replicas_of(server: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes of the server's replicas: those of Ray Serve that descend from it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def descends(pid: int) -> bool:
        while pid not in (0, 1, server.pid):
            pid = parents.get(pid, 0)
        return pid == server.pid

    return [int(pid) for pid, _, *name in rows if name and "ServeReplica:infinity" in name[0] and descends(int(pid))]


@pytest.mark.ray
@pytest.mark.slow
def test_replicas_give_the_same_pixels_and_one_that_is_killed_is_replaced(tmp_path: Path, exhaustive: bool) -> None:
    """What a killed replica was drawing is answered by a 500; who asks again, as OpenAI's client does, gets it."""
    if not exhaustive:
        pytest.skip("starts a Ray Serve with two replicas: --exhaustive")
    model = write_model(tmp_path)
    pipe = InfinityPipeline.from_pretrained(model, device="cpu")
    with serving(tmp_path, model, "--replicas", 2) as (server, place):
        address = f"{place}/v1/images/generations"

        def draw(seed: int) -> int:
            """Ask until the pictures are there, and return the number of attempts."""
            for attempt in range(1, 6):
                body = {"prompt": "a cube", "seed": seed, "n": 10}
                response = httpx.post(address, json=body, timeout=AGES_S)
                if response.status_code in (429, 500, 503):
                    continue
                expected = pipe("a cube", num_images_per_prompt=10, seed=seed, batch_size=1).pixels()
                assert np.array_equal(pictures(response), expected)
                return attempt
            raise AssertionError("no answer but 429, 500 and 503")

        before = replicas_of(server)
        assert len(before) == 2
        with ThreadPoolExecutor(8) as clients:
            asked = [clients.submit(draw, 100 * number) for number in range(8)]
            while not any(each.done() for each in asked):
                if httpx.get(f"{place}/health", timeout=AGES_S).json()["running"]:
                    break
            os.kill(before[0], signal.SIGKILL)
            assert len([each.result() for each in asked]) == 8
        until = time.monotonic() + AGES_S
        while len(set(replicas_of(server)) - {before[0]}) < 2:
            assert time.monotonic() < until, "no replica took the place of the killed one"
            time.sleep(0.2)
        assert draw(1) >= 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=AGES_S) == 0
