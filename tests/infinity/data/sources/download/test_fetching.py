"""Pictures come whole or with a reason, from public addresses only, however a server behaves."""

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.download.addresses import Lookup, PublicResolver, _result
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.fetching import Fetcher
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers import picture_server as server
from tests.fixtures.servers.picture_server import HOST, Handler, Site, lookup, picture, plain, redirect, serving, status

CONFIG = DownloadConfig(
    allow_hosts=(HOST,), timeout_s=AGES_S, retries=1, backoff_s=0.01, max_wait_s=2.0, max_bytes=2**20, per_host=4
)


def fetch_all(urls: list[str], config: DownloadConfig = CONFIG, lookup: Lookup = lookup) -> list[bytes | str]:
    """The bytes behind each address, or the reason why there are none."""

    async def run() -> list[bytes | str]:
        async with Fetcher(config, lookup) as fetcher:

            async def one(url: str) -> bytes | str:
                sink = io.BytesIO()
                try:
                    assert await fetcher.fetch(url, sink) == len(sink.getvalue())
                except UnreadableError as error:
                    return error.reason
                return sink.getvalue()

            return await asyncio.gather(*(one(url) for url in urls))

    return asyncio.run(run())


def fetch(url: str, **changes: Any) -> bytes | str:
    return fetch_all([url], CONFIG.replace(**changes))[0]


def answer(respond: Callable[[Handler], None], **changes: Any) -> tuple[bytes | str, Site]:
    with serving({"/x": respond}) as site:
        return fetch(site.url("/x"), **changes), site


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (plain(), picture()),
        (server.packed, picture()),
        (lambda handler: handler.reply(b""), b""),
        (status(404), "http_status"),
        (status(403), "http_status"),
        (status(500), "http_status"),
        (server.endless, "body_too_large"),
        (server.announced, "body_too_large"),
        (server.gzip_bomb, "body_too_large"),
        (lambda handler: handler.reply(b"not gzip at all", Content_Encoding="gzip"), "bad_response"),
        (lambda handler: handler.reply(b"", Content_Encoding="br"), "bad_response"),
        (server.short, "body_incomplete"),
        (server.endless_headers, "bad_response"),
        (server.no_http, "bad_response"),
        (server.hang_up, "no_connection"),
        (lambda handler: handler.reply(b"", 302), "bad_response"),
        (redirect("http://[::1"), "url_malformed"),
        (redirect("/x"), "too_many_redirects"),
        (redirect("file:///etc/passwd"), "url_scheme"),
        (redirect("gopher://pictures.test/1"), "url_scheme"),
        (redirect("http://user:secret@pictures.test/"), "url_malformed"),
        (redirect("http://127.0.0.1/"), "address_not_public"),
        (redirect("http://169.254.169.254/latest/meta-data/"), "address_not_public"),
        (redirect("//127.0.0.1/", 307), "address_not_public"),
        (redirect("http://unknown.test/"), "host_unknown"),
    ],
)
def test_every_answer_is_a_picture_or_a_reason(respond: Callable[[Handler], None], expected: bytes | str) -> None:
    assert answer(respond)[0] == expected


def test_an_answer_that_does_not_end_in_time_is_given_up() -> None:
    """The server would go on for longer than any test: that this one ends is the proof."""
    assert answer(server.slow_loris, timeout_s=0.3)[0] == "timed_out"


def test_what_may_pass_is_tried_again_and_what_may_not_is_not() -> None:
    for respond in (status(503), status(429), server.short, server.hang_up):
        result, site = answer(server.first_then(1, respond, plain(3)))
        assert (result, len(site.asked)) == (picture(3), 2)
    for respond in (status(404), server.endless, redirect("http://10.0.0.1/")):
        assert len(answer(respond)[1].asked) == 1
    assert len(answer(status(503), retries=3)[1].asked) == 4


def test_retry_after_is_honoured_up_to_the_limit_and_by_all_requests_to_the_host() -> None:
    answers = {"/busy": server.first_then(1, status(429, Retry_After="1"), plain(1)), "/other": plain(2)}
    with serving(answers) as site:

        async def run() -> None:
            async with Fetcher(CONFIG, lookup) as fetcher:
                busy = asyncio.create_task(fetcher.fetch(site.url("/busy"), io.BytesIO()))
                while not (fetcher._hosts[HOST].not_before or busy.done()):  # until it was told to leave the host alone
                    await asyncio.sleep(0.01)
                await fetcher.fetch(site.url("/other"), io.BytesIO())
                await busy

        asyncio.run(run())
        first, second = site.times["/busy"]
        assert second - first >= 0.99
        assert site.times["/other"][0] - first >= 0.99
    result, site = answer(status(503, Retry_After="3600"))
    assert (result, len(site.asked)) == ("http_status", 1)


def test_no_more_requests_at_once_than_allowed() -> None:
    lock, at_once, most = threading.Lock(), 0, 0

    def slowly(handler: Handler) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:  # before the answer, which lets the next request begin
            at_once -= 1
        handler.reply(picture())

    with serving({"/x": slowly}) as site:
        urls = [site.url(f"/x?{i}") for i in range(12)]
        assert fetch_all(urls, CONFIG.replace(per_host=3)) == [picture()] * 12
        assert most <= 3
        most = 0
        fetch_all(urls, CONFIG.replace(connections=2))
        assert most <= 2


@pytest.mark.parametrize(
    ("header", "changes", "refused"),
    [
        ("noai", {}, True),
        ("noimageai, nofollow", {}, True),
        ("NoAI", {}, True),
        ("nofollow, noai", {}, True),
        ("otherbot: noai", {}, False),
        ("otherbot: nofollow, noai", {}, False),
        ("infinity-t2i: noai", {}, True),
        ("*: noimageai", {}, True),
        ("max-snippet: 10, noai", {}, True),
        ("noindex, noimageindex", {}, False),
        ("noimageindex", {"opt_outs": ("noai", "noimageai", "noimageindex")}, True),
        ("all", {}, False),
    ],
)
def test_opt_out_headers_are_honoured(header: str, changes: dict[str, Any], refused: bool) -> None:
    expected = "opted_out" if refused else picture()
    assert answer(plain(X_Robots_Tag=header), **changes)[0] == expected
    hop = lambda handler: handler.reply(b"", 301, Location="/x", X_Robots_Tag=header)  # noqa: E731
    with serving({"/hop": hop, "/x": plain()}) as site:
        assert fetch(site.url("/hop"), **changes) == expected


def test_answer_of_a_look_up_is_what_is_dialled_and_is_asked_for_once() -> None:
    """A name that is public at first and then ours: no second look-up gives it a chance."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) > 1 else ["127.0.0.1"]

    async def public_then_local(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else ["127.0.0.1"]

    with serving({"/x": plain()}) as site:
        assert fetch_all([site.url("/x")], CONFIG, rebinding) == [picture()]
        assert asked == [HOST]
        asked.clear()
        config = CONFIG.replace(allow_hosts=(), ports=(site.port,), timeout_s=0.3, retries=2)
        (reason,) = fetch_all([site.url("/x")], config, public_then_local)
        # 8.8.8.8 does not answer on that port; the second attempt looks up anew, sees loopback and is refused.
        assert reason in ("address_not_public", "no_connection", "timed_out")
        assert site.asked == ["/x"]


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    with server.canary() as (port, asked):
        config = CONFIG.replace(allow_hosts=(), ports=(port,))
        assert fetch_all([f"http://mixed.test:{port}/"], config, mixed) == ["address_not_public"]
        assert not asked


def test_what_is_dialled_is_checked_once_more_whatever_the_look_up_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that checks nothing stands for every way around it: the socket itself refuses."""

    async def unchecked(self: PublicResolver, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [_result(host, "127.0.0.1", port)]

    monkeypatch.setattr(PublicResolver, "resolve", unchecked)
    with server.canary() as (port, asked):
        config = CONFIG.replace(allow_hosts=(), ports=(port,), retries=0)
        assert fetch_all([f"http://any.test:{port}/x"], config) == ["address_not_public"]
        assert not asked


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look up and dial for us, unseen."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving({"/x": plain()}) as site, server.canary() as (port, asked):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        config = CONFIG.replace(allow_hosts=(HOST, "127.0.0.1"))
        assert fetch_all([site.url("/x")], config) == [picture()]
        assert not asked


def test_no_password_of_the_machine_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine {HOST} login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sent: list[str | None] = []

    def respond(handler: Handler) -> None:
        sent.append(handler.headers.get("Authorization"))
        handler.reply(picture())

    assert answer(respond)[0] == picture()
    assert sent == [None]


@pytest.mark.parametrize(
    "location",
    [
        "http://cdn..example.com/",
        "http://" + "a" * 64 + ".example.com/",
        "http://[::1",
        "http://example.com:99999/",
        "http://example.com:x/",
        "//[/",
        "http://\xff\xfe/",
        "\x7f\x80",
        "?" * 6000,
        "http:",
    ],
)
def test_redirections_to_impossible_places_have_a_reason(location: str) -> None:
    assert isinstance(answer(redirect(location))[0], str)


NAMES = ["Retry-After", "Content-Length", "Content-Encoding", "Content-Type", "X-Robots-Tag", "Location"]


def test_no_header_ends_a_job(exhaustive: bool) -> None:
    """Any status with any text in any header that is looked at is a picture or a reason."""
    odd: list[tuple[int, str, str]] = []

    def respond(handler: Handler) -> None:
        code, name, value = odd[-1]
        head = f"HTTP/1.1 {code} x\r\n{name}: {value}\r\nConnection: close\r\n\r\n"
        handler.wfile.write(head.encode("latin-1", "replace"))
        handler.close_connection = True

    with serving({"/x": respond}) as site:

        @settings(max_examples=400 if exhaustive else 40, deadline=None)
        @given(st.sampled_from([200, 302, 429, 503]), st.sampled_from(NAMES), st.text(max_size=20))
        def check(code: int, name: str, value: str) -> None:
            odd.append((code, name, value))
            assert fetch_all([site.url("/x")], CONFIG.replace(retries=0, timeout_s=2.0))

        check()


@pytest.fixture
def guarded() -> Iterator[tuple[int, list[str]]]:
    with server.canary() as found:
        yield found


def test_no_spelling_of_this_machine_is_dialled(guarded: tuple[int, list[str]]) -> None:
    port, asked = guarded
    hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "017700000001", "0", "0.0.0.0"]
    hosts += ["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"]
    hosts += ["127.0.0.1.", "①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "[fe80::1%25lo]", "[fd00::1]"]
    hosts += ["localhost", "localhost.", "LOCALHOST", "local.test", "10.0.0.1", "192.168.1.1", "169.254.169.254"]
    config = DownloadConfig(ports=(port, 80), timeout_s=AGES_S, retries=0)

    async def local(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    found = fetch_all([f"http://{host}:{port}/" for host in hosts], config, local)
    assert set(found) <= {"address_not_public", "url_malformed"}, dict(zip(hosts, found, strict=True))
    # And with the system's own resolver.
    found = fetch_all([f"http://{host}:{port}/" for host in hosts[:9] + hosts[-7:-4]], config, None)  # type: ignore[arg-type]
    assert set(found) <= {"address_not_public", "url_malformed", "host_unknown"}
    assert not asked


def test_allowed_hosts_may_lie_in_the_own_network() -> None:
    with serving({"/x": plain()}) as site:
        config = CONFIG.replace(allow_hosts=("127.0.0.1",))
        assert fetch_all([f"http://127.0.0.1:{site.port}/x"], config) == [picture()]
        assert fetch_all([f"http://127.0.0.1:{site.port}/x"], CONFIG) == ["address_not_public"]
