"""Seconds until the pages of the Prefect UI show what they should, with many past runs in the database.

    python -m tests.browser.past_runs --runs 1000 --out shots

Starts a stack of its own (server only) in a temporary folder, deploys ``evaluate``, writes past runs with the shape of
end-to-end (five task runs and twelve artifacts each) into its database, and opens each page several times in a browser.
The last line names the slowest page; the exit code is 1 where its median is above ``--limit-s``. With ``--requests``
each page is followed by what its last load asked the server: seconds after the first question, seconds, bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from infra.environment import apply_common_environment
from infra.settings import Settings
from infra.stack import Stack
from tests.browser.screenshots import Asked, Browser, open_browser, why_no_browser
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask

TASKS = ("dataset", "tokenizer", "pretrain", "finetune", "evaluation")
ARTIFACTS_PER_RUN = 12
NEWEST = "past-run-0"
LONGEST_S = 25.0
"""Longest wait for a page; the browser's driver gives a script 30 s."""


async def write_past_runs(number: int, flow: UUID, deployment: UUID) -> UUID:
    """Write finished runs into the database of PREFECT_API_DATABASE_CONNECTION_URL; return the id of the newest.

    Args:
        number: Runs, one every twenty minutes back from now.
        flow: Id of their flow.
        deployment: Id of their deployment.
    """
    from prefect.server.database import provide_database_interface
    from prefect.server.schemas import core
    from sqlalchemy import insert, update

    database, new_id = provide_database_interface(), core.FlowRun.model_fields["id"].default_factory
    assert new_id is not None
    runs: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    pages: list[dict[str, Any]] = []
    text = "| metric | value |\n|---|---|\n" * 40
    for index in reversed(range(number)):  # ids grow with time
        ended = datetime.now(UTC) - timedelta(minutes=20 * index)
        began = ended - timedelta(minutes=8)
        common = {
            "start_time": began, "expected_start_time": began, "end_time": ended, "created": began, "run_count": 1,
            "state_type": "COMPLETED", "state_name": "Completed", "state_timestamp": ended,
            "total_run_time": ended - began,
        }  # fmt: skip
        run = {"id": new_id(), "flow_id": flow, "deployment_id": deployment, "name": f"past-run-{index}"}  # type: ignore[call-arg]
        runs.append({**common, **run, "parameters": {"run": f"demo-{index}", "recipe": "demo"}})
        for task in TASKS:
            names = {"id": uuid4(), "flow_run_id": run["id"], "task_key": task, "dynamic_key": "0", "name": task}
            tasks.append({**common, **names})
        pages += [
            {"id": uuid4(), "key": f"page-{each}", "type": "markdown", "flow_run_id": run["id"], "data": text}
            for each in range(ARTIFACTS_PER_RUN)
        ]
    async with database.session_context(begin_transaction=True) as session:
        for table, states, owner, rows in (
            (database.FlowRun, database.FlowRunState, "flow_run_id", runs),
            (database.TaskRun, database.TaskRunState, "task_run_id", tasks),
        ):
            await session.execute(insert(table), rows)
            ends = [{"id": uuid4(), owner: row["id"], "timestamp": row["end_time"]} for row in rows]
            await session.execute(insert(states), [{**end, "type": "COMPLETED", "name": "Completed"} for end in ends])
            now = {"updated": datetime.now(UTC)}  # its default is an expression, which many rows at once cannot have
            await session.execute(update(table), [{**now, "id": end[owner], "state_id": end["id"]} for end in ends])
        await session.execute(insert(database.Artifact), pages)
        newest = [{**page, "id": uuid4(), "latest_id": page["id"]} for page in pages[-ARTIFACTS_PER_RUN:]]
        await session.execute(insert(database.ArtifactCollection), newest)
    return UUID(str(runs[-1]["id"]))


SEEN = """
const [click, words, LIMIT] = arguments, shows = word => document.body.innerText.includes(word);
return new Promise(done => {
  let clicked = click ? -500 : Infinity;
  const look = () => {
    const tab = [...document.querySelectorAll('a, button, .p-tab')].find(each => each.innerText.trim() === click);
    if (tab && performance.now() - clicked > 500) {
      tab.dispatchEvent(new MouseEvent('mousedown', {bubbles: true, button: 0}));  // what a tab of this UI listens to
      tab.click();
      clicked = performance.now();
    }
    const shown = words.every(shows) && (!click || clicked >= 0);
    if (shown || performance.now() > LIMIT) return done(shown ? performance.now() / 1000 : null);
    setTimeout(look, 20);
  };
  look();
});
"""
"""Waits in the page until it shows some words, behind a tab where one is named; the browser's own clock counts from the
request. A tab is clicked again every half second, since a page that is not ready yet forgets a click. Asked from
outside, a page with many elements takes seconds to say what it shows."""


def seconds_until(browser: Browser, url: str, tab: str, words: Sequence[str]) -> float:
    """Return the seconds from the request of a page to the moment at which it shows some words.

    Args:
        tab: Tab of the page that is clicked as soon as it is there; empty for none.
    """
    browser.open(url, settle_s=0.0)
    seconds = browser.run(SEEN, tab, list(words), LONGEST_S * 1000)
    if seconds is None:
        raise TimeoutError(f"{url} {tab}: expected {', '.join(words)} within {LONGEST_S:.0f} s, found them not")
    return float(seconds)


def asked_lines(requests: Sequence[Asked]) -> list[str]:
    """Return a line for each request of a page."""
    begun = min((asked.asked_at for asked in requests), default=0.0)
    return [
        f"    {asked.asked_at - begun:6.2f} s  "
        + ("no answer" if asked.answered_at is None else f"{asked.answered_at - asked.asked_at:6.2f} s")
        + f"  {asked.num_bytes:9,} B  {asked.method} {asked.url.partition('://')[2].partition('/')[2]:.100}"
        for asked in requests
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.past_runs")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5, help="loads of each page")
    parser.add_argument("--limit-s", type=float, default=2.0)
    parser.add_argument("--requests", action="store_true", help="print what each page asks the server")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures of the pages")
    options = parser.parse_args(arguments)
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    apply_common_environment()
    with tempfile.TemporaryDirectory(prefix="inf-past-") as folder:
        stack = Stack(Settings(state=Path(folder), runs=f"{folder}/runs", prefect_api_url=None))
        server = stack.server_up(timeout_s=AGES_S)
        try:
            database = Path(folder) / "prefect" / "prefect.db"
            os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
            os.environ["PREFECT_API_AUTH_STRING"] = stack.auth() or ""
            medians = measure(server.api_url, options.runs, options.times, options.out, options.requests)
        finally:
            stack.down()
    slowest = max(medians, key=lambda name: medians[name])
    print(f"slowest of {len(medians)} pages with {options.runs} past runs: {slowest}, {medians[slowest]:.2f} s")
    return 0 if medians[slowest] <= options.limit_s else 1


def measure(api: str, runs: int, times: int, out: Path, shows_requests: bool) -> dict[str, float]:
    """Fill the database and return the median seconds of each page by name."""
    flow = UUID(ask(api, "flows/", {"name": "end-to-end"})["id"])
    deployment = UUID(ask(api, "deployments/", {"name": "local", "flow_id": str(flow)})["id"])
    newest, ui = asyncio.run(write_past_runs(runs, flow, deployment)), api.removesuffix("/api")
    run = f"runs/flow-run/{newest}"
    pages: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "runs": ("runs", "", (NEWEST,)),
        "dashboard": ("dashboard", "", ("Flow Runs", "Task Runs")),
        "flows": ("flows", "", ("end-to-end",)),
        "deployments": ("deployments", "", ("local",)),
        "one run": (run, "", (NEWEST, "Task Runs")),
        "tasks of a run": (run, "Task Runs", (TASKS[0], TASKS[-1])),
        "artifacts of a run": (run, "Artifacts", ("page-0", f"page-{ARTIFACTS_PER_RUN - 1}")),
        "artifacts": ("artifacts", "", ("page-0",)),
    }
    medians = {}
    with open_browser() as browser:
        browser.log_in(ui, os.environ["PREFECT_API_AUTH_STRING"])
        for name, (path, tab, words) in pages.items():
            seconds = []
            for _ in range(times):
                browser.requests()
                try:
                    seconds.append(seconds_until(browser, f"{ui}/{path}", tab, words))
                except TimeoutError as error:
                    raise TimeoutError(f"{error}; see {browser.shoot(out / 'not-shown.png')}") from None
            medians[name] = statistics.median(seconds)
            print(f"{name}: {medians[name]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})", flush=True)
            if shows_requests:
                print("\n".join(asked_lines(browser.requests())), flush=True)
            browser.shoot(out / f"{name.replace(' ', '-')}.png")
    return medians


if __name__ == "__main__":
    sys.exit(main())
