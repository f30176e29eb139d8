"""Laws and errors of objects in S3, against a server over real HTTP."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from infinity import storage
from infinity.storage import FileMissingError, StorageError
from infinity.storage.backends import s3


class _Body(io.BytesIO):
    """What botocore reads an answer from."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def answers(operation: str, answer: Callable[[], tuple[int, str] | None]) -> Iterator[None]:
    """Answer requests in the client with (status, S3 error code), so that botocore itself runs; None lets it pass."""

    def respond(request: Any, **_: Any) -> AWSResponse | None:
        given = answer()
        if given is None:
            return None
        xml = f"<Error><Code>{given[1]}</Code><Message>injected</Message></Error>".encode()
        return AWSResponse(request.url, given[0], {"Content-Type": "application/xml"}, _Body(xml))

    events, event = s3.client().meta.events, f"before-send.s3.{operation}"
    events.register(event, respond)
    try:
        yield
    finally:
        events.unregister(event, respond)


def test_listing_is_recursive_sorted_and_longer_than_one_page(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_PAGE_KEYS", 10)
    names = [f"f/{number:04d}" for number in range(23)]
    client = s3.client()
    for name in names:
        client.put_object(Bucket=s3_server.removeprefix("s3://"), Key=name, Body=b"")
    client.put_object(Bucket=s3_server.removeprefix("s3://"), Key="f/", Body=b"")
    client.put_object(Bucket=s3_server.removeprefix("s3://"), Key="f-other", Body=b"")
    assert storage.list_files(f"{s3_server}/f") == tuple(f"{s3_server}/{name}" for name in names)
    storage.delete_tree(f"{s3_server}/f")
    assert storage.list_files(s3_server) == (f"{s3_server}/f-other",)


def test_large_file_goes_up_in_parts(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_MULTIPART_FROM_BYTES", 100)
    storage.write_bytes(f"{s3_server}/x", b"x" * 200)
    assert storage.read_bytes(f"{s3_server}/x") == b"x" * 200


def test_missing_bucket_is_a_clear_error_in_every_operation(s3_endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    uri = "s3://no-such-bucket/x"
    operations: list[Callable[[], object]] = [
        lambda: storage.exists(uri),
        lambda: storage.read_bytes(uri),
        lambda: storage.write_bytes(uri, b""),
        lambda: storage.list_files(uri),
        lambda: storage.delete_tree(uri),
        lambda: storage.upload_folder(tmp_path, uri),
        lambda: storage.download_folder(uri, tmp_path),
        lambda: storage.sha256(uri),
    ]
    for operation in operations:
        with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
            operation()
    with pytest.raises(StorageError, match="no bucket"), storage.create(uri) as file:
        file.write(b"abc")


def test_missing_file_is_a_clear_error(s3_server: str) -> None:
    with pytest.raises(FileMissingError, match="there is no such file"):
        storage.read_bytes(f"{s3_server}/absent")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_wrong_credentials_are_a_clear_error(s3_server: str, code: str) -> None:
    refuse = f"S3 refused the credentials \\({code}\\); check AWS_ACCESS_KEY_ID"
    with answers("PutObject", lambda: (403, code)), pytest.raises(StorageError, match=refuse):
        storage.write_bytes(f"{s3_server}/x", b"")
    with answers("ListObjectsV2", lambda: (403, code)), pytest.raises(StorageError, match=refuse):
        storage.exists(f"{s3_server}/x")


def test_missing_credentials_are_a_clear_error(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no S3 credentials found; check AWS_ACCESS_KEY_ID"):
        storage.read_bytes(f"{s3_server}/x")


def test_unreachable_endpoint_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="no connection to the S3 endpoint; check AWS_ENDPOINT_URL_S3"):
        storage.read_bytes("s3://bucket/x")


def test_throttled_request_is_tried_again(s3_server: str) -> None:
    remaining = [(503, "SlowDown"), None]
    with answers("PutObject", lambda: remaining.pop(0)):
        storage.write_text(f"{s3_server}/x", "there")
    assert storage.read_text(f"{s3_server}/x") == "there"
    assert remaining == []


def test_uri_without_a_bucket_is_a_clear_error() -> None:
    with pytest.raises(StorageError, match="found no bucket name"):
        storage.read_bytes("s3:///x")
