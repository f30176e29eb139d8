"""Processes and the sockets at which they listen, as Linux tells them."""

import contextlib
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTENS = "0A"


def commands() -> list[str]:
    """The command line of every process, as any user of the machine can read it."""
    return [_read(path / "cmdline").decode(errors="replace") for path in _processes()]


def processes_with(name: str, value: str) -> list[int]:
    """Ids of the processes of ours that have this variable in their environment."""
    wanted = f"{name}={value}".encode()
    return [int(path.name) for path in _processes() if wanted in _read(path / "environ").split(b"\0")]


def listening_addresses(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket at which one of the processes listens."""
    wanted = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in wanted:
                found.add(_address(fields[1]))
    return found


def _processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _read(path: Path) -> bytes:
    """Its bytes; none of a process that has ended or is somebody else's."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _sockets(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if (match := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))) is not None:
                    yield match[1]


def _address(text: str) -> tuple[str, int]:
    """From the kernel's notation, words of four bytes in the machine's order; addresses inside IPv6 as IPv4."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed), int(port, 16)
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address), int(port, 16)
