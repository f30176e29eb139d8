"""A takedown list names rows by address and host, however a host is spelled."""

import pyarrow as pa
import pytest

from infinity.data.curation.takedown import TakedownList, entries_without_rows, named_rows, split_taken_down
from tests.fixtures.data.facts_builder import facts_of

SPELLINGS = [
    ("https://Example.COM/x.png", "example.com"),
    ("https://example.com./x.png", "example.com"),
    ("https://example.com/x.png", "example.com."),
    ("https://example.com/x.png", "EXAMPLE.com"),
    ("https://user:word@example.com:8443/x.png", "example.com"),
    ("https://a.b.example.com/x.png", "example.com"),
    ("https://bücher.example/x.png", "xn--bcher-kva.example"),
    ("https://xn--bcher-kva.example/x.png", "bücher.example"),
    ("https://img.xn--bcher-kva.example/x.png", "BÜCHER.example"),
    ("http://127.0.0.1:80/x.png", "127.0.0.1"),
]


@pytest.mark.parametrize(("url", "domain"), SPELLINGS)
def test_a_domain_names_its_hosts_in_every_spelling(url: str, domain: str) -> None:
    facts = facts_of([{"url": "https://other.org/1.png"}, {"url": url}, {"url": None}])
    listed = TakedownList(domains=(domain,))
    assert named_rows(facts, listed) == [False, True, False]
    stays, tally = split_taken_down(facts, listed)
    assert (stays.num_rows, tally.dropped) == (2, {"taken_down": 1})


@pytest.mark.parametrize(
    "url", ["https://notexample.com/x", "https://example.com.evil.org/x", "https://[bad/x", "example.com"]
)
def test_a_domain_names_no_other_host(url: str) -> None:
    assert named_rows(facts_of([{"url": url}]), TakedownList(domains=("example.com",))) == [False]


def test_entries_that_name_no_row_are_told() -> None:
    rows = [{"url": f"https://{name}.example/x.png", "phash": 255 << 8 * i} for i, name in enumerate("abc")]
    facts = facts_of(rows)
    tables = [facts.append_column("sha256", pa.array([f"{i:064x}" for i in range(3)]))]
    content = facts["content"].to_pylist()[0].hex()
    listed = TakedownList(
        sha256=(content, f"{2:064x}", "f" * 64),
        phash=(f"{255:016x}", f"{254:016x}", f"{1 << 63:016x}"),
        phash_distance=1,
        urls=("https://b.example/x.png", "https://b.example/y.png"),
        domains=("C.example", "d.example", "example"),
    )
    nothing = ("sha256:" + "f" * 64, f"phash:{1 << 63:016x}", "url:https://b.example/y.png", "domain:d.example")
    assert entries_without_rows(tables, listed) == nothing
    assert entries_without_rows([], listed)
