"""Addresses that are no host on the public internet: a list of our own, the same whatever Python runs.

The standard library's ``is_global`` follows the registries as they were when that Python was released, and reads some
of their rows otherwise (192.0.0.0/24, where one cloud serves the metadata of its machines, was public until 2024). Here
every block of both registries is refused, also those that the registries call globally reachable: behind anycast
relays and name servers of last resort are no pictures, and what answers is often a machine of the own network.

Sources: the IANA registries of special-purpose addresses for IPv4 and IPv6 (as of 2025), of multicast addresses, and of
IPv6 address space; documents of the clouds whose addresses lie in public blocks.
"""

from __future__ import annotations

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private use",
    "100.64.0.0/10": "shared by customers of one provider; metadata of Alibaba Cloud",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "metadata of Azure",
    "169.254.0.0/16": "link-local; metadata of most clouds",
    "172.16.0.0/12": "private use",
    "192.0.0.0/24": "IETF protocol assignments; metadata of Oracle Cloud",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT relays",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private use",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and broadcast",
}
"""Blocks of IPv4 that are refused, and what they are for."""

UNICAST_V6 = "2000::/3"
"""What IPv6 has given out to hosts so far; everything else is refused: loopback, addresses that are private, link-local
or multicast, discard-only, and those that carry an IPv4 address (mapped, compatible, NAT64 of 64:ff9b::/96 and
64:ff9b:1::/48)."""

SPECIAL_V6 = {
    "2001::/23": "IETF protocol assignments: Teredo, benchmarks, AMT, AS112, ORCHID, remote identification of drones",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4, which carries an IPv4 address",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
}
"""Blocks of it that are refused all the same."""

_V4 = tuple(ipaddress.IPv4Network(text) for text in SPECIAL_V4)
_UNICAST = ipaddress.IPv6Network(UNICAST_V6)
_V6 = tuple(ipaddress.IPv6Network(text) for text in SPECIAL_V6)


def is_public(address: IPAddress) -> bool:
    """Return whether an address is that of a host on the public internet.

    Not so: loopback, private, link-local, shared (carrier-grade NAT), multicast, reserved and documentation addresses,
    those of clouds' metadata, and IPv6 addresses that stand for an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64),
    whichever it is: who wants that host can name it.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _V4)
    return address.scope_id is None and address in _UNICAST and not any(address in network for network in _V6)
