"""Public is what the whole internet can reach, whatever Python runs."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.data.sources.download.special_addresses import SPECIAL_V4, SPECIAL_V6, is_public

PRIVATE = ["0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1"]
PRIVATE += [
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
]
PRIVATE += ["192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"]
PRIVATE += ["240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:8.8.8.8", "::ffff:10.0.0.1"]
PRIVATE += ["64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::1"]
PRIVATE += ["2002:0808:0808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"]
PRIVATE += ["ff02::1"]
PUBLIC = "1.1.1.1 8.8.8.8 93.184.216.34 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.1 2606:4700::1111 2a00:1450::1"


@pytest.mark.parametrize("text", PRIVATE)
def test_addresses_of_special_purpose_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_addresses_of_hosts_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_of_an_ipv4_address_is_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for form in (number, 0xFFFF << 32 | number, (0x64FF9B << 96) | number, (0x2002 << 112) | number << 80):
        assert not is_public(ipaddress.IPv6Address(form))


# Rows of the registries of IANA, as text: not those of the code, which joins some of them.
REGISTRY = (
    "0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
    "192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 "
    "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
    "203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 224.0.0.0/4 ::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 "
    "64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 "
    "2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 "
    "2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 192.0.0.192/32 168.63.129.16/32 "
    "100.100.100.200/32 169.254.169.254/32 169.254.170.2/32 fd00:ec2::254/128 fd20:ce::254/128 "
)


@pytest.mark.parametrize("block", REGISTRY.split())
def test_no_address_of_a_registered_block_is_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert not is_public(address)


@pytest.mark.parametrize("block", [*SPECIAL_V4, *SPECIAL_V6])
def test_the_neighbours_of_a_block_are_public_unless_another_block_holds_them(block: str) -> None:
    network = ipaddress.ip_network(block)
    listed = [ipaddress.ip_network(text) for text in (*SPECIAL_V4, *SPECIAL_V6)]
    for number in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= number < 2**network.max_prefixlen:
            address = type(network[0])(number)
            held = any(address.version == each.version and address in each for each in listed)
            assert is_public(address) is not held


def test_the_list_does_not_ask_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose own list is another one in every release."""
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        for name in ("is_global", "is_private", "is_reserved", "is_multicast", "is_link_local"):
            monkeypatch.setattr(kind, name, property(lambda self: pytest.fail("asked")))
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert not is_public(ipaddress.ip_address("192.0.0.192"))
    assert is_public(ipaddress.ip_address("2606:4700::1111"))


def test_an_address_with_a_zone_is_one_of_this_machine() -> None:
    assert not is_public(ipaddress.ip_address("2606:4700::1111%eth0"))
