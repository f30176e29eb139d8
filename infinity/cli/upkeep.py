"""``infinity gc``, ``fleet`` and ``compare-runs``: a root of runs as a whole."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, err, out

if TYPE_CHECKING:
    from infinity.jobs.upkeep.inventory import Inventory
    from infinity.jobs.upkeep.prefect_names import PrefectAddress
    from infinity.jobs.upkeep.rules import GcPlan

_ROOT_HELP = "Folder or s3:// URI that holds all runs."
Root = Annotated[str, typer.Argument(envvar="INFINITY_RUNS", help=_ROOT_HELP)]
CpuHour = Annotated[float, typer.Option(envvar="INFINITY_PRICE_CPU_HOUR", help="Price of a CPU's hour.")]
GpuHour = Annotated[float, typer.Option(envvar="INFINITY_PRICE_GPU_HOUR", help="Price of a GPU's hour.")]
CpuWatts = Annotated[float, typer.Option(envvar="INFINITY_POWER_CPU_W", help="Power of a CPU at work, in watts.")]
GpuWatts = Annotated[float, typer.Option(envvar="INFINITY_POWER_GPU_W", help="Power of a GPU at work, in watts.")]
State = Annotated[Path, typer.Option(envvar="INFINITY_STATE", help="Folder of the local stack.")]
PrefectUrl = Annotated[str | None, typer.Option(envvar="PREFECT_API_URL", help="API of the Prefect server.")]
Registry = Annotated[
    str | None,
    typer.Option(envvar="INFINITY_REGISTRY", help="Registry of champions, where it lies outside of the root."),
]


def gc(
    root: Root = "runs",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this nothing is touched.")] = False,
    older_than_hours: Annotated[float, typer.Option(min=0.0, help="Hours without a change before anything goes.")] = 24,
    keep_models: Annotated[int, typer.Option(min=1, help="Newest finished models of each run that stay.")] = 2,
    abandoned_after_days: Annotated[
        float, typer.Option(min=0.0, help="Days after which an unfinished job that nothing names is given up.")
    ] = 30,
    finished_states: Annotated[
        bool, typer.Option("--finished-states", help="Also the last state of finished trainings.")
    ] = False,
    caches: Annotated[
        bool, typer.Option("--caches", help="Also pictures that a build stored smaller, and unneeded downloads.")
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="Folder of a job, or its name, that stays; may be repeated.")
    ] = None,
    registry: Registry = None,
    prefect_url: PrefectUrl = None,
    state: State = Path(".local"),
    without_prefect: Annotated[
        bool, typer.Option("--without-prefect", help="Ask no server; what its schedules name may go.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what may go as JSON.")] = False,
) -> None:
    """List what may be removed from a root of runs, with bytes and reasons; remove it with --delete.

    What a plan, a champion, a schedule or an unfinished job refers to stays, and what that needs in turn.
    """
    with clear_errors():
        from infinity.jobs.upkeep.inventory import take_inventory
        from infinity.jobs.upkeep.rules import GcRules, gc_plan

        rules = GcRules(
            older_than_hours=older_than_hours,
            keep_models=keep_models,
            abandoned_after_days=abandoned_after_days,
            finished_states=finished_states,
            caches=caches,
        )
        outside = {"named by --keep": " ".join(keep or ())}
        outside |= {} if without_prefect else _scheduled(prefect_url, state)
        outside |= _champions(registry)
        inventory = take_inventory(root)
        _tell_if_empty(inventory)
        plan = gc_plan(inventory, rules, outside, now=time.time())
        if as_json:
            rows = [{"kind": item.kind, "uri": item.uri, "bytes": item.num_bytes, "why": item.why}
                    for item in plan.removable]  # fmt: skip
            out.print_json(json.dumps({"removable": rows, "kept": dict(plan.needed)}))
        else:
            _show(plan)
        if delete:
            _delete(plan, inventory)
        elif plan.removable and not as_json:
            out.say("nothing was touched; the same command with --delete removes it")


def _tell_if_empty(inventory: Inventory) -> None:
    if not inventory.runs and not inventory.stages:
        err.say(f"no run lies below {inventory.root}")


def _scheduled(prefect_url: str | None, state: Path) -> dict[str, str]:
    """Return what Prefect's server would run, by what it is; nothing where there is no Prefect."""
    from infinity.jobs.upkeep.prefect_names import scheduled_texts

    texts: dict[str, str] = {}
    if (address := local_prefect(prefect_url, state)) is not None:
        for why, text in scheduled_texts(address):
            texts[why] = f"{texts.get(why, '')} {text}"  # names repeat
    return texts


def local_prefect(prefect_url: str | None, state: Path) -> PrefectAddress | None:
    """Return the Prefect server to ask: the given one, or that of the local stack; None where there is neither.

    Raises:
        PrefectUnknownError: There is a local stack, and its server does not run.
    """
    from infinity.jobs.upkeep.prefect_names import PrefectAddress, PrefectUnknownError

    auth = os.environ.get("PREFECT_API_AUTH_STRING", "")
    if prefect_url:
        return PrefectAddress(prefect_url.rstrip("/"), auth)
    services, secret = state / "stack" / "services.json", state / "secrets" / "prefect-auth"
    if not services.exists():
        return None
    from infinity import storage
    from infinity.storage.json_files import read_object

    server = read_object(str(services), remedy="stop the services by hand and delete the file").get("server")
    url = server.get("url") if isinstance(server, dict) else None
    if not isinstance(url, str) or not url:
        raise PrefectUnknownError(
            f"{state}: the Prefect server of this stack does not run, so that its schedules cannot be asked what "
            "they need; start it with `make up`, or give --without-prefect"
        )
    return PrefectAddress(url, auth or (storage.read_text(str(secret)).strip() if secret.exists() else ""))


def _champions(registry: str | None) -> dict[str, str]:
    from infinity import storage
    from infinity.jobs.upkeep.references import registry_texts

    return {} if registry is None else dict(registry_texts(storage.absolute(registry)))


def _show(plan: GcPlan) -> None:
    for item in plan.removable:
        out.say(f"{item.num_bytes:>16,}  {item.kind:5}  {item.uri}: {item.why}")
    total, stages = sum(item.num_bytes for item in plan.removable), len(plan.stages)
    gone = sum(item.kind == "stage" for item in plan.removable)
    told = f"{total:,} bytes in {len(plan.removable):,} places may go; {stages - gone:,} of {stages:,} stages stay"
    out.print(told, highlight=False)


def _delete(plan: GcPlan, inventory: Inventory) -> None:
    from infinity.jobs.upkeep.removal import remove

    free, number = 0, 0
    for removed in remove(plan, inventory.runs):
        if removed.spared:
            err.say(f"stays: {removed.item.uri}: {removed.spared}")
        else:
            free, number = free + removed.item.num_bytes, number + 1
    err.print(f"removed {free:,} bytes in {number:,} places", highlight=False)


Output = Annotated[str | None, typer.Option("--output", "-o", help="File or URI of an HTML page to write.")]


def fleet(
    root: Root = "runs",
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the status of all runs as JSON.")] = False,
    cpu_hour: CpuHour = 0.0,
    gpu_hour: GpuHour = 0.0,
    cpu_w: CpuWatts = 0.0,
    gpu_w: GpuWatts = 0.0,
) -> None:
    """Show where every run below a root stands: stage, progress, rate, time left, cost, owner, what is wrong."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.upkeep.cards import card
        from infinity.jobs.upkeep.fleet import fleet as status_of
        from infinity.jobs.upkeep.inventory import take_inventory
        from infinity.reporting.fleet import render_fleet

        amounts = {"cpu_hour": cpu_hour, "gpu_hour": gpu_hour, "cpu_w": cpu_w, "gpu_w": gpu_w}
        check_amounts(amounts)
        inventory = take_inventory(root)
        _tell_if_empty(inventory)
        cards = [card(run, **amounts) for run in status_of(inventory)]
        if as_json:
            out.print_json(json.dumps([asdict(each) for each in cards]))
        for each in () if as_json else cards:
            now = f"{each.state}: {each.stage}, {each.fraction:.0%}" if each.stage else each.state
            facts = ", ".join(f"{label} {value}" for label, value in each.facts)
            out.say(f"{each.name}  {now}  {facts}")
            for sentence in each.attention:
                out.say(f"  attention: {sentence}", style="red")
        if output is not None:
            when = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
            storage.write_text(output, render_fleet(cards, root=inventory.root, when=when))
            out.say(output)


def check_amounts(amounts: Mapping[str, float]) -> None:
    """Refuse prices and powers that are none, by the name of their parameter.

    Raises:
        ValueError: One is negative, infinite or no number.
    """
    for name, amount in amounts.items():
        if not 0 <= amount < math.inf:
            raise ValueError(f"--{name.replace('_', '-')}: expected a number of at least 0, got {amount}")


def compare_runs(
    runs: Annotated[list[str], typer.Argument(help="Two or more runs: names below the root, folders or URIs.")],
    root: Annotated[str, typer.Option(envvar="INFINITY_RUNS", help=_ROOT_HELP)] = "runs",
    output: Annotated[str, typer.Option("--output", "-o", help="File or URI of the HTML page.")] = "runs.html",
) -> None:
    """Compare runs side by side, finished or not: settings that differ, data, curves, scores, newest samples."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.upkeep.run_views import views
        from infinity.reporting.run_comparison import different_settings, render_run_comparison

        found = views(runs, root)
        storage.write_text(output, render_run_comparison(found))
        for name, *values in different_settings(found):
            out.say(f"{name}: {' | '.join(values)}")
        out.say(output)
