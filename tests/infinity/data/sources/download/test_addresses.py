"""Public is what the whole internet can reach, whichever way it is written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.download.addresses import is_public, parse_url
from infinity.data.sources.download.config import DownloadConfig

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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "url_malformed"),
        ("http://", "url_malformed"),
        ("http:///x", "url_malformed"),
        ("http://a b/", "url_malformed"),
        ("http://a\\@127.0.0.1/", "url_malformed"),
        ("http://example.com:99999/", "url_malformed"),
        ("http://u:p@example.com/", "url_malformed"),
        ("http://example.com/" + "x" * 5000, "url_malformed"),
        ("x.jpg", "url_scheme"),
        ("//example.com/x", "url_scheme"),
        ("ftp://example.com/x", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("data:image/png;base64,AAAA", "url_scheme"),
        ("http://example.com:22/", "address_not_public"),
        ("http://0x7f.1/", "address_not_public"),
    ],
)
def test_useless_address_has_its_reason(text: str, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_url(text, DownloadConfig())
    assert caught.value.reason == reason


@given(st.text())
def test_any_text_is_an_address_or_has_a_reason(text: str) -> None:
    for candidate in (text, f"http://{text}", f"http://example.com/{text}"):
        try:
            url = parse_url(candidate, DownloadConfig())
        except UnreadableError:
            continue
        assert url.scheme in ("http", "https")
        assert url.host
