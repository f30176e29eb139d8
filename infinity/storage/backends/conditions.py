"""Does an S3 server keep the conditions of a write? Asked once per process and bucket: one that does not is silent.

Servers that do not know ``If-None-Match`` or ``If-Match`` answer as if the condition had held: of two writers of an
absent file both would believe to be first.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from infinity.storage.errors import StorageError
from infinity.storage.names import PART_SUFFIX

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

Kind = Literal["put", "parts", "swap"]
"""A condition: write if absent, in one request or in parts; or replace what is as expected."""

CONFLICTS = frozenset(("PreconditionFailed", "ConditionalRequestConflict", "412", "409"))
_UNKNOWN = frozenset(("NotImplemented", "501", "InvalidArgument", "InvalidRequest", "400"))
_NO_TAG = f'"{"0" * 32}"'

_kept: dict[tuple[str, str, Kind], bool] = {}


def see_to_conditions(client: S3Client, bucket: str, key: str, kind: Kind) -> None:
    """Refuse a server that does not keep a condition; it is tried on a file of its own beside the key.

    Raises:
        StorageError: The server ignores the condition.
        ClientError: The server refuses the trial for another reason.
    """
    place = (client.meta.endpoint_url, bucket, kind)
    if place not in _kept:
        probe = f"{key.rpartition('/')[0]}/.probe-{uuid.uuid4().hex}{PART_SUFFIX}".lstrip("/")
        try:
            _kept[place] = {"put": _keeps_absent, "parts": _keeps_absent_in_parts, "swap": _keeps_tag}[kind](
                client, bucket, probe
            )
        finally:
            with suppress(Exception):  # what was found out counts; a probe is small, and no listing shows it
                client.delete_object(Bucket=bucket, Key=probe)
    if not _kept[place]:
        header = "If-Match" if kind == "swap" else "If-None-Match"
        where = " for uploads in parts" if kind == "parts" else ""
        raise StorageError(
            f"s3://{bucket}: the S3 server at {client.meta.endpoint_url} does not keep the condition {header}{where}: "
            "two processes could overwrite each other's files unnoticed. Nothing was written; choose a server with "
            "conditional writes (Amazon S3, MinIO since August 2024, Ceph since Squid; see the README), or a folder on "
            "a disk"
        )


def _keeps_absent(client: S3Client, bucket: str, key: str) -> bool:
    def put() -> None:
        client.put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")

    return _conflicts(put) or _conflicts(put)  # the first one conflicts if its answer was lost


def _keeps_absent_in_parts(client: S3Client, bucket: str, key: str) -> bool:
    client.put_object(Bucket=bucket, Key=key, Body=b"")
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        tag = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"0")["ETag"]
        return _conflicts(
            lambda: client.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload,
                IfNoneMatch="*",
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]},
            )
        )
    finally:
        with suppress(Exception):  # there is none left where the condition was ignored
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def _keeps_tag(client: S3Client, bucket: str, key: str) -> bool:
    tag = client.put_object(Bucket=bucket, Key=key, Body=b"1")["ETag"]
    if not _conflicts(lambda: client.put_object(Bucket=bucket, Key=key, Body=b"2", IfMatch=_NO_TAG)):
        return False
    if not _conflicts(lambda: client.put_object(Bucket=bucket, Key=key, Body=b"3", IfMatch=tag)):
        return True
    return client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"3"  # the answer was lost


def _conflicts(write: Callable[[], object]) -> bool:
    """Return whether the server refused a write for its condition; False also where it says that it knows none.

    Raises:
        ClientError: The write failed for another reason.
    """
    from botocore.exceptions import ClientError

    try:
        write()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in CONFLICTS:
            return True
        if code in _UNKNOWN:
            return False
        raise
    return False
