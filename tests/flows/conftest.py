"""One end-to-end run in miniature, shared by the tests that look at it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infinity.jobs.cluster.connection import in_process
from infra.settings import settings


@dataclass(frozen=True, slots=True)
class MiniRun:
    """A finished run.

    Attributes:
        folder: Its outputs.
        flow_run: Its id on the Prefect server.
    """

    folder: Path
    flow_run: str


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """Settings are read once a process; tests change the environment."""
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def mini_run(
    prefect_server: str, local_ray: None, tmp_path_factory: pytest.TempPathFactory, exhaustive: bool
) -> MiniRun:
    """Drawn scenes to report with the recipe "mini", through a real Prefect server and a real Ray.

    Of the three trainings only the last one gets a worker of Ray by default: to start one takes longer than to train.
    """
    from flows.end_to_end import end_to_end
    from flows.stages import stage

    report_of = stage._report_of

    def mostly_here(job: Any, spec: Any, page: Any) -> Any:
        here = not exhaustive and getattr(spec, "stage", spec.kind) in ("tokenizer", "pretrain")
        with in_process() if here else nullcontext():
            return report_of(job, spec, page)

    folder = tmp_path_factory.mktemp("runs") / "mini"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_report_of", mostly_here)
        state = end_to_end(run=str(folder), recipe="mini", return_state=True)
    assert state.is_completed(), state.message
    return MiniRun(folder, str(state.state_details.flow_run_id))
