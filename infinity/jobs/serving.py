"""Serve a model on Ray Serve: replicas of ``infinity.serving``, behind Ray's HTTP proxy, drained before they stop."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import Config
from infinity.jobs.cluster.connection import connect
from infinity.serving.app import PictureServer
from infinity.serving.resending import HOOK
from infinity.serving.settings import ServingConfig, read_keys
from infinity.serving.stopping import TOKEN_VARIABLE, stop_proxy

APP = "infinity"
MAX_ONGOING = 100_000
"""Requests that Ray hands to a replica; the bound is its own queue, which answers 429 and says when to come again."""
_MORE_S = 30.0
"""Seconds that Ray may take beyond those in which accepted requests are finished."""
_REFUSED_S = 10.0
"""Seconds in which requests that are not finished in time are told so."""
_HOOKED = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": HOOK, "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120"}
"""Environment in which Ray's HTTP proxy gives a request to another replica when the one that had it dies, and may take
two minutes to start: after 5 s Ray kills it, on a busy machine before it has run, and serving fails."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServePlan(Config):
    """Where and with how many replicas a model is served.

    Attributes:
        serving: Model, adapters, limits and keys.
        host: Address to listen on.
        port: Port to listen on.
        replicas: Copies of the model.
        drain_s: Seconds in which accepted requests are finished before the server stops.
        address: Running Ray cluster as ``host:port``; None starts one on this machine.
    """

    serving: ServingConfig
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    drain_s: float = 600.0
    address: str | None = None


class _Front:
    """ASGI application that hands on to the one of this process's replica; Ray pickles it before there is a model."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        await _REPLICA["server"].app(scope, receive, send)


_REPLICA: dict[str, PictureServer] = {}
"""Server of this process, under the key "server"."""


def start_replica(config: dict[str, Any]) -> None:
    """Load the model of a replica into this process."""
    server = PictureServer(ServingConfig.from_json(config, where="serving"))
    started = time.monotonic()
    server.room.warm_up()
    server.batcher.seconds_each = time.monotonic() - started  # the first ones who wait are told a measured time
    _REPLICA["server"] = server


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _serve() -> Any:
    """Import Ray Serve, whose models use an older form of pydantic.

    Raises:
        ValueError: The dependencies of Ray Serve are not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from ray import serve
    except ImportError as error:
        raise ValueError(
            f"serving needs what Ray Serve needs, which is not installed ({error.name}): pip install "
            "'infinity-t2i[serving]'"
        ) from error
    return serve


def _deployment(plan: ServePlan) -> Any:
    serve = _serve()

    deployment: Any = serve.deployment(
        num_replicas=plan.replicas,
        max_ongoing_requests=MAX_ONGOING,
        graceful_shutdown_timeout_s=plan.drain_s,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": plan.cpus, "num_gpus": plan.gpus},
        logging_config={"enable_access_log": False},
    )

    @serve.ingress(_Front())
    class Replica:
        def __init__(self, config: dict[str, Any]) -> None:
            # Imported, since Ray pickles this class by value, with copies of the module's variables.
            from infinity.jobs.serving import start_replica

            start_replica(config)

    return deployment(Replica).bind(plan.serving.to_json())


def application(arguments: dict[str, Any]) -> Any:
    """Return the application of a configuration file of Ray Serve, which names this function as its import path.

    Args:
        arguments: Fields of `ServingConfig`, and ``keys``, the place of a file of API keys that every node can read.

    Raises:
        ValueError: There are no keys, or a field is unknown or wrong.
    """
    fields = dict(arguments)
    if not (place := fields.pop("keys", "")):
        raise ValueError("keys: others reach a served application; expected the place of a file of API keys")
    if "key_digests" in fields:
        raise ValueError("key_digests: expected the place of the keys themselves, as keys")
    fields["key_digests"] = read_keys(storage.read_text(str(place)), where=str(place))
    return _deployment(ServePlan(serving=ServingConfig.from_json(fields, where="args")))


def _check_resources(plan: ServePlan) -> None:
    """Refuse resources that the cluster does not have; Ray would wait for them without end.

    Raises:
        ValueError: The message names the option and the numbers.
    """
    import ray

    have = ray.cluster_resources()
    for name, option, each in (("CPU", "--replicas", plan.cpus), ("GPU", "--gpus", plan.gpus)):
        if plan.replicas * each > have.get(name, 0):
            raise ValueError(
                f"{option}: {plan.replicas} replicas want {plan.replicas * each:g} {name}s, the Ray cluster has "
                f"{have.get(name, 0):g}"
            )


def last_words(message: str) -> str:
    """Return the exception's own text from a traceback within a message; empty where there is none.

    Example:
        >>> last_words("failed to start. Error:\\nTraceback:\\n  File x\\ninfinity.x.AdapterError: of another model\\n")
        'of another model'
    """
    found = [match[1] for line in message.splitlines() if (match := _RAISED.match(line.strip()))]
    return found[-1] if found else ""


_RAISED = re.compile(r"[\w.]*(?:Error|Exception): (.+)")


def _why(serve: Any) -> str:
    """Return why the replicas did not start, as far as Ray knows it."""
    application = serve.status().applications[APP]
    messages = [each.message for each in application.deployments.values()]
    return next(filter(None, map(last_words, messages)), application.message)


def _runs() -> bool:
    """Return whether Ray Serve runs on this cluster already."""
    import ray

    return any(actor["name"] == "SERVE_CONTROLLER_ACTOR" for actor in ray.util.list_named_actors(all_namespaces=True))


def _is_alone(serve: Any) -> bool:
    """Return whether Ray Serve serves nobody else on this cluster."""
    return not set(serve.status().applications) - {APP}


def _end(serve: Any, *, is_ours: bool) -> None:
    """Stop Ray Serve, unless it ran before or serves others too, who share the cluster."""
    if is_ours and _is_alone(serve):
        serve.shutdown()
    else:
        serve.delete(APP)


def _proxy_hosts(host: str) -> set[str]:
    """Return the hosts at which this process reaches the proxies that listen at ``host``."""
    import ray

    if host not in ("0.0.0.0", "::"):
        return {host}
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _drain(serve: Any, plan: ServePlan, token: str | None, at_once: threading.Event) -> None:
    """Take no new connection, wait until the accepted requests are answered, and stop the replicas.

    Requests that are not finished in time, or when ``at_once`` is set, are answered by 503. Proxies that are not ours
    alone stay, and answer 503 to what comes.

    Args:
        token: What stops our proxies; None where they are not ours.
    """
    until = time.monotonic() + plan.drain_s
    hosts = _proxy_hosts(plan.host) if token and _is_alone(serve) else ()
    proxies = [threading.Thread(target=stop_proxy, args=(host, plan.port, str(token)), daemon=True) for host in hosts]
    for proxy in proxies:
        proxy.start()

    def wait(until: float, left: Callable[[], bool]) -> None:
        while left() and time.monotonic() < until and not at_once.is_set():
            time.sleep(0.2)

    wait(until, lambda: any(proxy.is_alive() for proxy in proxies))
    serve.delete(APP, _blocking=False)
    wait(until, lambda: APP in serve.status().applications)
    if time.monotonic() >= until or at_once.is_set():
        at_once.clear()
        _kill_replicas()
        wait(time.monotonic() + _REFUSED_S, lambda: any(proxy.is_alive() for proxy in proxies))
        wait(time.monotonic() + _MORE_S, lambda: APP in serve.status().applications)


def _kill_replicas() -> None:
    """End the replicas with what they compute; ``ResendLost`` tells the clients."""
    import ray

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if str(actor["name"]).startswith(f"SERVE_REPLICA::{APP}#"):
            with contextlib.suppress(ValueError):  # it has ended in this moment
                ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


def serve_until_stopped(plan: ServePlan, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests and stop; after a second one, at once.

    Args:
        plan: Model and place.
        ready: Called with the address once requests are served.

    Raises:
        ValueError: Ray Serve's dependencies are missing, the cluster is too small, or the model cannot be loaded.
    """
    serve = _serve()
    stop, at_once = threading.Event(), threading.Event()
    with connect(plan.address):
        token = None if _runs() else secrets.token_hex()
        # After Ray has started, since it sets a handler of its own that ends the process at once.
        _check_resources(plan)
        told = lambda *_: (at_once if stop.is_set() else stop).set()  # noqa: E731
        handlers = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            # The proxies inherit it from the controller.
            hooked = {"runtime_env": {"env_vars": _HOOKED | {TOKEN_VARIABLE: token or ""}}}
            serve.start(http_options={"host": plan.host, "port": plan.port}, controller_options=hooked)
            try:
                serve.run(_deployment(plan), name=APP, route_prefix="/", blocking=False)
            except RuntimeError as error:
                raise ValueError(f"no replica could start: {_why(serve)}") from error
            ready(f"http://{plan.host}:{plan.port}")
            stop.wait()
            logger.info("finishing accepted requests")
            _drain(serve, plan, token, at_once)
        finally:
            _end(serve, is_ours=token is not None)
            for number, handler in handlers.items():
                signal.signal(number, handler)
