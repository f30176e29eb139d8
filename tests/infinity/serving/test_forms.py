"""Forms are read byte for byte, and damaged or hostile ones are one sentence, in time that grows with their bytes."""

from __future__ import annotations

import random

import httpx
import pytest

from infinity.serving.forms import MAX_PARTS, is_form, read_form

KIND = "multipart/form-data; boundary=x"


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_come_back_as_a_client_sent_them(seed: int) -> None:
    """Contents full of line ends, dashes and boundaries of other forms, as a real client packs them."""
    numbers = random.Random(seed)
    pieces = [b"\r", b"\n", b"\r\n", b"--", b"--x", b"\0", b"\xff\xd8", b"name", b""]
    sent = [(f"f{i}", b"".join(numbers.choices(pieces, k=numbers.randrange(30)))) for i in range(4)]
    request = httpx.Request(
        "POST", "http://localhost", files=[(name, ("a.png", content)) for name, content in sent], data={"text": "ü 円"}
    )
    found = read_form(request.read(), request.headers["content-type"])
    assert found == [("text", "ü 円".encode()), *sent]


def test_a_name_is_the_one_of_the_name_field_alone() -> None:
    body = part("a", b"1", '; filename="; name=b.png"') + b"--x--\r\n"
    assert read_form(body, KIND) == [("a", b"1")]
    assert read_form(body.replace(b"form-data", b"FORM-DATA"), KIND.upper().replace("=X", "=x")) == [("a", b"1")]
    assert read_form(body.replace(b"--x", b"--a b"), 'multipart/form-data; boundary="a b"') == [("a", b"1")]


def test_a_form_is_known_by_its_whole_type() -> None:
    assert is_form("Multipart/Form-Data ; boundary=x")
    assert not is_form("multipart/form-dataset")


WHOLE = part("a", b"1") + b"--x--"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (WHOLE, "multipart/form-data", "names the boundary"),
        (WHOLE, "multipart/form-data; boundary=", "names the boundary"),
        (WHOLE, f"multipart/form-data; boundary={'y' * 71}", "names the boundary|with the boundary"),
        (WHOLE, "multipart/form-data; boundary=y", "with the boundary that the content type names, found none"),
        (b"", KIND, "found none"),
        (WHOLE[:-2], KIND, "ends before its last boundary"),
        (part("a", b"1"), KIND, "ends before its last boundary"),
        (b"--x\r\n\r\n1\r\n--x--", KIND, "to have a name"),
        (b"--x1\r\n--x--", KIND, "headers, an empty line and content"),
        (part("", b"1") + b"--x--", KIND, "to have a name"),
        (part("a", b"1").replace(b"form-data", b"attachment") + b"--x--", KIND, "to have a name"),
        (part("a", b"1", '; name="b"') + b"--x--", KIND, "to have a name"),
        (part("a", b"1").replace(b'"a"', b'"\xff"') + b"--x--", KIND, "in UTF-8"),
        (part("a", b"1").replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") + b"--x--", KIND,
         "content-transfer-encoding"),
        (part("a" * 9000, b"1") + b"--x--", KIND, "headers, an empty line and content"),
        (part("a", b"1") * (MAX_PARTS + 1) + b"--x--", KIND, f"at most {MAX_PARTS} parts"),
        (part("a", b"1") * 100_000 + b"--x--", KIND, f"at most {MAX_PARTS} parts"),
    ],
)  # fmt: skip
def test_a_damaged_form_is_one_sentence(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_form(body, kind)


def test_forms_within_forms_and_many_empty_lines_are_contents() -> None:
    """Python's parser of mail runs into its recursion limit with the first and takes half a minute for the second."""
    inner = b"".join(f"Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n".encode() for i in range(3000))
    lines = b"\n" * 4_000_000
    assert read_form(part("a", inner) + part("b", lines) + b"--x--", KIND) == [("a", inner), ("b", lines)]
