"""Which addresses may be dialled: public ones, found by one look-up whose answer is the address that is dialled.

A list of addresses comes from strangers and is read inside of our network, where metadata services, data bases and
consoles answer whoever can reach them. So the text of an address is checked, and what its name resolves to is checked
again, and nothing is looked up a second time between the check and the connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.special_addresses import is_public

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""From a host's name and a port to its addresses; raises OSError where there are none."""

MAX_URL_CHARS = 4096

# Ends like a number in one of the spellings that resolvers accept: decimal, octal, hexadecimal, with missing parts.
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")
_MAX_HOST = 253
# As it is asked for, that is in ASCII: the parser spells other letters as xn--...
_LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)


def parse_url(text: str, config: DownloadConfig) -> URL:
    """Return the address in a text, if it may be asked for.

    Raises:
        UnreadableError: ``url_malformed``, ``url_scheme`` or ``address_not_public``.
    """
    text = text.strip()
    if not text or len(text) > MAX_URL_CHARS or _CONTROL.search(text):
        raise UnreadableError("url_malformed", f"{text[:100]!r}: empty, too long, or with blanks inside")
    return _checked(URL, text, config)


def join_url(url: URL, text: str, config: DownloadConfig) -> URL:
    """Return where an address redirects to, if it may be asked for.

    Raises:
        UnreadableError: ``url_malformed``, ``url_scheme`` or ``address_not_public``.
    """
    return _checked(lambda location: url.join(URL(location)), text, config)


def _checked(parse: Callable[[str], URL], text: str, config: DownloadConfig) -> URL:
    try:
        url = parse(text)
        check_url(url, config)
    except UnreadableError:
        raise
    except ValueError as error:  # of the parser: ports, brackets, characters that no encoding holds
        raise UnreadableError("url_malformed", f"{text[:100]!r}: {error}") from error
    return url


def check_url(url: URL, config: DownloadConfig) -> None:
    """Refuse an address for what its text says.

    Raises:
        UnreadableError: ``url_malformed``, ``url_scheme`` or ``address_not_public``.
        ValueError: The address names a port that does not exist.
    """
    shown = str(url)[:100]
    if url.scheme not in ("http", "https"):
        raise UnreadableError("url_scheme", f"{shown!r}: expected http or https, found {url.scheme!r}")
    host = host_of(url)
    if not host or url.user is not None or url.password is not None or "%" in host:
        raise UnreadableError("url_malformed", f"{shown!r}: no host, or a name and password in it")
    if url.port is None:
        raise UnreadableError("url_malformed", f"{shown!r}: no port")
    if host in config.allow_hosts:
        return
    if url.port not in config.ports:
        raise UnreadableError("address_not_public", f"{shown!r}: port {url.port} is not among {config.ports}")
    check_literal(host)
    check_name(host)


def check_name(host: str) -> None:
    """Refuse a host that no server of names can know, before anything tries to ask for it.

    Raises:
        UnreadableError: ``url_malformed``.
    """
    if ":" in host:  # an address, which has no labels
        return
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise UnreadableError("url_malformed", f"{host[:100]!r}: expected labels of 1 to 63 letters, digits, - and _")


def check_literal(host: str) -> None:
    """Refuse a host that is written as an address and is not public, in any spelling.

    Raises:
        UnreadableError: ``address_not_public``.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            detail = f"{host}: an address in a spelling that hides it"
            raise UnreadableError("address_not_public", detail) from None
        return
    if not is_public(address):
        raise UnreadableError("address_not_public", f"{host} is no public address")


def host_of(url: URL) -> str:
    """Return the host as it is dialled: small letters, no brackets, not the one dot that may be at the end."""
    return (url.raw_host or "").lower().strip("[]").removesuffix(".")


class PublicResolver(AbstractResolver):
    """Looks a name up once, and gives the answer only if all of it is public or the name is allowed."""

    def __init__(self, allow_hosts: Collection[str], lookup: Lookup | None = None) -> None:
        self._allow_hosts = frozenset(allow_hosts)
        self._lookup = lookup or _system_lookup
        self.allowed: set[str] = {host for host in allow_hosts if _is_literal(host)}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            UnreadableError: ``host_unknown`` or ``address_not_public``.
        """
        name = host.lower().rstrip(".")
        try:
            addresses = await self._lookup(name, port)
        except OSError as error:
            raise UnreadableError("host_unknown", f"{name}: {error.strerror or error}") from error
        except ValueError as error:  # a name that cannot even be spelled for a question
            raise UnreadableError("host_unknown", f"{name[:100]!r}: {error}") from error
        if not addresses:
            raise UnreadableError("host_unknown", f"{name}: no address")
        if name in self._allow_hosts:
            self.allowed.update(addresses)
        else:
            for address in addresses:
                check_dialled(address, frozenset())
        return [_result(name, address, port) for address in addresses]

    def open_socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Return a socket for an address that is about to be dialled: the last check, whatever led here.

        Raises:
            UnreadableError: ``address_not_public``.
        """
        family, kind, protocol, _, address = info
        check_dialled(str(address[0]), self.allowed)
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close nothing: no connection is kept open."""


def check_dialled(address: str, allowed: Collection[str]) -> None:
    """Refuse an address that a look-up gave.

    Raises:
        UnreadableError: ``address_not_public``.
    """
    if address in allowed:
        return
    try:
        public = is_public(ipaddress.ip_address(address))
    except ValueError:  # with a zone, for example, which only local addresses have
        public = False
    if not public:
        raise UnreadableError("address_not_public", f"leads to {address}, which is no public address")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )


async def _system_lookup(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
