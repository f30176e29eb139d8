"""An address is one that may be asked for, or has the reason why not; the socket checks what was checked before."""

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.download.addresses import PublicResolver, check_name, parse_url
from infinity.data.sources.download.config import DownloadConfig


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
        ("http://cdn..example.com/a.png", "url_malformed"),
        ("http://.example.com/", "url_malformed"),
        ("http://example..com./", "url_malformed"),
        ("http://example.com../", "url_malformed"),
        ("http://../", "url_malformed"),
        ("http://-/", None),
        ("http://" + "a" * 63 + ".example.com/", None),
        ("http://" + "a" * 64 + ".example.com/", "url_malformed"),
        ("http://" + "ä" * 63 + ".example.com/", "url_malformed"),
        ("http://" + "a." * 127 + "com/", "url_malformed"),
        ("http://xn--/", None),
        ("http://xn--\ud800.example.com/", "url_malformed"),
        ("http://\ud800.example.com/", "url_malformed"),
        ("http://ex*ample.com/", "url_malformed"),
        ("http://exa,mple.com/", "url_malformed"),
        ("http://a\u00adb\u200b.example.com/", None),
        ("http://\u0660.example.com/", None),
        ("http://example.com:0/", "address_not_public"),
        ("http://example.com:-1/", "url_malformed"),
        ("http://example.com:65536/", "url_malformed"),
        ("http://example.com:1e2/", "url_malformed"),
        ("http://example.com:/", None),
        ("http://[example.com]/", "url_malformed"),
        ("http://[::1/", "url_malformed"),
        ("http://::1]/", "url_malformed"),
        ("http://[]/", "url_malformed"),
        ("http://[::1]x/", "url_malformed"),
        ("http://[v1.a]/", None),
        ("http://[fe80::1%25eth0]/", "url_malformed"),
        ("http://a\0b.example.com/", "url_malformed"),
        ("http://exam\nple.com/", "url_malformed"),
        ("http://example.com/" + "x" * 10_000, "url_malformed"),
        ("http://" + "x" * 10_000, "url_malformed"),
        ("http://例え.テスト/", None),
        ("http://пример.рф/картинка.png", None),
        ("http://example.com/\ud800.png", None),
    ],
)
def test_useless_address_has_its_reason(text: str, reason: str | None) -> None:
    """None: what a parser makes of it may be asked for, or has a reason of its own; nothing else may come."""
    found = reason_of(text)
    assert found == reason if reason else True


def reason_of(text: str) -> str | None:
    """Why an address is refused; None where it may be asked for."""
    try:
        parse_url(text, DownloadConfig())
    except UnreadableError as error:
        return error.reason
    return None


@pytest.mark.parametrize("host", ["example.com", "a_b.example.com", "xn--e1afmkfd.xn--p1ai", "2600::1", "localhost"])
def test_names_that_a_server_may_know_pass(host: str) -> None:
    check_name(host)


HOSTS = st.lists(
    st.sampled_from(
        ["", "a" * 63, "a" * 64, "xn--", "ä", "\ud800", "-", "_", "%41", "①", "。", "[", "]", "::1", " ", "\0"]
    )
    | st.text(max_size=5),
    max_size=5,
).map(".".join)


@settings(max_examples=300, deadline=None)
@given(HOSTS, st.sampled_from(["", ":80", ":99999", ":x", ":"]))
def test_no_host_ends_a_look_up_without_a_reason(host: str, port: str) -> None:
    """Whatever the parser lets through can be asked for, by the system's own way to spell a name."""

    async def spelled(name: str, port: int) -> list[str]:
        name.encode("idna")  # what the system's look-up does first
        return ["93.184.216.34"]

    text = f"http://{host}{port}/a.png"
    if reason_of(text) is None:
        with contextlib.suppress(UnreadableError):
            asyncio.run(PublicResolver((), spelled).resolve(parse_url(text, DownloadConfig()).raw_host or ""))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "fe80::1%lo"])
def test_the_socket_refuses_what_is_not_public_whatever_led_to_it(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(UnreadableError, match="no public address"):
        PublicResolver(()).open_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))
    if "%" not in address:
        PublicResolver((address,)).open_socket((family, socket.SOCK_STREAM, 6, "", (address, 80))).close()


@given(st.text())
def test_any_text_is_an_address_or_has_a_reason(text: str) -> None:
    for candidate in (text, f"http://{text}", f"http://example.com/{text}"):
        try:
            url = parse_url(candidate, DownloadConfig())
        except UnreadableError:
            continue
        assert url.scheme in ("http", "https")
        assert url.host
