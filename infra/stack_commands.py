"""The commands of ``python -m infra.stack``: up, deploy, status, down and env."""

import argparse
import sys
from collections.abc import Sequence

from infra.database import database
from infra.server.access import StackError
from infra.settings import settings
from infra.stack import Server, Stack


def _up(stack: Stack, with_ray: bool, num_workers: int) -> None:
    if stack.config.prefect_api_url is None and num_workers > 1:
        database(stack.config).require(num_workers)
    server = stack.server_up()
    print(f"Prefect server: {server.ui_url}", flush=True)
    if (page := stack.login_page(server)) is not None:
        print(f"log in:         open {page.as_uri()} once in a browser", flush=True)
    if with_ray:
        print(f"Ray:            {stack.ray_up().url}", flush=True)
    if stack.files_up() is not None:
        print(f"files:          {stack.register.services()['files'].url}, for the links of run pages", flush=True)
    stack.worker_up(server, num_workers=num_workers)
    print(f"worker:         serves the pool '{stack.config.pool}'; every flow of prefect.yaml is deployed")
    print("Stop all of it with: make down")


def _status(stack: Stack) -> None:
    services = stack.register.services()
    if not services:
        print("nothing runs; start it with: make up")
    for service in services.values():
        state = "runs" if service.is_alive() else "died"
        print(f"{service.name:8} {state}  process {service.pid}  {service.url or '-'}  log {service.log}")


def _env(stack: Stack) -> None:
    server = stack.register.living("server")
    if server is None:
        raise StackError("no server of this stack runs; start it with: make up")
    print("\n".join(stack.exports(Server(server.url))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when all went well."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.stack",
        description="The local stack: a Prefect server, a worker with its deployments, and if wanted a Ray.",
    )
    parser.add_argument("action", choices=["up", "deploy", "down", "status", "env"])
    parser.add_argument("--ray", action="store_true", help="up: keep a Ray running between runs")
    parser.add_argument("--workers", type=int, default=1, help="up: processes that start runs; more than 1: PostgreSQL")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("--workers: expected at least 1")
    try:
        stack = Stack(settings())
        if options.action == "up":
            _up(stack, options.ray, options.workers)
        elif options.action == "deploy":
            stack.deploy(stack.server_up())
        elif options.action == "down":
            print(f"stopped: {', '.join(stack.down()) or 'nothing ran'}")
        elif options.action == "env":
            _env(stack)
        else:
            _status(stack)
    except (StackError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
