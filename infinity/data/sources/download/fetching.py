"""One picture from one address: hops, attempts, limits, and a reason for every way in which it can fail."""

from __future__ import annotations

import asyncio
import email.utils
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

import aiohttp
from yarl import URL

from infinity.data.images.decoding import UnreadableError, UnreadableReason
from infinity.data.sources.download.addresses import Lookup, PublicResolver, host_of, join_url, parse_url
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.opt_out import forbidden_by
from infinity.storage.jitter import jittered

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK_BYTES = 2**16
_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


class PassingError(UnreadableError):
    """A failure that may pass; ``wait_s`` is how long the server wants to be left alone, or None."""

    def __init__(self, reason: UnreadableReason, detail: str, wait_s: float | None = None) -> None:
        super().__init__(reason, detail)
        self.wait_s = wait_s


@dataclass(slots=True)
class _Host:
    """Our dealings with one host: how many requests it gets at once, and when it wants the next."""

    slots: asyncio.Semaphore
    not_before: float = 0.0


class Fetcher:
    """Fetches pictures, many at once within the limits of its configuration; an asynchronous context manager."""

    def __init__(self, config: DownloadConfig, lookup: Lookup | None = None) -> None:
        """Prepare; no connection is opened yet.

        Args:
            config: Limits; ``connections`` and ``per_host`` are those of this process.
            lookup: Function from names to addresses; that of the system by default.
        """
        self._config = config
        self._resolver = PublicResolver(config.allow_hosts, lookup)
        self._slots = asyncio.Semaphore(config.connections)
        self._hosts: defaultdict[str, _Host] = defaultdict(lambda: _Host(asyncio.Semaphore(config.per_host)))
        self._robot = config.user_agent.partition("/")[0].lower()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open a pool of connections."""
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            limit=0,  # counted here, so that waiting for a turn is no part of a request's time
            socket_factory=self._resolver.open_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy would resolve and dial for us
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
            headers={**_HEADERS, "User-Agent": self._config.user_agent},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, text: str, sink: BinaryIO) -> int:
        """Write the picture at an address into a file and return its size.

        Args:
            text: The address.
            sink: A file at its beginning; after an error it holds anything.

        Raises:
            UnreadableError: The picture cannot be had; all attempts were made where the error might have passed.
        """
        url = parse_url(text, self._config)
        for attempt in range(self._config.retries + 1):
            try:
                sink.seek(0)
                sink.truncate()
                return await self._follow(url, sink)
            except PassingError as error:
                wait_s = self._config.backoff_s * 2**attempt if error.wait_s is None else error.wait_s
                if attempt == self._config.retries or wait_s > self._config.max_wait_s:
                    raise
                await asyncio.sleep(wait_s if error.wait_s is not None else jittered(wait_s))
        raise AssertionError("the last attempt returns or raises")

    async def _follow(self, url: URL, sink: BinaryIO) -> int:
        """Send the request, and follow redirects until a picture comes."""
        for _ in range(self._config.max_redirects + 1):
            async with self._turn(url), self._ask(url) as response:
                self._honour(response)
                if response.status in _REDIRECTS:
                    url = self._next(url, response)
                    continue
                self._check_status(response)
                return await self._receive(response, sink)
        raise UnreadableError("too_many_redirects", f"more than {self._config.max_redirects}")

    @asynccontextmanager
    async def _turn(self, url: URL) -> AsyncIterator[None]:
        """Wait until the host and we have room for one more request."""
        host = self._hosts[host_of(url)]
        async with host.slots:
            while (wait_s := host.not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            async with self._slots:
                yield

    @asynccontextmanager
    async def _ask(self, url: URL) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield one request, whose failures inside of the block get their reasons."""
        assert self._session is not None, "use 'async with'"
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                yield response
        except TimeoutError as error:
            raise PassingError("timed_out", f"more than {self._config.timeout_s:g} s") from error
        except aiohttp.ClientPayloadError as error:
            raise PassingError("body_incomplete", f"the answer ends early: {error}") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise UnreadableError("no_connection", f"the certificate is not valid: {error}") from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            raise PassingError("no_connection", str(error) or type(error).__name__) from error
        except (aiohttp.InvalidURL, aiohttp.ClientResponseError) as error:
            raise UnreadableError("bad_response", f"not an answer in HTTP: {error}"[:500]) from error
        except (UnreadableError, OSError):
            raise  # with its reason already; or of our own disk, which is no fault of the row
        except Exception as error:  # whatever else a client makes of an odd answer: no row ends the job
            raise UnreadableError("bad_response", f"{type(error).__name__}: {error}"[:500]) from error

    def _honour(self, response: aiohttp.ClientResponse) -> None:
        tags = response.headers.getall("X-Robots-Tag", [])
        if (directive := forbidden_by(tags, self._config.opt_outs, self._robot)) is not None:
            raise UnreadableError("opted_out", f"the server says {directive}")

    def _next(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location", "").strip()
        if not location:
            raise UnreadableError("bad_response", "redirected to nowhere")
        try:
            return join_url(url, location, self._config)
        except UnreadableError as error:
            raise UnreadableError(error.reason, f"redirected to {error.detail}") from error

    def _check_status(self, response: aiohttp.ClientResponse) -> None:
        if response.status in _PASSING:
            wait_s = _retry_after_s(response.headers.get("Retry-After"))
            if wait_s is not None and wait_s <= self._config.max_wait_s:
                host = self._hosts[host_of(response.url)]
                host.not_before = max(host.not_before, time.monotonic() + wait_s)
            raise PassingError("http_status", f"status {response.status}", wait_s)
        if response.status != 200:
            raise UnreadableError("http_status", f"status {response.status}")
        if (response.content_length or 0) > self._config.max_bytes:
            raise UnreadableError("body_too_large", f"{response.content_length:,} bytes announced")

    async def _receive(self, response: aiohttp.ClientResponse, sink: BinaryIO) -> int:
        """Write the body, unpacked, and never more than allowed."""
        unpack = _unpacker(response.headers.get("Content-Encoding", "identity").strip().lower())
        limit, received = self._config.max_bytes, 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            if unpack is not None:
                try:
                    chunk = unpack.decompress(chunk, limit + 1 - received)
                except zlib.error as error:
                    raise UnreadableError("bad_response", f"the packed body is damaged: {error}") from error
            received += len(chunk)
            if received > limit:
                raise UnreadableError("body_too_large", f"more than {limit:,} bytes")
            sink.write(chunk)
        if unpack is not None and not unpack.eof:
            raise PassingError("body_incomplete", "the packed body ends early")
        return received


def _unpacker(encoding: str) -> zlib._Decompress | None:
    """Return what unpacks a body, for servers that pack although they were asked not to; None for plain bodies.

    Raises:
        UnreadableError: ``bad_response`` for anything but gzip and deflate.
    """
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise UnreadableError("bad_response", f"packed as {encoding[:50]!r}, which was not asked for")


def _retry_after_s(header: str | None) -> float | None:
    """Return seconds from now on; None without the header, or with one that cannot be read."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
