"""Deploy every flow of ``prefect.yaml`` without undoing what a person changed in the browser.

Prefect's own ``deploy`` makes schedules and automations anew, active, and sets a pool going that was paused. Here a
schedule that is there keeps its state and its parameters, schedules that a person added stay, an automation that was
switched off stays off, and a pool is made only where there is none. Nothing is deployed where nothing has changed.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.server.prefect_api import PrefectApi
from infra.settings import REPOSITORY

Entry = dict[str, Any]
"""Entry for one deployment, from prefect.yaml or from the server."""

TIMES = ("cron", "interval", "rrule", "timezone", "anchor_date", "day_or")
"""Fields of a schedule in prefect.yaml that say when it fires."""


POOLS = REPOSITORY / "infra" / "pools"
"""Job templates of work pools by their type; pools of processes need none."""


def make_pool(api: PrefectApi, prefect: Callable[..., None], pool: str, kind: str = "process") -> None:
    """Make the work pool if it is not there; limits and a template that an operator has set stay.

    Args:
        kind: What a run becomes: "process", "docker" or "kubernetes".

    Raises:
        httpx.HTTPError: The server does not do what it is asked.
    """
    if api.ask("GET", f"work_pools/{pool}").status_code == httpx.codes.NOT_FOUND:
        template = POOLS / f"{kind}.json"
        given = ("--base-job-template", str(template)) if template.exists() else ()
        prefect("work-pool", "create", pool, "--type", kind, *given)


def for_environment(plan: Entry, environment: str) -> Entry:
    """Return what prefect.yaml deploys for an environment: the same flows, under its name, in the pool of its name.

    Raises:
        ValueError: There is no environment of this name.
    """
    known = plan["definitions"]["environments"]
    if environment not in known:
        raise ValueError(f"INFINITY_ENVIRONMENT: expected one of {', '.join(known)}, got {environment!r}")
    settings, found = known[environment], copy.deepcopy(plan)
    for entry in found["deployments"]:
        pool = entry["work_pool"]
        variables = settings.get("job_variables", {})
        env = {**pool.get("job_variables", {}).get("env", {}), **variables.get("env", {})}
        entry["work_pool"] = {**pool, "name": environment, "job_variables": {**variables, "env": env}}
        entry["name"], entry["tags"] = environment, [*entry.get("tags", []), environment]
        if not settings.get("schedules", True):
            entry.pop("schedules", None)
            entry.pop("triggers", None)
        for trigger in entry.get("triggers", []):
            trigger["name"] = f"{environment}: {trigger['name']}"
    return found


def version_of(plan: Entry, code: Path = REPOSITORY) -> str:
    """Return a version that changes with what is deployed: the plan, the code, and where it lies.

    Args:
        code: Folder of the packages flows and infinity.
    """
    found = hashlib.sha256(json.dumps([plan, str(code)], sort_keys=True, default=str).encode())
    for path in sorted(path for name in ("flows", "infinity") for path in (code / name).rglob("*.py")):
        found.update(f"{path.relative_to(code)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def deploy(
    api: PrefectApi, prefect: Callable[..., None], plan: Path, folder: Path, environment: str | None = None
) -> bool:
    """Deploy every flow to its pool, and bring the schedules of earlier deployments up to date.

    Deployments carry a version. Where all of them have that of the plan and the code, nothing is done.

    Args:
        prefect: Runs Prefect's command line with the given arguments.
        plan: The file ``prefect.yaml``.
        environment: Name of an environment of the plan; None for its deployments as they stand.

    Returns:
        Whether there was anything to deploy.

    Raises:
        httpx.HTTPError: The server does not do what it is asked.
        ValueError: There is no environment of this name.
    """
    wanted = yaml.safe_load(plan.read_text(encoding="utf-8"))
    if environment is not None:
        wanted = for_environment(wanted, environment)
    before = {(entry["entrypoint"], entry["name"]): entry for entry in _asked(api, "POST", "deployments/filter", {})}
    names = [(entry, (entry["entrypoint"], entry["name"])) for entry in wanted["deployments"]]
    version = version_of(wanted)
    if all(name in before and before[name]["version"] == version for _, name in names):
        return False
    for entry, _ in names:
        entry["version"] = version
    known = [(entry, before[name]) for entry, name in names if name in before]
    schedules = [(found, entry.pop("schedules", [])) for entry, found in known]
    for entry, found in known:
        _keep_switches(api, entry, found)
    for found, entries in schedules:  # first: a deploy that is cut off is done again
        for entry in entries:
            _update_schedule(api, found, entry)
    deployed = folder / plan.name
    deployed.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
    prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(deployed))
    return True


def _keep_switches(api: PrefectApi, entry: Entry, found: Entry) -> None:
    """Write into an entry of the plan what a person switched off: the deployment, and automations of its triggers."""
    entry["paused"] = bool(found["paused"])
    related = _asked(api, "GET", f"automations/related-to/prefect.deployment.{found['id']}")
    off = {automation["name"] for automation in related if not automation["enabled"]}
    for trigger in entry.get("triggers", []):
        if trigger["name"] in off:
            trigger["enabled"] = False


def _update_schedule(api: PrefectApi, deployment: Entry, entry: Entry) -> None:
    """Let a schedule fire when prefect.yaml says, and leave it on or off, with its parameters, as it is."""
    times = {name: entry[name] for name in TIMES if name in entry}
    path = f"deployments/{deployment['id']}/schedules"
    found = next(_of_entry(deployment["schedules"], entry, times), None)
    if found is None:
        new = {"schedule": times, "active": entry.get("active", True), "slug": entry["slug"]}
        _asked(api, "POST", path, [{**new, "parameters": entry.get("parameters", {})}])
    elif found["slug"] != entry["slug"] or not _fires_at(found, times):
        change = {"schedule": times, "slug": entry["slug"], "parameters": found.get("parameters") or {}}
        _asked(api, "PATCH", f"{path}/{found['id']}", change)


def _of_entry(schedules: list[Entry], entry: Entry, times: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the server's schedule of an entry: by its name, or one that an earlier version made without a name."""
    yield from (schedule for schedule in schedules if schedule["slug"] == entry["slug"])
    yield from (schedule for schedule in schedules if schedule["slug"] is None and _fires_at(schedule, times))


def _fires_at(schedule: Entry, times: Mapping[str, Any]) -> bool:
    return all(schedule["schedule"].get(name) == value for name, value in times.items())


def _asked(api: PrefectApi, method: str, path: str, content: Any = None) -> Any:
    answer = api.ask(method, path, content)
    answer.raise_for_status()
    return answer.json() if answer.content else None
