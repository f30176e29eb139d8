"""``infinity doctor``: is this machine, with its settings, ready?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out

COLOURS = {"good": "green", "note": "yellow", "fault": "red"}


def doctor(
    runs: Annotated[str, typer.Option(envvar="INFINITY_RUNS", help="Root of all outputs.")] = "runs",
    state: Annotated[Path, typer.Option(envvar="INFINITY_STATE", help="Folder of the local stack.")] = Path(".local"),
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster or of its dashboard.")
    ] = None,
    prefect_url: Annotated[
        str | None, typer.Option(envvar="PREFECT_API_URL", help="API of a Prefect server that runs elsewhere.")
    ] = None,
    prefect_port: Annotated[
        int | None, typer.Option(envvar="INFINITY_PREFECT_PORT", help="Port of the local Prefect server.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(envvar="INFINITY_DATABASE", help="Database behind the Prefect server.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Workers that serve the Prefect server.")] = 1,
    free: Annotated[float, typer.Option(min=0.0, help="Least free space for outputs, in GB.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check versions, devices, disks, buckets, clocks, secrets, servers and the cluster; 1 where something is wrong."""
    with clear_errors():
        from infinity.jobs.doctor import Setup, examine

        setup = Setup(
            environment=dict(os.environ),
            runs=runs,
            state=state,
            ray_address=ray_address or None,
            prefect_url=(prefect_url or "").rstrip("/") or None,
            prefect_port=prefect_port,
            database=database or None,
            num_workers=workers,
            free_gigabytes=free,
        )
        findings = []
        for finding in examine(setup):
            findings.append(finding)
            if not as_json:
                out.print(f"{finding.verdict:5}", style=COLOURS[finding.verdict], end="  ", highlight=False)
                out.say(f"{finding.check}: {finding.found}" + (f"; {finding.fix}" if finding.fix else ""))
    if as_json:
        out.print_json(json.dumps([finding.to_json() for finding in findings]))
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(1)
