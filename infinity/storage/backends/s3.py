"""Objects in S3 and its kin through boto3: conditional writes and clear errors."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from infinity.storage import fences
from infinity.storage.backends import local
from infinity.storage.backends.conditions import CONFLICTS, see_to_conditions
from infinity.storage.errors import FileAlreadyThereError, FileMissingError, StorageError, StoreUnreachableError
from infinity.storage.names import is_content
from infinity.storage.outages import patiently
from infinity.storage.room import room_for

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_ATTEMPTS = 5
"""The standard mode of botocore waits between two a random time up to 1, 2, 4, ... seconds, at most 20."""
_MULTIPART_FROM_BYTES = 64 * 2**20  # one request may carry 5 GiB, but a failed one starts over
_PART_BYTES = 32 * 2**20  # of at most 10,000 parts
_PAGE_KEYS = 1000  # the protocol's limit for one listing and for one deletion
_CREDENTIAL_CODES = frozenset(
    ("403", "AccessDenied", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch")
)
_AWAY_CODES = frozenset(
    ("500", "502", "503", "504", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown")
)
"""An overloaded or restarting server: later it answers."""
_CREDENTIAL_HELP = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights on the bucket"


def client(*, quick: bool = False) -> S3Client:
    """Return the client for the current AWS_* variables; one per process and setting, safe to share among threads.

    Args:
        quick: Whether to make one short attempt only, for a request that is repeated anyway if it fails.
    """
    names = (
        "ENDPOINT_URL_S3",
        "ENDPOINT_URL",
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "REGION",
        "PROFILE",
    )
    return _client(os.getpid(), tuple(os.environ.get(f"AWS_{name}") for name in names), quick)


@lru_cache(maxsize=8)
def _client(process: int, settings: tuple[str | None, ...], quick: bool = False) -> S3Client:
    import boto3  # half a second, which a run on local files need not spend
    from botocore.config import Config

    # Other servers than Amazon's answer at one host name, where bucket names cannot be sub-domains.
    style: Literal["path", "auto"] = "path" if settings[0] or settings[1] else "auto"
    config = Config(
        s3={"addressing_style": style},
        retries={"max_attempts": 1 if quick else _ATTEMPTS, "mode": "standard"},
        connect_timeout=3 if quick else 10,
        read_timeout=5 if quick else 60,
    )
    with explained("connect to", "S3"):
        # A session of its own: boto3's default session would keep the first credentials it saw.
        return boto3.Session().client(
            "s3", region_name=settings[5] or os.environ.get("AWS_DEFAULT_REGION"), config=config
        )


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of ``s3://bucket/key``; the key of a whole bucket is empty.

    Raises:
        StorageError: No bucket.
    """
    bucket, _, key = uri[len("s3://") :].partition("/")
    if not bucket:
        raise StorageError(f"{uri}: expected s3://bucket/key, found no bucket name")
    return bucket, key


@contextmanager
def explained(action: str, uri: str) -> Iterator[None]:
    """Turn botocore's and boto3's errors into a StorageError that names the URI and the reason."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ResponseStreamingError,
    )

    try:
        yield
    except ClientError as error:
        raise _translate(error, action, uri) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StorageError(f"cannot {action} {uri}: no S3 credentials found; {_CREDENTIAL_HELP}") from error
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise StoreUnreachableError(
            f"cannot {action} {uri}: no connection to the S3 endpoint; check AWS_ENDPOINT_URL_S3 ({error})"
        ) from error
    except (HTTPClientError, IncompleteReadError, ResponseStreamingError) as error:  # time-outs, broken connections
        raise StoreUnreachableError(f"cannot {action} {uri}: the S3 endpoint broke off ({error})") from error
    except Boto3Error as error:  # boto3's transfer manager wraps the ClientError
        cause = error.__context__
        if isinstance(cause, ClientError):
            raise _translate(cause, action, uri) from error
        away = isinstance(cause, HTTPClientError | ConnectTimeoutError | EndpointConnectionError)
        raise (StoreUnreachableError if away else StorageError)(f"cannot {action} {uri}: {error}") from error
    except (BotoCoreError, ValueError) as error:  # ValueError: a malformed endpoint
        raise StorageError(f"cannot {action} {uri}: {error}") from error


def _translate(error: object, action: str, uri: str) -> StorageError:
    response = getattr(error, "response", {})
    code = str(response.get("Error", {}).get("Code", ""))
    where = f"cannot {action} {uri}"
    if code == "NoSuchBucket":
        return StorageError(f"{where}: there is no bucket {split(uri)[0]!r}; create it or correct the name")
    if code in ("NoSuchKey", "404", "NotFound"):
        return FileMissingError(f"{where}: there is no such file")
    if code in CONFLICTS:
        return FileAlreadyThereError(f"{uri}: is there already")
    if code in _CREDENTIAL_CODES:
        return StorageError(f"{where}: S3 refused the credentials ({code}); {_CREDENTIAL_HELP}")
    if code in _AWAY_CODES:
        return StoreUnreachableError(f"{where}: {error}")
    return StorageError(f"{where}: {error}")


@patiently
def exists(uri: str) -> bool:
    """Return whether an object has this key or lies below it."""
    bucket, key = split(uri)
    with explained("look for", uri):
        # A listing, not a HEAD request: only a listing tells a missing bucket from a missing key.
        # Among keys with a common prefix the prefix itself sorts first, so one entry is enough.
        for prefix in (key.rstrip("/"), f"{key.rstrip('/')}/"):
            found = client().list_objects_v2(Bucket=bucket, Prefix=prefix.lstrip("/"), MaxKeys=1).get("Contents", [])
            if found and (not key or found[0]["Key"] == prefix or found[0]["Key"].startswith(f"{key.rstrip('/')}/")):
                return True
    return False


@patiently
def read(uri: str, start: int, length: int | None) -> bytes:
    """Return ``length`` bytes from ``start``, or all from there."""
    if length == 0:
        return b""
    bucket, key = split(uri)
    with explained("read", uri):
        if start == 0 and length is None:
            found = client().get_object(Bucket=bucket, Key=key)
            with room_for(uri, found["ContentLength"]):
                return found["Body"].read()
        last = "" if length is None else str(start + length - 1)
        try:
            found = client().get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{last}")
            with room_for(uri, found["ContentLength"]):
                return found["Body"].read()
        except client().exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                return b""  # from the end on there is nothing, as in a local file
            raise


@patiently
def head(uri: str) -> tuple[int, str]:
    """Return the size of an object in bytes, and its ETag."""
    bucket, key = split(uri)
    with explained("look at", uri):
        found = client().head_object(Bucket=bucket, Key=key)
        return found["ContentLength"], found["ETag"].strip('"')


def size(uri: str) -> int:
    """Return the size of an object in bytes."""
    return head(uri)[0]


@patiently
def changed(uri: str) -> float:
    """Return the time of the last change of an object, in seconds since 1970, by the clock of the store."""
    bucket, key = split(uri)
    with explained("look at", uri):
        return client().head_object(Bucket=bucket, Key=key)["LastModified"].timestamp()


@patiently
def write(uri: str, data: bytes, *, if_absent: bool) -> None:
    """Put one object; in S3 a put is atomic by itself."""
    bucket, key = split(uri)
    with explained("write", uri), fences.passing(uri):
        if if_absent:
            _put_absent(bucket, key, io.BytesIO(data), len(data))
        elif len(data) < _MULTIPART_FROM_BYTES:
            client().put_object(Bucket=bucket, Key=key, Body=data)
        else:
            client().upload_fileobj(io.BytesIO(data), bucket, key)


def read_tagged(uri: str) -> tuple[bytes, str]:
    """Return a whole object and its ETag."""
    bucket, key = split(uri)
    with explained("read", uri):
        answer = client().get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]


def swap(uri: str, tag: str | None, data: bytes, *, quick: bool = False) -> str:
    """Put an object where the present one has this ETag, or where there is none (None); return the new ETag.

    Raises:
        FileAlreadyThereError: Another object has this key.
        FileMissingError: No object has this key.
    """
    bucket, key = split(uri)
    with explained("write", uri):
        see_to_conditions(client(), bucket, key, "put" if tag is None else "swap")
        by = client(quick=quick)
        if tag is None:
            return by.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")["ETag"]
        return by.put_object(Bucket=bucket, Key=key, Body=data, IfMatch=tag)["ETag"]


def delete(uri: str) -> None:
    """Delete one object, given its URI."""
    bucket, key = split(uri)
    with explained("delete", uri):
        client().delete_object(Bucket=bucket, Key=key)


@contextmanager
def create(uri: str) -> Iterator[BinaryIO]:
    """Open a temporary local file to write into, which is uploaded at the end."""
    with tempfile.TemporaryFile() as file:
        with local.explained("write", f"a temporary file in {tempfile.gettempdir()} for {uri}"):
            yield file
        _upload(file, uri)


@patiently
def _upload(file: BinaryIO, uri: str, *, if_absent: bool = False) -> None:
    """Put one object from a file, whatever of it was read before."""
    bucket, key = split(uri)
    with local.explained("write", f"a temporary file in {tempfile.gettempdir()} for {uri}"):
        num_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
    with explained("write", uri), fences.passing(uri):
        if if_absent:
            _put_absent(bucket, key, file, num_bytes)
        else:
            with os.fdopen(os.dup(file.fileno()), "rb") as copy:  # boto3 closes what it has read, also in vain
                client().upload_fileobj(copy, bucket, key)


class S3Draft:
    """A temporary local file, which is uploaded under its name at the end."""

    def __init__(self, folder: str, file: BinaryIO) -> None:
        self._folder = folder
        self._file = file

    def write(self, data: bytes) -> int:
        """Append data and return the number of bytes."""
        with local.explained("write", f"a temporary file in {tempfile.gettempdir()} for {self._folder}"):
            return self._file.write(data)

    def publish(self, name: str) -> bool:
        """Upload the file unless the name is taken; return whether it was free."""
        uri = f"{self._folder.rstrip('/')}/{name}"
        if exists(uri):
            return False
        try:
            _upload(self._file, uri, if_absent=True)
        except FileAlreadyThereError:
            return False
        return True


@contextmanager
def draft(folder: str) -> Iterator[S3Draft]:
    """Open a file below ``folder`` whose name is known at the end only."""
    with tempfile.TemporaryFile() as file:
        yield S3Draft(folder, cast(BinaryIO, file))


def _put_absent(bucket: str, key: str, file: BinaryIO, num_bytes: int) -> None:
    """Put one object in one request or in parts, if there is none of this key when the last byte has arrived."""
    if num_bytes < _MULTIPART_FROM_BYTES:
        see_to_conditions(client(), bucket, key, "put")
        client().put_object(Bucket=bucket, Key=key, Body=file, IfNoneMatch="*")
        return
    see_to_conditions(client(), bucket, key, "parts")
    upload = client().create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        parts = []
        for number in count(1):
            if not (data := file.read(_PART_BYTES)):
                break
            answer = client().upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        client().complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            IfNoneMatch="*",
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )
    except BaseException:
        with suppress(Exception):  # the first error counts; what cannot be aborted now, the bucket's lifecycle collects
            client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


@patiently
def list_entries(uri: str) -> list[tuple[str, int, str]]:
    """Return (key relative to the prefix, bytes, ETag) of all objects below a prefix, sorted by key."""
    return [entry for entry in _all_entries(uri) if is_content(entry[0].rpartition("/")[2])]


@patiently
def list_times(uri: str) -> list[tuple[str, int, float]]:
    """Return (key below the prefix, bytes, time of change in seconds since 1970) of all objects that are content."""
    found = _objects(uri)
    return [(key, size, changed) for key, size, _, changed in found if is_content(key.rpartition("/")[2])]


@patiently
def list_folders(uri: str) -> list[str]:
    """Return the names of the folders directly below a prefix, sorted, whatever lies in them."""
    bucket, prefix = below(uri)
    found: list[str] = []
    with explained("list", uri):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            found += [entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", [])]
    return sorted(found)


def _all_entries(uri: str) -> list[tuple[str, int, str]]:
    """Return the entries of ``list_entries`` and also those that are no content, such as leases."""
    return [(key, size, tag) for key, size, tag, _ in _objects(uri)]


def below(uri: str) -> tuple[str, str]:
    """Return the bucket, and the prefix of all keys below a URI."""
    bucket, key = split(uri)
    return bucket, f"{key.rstrip('/')}/" if key.strip("/") else ""


def _objects(uri: str) -> list[tuple[str, int, str, float]]:
    """Return (key relative to the prefix, bytes, ETag, time of change) of all objects below a prefix, sorted by key."""
    bucket, prefix = below(uri)
    found: list[tuple[str, int, str, float]] = []
    with explained("list", uri):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE_KEYS}):
            found += [
                (item["Key"][len(prefix) :], item["Size"], item["ETag"].strip('"'), item["LastModified"].timestamp())
                for item in page.get("Contents", [])
            ]
    # A key that ends with a slash is what consoles create to show an empty folder.
    return sorted(entry for entry in found if entry[0] and not entry[0].endswith("/"))


@patiently
def delete_tree(uri: str) -> None:
    """Delete the object of this key and all below it."""
    bucket, key = split(uri)
    keys = [f"{key.rstrip('/')}/{relative}".lstrip("/") for relative, _, _ in _all_entries(uri)]
    if key and not key.endswith("/"):
        keys.append(key)
    with explained("delete", uri), fences.passing(uri):
        for start in range(0, len(keys), _PAGE_KEYS):
            batch = [{"Key": item} for item in keys[start : start + _PAGE_KEYS]]
            answer = client().delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})  # type: ignore[typeddict-item]
            if errors := answer.get("Errors"):
                raise StorageError(f"cannot delete {uri}: {errors[0].get('Code')} for {errors[0].get('Key')}")


@patiently
def upload_file(path: Path, uri: str) -> None:
    """Copy a local file of any size to S3."""
    bucket, key = split(uri)
    with explained("write", uri), fences.passing(uri):
        client().upload_file(str(path), bucket, key)


@patiently
def download_file(uri: str, path: Path) -> None:
    """Copy an object of any size to a local file, whole or not at all."""
    bucket, key = split(uri)
    with explained("read", uri), local.create(path) as part:
        client().download_fileobj(bucket, key, part)
