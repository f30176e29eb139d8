"""``infinity serve`` on a real Ray Serve: the bits of Python, keys, and a SIGTERM that loses no accepted request."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
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
from tests.fixtures.data.small_world import write_model
from tests.fixtures.limits import AGES_S

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
def test_a_replica_that_is_killed_loses_no_request(tmp_path: Path, exhaustive: bool) -> None:
    """Another replica draws the same pixels, also for streams that had begun; each client asks once."""
    if not exhaustive:
        pytest.skip("starts a Ray Serve with two replicas: --exhaustive")
    model = write_model(tmp_path)
    pipe = InfinityPipeline.from_pretrained(model, device="cpu")
    with serving(tmp_path, model, "--replicas", 2, "--max-waiting", 999) as (server, place):

        def draw(number: int) -> None:
            body = {"prompt": "a cube", "seed": 100 * number, "n": 10, "stream": number % 2 == 1}
            response = httpx.post(f"{place}/v1/images/generations", json=body, timeout=AGES_S)
            found = streamed(response) if body["stream"] else pictures(response)
            expected = pipe("a cube", num_images_per_prompt=10, seed=100 * number, batch_size=1).pixels()
            assert np.array_equal(found, expected)

        before = replicas_of(server)
        assert len(before) == 2
        with ThreadPoolExecutor(40) as clients:
            asked = [clients.submit(draw, number) for number in range(40)]
            wait(asked, return_when=FIRST_COMPLETED)
            try:
                for replica in before:  # frozen, so that the one that is killed has not finished its requests
                    os.kill(replica, signal.SIGSTOP)
                assert not all(each.done() for each in asked)
                os.kill(before[0], signal.SIGKILL)
            finally:
                os.kill(before[1], signal.SIGCONT)
            for each in asked:
                each.result()
        until = time.monotonic() + AGES_S
        while len(set(replicas_of(server)) - {before[0]}) < 2:
            assert time.monotonic() < until, "no replica took the place of the killed one"
            time.sleep(0.2)
        draw(1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=AGES_S) == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("why", ["longer than Ray waits", "no time left", "a second signal"])
def test_every_request_of_a_server_that_stops_has_an_answer(tmp_path: Path, exhaustive: bool, why: str) -> None:
    """Ray itself gives up a drain after a minute, and ends its proxies with answers that are on their way."""
    if not exhaustive:
        pytest.skip("starts a Ray Serve and waits: --exhaustive")
    drain_s = 2 if why == "no time left" else 600
    with serving(tmp_path, write_model(tmp_path), "--max-waiting", 999, "--drain-s", drain_s) as (server, place):

        def ask(number: int) -> httpx.Response:
            body = {"prompt": "a cube", "seed": number, "n": 10, "stream": number % 2 == 1}
            return httpx.post(f"{place}/v1/images/generations", json=body, timeout=AGES_S)

        def waiting() -> int:
            return int(httpx.get(f"{place}/health", timeout=AGES_S).json()["waiting"])

        (replica,) = replicas_of(server)
        with ThreadPoolExecutor(20) as clients:
            asked = [clients.submit(ask, number) for number in range(20)]
            while waiting() < 100:
                time.sleep(0.02)
            os.kill(replica, signal.SIGSTOP)
            server.send_signal(signal.SIGTERM)
            time.sleep(65 if why == "longer than Ray waits" else 3)
            if why == "a second signal":
                server.send_signal(signal.SIGTERM)
            elif why == "longer than Ray waits":
                assert not any(each.done() and each.exception() for each in asked)
                os.kill(replica, signal.SIGCONT)
            found = [each.result() for each in asked]
        assert server.wait(timeout=AGES_S) == 0
        lost = 0
        for number, response in enumerate(found):
            if response.status_code == 503:
                assert "the server stops" in response.json()["error"]["message"]
                lost += 1
            elif number % 2 == 1 and "event: error" in response.text:
                assert "the server stops" in response.text.rpartition("data: ")[2]
                lost += 1
            else:
                assert len(streamed(response) if number % 2 == 1 else pictures(response)) == 10
        assert (lost == 0) == (why == "longer than Ray waits")


def streamed(response: httpx.Response) -> np.ndarray:
    """Return the pictures of a stream; every event came once, and none is an error."""
    assert response.status_code == 200, response.text
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line[:6] == "data: "]
    kinds = [(event["type"], event["index"], event.get("scale")) for event in events]
    assert len(set(kinds)) == len(kinds)
    files = [io.BytesIO(base64.b64decode(each["b64_json"])) for each in events if each["type"].endswith("completed")]
    return np.stack([np.asarray(Image.open(file)) for file in files])
