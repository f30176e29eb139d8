"""A local Ray that does not start ends in one sentence with its reason, which a run page shows and a retry may cure."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from infinity.jobs.cluster import connection
from infinity.jobs.cluster.connection import START_ATTEMPTS, connect
from infinity.jobs.watching import ClusterLostError

TIMED_OUT = "The current node timed out during startup. This could happen because some of the raylet failed to startup."
RAYLET = """[2026-11-29 22:24:01,100 I 4711 4711] (raylet) main.cc:330: Setting cluster ID
[2026-11-29 22:24:40,200 E 4711 4720] (raylet) agent_manager.cc:86: Agent process expected id 1 timed out
[2026-11-29 22:24:47,697 C 4711 4711] (raylet) node.cc:35:  This may be a bug. Check failed: port Its agent failed
[2026-11-29 22:24:47,698 I 4711 4711] (raylet) main.cc:900: Exiting
"""


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the attempts to start a Ray that does not start."""
    import ray

    found = list[str]()

    def init(**options: object) -> None:
        found.append(str(options["_temp_dir"]))
        logs = Path(found[-1], "session_latest", "logs")
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "raylet.out").write_text(RAYLET)
        raise Exception(TIMED_OUT)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(connection, "_is_connected", lambda: False)
    return found


def test_a_ray_that_does_not_start_is_one_sentence_with_reason_and_what_to_do(
    attempts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ClusterLostError, match=r"Its agent failed; load .* on .* CPUs.*end other programs") as caught,
        connect(),
    ):
        pytest.fail("nothing is connected")
    assert len(attempts) == START_ATTEMPTS
    assert f"{START_ATTEMPTS} attempts (raylet: port Its agent" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sum("trying again" in line for line in caplog.messages) == START_ATTEMPTS - 1
    assert not Path(attempts[0]).exists()


@pytest.mark.parametrize(("error", "tries"), [(RuntimeError("Ports are taken"), 1), (Exception(), 1)])
def test_other_failures_of_the_start_are_a_sentence_too_and_are_not_repeated(
    error: Exception, tries: int, monkeypatch: pytest.MonkeyPatch, attempts: list[str]
) -> None:
    import ray

    def init(**options: object) -> None:
        attempts.append("")
        raise error

    monkeypatch.setattr(ray, "init", init)
    expected = str(error) or "no reason was given"
    with pytest.raises(ClusterLostError, match=expected), connect():
        pytest.fail("nothing is connected")
    assert len(attempts) == tries


@pytest.mark.parametrize("error", [ValueError("num_cpus: expected a number"), OSError("No space left on device")])
def test_what_is_wrong_with_settings_or_the_disk_is_said_as_it_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch, attempts: list[str]
) -> None:
    import ray

    def init(**options: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(type(error), match=str(error)), connect():
        pytest.fail("nothing is connected")
