"""The deployment of ``evaluate`` firing by itself: on a schedule, twice, and on new checkpoints; pictures of its pages.

    python -m tests.browser.scheduled_evaluation --out shots

Starts a stack of its own (server, worker, file server) in a temporary folder, deploys every flow of prefect.yaml, runs
the miniature recipe through its deployment to its end, waits for the run of ``evaluate`` that the new model sets off,
lets a schedule of short interval fire twice, trains a further model, and looks at all of it in a browser. Ten minutes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.environment import apply_common_environment
from infra.settings import Settings
from infra.stack import Stack
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.fixtures.servers.prefect_api import ask

RUN = "watched"
INTERVAL_S = 90
EVALUATION = {
    "scene_prompts_per_task": 10, "pictures_per_prompt": 2, "reconstruction_pictures": 16, "validation_pictures": 16
}  # fmt: skip
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
TIMEOUT_S = 900.0


class NotSeenError(RuntimeError):
    """What should have happened by itself did not."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server's API, as far as it is asked here."""

    api: str

    def ask(self, path: str, content: dict[str, Any], *, method: str = "POST") -> Any:
        """One request; the JSON of its answer."""
        return ask(self.api, path, content, method=method)

    def deployment(self, flow: str) -> str:
        """Id of ``<flow>/local``."""
        return str(self.ask("deployments/filter", {"flows": {"name": {"any_": [flow]}}})[0]["id"])

    def start(self, flow: str, parameters: dict[str, Any]) -> str:
        """A run of a deployment, as a person starts it from the form; its id."""
        path = f"deployments/{self.deployment(flow)}/create_flow_run"
        return str(self.ask(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"])

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Runs of a deployment that have begun, the oldest first."""
        query = {"deployments": {"id": {"any_": [self.deployment(flow)]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [run for run in self.ask("flow_runs/filter", query) if run["start_time"] is not None]

    def ended(self, run: str) -> dict[str, Any]:
        """The run, when it has ended."""
        return self.wait(lambda: self._if_ended(self.ask(f"flow_runs/{run}", {}, method="GET")), f"the end of {run}")

    def _if_ended(self, run: dict[str, Any]) -> dict[str, Any] | None:
        return run if run["state"]["type"] in ENDED else None

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        """What ``look`` finds, as soon as it finds anything."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(2.0)
        raise NotSeenError(f"waited {TIMEOUT_S:.0f} s in vain for {what}")

    def evaluations(self, created_by: str, number: int) -> list[dict[str, Any]]:
        """So many ended runs of ``evaluate`` that a schedule or an automation made."""

        def look() -> list[dict[str, Any]] | None:
            found = [run for run in self.runs("evaluate") if (run["created_by"] or {}).get("type") == created_by]
            done = [run for run in found if run["state"]["type"] in ENDED]
            return done[:number] if len(done) >= number else None

        found: list[dict[str, Any]] = self.wait(look, f"{number} runs of evaluate by {created_by}")
        return found


def told(what: str, run: dict[str, Any]) -> None:
    """One line about a run that ended."""
    state = run["state"]
    by = run["created_by"] or {}
    maker = f"{by.get('type')} {by.get('display_value') or ''}".strip()
    print(f"{what}: {run['name']} ended as {state['name']} ({state['type']}), made by {maker}")
    print(f"    after {run['total_run_time']:.0f} s: {state['message']}", flush=True)


def watch(server: Server) -> dict[str, dict[str, Any]]:
    """Let everything happen; runs by name of the picture."""
    seen = {}
    end_to_end = server.start(
        "end-to-end", {"run": RUN, "recipe": "mini", "dataset": {"num_scenes": 600}, "evaluation": EVALUATION}
    )
    seen["end-to-end"] = server.ended(end_to_end)
    told("started through its deployment", seen["end-to-end"])
    (seen["first-model"],) = server.evaluations("AUTOMATION", 1)
    told("set off by a new model", seen["first-model"])
    deployment = server.deployment("evaluate")
    schedules = server.ask(
        f"deployments/{deployment}/schedules",
        [{"active": True, "schedule": {"interval": INTERVAL_S}, "parameters": {"run": RUN}}],  # type: ignore[arg-type]
    )
    first, second = server.evaluations("SCHEDULE", 2)
    seen |= {"scheduled-1": first, "scheduled-2": second}
    told("set off by the schedule", first)
    told("set off by the schedule", second)
    server.ask(f"deployments/{deployment}/schedules/{schedules[0]['id']}", {"active": False}, method="PATCH")
    finetune = server.start("finetune", {"run": RUN, "transformer": {"learning_rate": 1e-6}})
    seen["finetune"] = server.ended(finetune)
    told("started through its deployment", seen["finetune"])
    _, seen["worse-model"] = server.evaluations("AUTOMATION", 2)
    told("set off by a new model", seen["worse-model"])
    return seen


def look(browser: Browser, server: Server, seen: dict[str, dict[str, Any]], runs: Path, out: Path) -> None:
    """Pictures of the run pages, their artifacts, the deployment, and the page of the comparison."""
    ui = server.api.removesuffix("/api")
    for name, run in seen.items():
        url = f"{ui}/runs/flow-run/{run['id']}"
        browser.open(url)
        print(browser.shoot(out / f"{name}.png"))
        if name in ("first-model", "scheduled-2", "worse-model"):
            browser.open(url, click="Artifacts")
            print(browser.shoot(out / f"{name}-artifacts.png"))
    browser.open(f"{ui}/deployments/deployment/{server.deployment('evaluate')}")
    print(browser.shoot(out / "deployment.png"))
    for key in ("gate-numbers", "gate-pictures"):
        for artifact in server.ask("artifacts/latest/filter", {"artifacts": {"key": {"any_": [key]}}}):
            browser.open(f"{ui}/artifacts/artifact/{artifact['latest_id']}")
            print(browser.shoot(out / f"{key}.png"))
    for page in sorted(runs.rglob("comparison.html"))[:1]:
        browser.open(page.as_uri(), settle_s=1.0)
        print(browser.shoot(out / "comparison.png"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when everything happened by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.scheduled_evaluation")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--folder", type=Path, help="folder for the stack and the run; a temporary one by default")
    options = parser.parse_args(arguments)
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    apply_common_environment()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="inf-watch-"))
    runs = folder / "runs"
    os.environ["INFINITY_RUNS"] = str(runs)
    os.environ.setdefault("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "5")
    os.environ.pop("PREFECT_API_URL", None)
    stack = Stack(Settings(state=folder / "state", runs=str(runs)))
    try:
        up = stack.server_up()
        stack.files_up()
        stack.worker_up(up)
        os.environ.update(stack.client_environment(up))  # for the questions of this process
        print(f"server: {up.ui_url}", flush=True)
        server = Server(up.api_url)
        seen = watch(server)
        with open_browser() as browser:
            browser.log_in(up.ui_url, os.environ["PREFECT_API_AUTH_STRING"])
            look(browser, server, seen, runs, options.out)
    finally:
        stack.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
