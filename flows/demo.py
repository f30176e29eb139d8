"""``make demo``: the whole pipeline on this machine, with a local Prefect server, a local Ray and local files.

python -m flows.demo                          drawn scenes
python -m flows.demo --data <folder>          any folder of captioned pictures
python -m flows.demo --plan                   what it will take, without doing it
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.environment import apply_common_environment
from infra.server.access import StackError
from infra.settings import settings
from infra.stack import Server, Stack

if TYPE_CHECKING:
    from infinity.reporting.write import ReportFiles

INTERRUPTED = 130
"""The exit code that shells use for a command ended by Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line: 0 when the report is written."""
    options = _parser().parse_args(arguments)
    apply_common_environment()
    try:
        if options.plan:
            return _show_plan(options.run or _run_name(options.data), options.data, options.recipe)
        stack = Stack(settings())
        if settings().prefect_api_url is None:
            print("Prefect server: starting, or found running ...", flush=True)
        server = stack.server_up()
        stack.files_up()
        # Prefect and the settings of this process read the environment once, after this point.
        os.environ.update(stack.client_environment(server))
        settings.cache_clear()
        return _run(stack, server, options.run or _run_name(options.data), options.data, options.recipe)
    except (StackError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted. Finished stages are kept, and a training goes on from its last checkpoint: "
            "run the same command again.\nThe Prefect server still runs; stop it with: make down",
            file=sys.stderr,
        )
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        help="folder, .jsonl, .parquet, .tar or list of addresses of captioned pictures; without it scenes are drawn",
    )
    parser.add_argument("--run", help="name of the run, a folder in runs/; 'demo', or the name of the data")
    parser.add_argument(
        "--recipe", default="demo", help="sizes and lengths: demo (10 minutes), emoji (1 hour) or mini (2 minutes)"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="show stages, time, memory, disk and cost, and whether they fit; run nothing",
    )
    return parser


def _show_plan(run: str, data: str | None, recipe: str) -> int:
    """Print what a run will take; 1 where it cannot fit."""
    from flows.records.forecast import Prices, forecast, problems, shown
    from flows.records.plan import STAGES, folder_of, new_plan
    from infinity.reporting.terminal.table import table_lines

    plan = new_plan(recipe, data, folder_of(run))  # type: ignore[arg-type]  # it checks the name itself
    stages = forecast(plan, timed=True, names=STAGES)
    rows = shown(stages, Prices(cpu_hour=settings().price_cpu_hour, gpu_hour=settings().price_gpu_hour))
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    print(f"{run}: what it will take, measured on this machine under its present load")
    print("\n".join(table_lines(columns, [[row[name] for name in columns] for row in rows])))
    found = list(problems(stages, plan, is_local=settings().ray_address is None))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


def _run_name(data: str | None) -> str:
    if data is None:
        return "demo"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.rstrip("/").rpartition("/")[2].partition(".")[0]).strip("-.")
    return name or "pictures"


def _run(stack: Stack, server: Server, run: str, data: str | None, recipe: str) -> int:
    from prefect import tags

    from flows.end_to_end import end_to_end
    from flows.operations.reaper import reap

    for said in reap():  # demos that were killed
        print(f"ended {said}")
    with tags("infinity", recipe):
        state = end_to_end(run=run, data=data, recipe=recipe, return_state=True)
    path = f"/runs/flow-run/{state.state_details.flow_run_id}"
    page = f"{server.ui_url}{path}"
    if (log_in := stack.login_page(server, path)) is not None:
        page += f"\nFirst visit:  {log_in.as_uri()} (logs your browser in; only you can read this file)"
    if not state.is_completed():
        print(f"\nerror: {state.message}\nPrefect page: {page}\nStop the server with: make down", file=sys.stderr)
        return 1
    files: ReportFiles = state.result()
    print(f"\nReport:       {files.html}")
    print(f"Figures:      {files.json}")
    print(f"Prefect page: {page}")
    print("The Prefect server stays up, so that its pages can be opened; stop it with: make down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
