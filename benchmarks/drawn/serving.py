"""Load a running server with many clients, some of which misbehave: statuses, delays, pictures per second, memory.

    infinity serve runs/demo &
    python -m benchmarks.drawn.serving http://127.0.0.1:8000 --requests 1000 --clients 50

It exits with 1 if the server answered something with 500, or gave two pictures for one prompt and seed. With
``--terminate`` it sends SIGTERM to the server's process in the middle, and also exits with 1 if a good request that was
sent before is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

_PATH = "/v1/images/generations"
_JSON = {"Content-Type": "application/json"}


class ServerLoad:
    """Requests of all clients and what came of them."""

    def __init__(self, url: str, bad: float, seed: int) -> None:
        self.url, self.bad, self.random = url, bad, random.Random(seed)
        self.statuses: collections.Counter[str] = collections.Counter()
        self.delays: list[float] = []
        self.pictures = 0
        self.seen: dict[str, str] = {}
        self.unequal = self.lost = 0
        self.stopped = False

    async def one(self, client: httpx.AsyncClient) -> None:
        """Send one request of a random kind."""
        kinds: tuple[Callable[[httpx.AsyncClient], Awaitable[str]], ...] = (
            self.wrong_field, self.wrong_body, self.cut, self.slow_reader,
        )  # fmt: skip
        kind = self.random.choice(kinds) if self.random.random() < self.bad else self.good
        try:
            status = await kind(client)
        except (httpx.HTTPError, OSError) as error:
            status = type(error).__name__
        self.statuses[f"{kind.__name__} {status}"] += 1

    def body(self) -> dict[str, object]:
        """Return a valid request; the few prompts and seeds repeat, so that equal pictures are compared."""
        draw = self.random
        return {
            "prompt": f"a {draw.choice(['red', 'green', 'blue'])} {draw.choice(['circle', 'star', 'square'])}",
            "seed": draw.randrange(4), "guidance": 2, "temperature": 0.5, "aspect_ratio": draw.choice([1, 1, 1, 2]),
            "n": draw.choice([1, 1, 2]),
        }  # fmt: skip

    async def good(self, client: httpx.AsyncClient) -> str:
        """Draw; if the server is busy, come back when it asks."""
        body = self.body()
        key = json.dumps(body, sort_keys=True)
        for _ in range(50):
            started, late = time.perf_counter(), ", sent after SIGTERM" if self.stopped else ""
            try:
                response = await client.post(_PATH, json=body)
            except httpx.HTTPError as error:
                self.lost += not late and not isinstance(error, httpx.ConnectError)
                return f"{type(error).__name__}{late}"
            if response.status_code != 429:
                break
            self.statuses["good 429, tried again"] += 1
            await asyncio.sleep(float(response.headers["Retry-After"]) * self.random.uniform(0.5, 1.5))
        if response.status_code == 200:
            self.delays.append(time.perf_counter() - started)
            found = json.dumps(response.json()["data"])
            self.pictures += len(response.json()["data"])
            self.unequal += self.seen.setdefault(key, found) != found
        self.lost += not late and response.status_code not in (200, 503)  # 503: not accepted any more
        return f"{response.status_code}{late}"

    async def wrong_field(self, client: httpx.AsyncClient) -> str:
        """Send a field that cannot be."""
        wrong: dict[str, object] = self.random.choice(
            [
                {"n": 10**9},
                {"prompt": "a\0b"},
                {"size": "0x0"},
                {"size": "huge"},
                {"prompt": "x" * 10**5},
                {"seed": "x"},
            ]
        )
        return str((await client.post(_PATH, json=self.body() | wrong)).status_code)

    async def wrong_body(self, client: httpx.AsyncClient) -> str:
        """Send no JSON, or another type."""
        content = self.random.choice([b"{", b"\xff" * 100, b"[" * 10_000, b""])
        kind = self.random.choice(["application/json", "text/plain", "multipart/form-data; boundary=x"])
        return str((await client.post(_PATH, content=content, headers={"Content-Type": kind})).status_code)

    async def cut(self, _: httpx.AsyncClient) -> str:
        """Cut the connection in the middle of a request, or before its answer."""
        place = urlsplit(self.url)
        _reader, writer = await asyncio.open_connection(place.hostname, place.port)
        body = json.dumps(self.body()).encode()
        head = f"POST {_PATH} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        writer.write(whole[: self.random.choice([20, len(whole) - 5, len(whole)])])
        await writer.drain()
        await asyncio.sleep(self.random.uniform(0, 0.2))
        writer.close()
        return "cut"

    async def slow_reader(self, client: httpx.AsyncClient) -> str:
        """Read a stream slowly, and leave before it ends."""
        async with client.stream("POST", _PATH, json=self.body() | {"stream": True}) as response:
            async for piece in response.aiter_raw(256):
                await asyncio.sleep(0.02)
                if self.random.random() < 0.05 or not piece:
                    break
            return str(response.status_code)


async def _memory_mb(client: httpx.AsyncClient) -> float:
    match = re.search(r"^process_resident_memory_bytes (\S+)", (await client.get("/metrics")).text, re.MULTILINE)
    return float(match[1]) / 2**20 if match else float("nan")


async def _run(url: str, requests: int, clients: int, bad: float, seed: int, terminate: int | None) -> int:
    load, left = ServerLoad(url, bad, seed), iter(range(requests))
    limits = httpx.Limits(max_connections=clients + 1)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        memory = [await _memory_mb(client)]
        started = time.perf_counter()

        async def work() -> None:
            for number in left:
                await load.one(client)
                if number == requests // 2:
                    memory.append(await _memory_mb(client))
                    if terminate is not None:
                        load.stopped = True
                        os.kill(terminate, signal.SIGTERM)

        await asyncio.gather(*(work() for _ in range(clients)))
        seconds = time.perf_counter() - started
        if not load.stopped:
            memory.append(await _memory_mb(client))
    for status, count in sorted(load.statuses.items()):
        print(f"{count:6d}  {status}")
    delays = sorted(load.delays)
    print(f"{requests} requests from {clients} clients in {seconds:.0f} s; {load.pictures / seconds:.1f} pictures/s")
    if delays:
        p50, p99 = (delays[min(len(delays) - 1, int(len(delays) * share))] for share in (0.5, 0.99))
        print(f"delay of served requests: p50 {p50:.2f} s, p99 {p99:.2f} s")
    print(f"memory at start, middle, end: {', '.join(f'{each:.0f}' for each in memory)} MB")
    print(f"{len(load.seen)} different requests, {load.unequal} answers that differ from an earlier equal one")
    print(f"{load.lost} good requests lost{' that were sent before SIGTERM' if load.stopped else ''}")
    failed = any(" 5" in status and "after" not in status for status in load.statuses)
    return int(load.unequal > 0 or load.lost > 0 or failed)


def main() -> None:
    """Read the arguments, load the server, and exit with 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--bad", type=float, default=0.3, help="share of requests that misbehave")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--terminate", type=int, help="process of the server that gets SIGTERM in the middle")
    given = parser.parse_args()
    run = _run(given.url, given.requests, given.clients, given.bad, given.seed, given.terminate)
    sys.exit(asyncio.run(run))


if __name__ == "__main__":
    main()
