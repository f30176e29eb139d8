"""A request whose replica dies goes to another one: nothing twice, nothing torn, and not without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from infinity.serving.resending import MAX_KEPT_BYTES, MAX_SENDS, ResendLost, middleware
from infinity.serving.stopping import Message, StopWhenSent

PATH = "/v1/images/generations"
JSON, EVENTS = b"application/json", b"text/event-stream"


def started(kind: bytes = JSON, status: int = 200, **headers: str) -> Message:
    more = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *more]}


def part(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


class Replicas:
    """Replicas, each of which reads the whole body, sends some messages, and dies unless they are a whole answer."""

    def __init__(self, *answers: Sequence[Message]) -> None:
        self.answers: Iterator[Sequence[Message]] = iter(answers)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        scope["headers"].clear()
        for each in next(self.answers):
            await send(each)


def ask(app: Any, *body: bytes, path: str = PATH, stays: bool = True) -> list[Message]:
    """Send a request through ``ResendLost`` and return what reaches the client."""
    pieces: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    pieces.append({"type": "http.request", "body": b"", "more_body": False} if stays else {"type": "http.disconnect"})
    waiting, sent = iter(pieces), []

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(b"host", b"x")]}
    asyncio.run(ResendLost(app, pause_s=0.0)(scope, receive, send))
    assert scope["headers"], "a replica changed the request of the next one"
    return sent


WHOLE = [started(), part(b"{}", more=False)]


@pytest.mark.parametrize("torn", [[], [started()]], ids=["before its answer", "between status and body"])
def test_another_replica_gets_the_whole_request_and_the_client_its_answer_alone(torn: list[Message]) -> None:
    replicas = Replicas(torn, torn, WHOLE)
    assert ask(replicas, b"ab", b"cd") == WHOLE
    assert replicas.bodies == [b"abcd"] * MAX_SENDS


def test_an_answer_passes_as_it_is_whatever_its_status() -> None:
    for status in (200, 400, 429, 500, 503):
        whole = [started(status=status, retry_after="7"), part(b"a"), part(b"b", more=False)]
        assert ask(Replicas(whole)) == whole


def test_a_stream_goes_on_with_the_events_that_the_client_has_not() -> None:
    first = [started(EVENTS), part(b"one"), part(b"two")]
    second = [started(EVENTS), part(b"one"), part(b"two"), part(b"three"), part(b"", more=False)]
    assert ask(Replicas(first, second)) == [*first, part(b"three"), part(b"", more=False)]


def test_a_request_that_kills_every_replica_is_answered_at_last() -> None:
    replicas = Replicas(*[[]] * 9)
    start, body = ask(replicas)
    assert (start["status"], len(replicas.bodies)) == (500, MAX_SENDS)
    assert "lost this request" in json.loads(body["body"])["error"]["message"]


def test_a_stream_that_kills_every_replica_ends_with_an_event() -> None:
    torn = [started(EVENTS), part(b"one")]
    *sent, last = ask(Replicas(*[torn] * MAX_SENDS))
    assert sent == torn
    name, data, *_ = last["body"].decode().splitlines()
    assert name == "event: error"
    about = json.loads(data.removeprefix("data: "))
    assert (about["type"], about["error"]["type"]) == ("error", "server_error")


def test_a_torn_body_is_left_torn_since_the_client_has_its_beginning() -> None:
    torn = [started(), part(b"{")]
    replicas = Replicas(torn, WHOLE)
    assert ask(replicas) == torn
    assert len(replicas.bodies) == 1


def test_a_client_that_went_away_is_not_drawn_for_again() -> None:
    replicas = Replicas([], WHOLE)
    assert ask(replicas, b"ab", stays=False) == []
    assert len(replicas.bodies) == 1


def test_the_replica_that_takes_over_is_asked_again_when_it_is_busy() -> None:
    busy = [started(status=429, retry_after="0"), part(b"busy", more=False)]
    replicas = Replicas([], *[busy] * 9, WHOLE)
    assert ask(replicas) == WHOLE
    assert len(replicas.bodies) == 11


def test_a_body_that_is_too_large_to_keep_is_not_sent_again() -> None:
    replicas = Replicas([], WHOLE)
    assert ask(replicas, b"x" * (MAX_KEPT_BYTES + 1)) == []
    assert len(replicas.bodies) == 1


def passing(replicas: Replicas) -> Any:
    """Return replicas that leave the headers as they are: other paths are no copies."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await replicas({**scope, "headers": []}, receive, send)

    return app


def test_other_paths_pass_untouched() -> None:
    assert ask(passing(Replicas([], WHOLE)), path="/somebody/else") == []


def test_ray_finds_the_hook() -> None:
    assert [each.cls for each in middleware()] == [ResendLost, StopWhenSent]  # the last is the outermost


def test_an_event_that_differs_by_its_time_alone_is_not_sent_twice() -> None:
    def event(created: int, picture: str) -> bytes:
        return f'event: a\ndata: {{"b64_json": "{picture}", "created_at": {created}, "index": 0}}\n\n'.encode()

    begun = [started(EVENTS), part(event(1, "AAAA"))]
    again = [started(EVENTS), part(event(7, "AAAA")), part(event(8, "BBBB")), part(b"", more=False)]
    sent = ask(Replicas(begun, again), b"{}")
    assert [each["body"] for each in sent[1:]] == [event(1, "AAAA"), event(8, "BBBB"), b""]


def test_a_server_that_stops_is_unavailable_and_not_without_such_a_path() -> None:
    by_proxy = [started(b"text/plain", 404), part(b"Path '/v1/images/generations' not found.", more=False)]
    start, body = ask(Replicas(by_proxy), b"{}")
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"5")
    assert "the server stops" in json.loads(body["body"])["error"]["message"]
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    ours = [started(JSON, 404), part(b"{}", more=False)]
    assert ask(Replicas(ours), b"{}") == ours


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/metrics", "/v1/models"])
def test_every_path_of_a_server_that_stops_is_unavailable(path: str) -> None:
    by_proxy = [started(b"text/plain", 404), part(b"Path not found.", more=False)]
    start, _ = ask(passing(Replicas(by_proxy)), path=path)
    assert start["status"] == 503


@pytest.mark.parametrize("path", ["/-/healthz", "/others", "/others/v1/models"])
def test_answers_to_others_on_the_same_ray_serve_pass(path: str) -> None:
    theirs = [started(b"text/html", 404), part(b"none", more=False)]
    assert ask(passing(Replicas(theirs)), path=path) == theirs


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ([started(b"text/plain", 404), part(b"Path not found.", more=False)], "the server stops"),
        ([started(b"text/plain", 503), part(b"unavail"), part(b"able", more=False)], "the server stops"),
        ([started(JSON, 500), part(b'{"error": {}}', more=False)], "lost this request"),
    ],
)
def test_a_stream_whose_request_nobody_takes_over_ends_with_an_event(refusal: list[Message], said: str) -> None:
    torn = [started(EVENTS), part(b"one")]
    *sent, last = ask(Replicas(torn, refusal))
    assert sent == torn
    name, data, *_ = last["body"].decode().splitlines()
    assert (name, last["more_body"]) == ("event: error", False)
    assert said in json.loads(data.removeprefix("data: "))["error"]["message"]
